"""How long a run may still take: every wait asks here first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from etl.errors import DeadlineExceededError, EtlError

LATE_SECONDS = 2.0
"""What may still be tried after a run's end, each time: its caller waits for 10 s more at most."""


class Deadline:
    """A point in monotonic time, and the one switch that ends a run early from another thread.

    `seconds` is counted from the construction. `clock` gives monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds
        self._cancelled = threading.Event()
        self._reason: EtlError | None = None

    def cancel(self, reason: EtlError) -> None:
        """Let every later `check`, `remaining_or_raise`, `bound` and `sleep` raise `reason` (the first one given)."""
        self._reason = self._reason or reason
        self._cancelled.set()

    def check(self) -> None:
        """Raise the reason of `cancel`, or `DeadlineExceededError` once the time is up."""
        if self._reason is not None:
            raise self._reason
        if self._clock() >= self._end:
            raise self.exceeded()

    def remaining_or_raise(self) -> float:
        """Seconds left, always above 0. Raises as `check` does."""
        self.check()
        return max(self._end - self._clock(), 0.001)

    def left(self) -> float:
        """Seconds left, 0 after the end. Never raises."""
        return max(self._end - self._clock(), 0.0)

    def last_try(self, seconds: float) -> Deadline:
        """For what has to be tried whatever has come of the run: so many seconds, and its end is late by 2 at most."""
        return Deadline(min(seconds, self.left() + LATE_SECONDS))

    def bound(self, seconds: float) -> float:
        """`seconds`, or what is left where that is less. Raises as `check` does."""
        return min(seconds, self.remaining_or_raise())

    def sleep(self, seconds: float) -> None:
        """Wait; raises at once where the wait would reach past the deadline."""
        if seconds >= self.remaining_or_raise():
            raise self.exceeded(f"the next step would have had to wait for {seconds:.0f} s")
        self._cancelled.wait(seconds)
        self.check()

    def exceeded(self, what: str = "the run was stopped") -> DeadlineExceededError:
        """The error that says so."""
        return DeadlineExceededError(
            f"the run's {self.seconds:.0f} s are up: {what}. "
            "Raise ETL_DEADLINE_SECONDS and the function's time-out, or find out why it takes longer than it did."
        )


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """For what a library calls back in here, and can't be told: `current` is this deadline."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Deadline | None:
    """The deadline of whoever is waiting, if there is one."""
    return _current.get()
