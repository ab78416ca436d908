"""How much memory a process has had."""

from pathlib import Path

from tests.doubles.processes import SandboxError


def peak_bytes(process: int | str = "self") -> int:
    """The most memory that a process has had resident since it began, shared libraries included. Linux only."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        raise SandboxError("Memory is read from /proc, which only Linux has.")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
