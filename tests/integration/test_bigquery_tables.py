"""Tables and datasets of BigQuery's that others made: what works with them, and what is refused with its remedy."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import Client, Dataset, SchemaField, Table, TimePartitioning

from etl.errors import ConfigurationError
from etl.load.bigquery.tables import check_tables, define_table
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.support.summaries import DAYS, EVENTS, BigQueryStore, counts, rows_of, summary_of

StoreMaker = Callable[..., BigQueryStore]

BEFORE = summary_of({"a": "Aida"}, [("a", "2020-01-01", 1, "1.5"), ("a", "2026-01-02", 2, "3")])
AFTER = summary_of({"a": "Aida", "b": "Boris"}, [("a", "2020-01-01", 1, "2.5"), ("b", "2026-01-03", 1, "-1")])
DAY_MS = 86_400_000


@pytest.fixture
def front(bigquery_emulator: BigQueryEmulator) -> Iterator[BigQueryFront]:
    with BigQueryFront(bigquery_emulator.url) as front:
        yield front


@pytest.fixture
def client(front: BigQueryFront, bigquery_project: str) -> Iterator[Client]:
    """Somebody else's, who sees the tables as the product does."""
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    with closing(Client(bigquery_project, credentials, client_options={"api_endpoint": front.url})) as client:
        yield client


@pytest.fixture
def make_store(
    front: BigQueryFront, bigquery_emulator: BigQueryEmulator, bigquery_project: str, bigquery_dataset: str
) -> Iterator[StoreMaker]:
    """Makes stores on one and the same dataset, behind the front."""
    with ExitStack() as stores:
        parts = (bigquery_emulator, bigquery_project, bigquery_dataset, front.url)
        yield lambda **settings: stores.enter_context(BigQueryStore(*parts, **settings))


@pytest.fixture
def store(make_store: StoreMaker) -> BigQueryStore:
    return make_store()


def run(client: Client, statement: str) -> None:
    client.query(statement, timeout=30, job_retry=None).result(timeout=30, job_retry=None)


def holds(store: BigQueryStore) -> dict[str, Any]:
    return {table: store.rows(table) for table in (EVENTS, DAYS)}


DEFAULTS = {
    "partitions": {"default_partition_expiration_ms": 30 * DAY_MS},
    "tables": {"default_table_expiration_ms": 60 * DAY_MS},
    "both": {"default_partition_expiration_ms": 30 * DAY_MS, "default_table_expiration_ms": 60 * DAY_MS},
}


@pytest.mark.parametrize("defaults", [pytest.param(case, id=name) for name, case in DEFAULTS.items()])
@pytest.mark.parametrize("mode", ["merge", "stream"])
def test_a_datasets_default_expirations_do_not_hold_for_our_tables(
    front: BigQueryFront, client: Client, make_store: StoreMaker, defaults: dict[str, int], mode: str
) -> None:
    """What is made there keeps its rows for ever; later loads have nothing to mend."""
    store = make_store(bq_write_mode=mode)
    dataset = Dataset(store.dataset)
    for name, value in defaults.items():
        setattr(dataset, name, value)
    client.create_dataset(dataset, timeout=10)
    store.load(BEFORE)
    assert holds(store) == rows_of(BEFORE)
    for name in (EVENTS, DAYS):
        table = client.get_table(f"{store.dataset}.{name}", timeout=10)
        assert table.expires is None
        assert table.time_partitioning is None or table.time_partitioning.expiration_ms is None
    del front.log[:]
    store.load(BEFORE)
    assert not [request for request in front.log if b"ALTER" in request.body]


def test_a_table_that_somebody_else_makes_there_expires(client: Client, store: BigQueryStore) -> None:
    """The case above isn't void: the same definition inherits the dataset's default."""
    dataset = Dataset(store.dataset)
    dataset.default_partition_expiration_ms = 30 * DAY_MS
    client.create_dataset(dataset, timeout=10)
    made = client.create_table(define_table(f"{store.dataset}.{DAYS}", DAILY_TICKET_SALES), timeout=10)
    assert made.time_partitioning.expiration_ms == 30 * DAY_MS


EXPIRING = {
    "days": (DAYS, "partition_expiration_days = 3", "partition_expiration_days = NULL"),
    "the daily table": (DAYS, "expiration_timestamp = 1798761600000", "expiration_timestamp = NULL"),
    "the summary": (EVENTS, "expiration_timestamp = 1798761600000", "expiration_timestamp = NULL"),
}


@pytest.mark.parametrize(
    ("table", "option", "remedy"), [pytest.param(*case, id=name) for name, case in EXPIRING.items()]
)
def test_what_expires_is_refused(client: Client, store: BigQueryStore, table: str, option: str, remedy: str) -> None:
    """Nothing is written, a dry run says the same, and the statement in the error mends it."""
    store.load(BEFORE)
    path = f"{store.dataset}.{table}"
    run(client, f"ALTER TABLE `{path}` SET OPTIONS ({option})")
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError) as caught:
            store.load(AFTER, dry_run=dry_run)
        [problem] = caught.value.details["problems"]
        assert problem.endswith(f"in silence: ALTER TABLE `{path}` SET OPTIONS ({remedy})")
    assert holds(store) == rows_of(BEFORE)
    run(client, problem.partition(": ")[2])
    assert store.load(AFTER).status == "success"


def test_a_daily_table_that_requires_a_filter(front: BigQueryFront, client: Client, make_store: StoreMaker) -> None:
    """Each query and statement gives one: loads, dry runs and the guard work, also over what streaming has doubled."""
    store, streaming = make_store(), make_store(bq_write_mode="stream")
    store.load(BEFORE)
    run(client, f"ALTER TABLE `{store.dataset}.{DAYS}` SET OPTIONS (require_partition_filter = TRUE)")
    assert client.get_table(f"{store.dataset}.{DAYS}", timeout=10).require_partition_filter is True
    for summary, days in ((BEFORE, (0, 0, 0, 2)), (AFTER, (1, 1, 1, 0))):
        told, done = store.load(summary, dry_run=True), store.load(summary)
        assert counts(told.changes[DAYS]) == counts(done.changes[DAYS]) == days
        assert holds(store) == rows_of(summary)
    assert store.stored_tickets("ab").total == 2
    run(client, f"ALTER TABLE `{store.dataset}.{DAYS}` ADD COLUMN IF NOT EXISTS last_updated TIMESTAMP")
    front.tables.settle()
    for _ in range(2):
        streaming.load(BEFORE)
    front.tables.settle()
    store.load(AFTER)
    assert holds(store) == rows_of(AFTER)


def test_a_filter_that_the_run_cannot_give(client: Client, store: BigQueryStore) -> None:
    """A summary that somebody has partitioned: the error says how to allow what the run asks."""
    client.create_dataset(store.dataset, timeout=10)
    path = f"{store.dataset}.{EVENTS}"
    definition = define_table(path, EVENT_SALES_SUMMARY)
    definition.time_partitioning = TimePartitioning(field="last_updated")
    definition.require_partition_filter = True
    client.create_table(definition, timeout=10)
    with pytest.raises(ConfigurationError) as caught:
        store.load(BEFORE)
    statement = f"ALTER TABLE `{path}` SET OPTIONS (require_partition_filter = FALSE)"
    assert caught.value.details["problems"] == [
        f"{path} refuses queries without a filter over last_updated, which the run can't give: {statement}"
    ]
    run(client, statement)
    store.load(BEFORE)
    assert holds(store) == rows_of(BEFORE)


def test_columns_of_other_types_stop_the_load_and_the_guard(client: Client, store: BigQueryStore) -> None:
    """Of both tables at once, before anything is written; renamed as the error says, they make room for new ones."""
    client.create_dataset(store.dataset, timeout=10)
    path = f"{store.dataset}.{DAYS}"
    run(client, f"CREATE TABLE `{path}` (event_id INT64, sale_date DATE, tickets_sold INT64, revenue FLOAT64)")
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match=r"^2 problem") as caught:
            store.load(BEFORE, dry_run=dry_run)
        starts = [problem.partition(":")[0] for problem in caught.value.details["problems"]]
        assert [text.split(" ")[0] for text in starts] == [f"{path}.event_id", f"{path}.revenue"]
        assert [text.split(" must be ")[1] for text in starts] == ["STRING", "NUMERIC"]
    assert store.tables() == [DAYS]
    client.delete_table(path, timeout=10)
    run(client, f"CREATE TABLE `{store.dataset}.{EVENTS}` (event_id INT64)")
    with pytest.raises(ConfigurationError, match="event_id is INTEGER, and must be STRING"):
        store.stored_tickets("a")


PATH = "p.d.daily_ticket_sales"
GOOD = {"event_id": "STRING", "sale_date": "DATE", "tickets_sold": "INTEGER", "revenue": "NUMERIC"}
ALTER = f"ALTER TABLE `{PATH}`"
RENAME = f"{ALTER} RENAME TO daily_ticket_sales_before"
SCHEMAS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ours": ({}, []),
    "the other names of types": ({"tickets_sold": "INT64"}, []),
    "wider types": ({"tickets_sold": "NUMERIC", "revenue": "BIGNUMERIC"}, []),
    "further columns": ({"loaded_at": "TIMESTAMP", "last_updated": "TIMESTAMP"}, []),
    "enough decimals": ({"revenue": {"type": "BIGNUMERIC", "precision": "40", "scale": "9"}}, []),
    "float amount": ({"revenue": "FLOAT"}, [f"{PATH}.revenue is FLOAT, and must be NUMERIC: {RENAME}"]),
    "integer id": ({"event_id": "INTEGER"}, [f"{PATH}.event_id is INTEGER, and must be STRING: {RENAME}"]),
    "time for a day": ({"sale_date": "DATETIME"}, [f"{PATH}.sale_date is DATETIME, and must be DATE: {RENAME}"]),
    "several ids": (
        {"event_id": {"type": "STRING", "mode": "REPEATED"}},
        [f"{PATH}.event_id is ARRAY<STRING>, and must be STRING: {RENAME}"],
    ),
    "two decimals": (
        {"revenue": {"type": "NUMERIC", "precision": "12", "scale": "2"}},
        [f"{PATH}.revenue has 2 decimals, and must have 9: {ALTER} ALTER COLUMN revenue SET DATA TYPE NUMERIC"],
    ),
    "no amount": (
        {"revenue": None},
        [f"{PATH} has no column revenue: {ALTER} ADD COLUMN IF NOT EXISTS revenue NUMERIC"],
    ),
    "a required column of others": (
        {"shop": {"type": "STRING", "mode": "REQUIRED"}},
        [f"{PATH}.shop is REQUIRED, and unknown here: {ALTER} ALTER COLUMN shop DROP NOT NULL"],
    ),
}


@pytest.mark.parametrize(("columns", "problems"), [pytest.param(*case, id=name) for name, case in SCHEMAS.items()])
def test_schemas(columns: dict[str, Any], problems: list[str]) -> None:
    """What holds every value exactly is taken; else the error names column, type and remedy."""
    fields = [
        {"name": name, "mode": "NULLABLE", **(kind if isinstance(kind, dict) else {"type": kind})}
        for name, kind in {**GOOD, **columns}.items()
        if kind is not None
    ]
    stored = Table(PATH, schema=[SchemaField.from_api_repr(one) for one in fields])
    if not problems:
        check_tables([(DAILY_TICKET_SALES, PATH, stored)])
        return
    with pytest.raises(ConfigurationError) as caught:
        check_tables([(DAILY_TICKET_SALES, PATH, stored)])
    assert caught.value.details["problems"] == problems
    assert problems[0] in str(caught.value)
