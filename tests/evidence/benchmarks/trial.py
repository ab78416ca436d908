"""Whole runs over the workloads of a kind, in turns with what the machine allows for the same work."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from etl.sales.postgres.tables import metadata as sales_tables
from tests import ROOT
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks.findings import MIB
from tests.evidence.benchmarks.nginx import Nginx
from tests.evidence.benchmarks.tables import Tables
from tests.evidence.benchmarks.whole_run import WholeRun, run_once
from tests.evidence.benchmarks.workload import Workload, Workloads
from tests.sandbox.function import child_env


@dataclass(frozen=True)
class Floor:
    """Seconds of each part."""

    fetch: float
    fold: float
    load: float

    @property
    def seconds(self) -> float:
        return self.fetch + self.fold + self.load

    @property
    def parts(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in asdict(self).items()}


@dataclass(frozen=True)
class Measured:
    """Floor and whole run over the same workload, from the same state of the tables, in turns."""

    floors: list[Floor]
    runs: list[WholeRun]

    @property
    def seconds(self) -> float:
        """The median of the whole runs."""
        return median(run.seconds for run in self.runs)

    @property
    def floor_seconds(self) -> float:
        return median(floor.seconds for floor in self.floors)

    @property
    def times(self) -> float:
        """The median of the pairs' ratios: two halves of a pair have seen the same machine."""
        return median(run.seconds / floor.seconds for floor, run in zip(self.floors, self.runs, strict=True))

    @property
    def peak_bytes(self) -> int:
        return max(run.peak_bytes for run in self.runs)


class Trial:
    """The workloads of a kind, and the tables that they are loaded into."""

    def __init__(
        self,
        workloads: Workloads,
        nginx: Nginx,
        postgres: EmbeddedPostgres,
        pairs: int,
        tell: Callable[[str], None],
    ) -> None:
        self.workloads = workloads
        self.tables = Tables(postgres, workloads)
        self._nginx = nginx
        self._postgres = postgres
        self._pairs = pairs
        self._tell = tell

    @cached_property
    def into_empty(self) -> Measured:
        """The first workload, into empty tables."""
        workload = self.workloads.first
        return self._measure(self.tables.empty, lambda: self._floor(workload, "load"), lambda: self._run(workload))

    @cached_property
    def second(self) -> Measured:
        """The changed workload, into tables that hold what the first one comes to."""
        workload = self.workloads.changed
        return self._measure(
            lambda: self.tables.hold(self.workloads.first),
            lambda: self._floor(workload, "load-changed"),
            lambda: self._run(workload),
        )

    @cached_property
    def first_sweep(self) -> Measured:
        """The first workload, kept as it is read, with nothing kept before; the floor keeps it with bare libraries."""
        workload = self.workloads.first
        measured = self._measure(
            self._forget_kept, lambda: self._keeping_floor(workload), lambda: self._run(workload, "postgres")
        )
        self._forget_kept()
        return measured

    def _forget_kept(self) -> None:
        self.tables.empty()
        self.tables.sql(f"DROP TABLE IF EXISTS floor_sales, floor_events, {', '.join(sales_tables.tables)}")

    def run_into_empty(self, workload: Workload) -> WholeRun:
        """One run into empty tables."""
        self.tables.empty()
        return self._run(workload)

    def settings(self, workload: Workload) -> dict[str, str]:
        """The function's, for a run over a workload into the tables."""
        return {"NEST_API_BASE_URL": self._nginx.url(workload), "DATABASE_URL": self.tables.url}

    def _measure(
        self, prepare: Callable[[], None], floor: Callable[[], Floor], run: Callable[[], WholeRun]
    ) -> Measured:
        """Floors and runs in turns, each from the prepared state of the tables."""
        measured = Measured([], [])
        for _ in range(self._pairs):
            prepare()
            measured.floors.append(floor())
            prepare()
            measured.runs.append(run())
        return measured

    def _run(self, workload: Workload, sales_store: str = "none") -> WholeRun:
        """A run of a function just started, after which the tables hold the right rows."""
        run = run_once({**self.settings(workload), "ETL_SALES_STORE": sales_store}, workload)
        self.tables.check(workload)
        self._tell(f"{workload.name}: {run.seconds:.2f} s, peak {run.peak_bytes / MIB:.0f} MiB, {run.stages}")
        return run

    def _keeping_floor(self, workload: Workload) -> Floor:
        """What keeps each sale, and sums where they are kept."""
        keep = _seconds("keep", workload.directory, workload.pages, self._postgres.socket, self.tables.database)
        self.tables.check(workload)
        floor = Floor(_seconds("fetch", self._nginx.url(workload), workload.pages), 0.0, keep)
        self._tell(f"{workload.name}: floor that keeps {floor.seconds:.2f} s, {floor.parts}")
        return floor

    def _floor(self, workload: Workload, load: str) -> Floor:
        """The same, each part in a fresh process, as the function's is."""
        seconds = _seconds(load, workload.directory, self._postgres.socket, self.tables.database)
        self.tables.check(workload)
        fetch = _seconds("fetch", self._nginx.url(workload), workload.pages)
        floor = Floor(fetch, _seconds("fold", workload.directory, workload.pages), seconds)
        self._tell(f"{workload.name}: floor {floor.seconds:.2f} s, {floor.parts}")
        return floor


def _seconds(part: str, *arguments: str | Path | int) -> float:
    """How long a part of the floor takes."""
    command = [sys.executable, "-m", "tests.evidence.benchmarks.floor", part, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=child_env(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"The floor's part {part} failed: {done.stderr[-2000:]}")
    return float(done.stdout)
