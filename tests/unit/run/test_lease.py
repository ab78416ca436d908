"""The thread beside a run: it renews the lease, tells when it is lost, and records a termination."""

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from etl.deadline import Deadline
from etl.errors import AlreadyRunningError, EtlError, StoreUnavailableError, TerminatedError
from etl.logs import JsonFormatter, LogContext, log_context
from etl.run.lease import LeaseKeeper
from etl.run.ledger import Ledger, MemoryLedger, PostgresLedger, Run
from tests.doubles.processes import free_port
from tests.support.summaries import MORNING, PostgresStore, engine_of
from tests.support.waiting import wait_until

RUN = Run("r1", MORNING, "test")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks and renews often; and no thread may be left by any test."""
    monkeypatch.setattr("etl.run.lease.RENEW_SECONDS", 0.05)
    monkeypatch.setattr("etl.run.lease._POLL_SECONDS", 0.01)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "lease"] == []


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url) as store:
        yield store


def keeper(
    log: Ledger,
    deadline: Deadline,
    is_terminating: Callable[[], bool] = lambda: False,
    on_termination: Callable[[TerminatedError], None] = lambda _: None,
) -> LeaseKeeper:
    return LeaseKeeper(log, deadline, is_terminating, on_termination)


def is_cancelled(deadline: Deadline) -> bool:
    try:
        deadline.check()
    except EtlError:
        return True
    return False


def test_a_living_run_keeps_its_lease(store: PostgresStore) -> None:
    """It is renewed again and again, and no longer once the run has ended."""
    log = PostgresLedger(store.engine)
    log.start(RUN, Deadline(20))
    left = "SELECT extract(epoch FROM expires_at - clock_timestamp()) > 60 FROM etl_lease"
    deadline = Deadline(20)
    with keeper(log, deadline):
        for _ in range(2):
            store.run("UPDATE etl_lease SET expires_at = clock_timestamp() + interval '1 second'")
            wait_until(lambda: store.run(left) == [(True,)])
    deadline.check()
    store.run("UPDATE etl_lease SET expires_at = clock_timestamp() + interval '1 second'")
    time.sleep(0.1)
    assert store.run(left) == [(False,)]


def test_a_run_that_lost_its_lease_is_ended(store: PostgresStore) -> None:
    """A newer run took it over: whatever the older one waits for next, it hears of that."""
    log = PostgresLedger(store.engine)
    log.start(RUN, Deadline(20))
    deadline = Deadline(20)
    with keeper(log, deadline):
        store.run("UPDATE etl_lease SET fence = fence + 1, run_id = 'r2'")
        wait_until(lambda: is_cancelled(deadline))
    with pytest.raises(AlreadyRunningError, match="taken over by a newer run"):
        deadline.sleep(0)


def test_a_termination_is_recorded_and_ends_the_run(store: PostgresStore) -> None:
    """Once: the lease is given back and the run's row says so while the run may still hang in a wait.

    Also a run that waits for nothing more can't say then that it ended well.
    """
    log = PostgresLedger(store.engine)
    log.start(RUN, Deadline(20))
    deadline, terminating = Deadline(20), threading.Event()
    heard: list[TerminatedError] = []

    def record(error: TerminatedError) -> None:
        heard.append(error)
        ended = Run("r1", MORNING, "test", status="failed", finished_at=MORNING, error_code=error.code)
        log.finish(ended, [], Deadline(20))

    def work() -> None:
        time.sleep(0.05)
        assert not is_cancelled(deadline)
        terminating.set()
        wait_until(lambda: store.run("SELECT run_id FROM etl_lease") == [(None,)])
        with pytest.raises(TerminatedError, match="ended this instance"):
            deadline.check()
        wait_until(lambda: store.run("SELECT status, error_code FROM etl_runs") == [("failed", "terminated")])

    with pytest.raises(TerminatedError), keeper(log, deadline, terminating.is_set, record):
        work()
    assert len(heard) == 1


def test_a_termination_is_what_a_run_comes_to_that_fails_after_it() -> None:
    """The ledger has it already, and the answer says the same."""
    recorded = threading.Event()

    def work() -> None:
        assert recorded.wait(5)
        raise StoreUnavailableError("its connection was cut, too")

    with (
        pytest.raises(TerminatedError),
        keeper(MemoryLedger(), Deadline(20), lambda: True, lambda _: recorded.set()),
    ):
        work()


class BrokenLedger(MemoryLedger):
    """A ledger with a fault of the program's own."""

    def renew(self, _: Deadline) -> None:
        raise KeyError("value-77c1")


def test_a_renewal_that_fails_unexpectedly_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it with its frames, and the next one is tried."""
    caplog.handler.setFormatter(JsonFormatter())
    with keeper(BrokenLedger(), Deadline(20)):
        wait_until(lambda: caplog.text.count("ETL lease not renewed") >= 2)
    line = json.loads(caplog.text.splitlines()[0])
    assert "an unexpected KeyError at etl/run/lease.py:" in line["error"]
    assert [frame.split(" ")[-1] for frame in line["frames"]] == [
        "KeyError:",
        "LeaseKeeper._renew",
        "BrokenLedger.renew",
    ]
    assert "value-77c1" not in caplog.text


def test_a_ledger_out_of_reach_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    """Each failed renewal is a warning with the run's id, and the next one is tried."""
    caplog.handler.setFormatter(JsonFormatter())
    deadline = Deadline(20)
    log = PostgresLedger(engine_of(f"postgresql://u:s3cret@127.0.0.1:{free_port()}/d"))
    with log_context(LogContext("the run's id")), keeper(log, deadline):
        wait_until(lambda: caplog.text.count("ETL lease not renewed") >= 2)
    deadline.check()
    assert caplog.text.count("the run's id") >= 2
    assert "s3cret" not in caplog.text


def test_a_termination_that_cannot_be_recorded_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The run is ended all the same."""

    def fail(_: TerminatedError) -> None:
        raise StoreUnavailableError("the ledger is gone")

    deadline = Deadline(20)
    with pytest.raises(TerminatedError), keeper(MemoryLedger(), deadline, lambda: True, fail):
        wait_until(lambda: "ETL termination not recorded" in caplog.text)
    assert is_cancelled(deadline)
    assert [record.__dict__["fields"] for record in caplog.records] == [{"error": "the ledger is gone"}]


def test_a_run_that_fails_stops_the_thread() -> None:
    """And its own error is raised."""
    with pytest.raises(ZeroDivisionError), keeper(MemoryLedger(), Deadline(20)):
        raise ZeroDivisionError
