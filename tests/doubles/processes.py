"""Child processes that end with their owner, however it ends."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from tests import ROOT

STATE = ROOT / ".sandbox"
"""What may stay from one run to the next, and the logs. Not in git."""

READY_SECONDS = 60.0

# The child waits for a word from its owner, so that it never runs without a guard.
_CHILD = 'read -r go && exec "$@" </dev/null'

# The guard's standard input is a pipe that only the owner holds: it ends when the owner does, even by SIGKILL.
_GUARD = """
cat >/dev/null
kill -s "$2" -- "-$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 -- "-$1" || break; sleep 0.3; done
kill -s KILL -- "-$1"
[ -z "$3" ] || rm -rf -- "$3"
"""


class SandboxError(Exception):
    """A part of the sandbox did not start, or did not answer. The message says which, and why."""


class Process:
    """A child in a process group of its own. Its output is added to the file `log`, stderr to `errors` where given.

    `name` is what error messages call it. `user` is the account that it runs under, if its owner is root.
    If the owner dies, `stop_signal` is sent to the group, SIGKILL to what is left, and `litter` is deleted.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        errors: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        litter: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output, (errors or log).open("ab") as error_output:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _CHILD, "sh", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=error_output,
                cwd=cwd,
                env=env,
                start_new_session=True,
                **account(user),
            )
        self._guard = _start_guard(self._child.pid, stop_signal, litter)
        assert self._child.stdin is not None
        with self._child.stdin as child:
            child.write(b"go\n")

    @property
    def pid(self) -> int:
        """Its process id, and its group's."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._child.poll()

    def wait_until(self, ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Asks `ready` until it says yes. Raises SandboxError if the process ends first, or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.exit_code is not None:
                raise SandboxError(f"{self.name} ended with exit code {self.exit_code}.{self.last_words()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name} did not answer within {seconds:g} s.{self.last_words()}")
            time.sleep(0.02)

    def last_words(self, lines: int = 15) -> str:
        """The end of its log, indented, to stand below an error message."""
        end = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "".join(f"\n    {line}" for line in [f"The end of {self.log}:", *end])

    def finish(self) -> None:
        """Waits for a command that ends by itself. Raises SandboxError if its exit code isn't 0."""
        try:
            if self._child.wait() != 0:
                raise SandboxError(f"{self.name} failed with exit code {self.exit_code}.{self.last_words()}")
        finally:
            self.stop(signal.SIGKILL)

    def stop(self, stop_signal: signal.Signals | None = None, seconds: float = 10.0) -> None:
        """Ends it and its group; with SIGKILL what is left after `seconds`. A second time does nothing."""
        if self._guard.poll() is not None:
            return
        signal_group(self.pid, stop_signal or self._stop_signal)
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        signal_group(self.pid, signal.SIGKILL)
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def _start_guard(group: int, stop_signal: signal.Signals, litter: Path | None) -> subprocess.Popen[bytes]:
    word = stop_signal.name.removeprefix("SIG")
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sandbox-guard", str(group), word, str(litter or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def delete(directory: Path) -> None:
    """Deletes it with all that is in it, also while processes that were just killed still finish a last write."""
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.05)
    raise SandboxError(f"{directory} can't be deleted.")


def account(user: str | None) -> Mapping[str, Any]:
    """What `subprocess` needs to run a child under an account: nothing, if it is None."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # nobody is left; macOS says the second of a zombie
        return


def free_port(preferred: int = 0, host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now: the preferred one, if it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SandboxError(f"No TCP port is free on {host}.")


def answers(url: str) -> bool:
    """Whether a server on this machine answers 200 there."""
    try:
        return local_session().get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def local_session() -> requests.Session:
    """For servers on this machine, which no proxy of the environment can reach."""
    session = requests.Session()
    session.trust_env = False
    return session
