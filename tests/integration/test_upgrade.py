"""A database with the ledger of an earlier version gets what it lacks, and keeps what it holds."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import AlreadyRunningError, StoreUnavailableError
from etl.extract.tally import RejectedItem
from etl.load.postgres.database import transaction
from etl.load.postgres.upgrade import upgrade
from etl.run.ledger import PostgresLedger, Run
from etl.run.ledger_tables import metadata
from tests.doubles.postgres import EmbeddedPostgres
from tests.support import earlier_ledger
from tests.support.earlier_ledger import reject_row, run_row
from tests.support.summaries import MORNING, PostgresStore, Rows

SHAPE = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, i.indisunique
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'i') ORDER BY 1, 2"""
COUNTS = "SELECT status, runs FROM etl_job_counts ORDER BY status"


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url) as store:
        yield store


@pytest.fixture
def earlier(store: PostgresStore) -> PostgresStore:
    """With two runs that ended well, one that failed and one that was killed; and a reject of each."""
    store.run(earlier_ledger.TABLES)
    for run_id, status in (("r1", "success"), ("r2", "success"), ("r3", "failed"), ("r4", "running")):
        store.run(run_row(run_id, 1, status))
        store.run(reject_row(run_id, '{"id": 7}'))
    return store


def start(store: PostgresStore, run_id: str = "r5") -> PostgresLedger:
    log = PostgresLedger(store.engine)
    log.start(Run(run_id, MORNING, "test"), Deadline(30))
    return log


def shape_of_a_new_ledger(store: PostgresStore) -> Rows:
    """What a database has that this version has made all of; it is gone again then."""
    with store.engine.connect() as connection, connection.begin() as unfinished:
        connection.execute(sa.text("CREATE SCHEMA fresh"))
        connection.execute(sa.text("SET LOCAL search_path TO fresh"))
        upgrade(connection, metadata)
        shape = [tuple(row) for row in connection.execute(sa.text(SHAPE))]
        unfinished.rollback()
    return shape


def test_an_earlier_ledger_becomes_a_new_one(earlier: PostgresStore) -> None:
    """With the same columns and indexes, and with its rows; the counters begin with what it holds."""
    runs = earlier.run("SELECT * FROM etl_runs WHERE run_id < 'r4' ORDER BY run_id")
    start(earlier)
    assert earlier.run(SHAPE) == shape_of_a_new_ledger(earlier)
    assert earlier.run("SELECT * FROM etl_runs WHERE run_id < 'r4' ORDER BY run_id") == runs
    assert earlier.run("SELECT run_id, record, times_seen, digest FROM etl_rejected_records ORDER BY id") == [
        (f"r{number}", {"id": 7}, 1, None) for number in (1, 2, 3, 4)
    ]
    assert earlier.run("SELECT run_id, status FROM etl_runs WHERE run_id > 'r3' ORDER BY 1") == [
        ("r4", "failed"),
        ("r5", "running"),
    ]
    assert earlier.run(COUNTS) == [("failed", 2), ("success", 2)]


def test_looking_before_the_first_run_counts_what_is_there(earlier: PostgresStore) -> None:
    """And changes nothing: neither where the new table isn't there yet, nor where somebody has made it, still empty."""
    log = PostgresLedger(earlier.engine)
    for statement in ("SELECT 1", "CREATE TABLE etl_job_counts (status text PRIMARY KEY, runs bigint NOT NULL)"):
        earlier.run(statement)
        shape = earlier.run(SHAPE)
        assert log.totals(Deadline(20)).by_status == {"success": 2, "failed": 1}
        assert [run.run_id for run in log.last_runs(1, Deadline(20))] != []
        assert earlier.run(SHAPE) == shape
    start(earlier)
    assert log.totals(Deadline(20)).by_status == {"success": 2, "failed": 2}


def test_a_complete_ledger_is_left_alone(store: PostgresStore) -> None:
    """A look takes one statement and no lock. An index that an operator has dropped stays dropped."""
    start(store)
    store.run("DROP INDEX ix_etl_runs_started_at")
    shape = store.run(SHAPE)
    asked: list[str] = []
    with transaction(store.engine, Deadline(20)) as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *args: asked.append(args[2]))
        upgrade(connection, metadata)
    assert len(asked) == 1
    assert store.run(SHAPE) == shape


def test_two_first_runs_of_a_new_version_at_once(earlier: PostgresStore) -> None:
    """One makes what is missing and runs, the others are refused."""

    def outcome(run_id: str) -> str:
        try:
            start(earlier, run_id)
        except AlreadyRunningError:
            return "refused"
        return "runs"

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(outcome, ["r5", "r6", "r7", "r8"])) == ["refused", "refused", "refused", "runs"]
    assert earlier.run(SHAPE) == shape_of_a_new_ledger(earlier)


@pytest.mark.parametrize("schema", ["public", "Its own; schema"])
def test_a_user_who_may_not_change_them_is_told_what_to_do(
    earlier: PostgresStore, postgres_server: EmbeddedPostgres, database_url: str, schema: str
) -> None:
    """The error names all statements that it takes, and they can be run as they stand there, by the tables' owner."""
    user = f'Plain "user" {uuid.uuid4()}'
    postgres_server.create_role(user)
    quoted = '"' + user.replace('"', '""') + '"'
    earlier.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if schema != "public":
        earlier.run(f'CREATE SCHEMA "{schema}"')
        earlier.run(f'GRANT USAGE ON SCHEMA "{schema}" TO {quoted}')
        earlier.run(f'ALTER ROLE {quoted} SET search_path TO "{schema}"')
    for table, rights in earlier_ledger.RIGHTS.items():
        earlier.run(f'ALTER TABLE {table} SET SCHEMA "{schema}"' if schema != "public" else "SELECT 1")
        earlier.run(f'GRANT {rights} ON "{schema}".{table} TO {quoted}')
    with PostgresStore(database_url, user) as theirs:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"42501\): let their owner run, once: .*;$") as caught:
                start(theirs)
        assert caught.value.details == {"sqlstate": "42501"}
        assert "r5" not in str(earlier.run(f'SELECT run_id FROM "{schema}".etl_runs'))
        _, _, statements = str(caught.value).partition("once: ")
        earlier.run(statements)
        log = start(theirs)
        log.finish(
            Run("r5", MORNING, "test", "success", MORNING), [RejectedItem("events", "reason", None, "{}")], Deadline(20)
        )
        log.forget(90, Deadline(20))
        assert earlier.run(COUNTS) == [("failed", 2), ("success", 3)]
        assert earlier.run("SELECT run_id, times_seen FROM etl_rejected_records ORDER BY run_id") == [
            ("r4", 4),
            ("r5", 1),
        ]


@pytest.mark.parametrize(
    ("made", "sqlstate"),
    [
        pytest.param("CREATE TABLE etl_runs (run_id text, note text)", "42703", id="another shape"),
        pytest.param("CREATE TABLE etl_runs (n int)", "42703", id="nothing in common"),
        pytest.param("CREATE VIEW etl_job_counts AS SELECT 'success' AS status, 1 AS runs", "55000", id="a view"),
    ],
)
def test_what_no_version_has_made_is_left_alone(store: PostgresStore, made: str, sqlstate: str) -> None:
    """A table of the same name is somebody else's: the run says what it lacks, in the server's words."""
    store.run(made)
    shape = store.run(SHAPE)
    with pytest.raises(StoreUnavailableError, match=sqlstate):
        start(store)
    assert store.run(SHAPE) == shape
