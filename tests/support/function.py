"""The function as a test's subject: it may leak nothing, and logs nothing but JSON."""

import json
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.doubles.processes import signal_group
from tests.sandbox.function import FunctionServer, child_env

CALL_SECONDS = 60.0


class Function(FunctionServer):
    """With the environment `env` and nothing else.

    Whatever it answers or logs, none of `secrets` may stand in it, no stack trace, and on stdout nothing but a JSON
    object a line: `call` and the end of the `with` hold that.
    """

    def __init__(self, env: Mapping[str, str], *, secrets: Sequence[str] = ()) -> None:
        self._secrets = secrets
        self._directory = Path(tempfile.gettempdir(), f"veritix-fn-{uuid.uuid4().hex}")
        super().__init__({**child_env(), **env}, log=self._directory / "stdout", errors=self._directory / "stderr")

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        output = self.end()
        if kind is None:
            self._check(output)

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
        if number is signal.SIGKILL:
            signal_group(self.process.pid, number)
        else:
            os.kill(self.process.pid, number)

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
        self.process.stop(signal.SIGKILL)
        super()._stop()
        output = self.output()
        not_json = [line for line in self.stdout().splitlines() if not is_json_object(line)]
        shutil.rmtree(self._directory)
        assert not not_json, not_json
        return output

    def _stop(self) -> None:
        self.end()

    def _check(self, text: str) -> None:
        leaked = [secret for secret in (*self._secrets, "Traceback") if secret in text]
        assert not leaked, f"{leaked} in {text}"


def is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
