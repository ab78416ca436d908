"""The BigQuery emulator with the real client, and the proxy in front of it that does what the emulator leaves out."""

import io
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import (
    Client,
    LoadJob,
    LoadJobConfig,
    QueryJob,
    QueryJobConfig,
    ScalarQueryParameter,
    SchemaField,
    Table,
    TimePartitioning,
)
from requests.exceptions import ConnectionError as Disconnected

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.bigquery_rules import lacks_filter
from tests.doubles.http_stand_in import LOSE_ANSWER

SCHEMA = [SchemaField("id", "STRING", "REQUIRED"), SchemaField("amount", "NUMERIC")]
ROW = b'{"id": "a", "amount": "-99999999999999999999999999999.999999999"}\n'
SECONDS = 10.0


@pytest.fixture
def front(bigquery_emulator: BigQueryEmulator) -> Iterator[BigQueryFront]:
    with BigQueryFront(bigquery_emulator.url) as front:
        yield front


@pytest.fixture
def client(front: BigQueryFront, bigquery_project: str, bigquery_dataset: str) -> Iterator[Client]:
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    with closing(Client(bigquery_project, credentials, client_options={"api_endpoint": front.url})) as client:
        client.create_dataset(bigquery_dataset, timeout=SECONDS)
        yield client


def load(client: Client, dataset: str, job_id: str, copies: int = 1) -> LoadJob:
    """Adds a row, or copies of it."""
    config = LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=SCHEMA, write_disposition="WRITE_APPEND")
    table = f"{client.project}.{dataset}.loaded"
    job = client.load_table_from_file(
        io.BytesIO(ROW * copies), table, job_id=job_id, job_config=config, num_retries=0, timeout=SECONDS
    )
    job.result(timeout=SECONDS)
    return job


def rows(client: Client, dataset: str) -> list[tuple[str, Decimal]]:
    job = client.query(f"SELECT * FROM {dataset}.loaded", timeout=SECONDS, job_retry=None)
    return [tuple(row.values()) for row in job.result(timeout=SECONDS)]


def test_a_load_keeps_every_digit(client: Client, bigquery_dataset: str) -> None:
    """The widest NUMERIC comes back as it was sent."""
    load(client, bigquery_dataset, "digits")
    assert rows(client, bigquery_dataset) == [("a", Decimal("-99999999999999999999999999999.999999999"))]


def test_a_load_job_id_is_good_once(client: Client, bigquery_dataset: str) -> None:
    """The second use is a conflict, nothing is loaded twice, and the job can be fetched."""
    assert load(client, bigquery_dataset, "load-1").job_id == "load-1"
    with pytest.raises(Conflict, match="Already Exists: Job load-1"):
        load(client, bigquery_dataset, "load-1")
    assert len(rows(client, bigquery_dataset)) == 1
    job = client.get_job("load-1", timeout=SECONDS)
    assert isinstance(job, LoadJob)
    assert job.output_rows == 1


def test_a_query_job_id_is_good_once(client: Client, bigquery_dataset: str) -> None:
    """The same for a statement that writes."""
    load(client, bigquery_dataset, "load-2")
    insert = f"INSERT INTO {bigquery_dataset}.loaded VALUES ('b', 0)"
    client.query(insert, job_id="query-1", job_retry=None, timeout=SECONDS).result(timeout=SECONDS, job_retry=None)
    with pytest.raises(Conflict, match="Already Exists: Job query-1"):
        client.query(insert, job_id="query-1", job_retry=None, timeout=SECONDS)
    assert len(rows(client, bigquery_dataset)) == 2
    job = client.get_job("query-1", timeout=SECONDS)
    assert isinstance(job, QueryJob)
    assert job.num_dml_affected_rows == 1


def test_a_lost_answer_has_done_its_work(front: BigQueryFront, client: Client, bigquery_dataset: str) -> None:
    """The client sees a broken connection; the job is there, and done once."""
    front.fail(LOSE_ANSWER, path="upload_id=")
    with pytest.raises(Disconnected):
        load(client, bigquery_dataset, "lost")
    with pytest.raises(Conflict):
        load(client, bigquery_dataset, "lost")
    assert len(rows(client, bigquery_dataset)) == 1


def test_a_fault_is_met_as_often_as_asked(front: BigQueryFront, client: Client, bigquery_dataset: str) -> None:
    """After that, the emulator answers: the client tries again by itself."""
    front.fail(503, times=2, path="/datasets/")
    asked = len(front.log)
    assert client.get_dataset(bigquery_dataset, timeout=SECONDS).dataset_id == bigquery_dataset
    assert len(front.log) == asked + 3


def test_the_function_is_held_to_what_bigquery_takes(client: Client, bigquery_dataset: str) -> None:
    """A statement that the emulator forgives is refused in a job of the function's; others are its own matter."""
    load(client, bigquery_dataset, "load-1")
    query = f"SELECT id AS rows FROM `{client.project}.{bigquery_dataset}.loaded`"

    def ask(job_id: str) -> int:
        job = client.query(query, job_id=job_id, job_retry=None, timeout=SECONDS)
        return len(list(job.result(timeout=SECONDS, job_retry=None)))

    assert ask("another's") == 1
    with pytest.raises(GoogleAPICallError, match="rows is a reserved word"):
        ask("veritix-etl-1")


def test_a_request_has_a_limit(
    bigquery_emulator: BigQueryEmulator, bigquery_project: str, bigquery_dataset: str
) -> None:
    """One that is larger is refused, parameters and all, and its job's id isn't taken; an upload may be larger."""

    def ask(client: Client, characters: int) -> list[int]:
        parameters = [ScalarQueryParameter("text", "STRING", "x" * characters)]
        config = QueryJobConfig(query_parameters=parameters)
        job = client.query("SELECT LENGTH(@text)", config, job_id="long", job_retry=None, timeout=SECONDS)
        return [row[0] for row in job.result(timeout=SECONDS, job_retry=None)]

    with BigQueryFront(bigquery_emulator.url, request_bytes=3_000) as front:
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        with closing(Client(bigquery_project, credentials, client_options={"api_endpoint": front.url})) as client:
            with pytest.raises(GoogleAPICallError, match=r"413 .*Request Too Large"):
                ask(client, 3_000)
            assert ask(client, 1_000) == [1_000]
            client.create_dataset(bigquery_dataset, timeout=SECONDS)
            load(client, bigquery_dataset, "large", copies=100)
            assert len(rows(client, bigquery_dataset)) == 100


def test_the_log_shows_what_the_emulator_forgets(front: BigQueryFront, client: Client, bigquery_dataset: str) -> None:
    """A table's expiration is in the request, in milliseconds."""
    table = Table(f"{client.project}.{bigquery_dataset}.expiring", SCHEMA)
    table.expires = datetime(2027, 1, 1, tzinfo=UTC)
    client.create_table(table, timeout=SECONDS)
    assert front.log[-1].json["expirationTime"] == "1798761600000"


TABLE = "p.d.days"
FILTERS = {
    "bounds": ("SELECT * FROM `p.d.days` WHERE x = 1 AND day BETWEEN DATE '2026-01-01' AND DATE '2026-01-02'", True),
    "null or not": ("SELECT * FROM `p.d.days` t WHERE (t.day IS NULL OR t.day IS NOT NULL) AND x = 1", True),
    "in a subquery": (
        "SELECT * FROM a FULL JOIN (SELECT * FROM `p.d.days` WHERE day > DATE '2026-01-01') t USING (x)",
        True,
    ),
    "another table": ("SELECT * FROM `p.d.others`", True),
    "insert": ("INSERT INTO `p.d.days` (x) SELECT x FROM `p.d.others`", True),
    "delete": ("DELETE FROM `p.d.days` WHERE day IS NOT NULL AND x IN (SELECT x FROM `p.d.others`)", True),
    "merge": ("MERGE `p.d.days` t USING s ON t.x = s.x AND t.day > DATE '2026-01-01' WHEN MATCHED THEN DELETE", True),
    "alter": ("ALTER TABLE `p.d.days` ADD COLUMN y STRING", True),
    "none": ("SELECT * FROM `p.d.days`", False),
    "of another column": ("SELECT * FROM `p.d.days` WHERE x = 1", False),
    "only perhaps": ("SELECT * FROM `p.d.days` WHERE day > DATE '2026-01-01' OR x = 1", False),
    "by another column": ("SELECT * FROM `p.d.days` WHERE day > x", False),
    "of another table": ("SELECT * FROM `p.d.days` t JOIN s ON s.x = t.x WHERE s.day > DATE '2026-01-01'", False),
    "outside": ("SELECT * FROM (SELECT * FROM `p.d.days`) WHERE day > DATE '2026-01-01'", False),
    "once of twice": ("SELECT 1 FROM `p.d.days` WHERE day IS NOT NULL; SELECT 1 FROM `p.d.days`", False),
    "delete without": ("DELETE FROM `p.d.days` WHERE x = 1", False),
    "merge by its source": (
        "MERGE `p.d.days` t USING s ON t.x = s.x AND t.day = s.day WHEN MATCHED THEN DELETE",
        False,
    ),
}


@pytest.mark.parametrize(("query", "is_filtered"), [pytest.param(*case, id=name) for name, case in FILTERS.items()])
def test_partition_filters(query: str, is_filtered: bool) -> None:
    """Each look at the table needs one, over the column and constants alone; also within a transaction."""
    for script in (query, f"BEGIN TRANSACTION;\n{query};\nCOMMIT TRANSACTION;"):
        assert lacks_filter(script, TABLE, "day") is not is_filtered


def daily(client: Client, dataset: str, name: str = "days") -> Table:
    table = Table(f"{client.project}.{dataset}.{name}", [*SCHEMA, SchemaField("day", "DATE")])
    table.time_partitioning = TimePartitioning(field="day")
    return table


def test_a_required_filter_is_required(client: Client, bigquery_dataset: str) -> None:
    """From the table's making, or from its alteration on, until that is taken back."""
    table = daily(client, bigquery_dataset)
    table.require_partition_filter = True
    assert client.create_table(table, timeout=SECONDS).require_partition_filter is True
    everything = f"SELECT * FROM `{table}`"
    with pytest.raises(BadRequest, match=r"Cannot query over table 'days' without a filter over column\(s\) 'day'"):
        run(client, everything)
    run(client, f"{everything} WHERE day IS NOT NULL")
    run(client, f"ALTER TABLE `{table}` SET OPTIONS (require_partition_filter = FALSE)")
    run(client, everything)


def test_new_tables_inherit_the_datasets_expirations(client: Client, bigquery_dataset: str) -> None:
    """Those of partitions go before those of tables, what a table says itself before both, and NULL means never."""
    dataset = client.get_dataset(bigquery_dataset, timeout=SECONDS)
    dataset.default_table_expiration_ms = 86_400_000
    client.update_dataset(dataset, ["default_table_expiration_ms"], timeout=SECONDS)
    assert client.create_table(daily(client, bigquery_dataset, "one"), timeout=SECONDS).expires is not None
    dataset.default_partition_expiration_ms = 2 * 86_400_000
    client.update_dataset(dataset, ["default_partition_expiration_ms"], timeout=SECONDS)
    made = client.create_table(daily(client, bigquery_dataset, "two"), timeout=SECONDS)
    assert (made.expires, made.time_partitioning.expiration_ms) == (None, 2 * 86_400_000)
    plain = Table(f"{client.project}.{bigquery_dataset}.plain", SCHEMA)
    plain.expires = datetime(2027, 1, 1, tzinfo=UTC)
    assert client.create_table(plain, timeout=SECONDS).expires == plain.expires
    for name, option in (("two", "partition_expiration_days"), ("plain", "expiration_timestamp")):
        path = f"{client.project}.{bigquery_dataset}.{name}"
        run(client, f"ALTER TABLE `{path}` SET OPTIONS ({option} = NULL)")
        found = client.get_table(path, timeout=SECONDS)
        assert found.expires is None
        assert found.time_partitioning is None or found.time_partitioning.expiration_ms is None


def test_streamed_rows_stay_for_a_while(front: BigQueryFront, client: Client, bigquery_dataset: str) -> None:
    """They can be read and added to, but not changed until they have settled; others can."""
    table, other = (daily(client, bigquery_dataset, name) for name in ("days", "others"))
    for each in (table, other):
        client.create_table(each, timeout=SECONDS)
    for name in ("a", "b"):
        assert client.insert_rows_json(table, [{"id": name}], timeout=SECONDS) == []
    change = f"UPDATE `{table}` SET amount = 1 WHERE TRUE"
    with pytest.raises(BadRequest, match="would affect rows in the streaming buffer, which is not supported"):
        run(client, change)
    run(client, f"UPDATE `{other}` SET amount = 1 WHERE TRUE")
    assert [tuple(row.values()) for row in run(client, f"SELECT COUNT(amount), COUNT(*) FROM `{table}`")] == [(0, 2)]
    front.tables.settle()
    run(client, change)
    assert [tuple(row.values()) for row in run(client, f"SELECT COUNT(amount), COUNT(*) FROM `{table}`")] == [(2, 2)]


def test_streaming_learns_of_a_new_column_late(front: BigQueryFront, client: Client, bigquery_dataset: str) -> None:
    """The schema has it at once. Until then, and of a field that isn't there at all, no row of the request is taken."""
    table = daily(client, bigquery_dataset)
    client.create_table(table, timeout=SECONDS)
    rows = [{"id": "a"}, {"id": "b", "seen_at": "2026-01-01 00:00:00"}]
    for _ in range(2):
        errors = client.insert_rows_json(table, rows, timeout=SECONDS)
        assert [error["errors"][0]["reason"] for error in errors] == ["stopped", "invalid"]
        assert errors[1]["errors"][0]["message"] == "no such field: seen_at."
        run(client, f"ALTER TABLE `{table}` ADD COLUMN IF NOT EXISTS seen_at TIMESTAMP")
        assert [field.name for field in client.get_table(table, timeout=SECONDS).schema][-1] == "seen_at"
    front.tables.settle()
    assert client.insert_rows_json(table, rows, timeout=SECONDS) == []
    assert [tuple(row.values()) for row in run(client, f"SELECT COUNT(seen_at), COUNT(*) FROM `{table}`")] == [(1, 2)]


def run(client: Client, statement: str) -> Iterator[Any]:
    return iter(client.query(statement, timeout=SECONDS, job_retry=None).result(timeout=SECONDS, job_retry=None))
