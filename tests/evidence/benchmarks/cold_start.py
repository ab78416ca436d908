"""Row 7: how long the function takes to answer at all, against the import of what it stands on."""

import subprocess
import sys
from statistics import median

from tests import ROOT
from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks.findings import Finding, spread
from tests.evidence.benchmarks.session import Session
from tests.sandbox.function import child_env

_TIMES = 1.3
_ROUNDS = 7
_TIMED = "import time\nstarted = time.perf_counter()\n{}\nprint(time.perf_counter() - started)"
_LIBRARIES = "import functions_framework, requests, sqlalchemy, pg8000"
_FUNCTION = """
from functions_framework import create_app
answer = create_app("run_etl", "main.py").test_client().get("/health")
assert answer.status_code == 200, answer.text
"""


def cold_start(session: Session) -> Finding:
    """In turns, each in a fresh interpreter; the very first pair leaves the bytecode, and doesn't count."""
    libraries, function = [], []
    session.tell(f"cold start, {_ROUNDS} times in turns")
    for _ in range(_ROUNDS + 1):
        libraries.append(_seconds(_LIBRARIES))
        function.append(_seconds(_FUNCTION))
    alone, whole = median(libraries[1:]), median(function[1:])
    return Finding(
        f"{whole / alone:.2f} times ({whole:.2f} s against {alone:.2f} s)",
        whole / alone,
        whole <= _TIMES * alone,
        {"function": spread(function[1:]), "libraries": spread(libraries[1:])},
    )


def _seconds(program: str) -> float:
    """As the program itself takes it, without the interpreter's own start."""
    command = [sys.executable, "-c", _TIMED.format(program)]
    done = subprocess.run(command, cwd=ROOT, env=child_env(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"The cold start failed: {done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])
