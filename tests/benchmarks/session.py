"""What the rows share: the servers, W1, and its measurement, each made when the first row asks for it."""

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from time import monotonic

from tests.benchmarks.findings import LeftOutError
from tests.benchmarks.nginx import Nginx, find_nginx
from tests.benchmarks.tables import Tables
from tests.benchmarks.whole_run import WholeRun, run_once
from tests.benchmarks.workload import Workload, make_w1
from tests.function import child_env
from tests.sandbox.postgres import EmbeddedPostgres
from tests.sandbox.processes import ROOT, SandboxError


@dataclass(frozen=True)
class Floor:
    """Seconds of each part; `load_changed` is the load that writes only the rows that differ."""

    fetch: float
    decode: float
    load: float
    load_changed: float

    @property
    def parts(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in asdict(self).items()}

    @property
    def seconds(self) -> float:
        return self.fetch + self.decode + self.load

    @property
    def seconds_changed(self) -> float:
        return self.fetch + self.decode + self.load_changed


@dataclass(frozen=True)
class W1Measured:
    """Floor and whole run, in turns."""

    floors: list[Floor]
    runs: list[WholeRun]

    @property
    def seconds(self) -> float:
        """The median of the whole runs."""
        return median(run.seconds for run in self.runs)

    @property
    def peak_bytes(self) -> int:
        return max(run.peak_bytes for run in self.runs)


class Session:
    """One run of the suite. `stack` ends what it starts."""

    def __init__(self, stack: ExitStack, scale: float, pairs: int, *, install_dlt: bool = False) -> None:
        self.stack = stack
        self.scale = scale
        self.pairs = pairs
        self.install_dlt = install_dlt
        self._began = monotonic()

    def tell(self, text: str) -> None:
        """Progress, on stderr: the suite takes minutes."""
        print(f"  {monotonic() - self._began:6.1f} s  {text}", file=sys.stderr, flush=True)

    @cached_property
    def postgres(self) -> EmbeddedPostgres:
        self.tell("starting PostgreSQL")
        return self.stack.enter_context(EmbeddedPostgres())

    @cached_property
    def nginx(self) -> Nginx:
        program = find_nginx()
        if program is None:
            raise LeftOutError(
                "nginx is not installed (Debian: apt-get install nginx-light; macOS: brew install nginx)"
            )
        return self.stack.enter_context(Nginx(program))

    @cached_property
    def w1(self) -> Workload:
        self.tell("making W1, if it isn't there yet")
        return make_w1(self.scale)

    @cached_property
    def tables(self) -> Tables:
        return Tables(self.postgres, self.w1)

    def settings(self, workload: Workload) -> dict[str, str]:
        """The function's, for a run over a workload into the tables."""
        return {"NEST_API_BASE_URL": self.nginx.url(workload), "DATABASE_URL": self.tables.url}

    def run(self, workload: Workload) -> WholeRun:
        """One run of a function just started, into yesterday's tables, which hold the right rows afterwards."""
        self.tables.hold_yesterday()
        run = run_once(self.settings(workload), workload)
        self.tables.check(workload.copies)
        self.tell(f"{workload.name}: {run.seconds:.2f} s, peak {run.peak_bytes / 2**20:.0f} MiB, {run.stages}")
        return run

    @cached_property
    def w1_measured(self) -> W1Measured:
        measured = W1Measured([], [])
        for _ in range(self.pairs):
            measured.floors.append(self._floor())
            measured.runs.append(self.run(self.w1))
        return measured

    def _floor(self) -> Floor:
        nginx, w1 = self.nginx, self.w1
        loads = []
        for part in ("load", "load-changed"):
            self.tables.hold_yesterday()
            loads.append(_floor_part(part, w1.directory, self.postgres.socket, self.tables.database))
            self.tables.check()
        fetch, decode = _floor_part("fetch", nginx.url(w1), w1.pages), _floor_part("decode", w1.directory, w1.pages)
        floor = Floor(fetch, decode, *loads)
        self.tell(f"floor: {floor.seconds:.2f} s, {floor.parts}")
        return floor


def _floor_part(part: str, *arguments: str | Path | int) -> float:
    """In a fresh process, as the function's is."""
    command = [sys.executable, "-m", "tests.benchmarks.floor", part, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=child_env(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"The floor's part {part} failed: {done.stderr[-2000:]}")
    return float(done.stdout)
