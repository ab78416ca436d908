"""load_postgres: what is PostgreSQL's own about it. What both stores share is in test_stores."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import AlreadyRunningError, ConfigurationError, DeadlineExceededError, EtlError, StoreUnavailableError
from etl.load.postgres.load import check_tables, load_postgres
from etl.load.store import MAX_EXAMPLES, LoadResult, ScopeTotals, StoredTickets
from etl.transform.fold import Summary
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.summaries import DAYS, EVENTS, MORNING, PostgresStore, big_summary, counts, rows_of, summary_of

NAMES: dict[str, str | None] = {"a": "Aida", "b": "Boris"}
BEFORE = summary_of(NAMES, [("a", "2026-01-01", 2, "20.50"), ("a", "2026-01-02", 1, "10"), ("b", "2026-01-01", 3, "3")])
AFTER = summary_of(NAMES, [("a", "2026-01-02", 5, "50"), ("b", "2026-01-01", 3, "3"), ("b", "2026-01-03", 1, "-1")])
MOVED = summary_of(NAMES, [("a", "2026-07-01", 2, "20.50"), ("a", "2026-01-02", 1, "10"), ("b", "2026-01-01", 3, "3")])


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url) as store:
        yield store


def stored(store: PostgresStore) -> dict[str, Any]:
    return {table: store.rows(table) for table in (EVENTS, DAYS)}


def left_over(store: PostgresStore) -> list[tuple[Any, ...]]:
    """Transactions that stay open, and temporary tables: a server needs a moment to notice that a client has gone."""
    end = time.monotonic() + 5
    while True:
        left = store.open_transactions() + store.run("SELECT relname FROM pg_class WHERE relpersistence = 't'")
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.01)


def test_only_rows_that_differ_are_written(store: PostgresStore) -> None:
    """`xmin` of a daily row changes with its values only; every event's row is written, for `last_updated`."""
    store.load(BEFORE)
    first = {table: store.versions(table) for table in (EVENTS, DAYS)}
    store.load(BEFORE)
    assert store.versions(DAYS) == first[DAYS]
    assert not set(store.versions(EVENTS)) & set(first[EVENTS])
    store.load(AFTER)
    kept = set(store.versions(DAYS)) & set(first[DAYS])
    assert {row[:2] for row in kept} == {("b", date(2026, 1, 1))}
    assert left_over(store) == []


def test_sums_of_the_scope_may_be_larger_than_any_row(store: PostgresStore) -> None:
    """What is reconciled, and what the guard asks for, may be beyond int64 and 29 digits."""
    summary = summary_of({}, [(event, "2026-01-01", 2**63 - 1, f"{'9' * 29}.{'9' * 9}") for event in "ab"])
    result = store.load(summary)
    total = ScopeTotals(2, 2**64 - 2, Decimal(f"1{'9' * 29}.{'9' * 8}8"))
    assert result.reconciled == {EVENTS: total, DAYS: total}
    assert store.stored_tickets("ab") == StoredTickets(2**64 - 2, 2**64 - 2, total.revenue)


TRIGGER = """CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
             CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION spoil()"""
NO_TRIGGER = "DROP FUNCTION spoil CASCADE"


@dataclass(frozen=True)
class Mishap:
    """`spoil` and `mend` are run as the superuser before and after a load that is to fail with `words`."""

    words: list[str]
    spoil: str = "SELECT 1"
    mend: str = "SELECT 1"
    seconds: float = 60
    before_commit: Exception | None = None
    sqlstate: str | None = None
    kind: type[EtlError] = StoreUnavailableError
    load: Summary = AFTER


MISHAPS = {
    "an outdated lease": Mishap(
        ["taken over"], before_commit=AlreadyRunningError("taken over"), kind=AlreadyRunningError
    ),
    "a dead connection at the end": Mishap(
        ["can't be reached, or the connection broke off"], before_commit=ConnectionResetError("secret")
    ),
    "a terminated backend": Mishap(
        ["PostgreSQL"], TRIGGER.format(table=DAYS, body="PERFORM pg_terminate_backend(pg_backend_pid());"), NO_TRIGGER
    ),
    "a statement time-out": Mishap(
        ["57014", "longer than the run had left"],
        TRIGGER.format(table=EVENTS, body="PERFORM pg_sleep(30);"),
        NO_TRIGGER,
        seconds=1,
        sqlstate="57014",
    ),
    "somebody's lock": Mishap(["57014"], f"BEGIN; LOCK TABLE {DAYS}", "ROLLBACK", seconds=0.5, sqlstate="57014"),
    "a constraint": Mishap(
        ["23514", "not_below_zero"],
        f"ALTER TABLE {DAYS} ADD CONSTRAINT not_below_zero CHECK (revenue >= 0)",
        f"ALTER TABLE {DAYS} DROP CONSTRAINT not_below_zero",
        sqlstate="23514",
    ),
    "a trigger that falsifies amounts": Mishap(
        [DAYS, "rows=3", "47.5", "52.0", "trigger"],
        TRIGGER.format(table=DAYS, body="NEW.revenue := NEW.revenue - 1.5;"),
        NO_TRIGGER,
    ),
    "a trigger that falsifies tickets": Mishap(
        [EVENTS, "tickets=9", "tickets=18"], TRIGGER.format(table=EVENTS, body="NEW.total_tickets := 9;"), NO_TRIGGER
    ),
    "a trigger that drops a row": Mishap(
        [DAYS, "trigger"],
        TRIGGER.format(table=DAYS, body="IF NEW.tickets_sold = 1 THEN RETURN NULL; END IF;"),
        NO_TRIGGER,
    ),
    "a trigger that drops a moved row": Mishap(
        [DAYS, "rows=2", "rows=3", "trigger"],
        TRIGGER.format(table=DAYS, body="IF NEW.sale_date > '2026-06-01' THEN RETURN NULL; END IF;"),
        NO_TRIGGER,
        load=MOVED,
    ),
}


@pytest.mark.parametrize("mishap", [pytest.param(mishap, id=name) for name, mishap in MISHAPS.items()])
def test_a_load_that_fails_changes_nothing_and_the_next_one_works(store: PostgresStore, mishap: Mishap) -> None:
    """Both tables are as they were, no transaction or temporary table is left, and the message says why."""
    store.load(BEFORE)
    before = {table: store.raw_rows(table) for table in (EVENTS, DAYS)}

    def before_commit(_: sa.Connection, __: LoadResult) -> None:
        if mishap.before_commit is not None:
            raise mishap.before_commit

    store.run(mishap.spoil)
    with pytest.raises(mishap.kind) as caught:
        store.load(mishap.load, seconds=mishap.seconds, before_commit=before_commit)
    store.run(mishap.mend)
    assert [word for word in mishap.words if word not in str(caught.value)] == [], str(caught.value)
    assert caught.value.details.get("sqlstate") == mishap.sqlstate
    assert "secret" not in str(caught.value)
    assert "INSERT" not in str(caught.value)
    assert {table: store.raw_rows(table) for table in (EVENTS, DAYS)} == before
    assert left_over(store) == []
    assert store.load(mishap.load).status == "success"
    assert stored(store) == rows_of(mishap.load)


def test_the_time_may_be_up_at_any_moment(store: PostgresStore) -> None:
    """At whichever look at the clock the run's time ends, also in mid-COPY: the old rows stay, and it says so."""
    store.load(BEFORE)
    before = stored(store)
    summary = big_summary(events=10, days=1500)
    last_look, done = 2, False
    while not done:
        last_look += 1
        done = loads_in_time(store, summary, last_look)
        if not done:
            assert stored(store) == before, last_look
            assert left_over(store) == [], last_look
    assert last_look > 8
    assert store.rows(DAYS) == sorted(before[DAYS] + rows_of(summary)[DAYS])


def loads_in_time(store: PostgresStore, summary: Summary, last_look: int) -> bool:
    """Loads with a clock that jumps past the deadline after so many looks at it."""
    looks = count()
    try:
        load_postgres(summary, store.engine, Deadline(60, clock=lambda: 0.0 if next(looks) < last_look else 100.0))
    except DeadlineExceededError:
        return False
    except StoreUnavailableError as error:
        if error.details.get("sqlstate") != "57014":  # the server's time-out, where the last look was for that
            raise
        return False
    return True


def test_a_backend_that_dies_in_mid_copy(store: PostgresStore) -> None:
    """Nothing is changed, the message says that the connection broke off, and the next load gets another one."""
    store.load(BEFORE)
    summary = big_summary(events=10, days=1500)
    killed: list[object] = []

    def clock() -> float:
        copying = f"datname = '{store.name}' AND state = 'active' AND query LIKE 'COPY%'"
        if not killed:
            killed.extend(store.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {copying}"))
        return 0.0

    with pytest.raises(StoreUnavailableError, match=r"connection broke off|57P01"):
        load_postgres(summary, store.engine, Deadline(60, clock))
    assert killed == [(True,)]
    assert stored(store) == rows_of(BEFORE)
    assert store.load(summary).status == "success"


EARLIER_TABLES = """
CREATE TABLE event_sales_summary (event_id VARCHAR PRIMARY KEY, event_name VARCHAR, total_tickets INTEGER NOT NULL,
    total_revenue NUMERIC(18,2) NOT NULL, last_updated TIMESTAMPTZ NOT NULL);
CREATE TABLE daily_ticket_sales (event_id VARCHAR, sale_date DATE, tickets_sold INTEGER NOT NULL,
    revenue NUMERIC(18,2) NOT NULL, PRIMARY KEY (event_id, sale_date));
INSERT INTO event_sales_summary VALUES ('a', 'Aida', 7, 70, '2025-01-01Z'), ('old', 'Old', 1, 1.25, '2025-01-01Z');
INSERT INTO daily_ticket_sales VALUES ('a', '2025-01-01', 7, 70.00), ('old', '2025-01-01', 1, 1.25);"""


def test_tables_of_the_earlier_etl_keep_working(store: PostgresStore, caplog: pytest.LogCaptureFixture) -> None:
    """Their types stay, values are rounded by them and compared as rounded; one warning a load says so."""
    store.run(EARLIER_TABLES)
    summary = summary_of(
        {"a": None, "b": "Boris"},
        [("a", "2026-01-01", 1, "0.005"), ("a", "2026-01-02", 1, "1.004"), ("b", "2026-01-01", 2, "-2.345")],
    )
    expected = {
        EVENTS: [
            ("a", "Aida", 2, Decimal("1.01")),
            ("b", "Boris", 2, Decimal("-2.35")),
            ("old", "Old", 1, Decimal("1.25")),
        ],
        DAYS: [
            ("a", date(2026, 1, 1), 1, Decimal("0.01")),
            ("a", date(2026, 1, 2), 1, Decimal("1.00")),
            ("b", date(2026, 1, 1), 2, Decimal("-2.35")),
            ("old", date(2025, 1, 1), 1, Decimal("1.25")),
        ],
    }
    told = store.load(summary, dry_run=True)
    done = store.load(summary)
    assert stored(store) == expected
    changes = {EVENTS: (1, 1, 0, 0), DAYS: (3, 0, 1, 0)}
    assert {table: counts(told.changes[table]) for table in changes} == changes
    assert {table: counts(done.changes[table]) for table in changes} == changes
    assert done.reconciled[DAYS] == ScopeTotals(3, 4, Decimal("-1.34"))
    versions = store.versions(DAYS)
    caplog.clear()
    again = store.load(summary)
    assert {table: counts(again.changes[table]) for table in changes} == {EVENTS: (0, 0, 0, 2), DAYS: (0, 0, 0, 3)}
    assert store.versions(DAYS) == versions
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.message for record in warnings] == ["Postgres amounts rounded"]
    fields = warnings[0].__dict__["fields"]
    assert fields["database"] == "postgres"
    assert fields["columns"] == ["event_sales_summary.total_revenue", "daily_ticket_sales.revenue"]
    assert "numeric(38,9)" in fields["error"]


@pytest.mark.parametrize(
    "sale",
    [
        pytest.param(("a", "2026-01-01", 2**31, "1"), id="INTEGER"),
        pytest.param(("a", "2026-01-01", 1, "1e16"), id="NUMERIC(18,2)"),
    ],
)
def test_what_is_too_large_for_the_earlier_tables_changes_nothing(
    store: PostgresStore, sale: tuple[str, str, int, str]
) -> None:
    """The message says that a column is too narrow; a dry run says the same."""
    store.run(EARLIER_TABLES)
    before = {table: store.raw_rows(table) for table in (EVENTS, DAYS)}
    summary = summary_of({"a": None}, [("a", "2026-01-02", 1, "1"), sale])
    for dry_run in (True, False):
        with pytest.raises(StoreUnavailableError, match=r"22003.*column is too narrow"):
            store.load(summary, dry_run=dry_run)
    assert {table: store.raw_rows(table) for table in (EVENTS, DAYS)} == before
    assert left_over(store) == []


def test_days_that_refer_to_their_event(store: PostgresStore) -> None:
    """With a foreign key from the daily table to the summary new events come, days move, and all days of one go."""
    store.load(summary_of({}))
    store.run(f"ALTER TABLE {DAYS} ADD FOREIGN KEY (event_id) REFERENCES {EVENTS}")
    new = summary_of({**NAMES, "c": "Carmen"}, [("c", "2026-01-01", 1, "1"), ("b", "2026-01-01", 3, "3")])
    for summary in (BEFORE, AFTER, MOVED, new):
        store.load(summary)
        assert stored(store) == rows_of(summary)


MISFITS = {
    "double precision amount": (DAYS, "revenue", "double precision", "numeric(38,9)"),
    "real amount": (EVENTS, "total_revenue", "real", "numeric(38,9)"),
    "money amount": (EVENTS, "total_revenue", "money", "numeric(38,9)"),
    "integer amount": (DAYS, "revenue", "bigint", "numeric(38,9)"),
    "integer id": (EVENTS, "event_id", "integer", "text"),
    "uuid id": (DAYS, "event_id", "uuid", "text"),
    "double precision tickets": (DAYS, "tickets_sold", "double precision", "bigint"),
    "day as text": (DAYS, "sale_date", "character varying(10)", "date"),
    "time as a day": (EVENTS, "last_updated", "date", "timestamp with time zone"),
    "a domain": (DAYS, "revenue", "double precision", "numeric(38,9)"),
}
NOTHING = summary_of({})


@pytest.mark.parametrize(
    ("table", "column", "found", "needed"), [pytest.param(*case, id=name) for name, case in MISFITS.items()]
)
def test_a_column_of_another_type_is_refused(
    store: PostgresStore, request: pytest.FixtureRequest, table: str, column: str, found: str, needed: str
) -> None:
    """The error names table, column and both types, and the statement in it mends that; nothing is loaded before."""
    store.load(NOTHING)
    kind = found
    if request.node.callspec.id == "a domain":
        store.run(f"CREATE DOMAIN price AS {found}")
        kind = "price"
    default = {"event_id": "NULL", "sale_date": "NULL"}.get(column, f"NULL::{kind}")
    store.run(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {kind} USING {default}")
    with pytest.raises(ConfigurationError) as caught:
        check_tables(store.engine, Deadline(10))
    [problem] = caught.value.details["problems"]
    assert problem.startswith(f"{table}.{column} is {found}, and must be {needed}: ALTER TABLE")
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError) as again:
            store.load(BEFORE, dry_run=dry_run)
        assert str(again.value) == str(caught.value)
    assert stored(store) == {EVENTS: [], DAYS: []}
    store.run(problem.partition(": ")[2])
    check_tables(store.engine, Deadline(10))
    store.load(BEFORE)
    assert stored(store) == rows_of(BEFORE)


def test_columns_that_are_missing_are_all_told(store: PostgresStore) -> None:
    """Of both tables, with the statements that add them; the key too, without which no load can find its rows."""
    store.run(f"CREATE TABLE {EVENTS} (event_id text, event_name text, total_tickets bigint)")
    store.run(f"CREATE TABLE {DAYS} (event_id text, sale_date date, tickets_sold bigint)")
    with pytest.raises(ConfigurationError, match=r"^3 problem") as caught:
        store.load(BEFORE)
    for problem in caught.value.details["problems"]:
        store.run(problem.partition(": ")[2])
    with pytest.raises(StoreUnavailableError, match=r"42P10.*ADD PRIMARY KEY"):
        store.load(BEFORE)
    store.run(f"ALTER TABLE {EVENTS} ADD PRIMARY KEY (event_id)")
    store.run(f"ALTER TABLE {DAYS} ADD PRIMARY KEY (event_id, sale_date)")
    store.load(BEFORE)
    assert as_designed(store) == rows_of(BEFORE)


def as_designed(store: PostgresStore) -> dict[str, Any]:
    """What is stored, in the types of the design, whatever the order and the types of the columns."""
    return {
        EVENTS: store.run(
            "SELECT event_id::text, event_name, total_tickets::bigint, total_revenue::numeric FROM event_sales_summary"
            " WHERE last_updated::timestamptz = '2026-01-31 06:00:00.123456Z' ORDER BY 1"
        ),
        DAYS: store.run(
            "SELECT event_id::text, sale_date::date, tickets_sold::bigint, revenue::numeric FROM daily_ticket_sales"
            " ORDER BY 1, 2"
        ),
    }


FITTING = {
    "varchar": ((EVENTS, "event_id", "varchar(50)"), (DAYS, "event_id", "varchar(50)")),
    "char": ((EVENTS, "event_id", "char(8)"), (DAYS, "event_id", "char(8)")),
    "domain": ((EVENTS, "event_id", "label"), (DAYS, "event_id", "label"), (EVENTS, "event_name", "label")),
    "smallint": ((EVENTS, "total_tickets", "smallint"), (DAYS, "tickets_sold", "smallint")),
    "numeric tickets": ((EVENTS, "total_tickets", "numeric(10)"), (DAYS, "tickets_sold", "numeric")),
    "bare numeric": ((EVENTS, "total_revenue", "numeric"), (DAYS, "revenue", "numeric")),
    "time without a zone": ((EVENTS, "last_updated", "timestamp"),),
    "a day as a time": ((DAYS, "sale_date", "timestamp(0)"),),
    "a day as a time in a zone": ((DAYS, "sale_date", "timestamptz"),),
}


@pytest.mark.parametrize("columns", [pytest.param(case, id=name) for name, case in FITTING.items()])
def test_a_column_of_a_fitting_type_keeps_working(store: PostgresStore, columns: tuple[tuple[str, str, str]]) -> None:
    """Rows come, change and go, and the dry run counts them."""
    store.load(NOTHING)
    store.run("CREATE DOMAIN label AS text")
    for table, column, kind in columns:
        store.run(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {kind}")
    check_tables(store.engine, Deadline(10))
    for summary, days in ((BEFORE, (3, 0, 0, 0)), (AFTER, (1, 1, 1, 1)), (AFTER, (0, 0, 0, 3))):
        told, done = store.load(summary, dry_run=True), store.load(summary)
        assert counts(told.changes[DAYS]) == counts(done.changes[DAYS]) == days
        assert as_designed(store) == rows_of(summary)
    assert store.stored_tickets("ab").in_scope == 9


def test_no_tables_are_no_problem(store: PostgresStore) -> None:
    """They are made by the load, and not by the look at them."""
    check_tables(store.engine, Deadline(10))
    assert store.tables() == []


def test_new_tables_need_no_warning(store: PostgresStore, caplog: pytest.LogCaptureFixture) -> None:
    """They have 9 decimals; the types are those of the design."""
    store.load(BEFORE)
    assert [record.message for record in caplog.records] == []
    assert store.run(
        "SELECT table_name, column_name, data_type, numeric_precision, numeric_scale, is_nullable"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name DESC, ordinal_position"
    ) == [
        (EVENTS, "event_id", "text", None, None, "NO"),
        (EVENTS, "event_name", "text", None, None, "YES"),
        (EVENTS, "total_tickets", "bigint", 64, 0, "NO"),
        (EVENTS, "total_revenue", "numeric", 38, 9, "NO"),
        (EVENTS, "last_updated", "timestamp with time zone", None, None, "NO"),
        (DAYS, "event_id", "text", None, None, "NO"),
        (DAYS, "sale_date", "date", None, None, "NO"),
        (DAYS, "tickets_sold", "bigint", 64, 0, "NO"),
        (DAYS, "revenue", "numeric", 38, 9, "NO"),
    ]


def test_a_database_with_settings_of_its_own(postgres_server: EmbeddedPostgres, database_url: str) -> None:
    """Time zone, date style and isolation are the database's; what is stored and told is the same."""
    with PostgresStore(database_url) as store:
        for setting in (
            "timezone TO 'Asia/Tokyo'",
            "datestyle TO 'SQL, DMY'",
            "default_transaction_isolation TO 'serializable'",
        ):
            store.run(f'ALTER DATABASE "{store.name}" SET {setting}')
        told = store.load(BEFORE, dry_run=True)
        store.load(BEFORE)
        texts = postgres_server.run(f"SELECT DISTINCT last_updated::text FROM {EVENTS}", store.name)
        assert {example["sale_date"] for example in told.changes[DAYS].examples} == {"2026-01-01", "2026-01-02"}
        assert texts == [("31/01/2026 15:00:00.123456 JST",)]
        days = postgres_server.run(
            f"SELECT DISTINCT to_char(sale_date, 'YYYY-MM-DD') FROM {DAYS} ORDER BY 1", store.name
        )
        assert days == [("2026-01-01",), ("2026-01-02",)]


def test_examples_are_few_and_the_counts_whole(store: PostgresStore) -> None:
    """Of many changes of each kind, 20 are told, with values as text; all are counted."""
    ids = [f"{number:02d}" for number in range(40)]
    store.load(summary_of({}, [(event_id, "2026-01-01", 1, "1") for event_id in ids[:30]]))
    summary = summary_of(dict.fromkeys(ids), [(event_id, "2026-01-01", 1, "1.5") for event_id in ids[20:]])
    told = store.load(summary, dry_run=True)
    assert [counts(told.changes[table]) for table in (EVENTS, DAYS)] == [(10, 30, 0, 0), (10, 10, 20, 0)]
    assert [len(told.changes[table].examples) for table in (EVENTS, DAYS)] == [MAX_EXAMPLES, MAX_EXAMPLES]
    assert told.changes[DAYS].examples[0] == {
        "event_id": "20",
        "sale_date": "2026-01-01",
        "old": {"tickets_sold": "1", "revenue": "1.000000000"},
        "new": {"tickets_sold": "1", "revenue": "1.500000000"},
    }
    one = store.load(summary_of({"00": "Name"}), dry_run=True)
    assert one.changes[DAYS].examples == [
        {
            "event_id": "00",
            "sale_date": "2026-01-01",
            "old": {"tickets_sold": "1", "revenue": "1.000000000"},
            "new": None,
        }
    ]


def test_first_loads_at_once_make_the_tables_once(store: PostgresStore) -> None:
    """Four loads of four events into an empty database all succeed."""
    summaries = [summary_of({event: event}, [(event, "2026-01-01", 1, "1")]) for event in "abcd"]
    with ThreadPoolExecutor(4) as threads:
        results = [*threads.map(store.load, summaries)]
    assert [result.status for result in results] == ["success"] * 4
    assert [row[0] for row in store.rows(DAYS)] == [*"abcd"]


Grant = Callable[[PostgresStore, str], None]


def run_all(*statements: str) -> Grant:
    def run(store: PostgresStore, role: str) -> None:
        for statement in statements:
            store.run(statement.format(role=role, events=EVENTS, days=DAYS))

    return run


OWN_SCHEMA = run_all('CREATE SCHEMA "{role}" AUTHORIZATION "{role}"')
NO_MORE_CREATE = run_all('ALTER SCHEMA "{role}" OWNER TO postgres', 'GRANT USAGE ON SCHEMA "{role}" TO "{role}"')
WRITER = run_all('GRANT SELECT, INSERT, UPDATE, DELETE ON {events}, {days} TO "{role}"')
READER = run_all('GRANT SELECT ON {events}, {days} TO "{role}"')
READ_ONLY = run_all(
    'GRANT SELECT, INSERT, UPDATE, DELETE ON {events}, {days} TO "{role}"',
    'ALTER ROLE "{role}" SET default_transaction_read_only TO on',
)


_roles = count(1)


@pytest.fixture
def role(postgres_server: EmbeddedPostgres) -> str:
    """A role without any rights."""
    name = f"etl role {next(_roles)}"
    postgres_server.create_role(name)
    return name


@pytest.fixture
def store_of_role(database_url: str, role: str) -> Iterator[PostgresStore]:
    with PostgresStore(database_url, user=role) as store:
        yield store


def test_a_plain_role_needs_create_for_the_first_load_only(
    store: PostgresStore, store_of_role: PostgresStore, role: str
) -> None:
    """It makes the tables in its own schema, and does without the right to create once they exist."""
    OWN_SCHEMA(store, role)
    for summary in (BEFORE, AFTER):
        assert store_of_role.load(summary).status == "success"
        store.run(f'SET search_path TO "{role}"')
        assert stored(store) == rows_of(summary)
        NO_MORE_CREATE(store, role)
    assert store.run("SELECT schemaname FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.parametrize(
    ("grant", "dry_run", "words"),
    [
        pytest.param(WRITER, False, None, id="writer"),
        pytest.param(READER, True, None, id="reader, dry run"),
        pytest.param(READER, False, ["42501", EVENTS, "lacks a right", "grant"], id="reader"),
        pytest.param(READ_ONLY, False, ["25006", "read-only", "replica"], id="read-only"),
        pytest.param(run_all(), False, ["42501", "lacks a right"], id="stranger"),
        pytest.param(run_all(), True, ["42501", "lacks a right"], id="stranger, dry run"),
    ],
)
def test_rights_on_tables_that_others_made(
    store: PostgresStore, store_of_role: PostgresStore, role: str, grant: Grant, dry_run: bool, words: list[str] | None
) -> None:
    """Reading and writing rows is all that it takes; less is refused with a message that says so."""
    store.load(BEFORE)
    grant(store, role)
    if words is None:
        assert store_of_role.load(AFTER, dry_run=dry_run).status == ("dry_run" if dry_run else "success")
    else:
        with pytest.raises(StoreUnavailableError) as caught:
            store_of_role.load(AFTER, dry_run=dry_run)
        assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert stored(store) == rows_of(BEFORE if words or dry_run else AFTER)


def test_no_tables_and_no_right_to_create(store_of_role: PostgresStore) -> None:
    """The first load says what PostgreSQL 15 and later refuse."""
    with pytest.raises(StoreUnavailableError, match=r"42501.*schema public"):
        store_of_role.load(BEFORE)
    assert store_of_role.stored_tickets("a") == StoredTickets(0, 0, Decimal())
    assert store_of_role.tables() == []


def test_seconds_are_told(store: PostgresStore) -> None:
    """The whole load's, and the share of reading back."""
    result = store.load(summary_of(NAMES, [], at=MORNING + timedelta(days=1)))
    assert 0 < result.reconcile_seconds < result.seconds < 30
