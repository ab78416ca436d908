"""At a run's end the ledger forgets what is too old, and makes one of what an earlier version kept many times."""

from collections.abc import Iterator

import pytest

from etl.deadline import Deadline
from etl.errors import StoreUnavailableError
from etl.load.postgres.database import transaction
from etl.load.postgres.upgrade import upgrade
from etl.run.ledger_tables import metadata
from etl.run.retention import MAX_ROWS, forget
from tests.support.earlier_ledger import reject_row, run_row
from tests.support.summaries import PostgresStore
from tests.support.upstream import json_logs, logged
from tests.support.waiting import takes_at_most

RUNS = "SELECT run_id FROM etl_runs ORDER BY run_id"
REJECTS = "SELECT record->>'id', run_id, times_seen FROM etl_rejected_records ORDER BY 1, 2"
AGES = """SELECT record->>'id', now()::date - first_seen_at::date, now()::date - last_seen_at::date
          FROM etl_rejected_records ORDER BY 1, 3"""


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url) as store:
        with transaction(store.engine, Deadline(20)) as connection:
            upgrade(connection, metadata)
        yield store


def seen(store: PostgresStore, run_id: str, record: str, days_ago: float) -> None:
    """A reject as this version keeps it, last seen so long ago."""
    store.run(
        "INSERT INTO etl_rejected_records (run_id, dataset, reason, record, digest, first_seen_at, last_seen_at)"
        f" VALUES ('{run_id}', 'events', 'reason', '{record}', md5('{record}'), now() - interval '1000 days',"
        f" now() - interval '1 day' * {days_ago})"
    )


def test_what_is_too_old_goes(store: PostgresStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs by when they began, rejects by when they were seen last; the log says how many, and nothing where none."""
    for run_id, days_ago in (("r1", 400), ("r2", 30.1), ("r3", 29.9), ("r4", 0)):
        store.run(run_row(run_id, days_ago, "success"))
        seen(store, run_id, f'{{"id": "{run_id}"}}', days_ago)
    with json_logs():
        for _ in range(2):
            forget(store.engine, 30, Deadline(20))
    assert [run_id for (run_id,) in store.run(RUNS)] == ["r3", "r4"]
    assert [row[1] for row in store.run(REJECTS)] == ["r3", "r4"]
    (line,) = logged(capsys, "ETL old records deleted")
    assert (line["runs"], line["rejected_records"], line["retention_days"]) == (2, 2, 30)


def test_what_the_next_run_needs_stays(store: PostgresStore) -> None:
    """The last success, however old, as the next run is compared with it; and whatever still runs."""
    for number, status in enumerate(["success", "success", "failed", "running", "failed"], 1):
        store.run(run_row(f"r{number}", 100 - number, status))
    forget(store.engine, 30, Deadline(20))
    assert [run_id for (run_id,) in store.run(RUNS)] == ["r2", "r4"]


def test_a_run_whose_clock_was_wrong_stays(store: PostgresStore) -> None:
    """It began long ago by its own clock, and ended just now by the database's."""
    store.run(run_row("r1", 0, "failed"))
    store.run("UPDATE etl_runs SET started_at = '2020-01-01'")
    forget(store.engine, 30, Deadline(20))
    assert store.run(RUNS) == [("r1",)]


def test_no_run_deletes_more_than_its_share(store: PostgresStore) -> None:
    """10,000 rows in all at one run's end, so that the next one goes on; those of one transaction stay deleted."""
    store.run(
        "INSERT INTO etl_runs (run_id, started_at, trigger, status)"
        f" SELECT 'r' || n, '2020-01-01', 'test', 'failed' FROM generate_series(1, {MAX_ROWS // 2}) n"
    )
    store.run(
        "INSERT INTO etl_rejected_records (run_id, dataset, reason, digest, last_seen_at)"
        f" SELECT 'r' || n, 'events', 'reason', n, '2020-01-01' FROM generate_series(1, {MAX_ROWS}) n"
    )
    left = "SELECT (SELECT count(*) FROM etl_runs), (SELECT count(*) FROM etl_rejected_records)"
    for wanted in ((MAX_ROWS // 2, 0), (0, 0)):
        forget(store.engine, 90, Deadline(60))
        assert store.run(left) == [wanted]


def test_rejects_of_an_earlier_version_become_one(store: PostgresStore) -> None:
    """With the last run that had it, how often it came, and when first; those too old go, those without a run stay."""
    for run_id, days_ago in (("r1", 100), ("r2", 50), ("r3", 40), ("r4", 3)):
        store.run(run_row(run_id, days_ago, "success"))
    for run_id, record in (("r1", 1), ("r1", 4), ("r2", 1), ("r2", 1), ("r4", 1), ("r3", 1), ("r3", 2), ("gone", 3)):
        store.run(reject_row(run_id, f'{{"id": "{record}"}}'))
    store.run(reject_row("r2", '{"id": "1"}', reason="another"))
    for _ in range(2):
        forget(store.engine, 90, Deadline(20))
    assert store.run(REJECTS) == [("1", "r2", 1), ("1", "r4", 4), ("2", "r3", 1), ("3", "gone", 1)]
    assert store.run(AGES) == [("1", 50, 3), ("1", 50, 50), ("2", 40, 40), ("3", 0, 0)]
    assert [run_id for (run_id,) in store.run(RUNS)] == ["r2", "r3", "r4"]


def test_rejects_of_an_earlier_version_join_those_of_this_one(store: PostgresStore) -> None:
    """In whichever order they are come to, the last run's and the first time's win, and nothing is counted twice."""
    for run_id, days_ago in (("r1", 50), ("r2", 40), ("r3", 30)):
        store.run(run_row(run_id, days_ago, "success"))
    for run_id in ("r2", "r3", "r1"):
        store.run(reject_row(run_id, '{"id": "1"}'))
        forget(store.engine, 90, Deadline(20))
    assert store.run(REJECTS) == [("1", "r3", 3)]
    assert store.run(AGES) == [("1", 50, 30)]


def test_two_at_once_do_not_wait_for_each_other(store: PostgresStore) -> None:
    """What another transaction holds is left to it; a reject that comes again meanwhile is not too old any more."""
    for run_id in ("r1", "r2", "r3"):
        store.run(run_row(run_id, 100, "failed"))
        seen(store, run_id, f'{{"id": "{run_id}"}}', 100)
    store.run("BEGIN")
    store.run("SELECT FROM etl_runs WHERE run_id = 'r1' FOR UPDATE")
    store.run("UPDATE etl_rejected_records SET last_seen_at = now(), run_id = 'r9' WHERE run_id = 'r2'")
    forget(store.engine, 90, Deadline(5))
    assert store.run(RUNS) == [("r1",)]
    store.run("COMMIT")
    forget(store.engine, 90, Deadline(5))
    assert store.run(RUNS) == []
    assert store.run(REJECTS) == [("r2", "r9", 1)]


def test_a_locked_table_is_given_up_in_time(store: PostgresStore) -> None:
    """The caller's deadline bounds it."""
    store.run("BEGIN")
    store.run("LOCK TABLE etl_rejected_records IN ACCESS EXCLUSIVE MODE")
    with takes_at_most(0.3), pytest.raises(StoreUnavailableError, match="57014"):
        forget(store.engine, 90, Deadline(0.3))
