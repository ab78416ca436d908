"""The function as the cloud runs it: functions-framework with gunicorn, in a process of its own."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests import ROOT
from tests.doubles.processes import Process, free_port, signal_group

INHERITED = ("PATH", "HOME", "TMPDIR", "LANG")
"""What a child gets of this process's environment: no setting of the function may leak into a test."""
CALL_SECONDS = 60.0


class Function:
    """`functions-framework --target run_etl` with the environment `env` and nothing else.

    Whatever it answers or logs, none of `secrets` may stand in it, no stack trace, and on stdout nothing but a JSON
    object a line: `call` and the end of the `with` hold that.
    """

    def __init__(self, env: Mapping[str, str], *, secrets: Sequence[str] = ()) -> None:
        self._env = env
        self._secrets = secrets
        self._port = free_port()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="veritix-fn-"))
        framework = str(Path(sys.executable).with_name("functions-framework"))
        command = [framework, "--target", "run_etl", "--source", str(ROOT / "main.py")]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        try:
            self._process = Process(
                "The function",
                ["/bin/sh", "-c", 'exec "$@" 2>>"$0"', str(self._directory / "stderr"), *command],
                log=self._directory / "stdout",
                cwd=ROOT,
                env={**child_env(), **self._env},
            )
            self._process.wait_until(self._answers)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        output = self.end()
        if kind is None:
            self._check(output)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def call(
        self,
        method: str = "POST",
        path: str = "/",
        *,
        params: Any = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One request. `data` is a raw body; an iterator goes in chunks, without a Content-Length."""
        answer = requests.request(
            method, self.url + path, params=params, json=json, data=data, headers=headers, timeout=CALL_SECONDS
        )
        self._check(f"{answer.headers}\n{answer.text}")
        return answer

    def log_lines(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """What it has logged so far, of one run or of all."""
        lines = [json.loads(line) for line in self.stdout().splitlines()]
        label = "logging.googleapis.com/labels"
        return [line for line in lines if run_id is None or line.get(label) == {"run_id": run_id}]

    def kill(self, number: signal.Signals) -> None:
        """SIGKILL ends it at once, as when its machine dies; any other signal goes to gunicorn's master."""
        assert self._process is not None
        if number is signal.SIGKILL:
            signal_group(self._process.pid, number)
        else:
            os.kill(self._process.pid, number)

    @property
    def pid(self) -> int:
        """gunicorn's master; `worker` is the process that runs the function."""
        assert self._process is not None
        return self._process.pid

    @property
    def worker(self) -> int:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return next(int(child) for child in children if " Z " not in Path(f"/proc/{child}/stat").read_text())

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self._process is not None and self._process.exit_code is None and self._answers()

    def output(self) -> str:
        """All that it has written, to stdout and to stderr."""
        return "".join(self.outputs().values())

    def outputs(self) -> dict[str, str]:
        """The same by name."""
        return {path.name: path.read_text(errors="replace") for path in sorted(self._directory.iterdir())}

    def stdout(self) -> str:
        return (self._directory / "stdout").read_text()

    def end(self) -> str:
        """Stop it, and return all that it wrote."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)
        output = self.output()
        not_json = [line for line in self.stdout().splitlines() if not is_json_object(line)]
        shutil.rmtree(self._directory)
        assert not not_json, not_json
        return output

    def _check(self, text: str) -> None:
        leaked = [secret for secret in (*self._secrets, "Traceback") if secret in text]
        assert not leaked, f"{leaked} in {text}"

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


def child_env() -> dict[str, str]:
    """An environment that says nothing to the ETL."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
