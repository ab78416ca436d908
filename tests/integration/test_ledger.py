"""The run ledger and the lease: in PostgreSQL, and in a process of its own where there is none."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import AlreadyRunningError, StoreUnavailableError
from etl.extract.items import CUT, MAX_RECORD_CHARACTERS
from etl.extract.tally import MAX_REJECTS_KEPT, RejectedItem
from etl.load.postgres.database import transaction
from etl.run.ledger import Ledger, MemoryLedger, PostgresLedger, Run, RunTotals, ledger_for
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.earlier_ledger import run_row
from tests.support.summaries import MORNING, PostgresStore, rows_of, summary_of

LEASE = "SELECT fence, run_id, round(extract(epoch FROM expires_at - clock_timestamp())) FROM etl_lease"
EXPIRE = "UPDATE etl_lease SET expires_at = clock_timestamp() - interval '1 second'"


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url) as store:
        yield store


def soon() -> Deadline:
    return Deadline(20)


def run_of(run_id: str, minutes: int = 0, **fields: Any) -> Run:
    return Run(run_id, MORNING + timedelta(minutes=minutes), "test", **fields)


def ended(run: Run, status: str = "success", **fields: Any) -> Run:
    return replace(run, status=status, finished_at=datetime.now(UTC), duration_seconds=1.5, **fields)


def started(store: PostgresStore, run: Run) -> PostgresLedger:
    log = PostgresLedger(store.engine)
    log.start(run, soon())
    return log


def statuses(store: PostgresStore) -> dict[str, tuple[str, str | None]]:
    return {row[0]: row[1:] for row in store.run("SELECT run_id, status, error_code FROM etl_runs")}


@pytest.fixture(params=["postgres", "memory"])
def make_log(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    """A ledger for one run, as the pipeline asks for it."""
    if request.param == "postgres":
        store: PostgresStore = request.getfixturevalue("store")
        return lambda: PostgresLedger(store.engine)
    memory = MemoryLedger()
    return lambda: memory


def test_both_ledgers_keep_one_run_at_a_time_and_how_it_ended(make_log: Callable[[], Ledger]) -> None:
    """A second run is refused and told the holder; what is finished is kept once, newest first, and counted."""
    assert make_log().last_runs(5, soon()) == []
    assert make_log().totals(soon()) == RunTotals({}, None, None)
    first, second, third = (run_of(f"r{number}", number) for number in (1, 2, 3))
    log = make_log()
    log.start(first, soon())
    for _ in range(2):
        with pytest.raises(AlreadyRunningError, match="run r1 is under way") as caught:
            make_log().start(second, soon())
        assert caught.value.details == {"holder": "r1"}
    log.renew(soon())
    assert [run.run_id for run in log.last_runs(5, soon())] == ["r1"]
    found = {"events": {"event_id": "id"}, "ticket_sales": {"quantity": "qty"}}
    log.finish(ended(first, events_count=7, fields_found=found), [], soon())
    log.finish(ended(first, "failed"), [], soon())

    log = make_log()
    log.start(second, soon())
    assert [(run.run_id, run.status) for run in log.last_runs(5, soon())] == [("r2", "running"), ("r1", "success")]
    log.finish(ended(second, "failed", error_code="load_failed", error_text="no"), [], soon())
    log = make_log()
    log.start(third, soon())
    log.finish(ended(third, postgres_status="success"), [], soon())

    runs = {run.run_id: run for run in make_log().last_runs(5, soon())}
    assert [*runs] == ["r3", "r2", "r1"]
    assert [run.run_id for run in make_log().last_runs(2, soon())] == ["r3", "r2"]
    assert (runs["r1"].status, runs["r1"].events_count, runs["r1"].fields_found) == ("success", 7, found)
    assert (runs["r2"].status, runs["r2"].error_code, runs["r2"].error_text) == ("failed", "load_failed", "no")
    assert runs["r1"].started_at == first.started_at
    totals = make_log().totals(soon())
    assert totals.by_status == {"success": 2, "failed": 1}
    assert (totals.last, totals.last_success) == (runs["r3"], runs["r3"])
    for run in runs.values():
        assert run.finished_at is not None
        assert abs(datetime.now(UTC) - run.finished_at) < timedelta(minutes=1)


def test_the_last_run_is_not_the_last_success(make_log: Callable[[], Ledger]) -> None:
    """Both are told, each with its own values."""
    for number, status in enumerate(["success", "failed"]):
        log = make_log()
        log.start(run := run_of(f"r{number}", number), soon())
        log.finish(ended(run, status, sales_count=number), [], soon())
    totals = make_log().totals(soon())
    assert totals.last is not None
    assert totals.last_success is not None
    assert (totals.last.run_id, totals.last.sales_count) == ("r1", 1)
    assert (totals.last_success.run_id, totals.last_success.sales_count) == ("r0", 0)


def test_memory_keeps_the_last_runs_only_but_counts_all() -> None:
    """Its size is bounded; PostgreSQL's absence gives the process's own ledger, always the same."""
    memory = MemoryLedger(limit=2)
    for number in range(5):
        memory.start(run := run_of(f"r{number}"), soon())
        memory.finish(ended(run), [], soon())
    assert [run.run_id for run in memory.last_runs(5, soon())] == ["r4", "r3"]
    assert memory.totals(soon()).by_status == {"success": 5}
    assert ledger_for(None) is ledger_for(None)


def test_starts_at_once_on_an_empty_database(store: PostgresStore) -> None:
    """Of many, one gets the lease; the others are told which."""
    store.run("CREATE TABLE etl_run_log (id int)")
    runs = [run_of(f"r{number}") for number in range(5)]

    def start(run: Run) -> str:
        try:
            started(store, run)
        except AlreadyRunningError as error:
            return str(error.details["holder"])
        return run.run_id

    with ThreadPoolExecutor(5) as threads:
        told = {*threads.map(start, runs)}
    assert len(told) == 1
    assert [row[:2] for row in store.run(LEASE)] == [(1, told.pop())]
    assert sorted(store.tables()) == [
        "etl_job_counts",
        "etl_lease",
        "etl_rejected_records",
        "etl_run_log",
        "etl_runs",
    ]


def test_a_lease_is_renewed_and_given_back(store: PostgresStore) -> None:
    """By the database's clock: 90 s from each renewal, also when it had run out; then it is nobody's, and free."""
    log = started(store, run := run_of("r1"))
    for seconds in ("1 second", "-5 seconds"):
        store.run(f"UPDATE etl_lease SET expires_at = clock_timestamp() + interval '{seconds}'")
        log.renew(soon())
        assert store.run(LEASE) == [(1, "r1", 90)]
    log.finish(ended(run), [], soon())
    assert [row[:2] for row in store.run(LEASE)] == [(1, None)]
    with pytest.raises(AlreadyRunningError, match="given back or taken over"):
        log.renew(soon())
    started(store, run_of("r2"))
    assert store.run(LEASE) == [(2, "r2", 90)]


def test_an_expired_lease_is_taken_over(store: PostgresStore) -> None:
    """The dead run is marked failed; if it wakes up, it can't renew, seal, overwrite its row or free the lease."""
    dead = started(store, dead_run := run_of("dead"))
    store.run(EXPIRE)
    started(store, run_of("alive", 1))
    assert store.run(LEASE) == [(2, "alive", 90)]
    assert statuses(store) == {"dead": ("failed", "terminated"), "alive": ("running", None)}
    buried = store.run("SELECT * FROM etl_runs WHERE run_id = 'dead' AND finished_at IS NOT NULL")
    assert len(buried) == 1
    with pytest.raises(AlreadyRunningError, match="taken over by a newer run"):
        dead.renew(soon())
    with pytest.raises(AlreadyRunningError, match="taken over by a newer run"):
        store.load(summary_of({"a": "A"}), before_commit=lambda connection, _: dead.seal(connection, dead_run))
    assert store.rows("event_sales_summary") == []
    dead.finish(ended(dead_run), [RejectedItem("events", "reason", None, "{}")], soon())
    assert store.run("SELECT * FROM etl_runs WHERE run_id = 'dead'") == buried
    assert store.run(LEASE) == [(2, "alive", 90)]
    assert store.run("SELECT count(*) FROM etl_rejected_records") == [(0,)]


def test_a_load_is_sealed_in_its_transaction(store: PostgresStore) -> None:
    """The run's row is written with the load, and whoever takes the lease over waits until that is committed."""
    log = started(store, run := run_of("r1"))
    store.run(EXPIRE)
    summary = summary_of({"a": "A"}, [("a", "2026-01-01", 1, "1")])
    lock_waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    seen: list[object] = []

    def seal(connection: sa.Connection, _: object) -> None:
        log.seal(connection, replace(run, postgres_status="success"))
        seen.append(store.run("SELECT 1 FROM etl_lease FOR UPDATE SKIP LOCKED"))
        newer = threads.submit(started, store, run_of("r2", 1))
        while not newer.done() and not store.run(lock_waits):
            time.sleep(0.01)
        seen.extend([newer.done(), store.rows("daily_ticket_sales")])

    with ThreadPoolExecutor(1) as threads:
        assert store.load(summary, before_commit=seal).status == "success"
    assert seen == [[], False, []]
    assert store.rows("daily_ticket_sales") == rows_of(summary)["daily_ticket_sales"]
    assert store.run(LEASE) == [(2, "r2", 90)]
    assert store.run("SELECT run_id, status, postgres_status FROM etl_runs ORDER BY run_id") == [
        ("r1", "failed", "success"),
        ("r2", "running", None),
    ]


def test_a_run_that_ended_well_is_never_taken_for_a_dead_one(store: PostgresStore) -> None:
    """Whenever the next run starts, also the moment that the lease is free: the row says success."""
    log = started(store, run := run_of("r1"))

    @sa.event.listens_for(store.engine, "checkin", once=True)
    def _next_run_starts(*_: object) -> None:
        started(store, run_of("r2", 1))

    log.finish(ended(run), [], soon())
    assert statuses(store) == {"r1": ("success", None), "r2": ("running", None)}


NUL, SURROGATE = '{"name": "a\\u0000b"}', '{"name": "\\ud800"}'
HUGE = '{"total": 1e999999}'
RECORDS: dict[str, tuple[str, Any, str | None]] = {
    "object": ('{"id": 7, "name": "Aïda \\u00e9 🎟️", "n": null}', {"id": 7, "name": "Aïda é 🎟️", "n": None}, None),
    "no object": ('["a", 1]', ["a", 1], None),
    "string": ('"it\'s \\\\ :name %s"', "it's \\ :name %s", None),
    "exact number": ('{"total": 12345678901234567890.123456789}', "12345678901234567890.123456789", None),
    "NUL": (NUL, None, NUL),
    "lone surrogate": (SURROGATE, None, SURROGATE),
    "number beyond numeric": (HUGE, None, HUGE),
    "not UTF-8": (b'{"name": "\xff\xfe"}'.decode(errors="surrogateescape"), None, '{"name": "\\xff\\xfe"}'),
    "64 KiB": (json.dumps("x" * (MAX_RECORD_CHARACTERS - 2)), "x" * (MAX_RECORD_CHARACTERS - 2), None),
    "cut": ('{"name": "Aïda' + CUT, None, '{"name": "Aïda' + CUT),
}


KEPT = """SELECT reason, coalesce(record->>'total', record::text), record_text FROM etl_rejected_records
          WHERE run_id = '{}' AND dataset = 'ticket_sales' ORDER BY id"""


def test_rejected_records_are_kept_as_they_were_sent(store: PostgresStore) -> None:
    """As jsonb, or as text where jsonb can't hold them; one that it can't hold doesn't spoil the others."""
    for number, names in enumerate([[name] for name in RECORDS] + [[*RECORDS]]):
        log = started(store, run := run_of(f"r{number}"))
        log.finish(ended(run), [RejectedItem("ticket_sales", name, name, RECORDS[name][0]) for name in names], soon())
        assert statuses(store)[run.run_id] == ("success", None)
        rows = store.run(KEPT.format(run.run_id))
        assert [row[0] for row in rows] == names
        for name, record, text in rows:
            is_parsed = record is not None and name != "exact number"
            assert (json.loads(record) if is_parsed else record, text) == RECORDS[name][1:], name


def test_a_thousand_rejects_are_kept(store: PostgresStore) -> None:
    """No more, and no record of a run twice."""
    log = started(store, run := run_of("r1"))
    rejects = [RejectedItem("events", "reason", None, json.dumps({"n": n})) for n in range(MAX_REJECTS_KEPT + 5)]
    for _ in range(2):
        log.finish(ended(run, "failed", rejected_count=len(rejects)), rejects, soon())
    assert store.run("SELECT count(*), count(DISTINCT record->>'n') FROM etl_rejected_records") == [(1000, 1000)]
    assert store.run("SELECT rejected_count FROM etl_runs") == [(1005,)]


SEEN = """SELECT dataset, reason, record, run_id, times_seen, first_seen_at < last_seen_at
          FROM etl_rejected_records ORDER BY id"""


def test_a_reject_is_kept_once(store: PostgresStore) -> None:
    """Whoever sees it again makes it its own, and counts it; another dataset, reason or record is another reject."""
    others = [("events", "reason", "1"), ("ticket_sales", "another", "1"), ("ticket_sales", "reason", '"1"')]
    texts = ['{"id": 7, "n": 1}', '{"n": 1.0, "id": 7}', '{"n":1,   "id":7}', '{"id": 7, "n": 1}']
    same = [RejectedItem("ticket_sales", "reason", None, text) for text in texts]
    rejects = [*same, *(RejectedItem(*other[:2], None, other[2]) for other in others)]
    for run_id, seen in (("r1", rejects), ("r2", same[:1]), ("r3", [rejects[4]])):
        started(store, run := run_of(run_id)).finish(ended(run), seen, soon())
    assert store.run(SEEN) == [
        ("ticket_sales", "reason", {"n": 1, "id": 7}, "r2", 4, True),
        ("ticket_sales", "reason", {"n": 1.0, "id": 7}, "r1", 1, False),
        ("events", "reason", 1, "r3", 2, True),
        ("ticket_sales", "another", 1, "r1", 1, False),
        ("ticket_sales", "reason", "1", "r1", 1, False),
    ]


def test_what_jsonb_cannot_hold_is_kept_once_too(store: PostgresStore) -> None:
    """Beside what it can hold, run for run."""
    rejects = [RejectedItem("ticket_sales", "reason", None, text) for text in (NUL, "{}", HUGE, NUL)]
    for run_id in ("r1", "r2"):
        started(store, run := run_of(run_id)).finish(ended(run), rejects, soon())
    kept = "SELECT coalesce(record::text, record_text), run_id, times_seen FROM etl_rejected_records ORDER BY id"
    assert store.run(kept) == [(NUL, "r2", 4), ("{}", "r2", 2), (HUGE, "r2", 2)]


def test_a_database_of_another_encoding_keeps_what_it_can_hold(postgres_server: EmbeddedPostgres) -> None:
    """As it was sent, and the rest with escapes; nothing is lost."""
    name = "latin 1"
    postgres_server.run(f"CREATE DATABASE \"{name}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    postgres_server.run(f"ALTER DATABASE \"{name}\" SET client_encoding TO 'UTF8'")
    texts = ['{"name": "Aïda"}', '{"name": "🎟"}', '{"name": "\\ud83c\\udf9f"}']
    rejects = [RejectedItem("events", "reason", None, text) for text in texts]
    with PostgresStore(postgres_server.url(name)) as store:
        for run_id in ("r1", "r2"):
            started(store, run := run_of(run_id)).finish(ended(run), rejects, soon())
        kept = store.run("SELECT record, record_text, times_seen FROM etl_rejected_records ORDER BY id")
    assert kept == [({"name": "Aïda"}, None, 2), (None, '{"name": "\\U0001f39f"}', 2), (None, texts[2], 2)]
    postgres_server.drop_database(name)


COUNTS = "SELECT status, runs FROM etl_job_counts ORDER BY status"


def test_runs_are_counted_when_they_end(store: PostgresStore) -> None:
    """Once each, however often they end; a killed one when it is buried; and none that is deleted is lost."""
    log = started(store, run := run_of("r1"))
    assert store.run(COUNTS) == []
    with transaction(store.engine, soon()) as connection:
        log.seal(connection, replace(run, postgres_status="success"))
    assert store.run(COUNTS) == []
    for status in ("success", "success", "failed"):
        log.finish(ended(run, status), [], soon())
    dead = started(store, dead_run := run_of("r2"))
    store.run(EXPIRE)
    log = started(store, run := run_of("r3"))
    assert store.run(COUNTS) == [("failed", 1), ("success", 1)]
    dead.finish(ended(dead_run), [], soon())
    log.finish(ended(run, "failed"), [], soon())
    store.run("DELETE FROM etl_runs")
    assert store.run(COUNTS) == [("failed", 2), ("success", 1)]
    assert log.totals(soon()) == RunTotals({"failed": 2, "success": 1}, None, None)
    started(store, run_of("r4"))
    assert store.run(COUNTS) == [("failed", 2), ("success", 1)]


def test_runs_that_an_earlier_version_ended_in_between_count_too(store: PostgresStore) -> None:
    """As after a way back to it and forth again: the next run makes up for them, and for none twice."""
    started(store, run := run_of("r1")).finish(ended(run), [], soon())
    for run_id in ("r2", "r3"):
        store.run(run_row(run_id, 1, "success"))
    for run_id in ("r4", "r5"):
        started(store, run := run_of(run_id)).finish(ended(run, "failed"), [], soon())
    assert store.run(COUNTS) == [("failed", 2), ("success", 3)]


def test_a_run_that_never_began_forgets_nothing(store: PostgresStore) -> None:
    """It was refused: whoever holds the lease does it."""
    log = started(store, run := run_of("r1"))
    log.finish(ended(run, "failed"), [], soon())
    started(store, run_of("r2"))
    refused = PostgresLedger(store.engine)
    with pytest.raises(AlreadyRunningError):
        refused.start(run_of("r3"), soon())
    store.run("UPDATE etl_runs SET started_at = '2020-01-01', finished_at = '2020-01-01' WHERE run_id = 'r1'")
    refused.forget(1, soon())
    assert statuses(store).keys() == {"r1", "r2"}
    log.forget(1, soon())
    assert statuses(store).keys() == {"r2"}


def test_rejects_that_cannot_be_kept_are_told_and_tried_again(store: PostgresStore) -> None:
    """The run's end is written all the same, and counted once; what could not be kept is kept by the next try."""
    rejects = [RejectedItem("events", "reason", "7", "{}")]
    for run_id, table in (("r1", "etl_rejected_records"), ("r2", "etl_runs")):
        log = started(store, run := run_of(run_id))
        store.run(f"ALTER TABLE {table} RENAME TO elsewhere")
        with pytest.raises(StoreUnavailableError, match="42P01"):
            log.finish(ended(run), rejects, soon())
        store.run(f"ALTER TABLE elsewhere RENAME TO {table}")
        for _ in range(2):
            log.finish(ended(run), rejects, soon())
        assert statuses(store)[run_id] == ("success", None)
        assert store.run("SELECT run_id FROM etl_rejected_records") == [(run_id,)]
    assert store.run("SELECT times_seen FROM etl_rejected_records") == [(2,)]
    assert store.run("SELECT status, runs FROM etl_job_counts") == [("success", 2)]


def test_times_are_in_utc_whatever_the_database_says(store: PostgresStore) -> None:
    """A ledger in a database of another time zone tells the same times."""
    for setting in ("timezone TO 'Asia/Tokyo'", "datestyle TO 'SQL, DMY'"):
        store.run(f'ALTER DATABASE "{store.name}" SET {setting}')
    log = started(store, run := run_of("r1"))
    log.finish(ended(run), [], soon())
    (told,) = log.last_runs(1, soon())
    assert told.finished_at is not None
    assert told.started_at == MORNING
    assert [time.utcoffset() for time in (told.started_at, told.finished_at)] == [timedelta(), timedelta()]


def test_a_ledger_that_cannot_be_read_is_no_empty_ledger(store: PostgresStore) -> None:
    """A table of that name and another shape is an error that says so."""
    store.run("CREATE TABLE etl_runs (id int)")
    log = PostgresLedger(store.engine)
    with pytest.raises(StoreUnavailableError, match="42703"):
        log.last_runs(1, soon())
    with pytest.raises(StoreUnavailableError, match="42703"):
        log.totals(soon())


def test_the_ledger_is_part_of_one_transaction(store: PostgresStore) -> None:
    """What seal wrote is gone when the load is rolled back after it."""
    log = started(store, run := run_of("r1"))
    with pytest.raises(ZeroDivisionError), transaction(store.engine, soon()) as connection:
        seal_and_fail(log, connection, run)
    assert store.run("SELECT postgres_status FROM etl_runs") == [(None,)]


def seal_and_fail(log: PostgresLedger, connection: sa.Connection, run: Run) -> None:
    log.seal(connection, replace(run, postgres_status="success"))
    raise ZeroDivisionError
