"""The function, served by functions-framework as a process."""

import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import requests

from tests import ROOT
from tests.doubles.processes import STATE, Process, answers, free_port, local_session


class FunctionServer:
    """`main.py` on a loopback port: the preferred one, if it is free. `env` is all of its environment.

    `process.log` is the file with its output, JSON lines for the most part. SIGTERM at the end lets a run that is
    under way come to its own end. `python` is what runs it.
    """

    def __init__(self, env: Mapping[str, str] | None = None, port: int = 0, python: str = sys.executable) -> None:
        self.port = free_port(port)
        self._env = reach_loopback(os.environ if env is None else env)
        self._python = python
        self._session = local_session()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        STATE.mkdir(exist_ok=True)
        log = STATE / f"function-{self.port}.log"
        log.unlink(missing_ok=True)
        target = ["--target", "run_etl", "--source", "main.py", "--host", "127.0.0.1", "--port", str(self.port)]
        self._process = Process(
            "The function",
            [self._python, "-m", "functions_framework", *target],
            log=log,
            cwd=ROOT,
            env=self._env,
        )
        try:
            self._process.wait_until(lambda: answers(f"{self.url}/health"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.process.stop()
        self._session.close()

    @property
    def process(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, timeout: float | None = None, **options: Any) -> requests.Response:
        """Calls it. Raises what requests raises; `timeout` is in seconds, None: as long as it takes."""
        return self._session.request(method, self.url + path, timeout=timeout, **options)


def reach_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with this machine reached directly also where a proxy is set."""
    names = ("NO_PROXY", "no_proxy")
    given = next((env[name] for name in names if env.get(name)), "")
    direct = ",".join(filter(None, [given, "127.0.0.1", "localhost"]))
    return {**env, **dict.fromkeys(names, direct)}
