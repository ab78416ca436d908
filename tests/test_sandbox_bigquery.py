"""The BigQuery emulator with the real client, and the proxy in front of it that does what the emulator leaves out."""

import io
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from google.api_core.exceptions import Conflict, GoogleAPICallError
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
)
from requests.exceptions import ConnectionError as Disconnected

from tests.sandbox.bigquery import BigQueryEmulator
from tests.sandbox.bigquery_front import BigQueryFront
from tests.sandbox.http_stand_in import LOSE_ANSWER

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
