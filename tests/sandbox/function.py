"""The function, served by functions-framework as a process."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests import ROOT
from tests.doubles.processes import STATE, Process, answers, free_port, local_session

INHERITED = ("PATH", "HOME", "TMPDIR", "LANG")
"""What a child gets of this process's environment where no setting of the function may come along."""


class FunctionServer:
    """`main.py` on a loopback port: the preferred one, if it is free. `env` is all of its environment.

    `process.log` is the file with its output, JSON lines for the most part; `log` names it, and `errors` a file for
    stderr alone. SIGTERM at the end lets a run that is under way come to its own end. `python` is what runs it.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        port: int = 0,
        *,
        python: str = sys.executable,
        log: Path | None = None,
        errors: Path | None = None,
    ) -> None:
        self.port = free_port(port)
        self._env = reach_loopback(env)
        self._python = python
        self._log = log or STATE / f"function-{self.port}.log"
        self._errors = errors
        self._session = local_session()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(exist_ok=True)
        self._log.unlink(missing_ok=True)
        target = ["--target", "run_etl", "--source", "main.py", "--host", "127.0.0.1", "--port", str(self.port)]
        self._process = Process(
            "The function",
            [self._python, "-m", "functions_framework", *target],
            log=self._log,
            errors=self._errors,
            cwd=ROOT,
            env=self._env,
        )
        try:
            self._process.wait_until(self._answers)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._stop()

    @property
    def process(self) -> Process:
        """gunicorn's master."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def worker(self) -> int:
        """The process that runs the function."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(child) for child in children if " Z " not in Path(f"/proc/{child}/stat").read_text())

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self._process is not None and self._process.exit_code is None and self._answers()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, timeout: float | None = None, **options: Any) -> requests.Response:
        """Calls it. Raises what requests raises; `timeout` is in seconds, None: as long as it takes."""
        return self._session.request(method, self.url + path, timeout=timeout, **options)

    def _stop(self) -> None:
        self.process.stop()
        self._session.close()

    def _answers(self) -> bool:
        return answers(f"{self.url}/health")


def child_env() -> dict[str, str]:
    """An environment that says nothing to the ETL."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def reach_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with this machine reached directly also where a proxy is set."""
    names = ("NO_PROXY", "no_proxy")
    given = next((env[name] for name in names if env.get(name)), "")
    direct = ",".join(filter(None, [given, "127.0.0.1", "localhost"]))
    return {**env, **dict.fromkeys(names, direct)}
