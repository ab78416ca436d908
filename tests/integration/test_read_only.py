"""A server that became read-only under open connections, as the old primary does in a fail-over."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import StoreUnavailableError
from etl.load.postgres.database import transaction
from etl.run.lease import LeaseKeeper
from etl.run.ledger import PostgresLedger, Run
from etl.run.pipeline import run_etl_once
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.support.summaries import MORNING, PostgresStore, rows_of, summary_of
from tests.support.waiting import wait_until

RUN = Run("r1", MORNING, "test")
SUMMARY = summary_of({"a": "Aida"}, [("a", "2026-01-01", 2, "20.50")])


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url) as store:
        yield store


@contextmanager
def failed_over(server: EmbeddedPostgres, store: PostgresStore, *, to: str = "off") -> Iterator[None]:
    """Connections that are open become read-only, all of them, and new ones to the database aren't: there is another
    primary. With `to="on"` there is none, and the new ones are read-only too."""
    server.run(f"ALTER DATABASE {store.name} SET default_transaction_read_only = {to}")
    server.run("ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        reload(server, store, "on")
        yield
    finally:
        server.run("ALTER SYSTEM RESET default_transaction_read_only")
        reload(server, store, "off")


def reload(server: EmbeddedPostgres, store: PostgresStore, expected: str) -> None:
    """Until the backends know: the store's own connection was there before."""
    server.run("SELECT pg_reload_conf()")
    wait_until(lambda: store.run("SHOW default_transaction_read_only") == [(expected,)])


def fill_pool(engine: sa.Engine, connections: int) -> set[int]:
    """Leaves so many idle connections in the pool, and tells their backends."""
    held = [engine.connect() for _ in range(connections)]
    backends = {connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for connection in held}
    for connection in held:
        connection.close()
    return backends


def started(store: PostgresStore) -> PostgresLedger:
    log = PostgresLedger(store.engine)
    log.start(RUN, Deadline(20))
    return log


def load(store: PostgresStore) -> Callable[[], object]:
    return lambda: store.load(SUMMARY)


def start(store: PostgresStore) -> Callable[[], object]:
    return lambda: started(store)


def renew(store: PostgresStore) -> Callable[[], object]:
    log = started(store)
    return lambda: log.renew(Deadline(20))


def finish(store: PostgresStore) -> Callable[[], object]:
    log = started(store)
    return lambda: log.finish(replace(RUN, status="success", finished_at=MORNING), [], Deadline(20))


STEPS = {"load": load, "start": start, "renew": renew, "finish": finish}


@pytest.mark.parametrize("prepare", [pytest.param(step, id=name) for name, step in STEPS.items()])
def test_the_first_step_after_a_failover_works(
    postgres_server: EmbeddedPostgres, store: PostgresStore, prepare: Callable[[PostgresStore], Callable[[], object]]
) -> None:
    """Load, ledger and lease each drop a connection that became read-only, with all others, and take a new one."""
    step = prepare(store)
    old = fill_pool(store.engine, 2)
    with failed_over(postgres_server, store):
        step()
        assert fill_pool(store.engine, 2) & old == set()


def test_a_run_after_a_failover_works(postgres_server: EmbeddedPostgres, store: PostgresStore) -> None:
    """A process whose pool is full of connections to the old primary runs at once, and so does the run after that."""
    sales = [{"id": 1, "event_id": "a", "quantity": 2, "total_amount": "20.50", "sale_date": "2026-01-01T00:00:00Z"}]
    with TicketingApi([{"id": "a", "name": "Aida"}], sales) as upstream:
        settings = replace(store.settings, nest_api_base_url=upstream.base_url)
        assert run_etl_once(settings).status == "success"
        with failed_over(postgres_server, store):
            for _ in range(2):
                assert run_etl_once(settings).status == "success"
    assert store.rows("daily_ticket_sales") == rows_of(SUMMARY)["daily_ticket_sales"]
    assert store.run("SELECT status FROM etl_runs") == [("success",)] * 3


def test_a_lease_is_kept_over_a_failover(
    postgres_server: EmbeddedPostgres, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that renews it meets the old primary's connections too."""
    monkeypatch.setattr("etl.run.lease.RENEW_SECONDS", 0.05)
    monkeypatch.setattr("etl.run.lease._POLL_SECONDS", 0.01)
    log = started(store)
    left = "SELECT extract(epoch FROM expires_at - clock_timestamp()) > 60 FROM etl_lease"
    with LeaseKeeper(log, Deadline(20), lambda: False, lambda _: None), failed_over(postgres_server, store):
        postgres_server.run("UPDATE etl_lease SET expires_at = clock_timestamp() + interval '9 seconds'", store.name)
        wait_until(lambda: store.run(left) == [(True,)])


def test_without_another_primary_it_says_so_and_reads(postgres_server: EmbeddedPostgres, store: PostgresStore) -> None:
    """What writes fails with a hint, again and again; what reads works; once it takes writes again, all is well."""
    store.load(SUMMARY)
    with failed_over(postgres_server, store, to="on"):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"25006.*read-only.*replica"):
                store.load(SUMMARY)
            assert store.stored_tickets("a").total == 2
            with transaction(store.engine, Deadline(10)) as connection:
                assert connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on"
        alter = f"ALTER DATABASE {store.name} SET default_transaction_read_only = off"
        postgres_server.run(f"BEGIN READ WRITE; {alter}; COMMIT")
        assert store.load(SUMMARY).status == "success"
