"""The function's own process: killed, told to end, out of memory."""

import os
import resource
import signal
import time
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

from tests.doubles.moments import KEPT
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play

_MOMENTS = {
    "upstream": ("events-first", "amid-events-first", "events-last", "sales-middle", "amid-sales-middle"),
    "secret": ("start",),
    "postgres": (
        "lease",
        "commit-start",
        "after-commit-start",
        "guard-tickets",
        "create-tables",
        "stage-summary",
        "copying-daily",
        "upsert-daily",
        "upsert-summary",
        "after-upsert-summary",
        "seal",
        "commit-load",
        "after-commit-load",
        "renew",
        "give-back",
        "commit-finish",
        "after-commit-finish",
    ),
    "bigquery": (
        "create-daily",
        "stage-summary",
        "begin-summary",
        "upload-daily",
        "after-upload-daily",
        "merge",
        "after-merge",
        "merging",
        "reconcile",
        "drop-summary",
        "after-drop-daily",
    ),
    "kept": (*KEPT, *(f"after-{name}" for name in KEPT if name.startswith("commit-"))),
}


_BEFORE_COPY = {
    "postgres": (
        "guard-ledger",
        "guard-tickets",
        "stage-summary",
        "copy-summary",
        "copied-summary",
        "stage-daily",
        "copy-daily",
    )
}
"""Once all pages are read: before, the run starts threads, and CPython's `Thread.start` waits for ever for one that
finds no memory for its first line (its issue 140746). And while the rows aren't copied yet: what is free after that is
enough for the rest. The kernel's answer to a lack of memory is `kill-worker`."""


_FURTHER_SALES = 1_500
_LONG_ID = "e" * 900


def _kill_instance(play: Play) -> None:
    """All of it at once, as when the machine dies."""
    function = play.function
    play.trap_work(lambda: play.signal(signal.SIGKILL, function), pass_on=False)


def _kill_worker(play: Play) -> None:
    """The process that runs the function, as the kernel does when memory is short; gunicorn starts another."""
    worker = play.function.worker

    def kill() -> None:
        play.is_killed = True
        os.kill(worker, signal.SIGKILL)

    play.trap_work(kill, pass_on=False)


def _terminate(play: Play) -> None:
    """As Cloud Run does; the step goes on at once, or when the run has had time to notice."""
    function = play.function
    wait = play.dice.choice([0.0, 0.6])

    def end() -> None:
        play.signal(signal.SIGTERM, function)
        time.sleep(wait)

    play.trap_work(end)


def _starve(play: Play) -> None:
    """It gets no more memory than it has, and has more to load than it ever had.

    The limit is that of writable memory: malloc's arenas have address space to spare.
    """
    upstream = play.bench.bed.upstream
    days = (date(2020, 1, 1) + timedelta(number) for number in range(_FURTHER_SALES))
    upstream.sales = upstream.sales + [
        {
            **upstream.sales[0],
            "id": 1_000_000 + number,
            "eventId": _LONG_ID,
            "quantity": 1,
            "createdAt": f"{day}T12:00:00.000Z",
        }
        for number, day in enumerate(days)
    ]
    play.allowed[-1] = play.wanted()
    worker = play.function.worker
    limits = resource.prlimit(worker, resource.RLIMIT_DATA)
    play.undo.callback(_end_shortage, worker, limits)

    def starve() -> None:
        size = int(Path(f"/proc/{worker}/statm").read_text().split()[5]) * resource.getpagesize()
        resource.prlimit(worker, resource.RLIMIT_DATA, (size, limits[1]))

    play.trap_work(starve)


def _end_shortage(worker: int, limits: tuple[int, int]) -> None:
    with suppress(ProcessLookupError):  # it may have died of it
        resource.prlimit(worker, resource.RLIMIT_DATA, limits)


PROCESS: dict[str, Kind] = {
    "kill-instance": Kind(_kill_instance, _MOMENTS),
    "kill-worker": Kind(_kill_worker, _MOMENTS),
    "terminate": Kind(_terminate, _MOMENTS),
    "out-of-memory": Kind(_starve, _BEFORE_COPY, breaks=True),
}
