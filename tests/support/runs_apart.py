"""A run of the ETL in a process of its own, which tells how it ended and how much memory it took."""

import io
import multiprocessing
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from etl.errors import EtlError
from etl.logs import configure_logs
from etl.run.pipeline import run_etl_once
from etl.settings import Settings
from tests.support.memory import peak_bytes


@dataclass(frozen=True)
class Outcome:
    """`code` is `success`, or the error's; `answer` is the report or the error's details.

    `peak_bytes` is the most memory that the process has had, `log` what it has logged.
    """

    code: str
    detail: str
    answer: Mapping[str, Any]
    seconds: float
    peak_bytes: int
    log: str


def run_apart(env: Mapping[str, str], seconds: float = 60.0) -> Outcome:
    """What `run` says in a new process, in which all that it imports is there already.

    Raises TimeoutError where it doesn't end in time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(sender, dict(env)), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise TimeoutError(f"the run hadn't ended after {seconds:g} s")
        outcome: Outcome = receiver.recv()
        return outcome
    finally:
        process.kill()
        process.join()


def _tell(sender: Connection, env: Mapping[str, str]) -> None:
    sender.send(run(env))


def run(env: Mapping[str, str]) -> Outcome:
    """One run with this environment, in this process."""
    started = time.monotonic()
    with redirect_stdout(io.StringIO()) as log:
        configure_logs("INFO")
        try:
            report = run_etl_once(Settings.from_env(env))
            code, detail, answer = report.status, "", report.to_json()
        except EtlError as error:
            code, detail, answer = error.code, str(error), error.details
    return Outcome(code, detail, answer, time.monotonic() - started, peak_bytes(), log.getvalue())
