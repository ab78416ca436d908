"""Makes the virtual environment of the Makefile: python install.py DIRECTORY REQUIREMENTS.

Runs on the bare Python that the machine has. Quiet, but for one line that counts the packages.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# How pip begins a line when it is about to fetch a package, and when it has them all.
_PACKAGE = "Collecting "
_COMPLETE = "Installing collected packages"


def main(directory: Path, requirements: Path) -> int:
    began = time.monotonic()
    shutil.rmtree(directory, ignore_errors=True)
    packages = sum(line[0].isalpha() for line in requirements.read_text().splitlines() if line)
    print(f"Installing {requirements} into {directory}: {packages} packages, once", flush=True)
    python = directory / "bin" / "python"
    install = ["-m", "pip", "install", "--require-hashes", "--requirement", requirements]
    for command in (
        [sys.executable, "-m", "venv", directory],
        [python, *install, "--disable-pip-version-check", "--no-input", "--progress-bar=off"],
    ):
        exit_code = _run([str(word) for word in command], packages)
        if exit_code:
            return exit_code
    print(f"Installed in {time.monotonic() - began:.0f} s", flush=True)
    return 0


def _run(command: list[str], packages: int) -> int:
    """Shows the command's output only if it fails."""
    said = []
    collected = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout or ():
                said.append(line)
                if line.startswith(_PACKAGE):
                    collected += 1
                    _show(f"  {collected} of {packages}")
                elif line.startswith(_COMPLETE):
                    _show("  all fetched, being put in place")
        except BaseException:
            os.killpg(process.pid, signal.SIGINT)  # pip then takes its temporary files away
            raise
    _show("")
    if process.returncode:
        sys.stderr.writelines(said[-30:])
        print(f"Failed: {' '.join(command)} ended with exit code {process.returncode}", file=sys.stderr)
    return process.returncode


def _show(text: str) -> None:
    """Overwrites what it showed before. Only a terminal can."""
    if sys.stdout.isatty():
        print(f"\r{text:<40}\r", end="", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit("\nStopped; the next make begins again.")
