"""The sandbox's processes start for sure, end with their owner, and say why where they don't."""

import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.doubles.processes import Process, SandboxError, free_port
from tests.support.waiting import takes_at_most

PYTHON_THAT_STAYS = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)",
]


def test_a_child_that_ends_early_is_named_with_its_exit_code_and_last_words(tmp_path: Path) -> None:
    """Whoever waits for a process that has ended hears so at once, with what it said last."""
    command = ["/bin/sh", "-c", "echo first; echo no such disk >&2; exit 3"]
    child = Process("The disk", command, log=tmp_path / "log")
    with pytest.raises(SandboxError, match=r"The disk ended with exit code 3\.(?s:.)*first\n +no such disk"):
        child.wait_until(lambda: False)
    child.stop()


def test_a_child_that_never_answers_is_named_when_time_is_up(tmp_path: Path) -> None:
    """Waiting has an end."""
    child = Process("The sleeper", PYTHON_THAT_STAYS, log=tmp_path / "log")
    with pytest.raises(SandboxError, match=r"The sleeper did not answer within 0\.1 s"):
        child.wait_until(lambda: False, seconds=0.1)
    child.stop()


@pytest.mark.parametrize(
    ("command", "ended_by"),
    [
        pytest.param(PYTHON_THAT_STAYS, signal.SIGTERM, id="by the signal it is sent"),
        pytest.param(DEAF, signal.SIGKILL, id="by force, if it is deaf to that"),
    ],
)
def test_stop_ends_a_child(tmp_path: Path, command: list[str], ended_by: signal.Signals) -> None:
    """`stop` returns when the child has gone, and does nothing the second time."""
    log = tmp_path / "log"
    child = Process("The child", command, log=log)
    child.wait_until(lambda: b"here" in log.read_bytes())
    with takes_at_most(0.5):
        child.stop(seconds=0.5)
        child.stop()
    assert child.exit_code == -ended_by


def test_a_preferred_port_that_is_taken_gives_another() -> None:
    """A free port is given in place of one on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
