"""The real parts, each started once a session, when the first test asks for it; data is made anew for each test."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from google.cloud.bigquery import Client

from etl.run.ledger import MemoryLedger
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.postgres import EmbeddedPostgres
from tests.sandbox.function import reach_loopback

LONGEST_FIRST = (
    "test_faults",
    "test_increments",
    "test_kept_sales_in_bigquery",
    "test_kept_sales",
    "test_terraform",
    "test_function",
    "test_histories",
    "test_stores",
    "test_bigquery",
    "test_sandbox_run",
    "test_hostile_upstream",
    "test_pipeline",
    "test_black_holes",
)
"""The modules that take longest: begun last, one of them would keep one core busy while the other has nothing left."""


def pytest_configure() -> None:
    os.environ.update(reach_loopback(os.environ))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun in the background by a shell: processes that are to end by Ctrl-C would never hear of it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(autouse=True)
def process_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process remembers of runs without PostgreSQL begins anew: each test is a process of its own."""
    monkeypatch.setattr("etl.run.ledger._in_process", MemoryLedger())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def bigquery_emulator() -> Iterator[BigQueryEmulator]:
    with BigQueryEmulator() as emulator:
        yield emulator


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """An empty database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def database(database_url: str) -> str:
    """Its name."""
    return database_url.partition("@/")[2].partition("?")[0]


@pytest.fixture
def bigquery_client(bigquery_emulator: BigQueryEmulator, bigquery_project: str) -> Iterator[Client]:
    """The real client of the emulator."""
    with closing(bigquery_emulator.client(bigquery_project)) as client:
        yield client


@pytest.fixture
def bigquery_project() -> str:
    """The emulator takes any project; what keeps tests apart is the dataset."""
    return "veritix-test"


@pytest.fixture
def bigquery_dataset(bigquery_emulator: BigQueryEmulator, bigquery_project: str) -> Iterator[str]:
    """The name of a dataset that doesn't exist yet. It is deleted after the test, with what is in it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with closing(bigquery_emulator.client(bigquery_project)) as client:
        client.delete_dataset(name, delete_contents=True, not_found_ok=True, timeout=30)
