"""A run's time is counted once, and every wait is bounded by what is left of it."""

import threading
from collections.abc import Callable

import pytest

from etl.deadline import Deadline, current, within
from etl.errors import AlreadyRunningError, DeadlineExceededError, TerminatedError
from tests.support.waiting import takes_at_most


class Clock:
    """Monotonic seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


ASKS: list[tuple[str, Callable[[Deadline], object]]] = [
    ("check", Deadline.check),
    ("remaining_or_raise", Deadline.remaining_or_raise),
    ("bound", lambda deadline: deadline.bound(5)),
    ("sleep", lambda deadline: deadline.sleep(0)),
]


def test_time_runs_out() -> None:
    """What remains shrinks with the clock, bounds every call, and is above 0 until it is up."""
    clock = Clock()
    deadline = Deadline(100, clock)
    assert (deadline.seconds, deadline.remaining_or_raise(), deadline.bound(30), deadline.bound(300)) == (
        100,
        100,
        30,
        100,
    )
    clock.now += 90
    assert (deadline.remaining_or_raise(), deadline.bound(30), deadline.bound(3)) == (10, 10, 3)
    clock.now += 9.9999
    assert 0 < deadline.remaining_or_raise() <= 0.001
    deadline.check()


@pytest.mark.parametrize("ask", [pytest.param(ask, id=name) for name, ask in ASKS])
def test_time_is_up(ask: Callable[[Deadline], object]) -> None:
    """Once the time is up every question raises, with what to do."""
    clock = Clock()
    deadline = Deadline(100, clock)
    clock.now += 100
    with pytest.raises(DeadlineExceededError, match=r"the run's 100 s are up: .*Raise ETL_DEADLINE_SECONDS"):
        ask(deadline)


@pytest.mark.parametrize("ask", [pytest.param(ask, id=name) for name, ask in ASKS])
def test_cancel(ask: Callable[[Deadline], object]) -> None:
    """A run that is cancelled hears the first reason everywhere, also after its time is up."""
    clock = Clock()
    deadline = Deadline(100, clock)
    deadline.cancel(TerminatedError("first"))
    deadline.cancel(AlreadyRunningError("second"))
    for clock.now in (1_000, 2_000):
        with pytest.raises(TerminatedError, match=r"^first$"):
            ask(deadline)


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """A wait that can't end in time raises at once, and says how long it would have been."""
    with takes_at_most(0):
        with pytest.raises(DeadlineExceededError, match="would have had to wait for 60 s"):
            Deadline(5).sleep(60)
        with pytest.raises(DeadlineExceededError):
            Deadline(5, Clock()).sleep(5)


def test_sleep_waits() -> None:
    """A wait within the deadline takes its time."""
    with takes_at_most(0.05, at_least=0.04):
        Deadline(60).sleep(0.05)


def test_cancel_ends_a_wait() -> None:
    """A wait ends at once when another thread cancels the run."""
    deadline = Deadline(60)
    timer = threading.Timer(0.05, deadline.cancel, [TerminatedError("stop")])
    timer.start()
    with takes_at_most(0), pytest.raises(TerminatedError, match="stop"):
        deadline.sleep(30)
    timer.join()


def test_what_was_stopped_is_told() -> None:
    """The error for a call that ran into the deadline says which."""
    error = Deadline(1750).exceeded("PostgreSQL didn't answer")
    assert str(error).startswith("the run's 1750 s are up: PostgreSQL didn't answer. ")
    assert (error.code, error.status) == ("deadline_exceeded", 504)


def test_a_deadline_is_current_within_its_block_only() -> None:
    """Whoever is called back in there finds it, also after an error; outside there is none, or the one around."""
    outer, inner = Deadline(60), Deadline(1)
    assert current() is None
    with within(outer):
        with pytest.raises(DeadlineExceededError), within(inner):
            raise inner.exceeded() if current() is inner else AssertionError
        assert current() is outer
    assert current() is None
