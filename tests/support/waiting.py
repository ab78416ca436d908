"""Wait for something that happens elsewhere, with a bound."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BUSY_SECONDS = 20.0
"""What a busy machine may add to a wait. Whatever a test bounds takes longer than that where the bound is missing."""


def wait_until(condition: Callable[[], bool], seconds: float = BUSY_SECONDS) -> None:
    """Look every 10 ms whether it holds. Raises AssertionError where it doesn't in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come true within {seconds:g} s"
        time.sleep(0.01)


@contextmanager
def takes_at_most(seconds: float, *, at_least: float = 0.0) -> Iterator[None]:
    """Fail where the block takes longer, also on a busy machine, or less."""
    started = time.monotonic()
    yield
    taken = time.monotonic() - started
    assert at_least <= taken < seconds + BUSY_SECONDS, f"it took {taken:.2f} s, not {at_least:g} to {seconds:g} s"
