"""The function as it is deployed, called once over HTTP: how long that takes, and how much memory."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks.workload import Workload
from tests.sandbox.function import FunctionServer, child_env
from tests.support.memory import peak_bytes


@dataclass(frozen=True)
class WholeRun:
    """`seconds` is the wall time of `POST /`, `cpu_seconds` what the function's process worked in it.

    `report` is the answer, `peak_bytes` the most memory that the process has had, imports included.
    """

    seconds: float
    cpu_seconds: float
    report: dict[str, Any]
    peak_bytes: int

    @property
    def stages(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self.report["stages"].items()}


class MeasuredFunction:
    """A function that serves. Its first run finds it as it was just started."""

    def __init__(self, server: FunctionServer) -> None:
        self._server = server

    def run(self, workload: Workload | None = None, *, may_read_on: bool = False) -> WholeRun:
        """One run. Raises SandboxError unless it succeeds, and has read what the workload holds.

        One of kept sales `may_read_on`, and publish nothing yet.
        """
        worker = self._server.worker
        cpu_before, started = _cpu_seconds(worker), perf_counter()
        answer = self._server.request("POST", "/")
        seconds, cpu_seconds = perf_counter() - started, _cpu_seconds(worker) - cpu_before
        report = answer.json()
        if answer.status_code != 200 and not (may_read_on and answer.status_code == 202):
            raise SandboxError(f"POST / was answered {answer.text}{self._server.process.last_words()}")
        if workload is not None and report["sales_count"] != workload.sales:
            raise SandboxError(f"{report['sales_count']} sales of {workload.sales} were read")
        return WholeRun(seconds, cpu_seconds, report, peak_bytes(worker))


@contextmanager
def served_function(settings: Mapping[str, str], python: str = sys.executable) -> Iterator[MeasuredFunction]:
    """The function with these settings and no others, in a process of its own."""
    with FunctionServer({**child_env(), **settings}, python=python) as server:
        yield MeasuredFunction(server)


def run_once(settings: Mapping[str, str], workload: Workload | None = None) -> WholeRun:
    """One run of a function that has just been started."""
    with served_function(settings) as function:
        return function.run(workload)


def _cpu_seconds(process: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
