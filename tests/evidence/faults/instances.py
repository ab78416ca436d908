"""The function in its variants, each in a process of its own that is started when it is asked for."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.function import Function

THREADS = 4
IDLE_THREADS = {
    "direct": 2 + THREADS,
    "second": 2 + THREADS,
    "kept": 2 + THREADS,
    "kept-second": 2 + THREADS,
    "clock": 2 + THREADS,
    "cloud-sql": 9 + THREADS,
}
"""Of each variant: gunicorn's own and its pool, and one of a C library; with Cloud SQL those of the Connector, too."""
KEPT_DEADLINE_SECONDS = 9.0
KEPT = {
    "ETL_SALES_STORE": "postgres",
    "NEST_API_CHANGED_QUERY": "filter.updatedAt=$gte:{since}&sortBy=updatedAt:DESC",
    "ETL_SWEEP_HOURS": "0",
    "ETL_DEADLINE_SECONDS": f"{KEPT_DEADLINE_SECONDS:g}",
}
"""Each run reads an increment and then sweeps: three times as many transactions as without."""
_SHIFTING = Path(__file__).parent / "clock"


class Instances:
    """`env` is the function's environment; with `login` instead of a database's URL in the variant `cloud-sql`."""

    def __init__(self, env: Mapping[str, str], login: Mapping[str, str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="veritix-faults-"))
        self.clock = self._directory / "clock"
        """Holds the seconds by which the clock of the variant `clock` is shifted."""
        without_url = {name: value for name, value in env.items() if name != "DATABASE_URL"}
        shifted = {"PYTHONPATH": str(_SHIFTING), "SHIFTED_CLOCK": str(self.clock), "ETL_TIMEZONE": "Europe/Berlin"}
        self._envs = {
            "direct": env,
            "second": env,
            "kept": {**env, **KEPT},
            "kept-second": {**env, **KEPT},
            "clock": {**env, **shifted},
            "cloud-sql": {**without_url, **login},
        }
        self._functions: dict[str, Function] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for function in self._functions.values():
            function.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __iter__(self) -> Iterator[tuple[str, Function]]:
        """Those that were started, also where they have died."""
        return iter(self._functions.items())

    def function(self, variant: str) -> Function:
        """The function in this variant; a new process, where there is none or the last one has died."""
        function = self._functions.get(variant)
        if function is not None and function.is_up:
            return function
        if function is not None:
            function.end()
        shutil.rmtree(self.temporary(variant), ignore_errors=True)
        self.temporary(variant).mkdir()
        function = Function({**self._envs[variant], "TMPDIR": str(self.temporary(variant))})
        self._functions[variant] = function.__enter__()
        return function

    def temporary_files(self, variant: str) -> list[str]:
        return sorted(str(path) for path in self.temporary(variant).rglob("*"))

    def temporary(self, variant: str) -> Path:
        """Where it may put files."""
        return self._directory / f"{variant}-tmp"
