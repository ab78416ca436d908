"""The row against dlt, in an environment of its own that is made on request."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks.findings import Finding, LeftOutError
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.workload import HOME
from tests.sandbox.function import child_env

_TIMES = 15
_ENVIRONMENT = HOME / "dlt-venv"
_PYTHON = _ENVIRONMENT / "bin" / "python"
_LOGIN = "dlt"


def against_dlt(session: Session) -> Finding:
    """One run of a dlt pipeline over W1, against the median of the function's."""
    if not _PYTHON.exists():
        if not session.install_dlt:
            raise LeftOutError("dlt is not installed: --dlt does that, into an environment of its own (100 MB)")
        _install()
    measured, w1 = session.w1.into_empty, session.w1.workloads.first
    session.tell("dlt over W1: takes a while")
    session.postgres.create_role(_LOGIN, _LOGIN)
    database = session.postgres.create_database(owner=_LOGIN)
    state = tempfile.mkdtemp(prefix="veritix-dlt-")
    target = [session.nginx.url(w1), session.postgres.tcp_url(database, _LOGIN, _LOGIN), state]
    try:
        done = subprocess.run(
            [_PYTHON, Path(__file__).with_name("dlt_pipeline.py"), *target],
            env={**child_env(), "RUNTIME__DLTHUB_TELEMETRY": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(state)
    if done.returncode != 0:
        raise SandboxError(f"dlt failed: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if (result["sales"], result["daily_rows"]) != (w1.sales, session.w1.tables.daily_rows(w1)):
        raise SandboxError(f"dlt loaded {result}")
    times = result["seconds"] / measured.seconds
    return Finding(
        f"{times:.0f} times slower ({result['seconds']:.1f} s against {measured.seconds:.1f} s)",
        times,
        times >= _TIMES,
        result,
    )


def _install() -> None:
    """Make its environment."""
    HOME.mkdir(parents=True, exist_ok=True)
    commands: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "venv", _ENVIRONMENT],
        [_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "dlt[postgres]==1.*"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(_ENVIRONMENT, ignore_errors=True)
            raise LeftOutError(f"dlt can't be installed: {done.stderr.strip().splitlines()[-1]}")
