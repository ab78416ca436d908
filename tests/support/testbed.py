"""A function in a process with everything it talks to: the sample upstream, both stores, Secret Manager."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

import pg8000.native
import requests
from google.api_core.exceptions import NotFound
from google.cloud.bigquery import Client

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.secret_manager import SecretManagerStandIn
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.sample_data import sample_events, sample_sales
from tests.support.function import Function
from tests.support.oracle import Tables, bigquery_tables, postgres_tables, wanted_tables

PROJECT = "veritix-test"
SECRET = f"projects/{PROJECT}/secrets/nest-api-token"
TOKEN = "upstream-token-8f31c2"
PASSWORD = "p@ss/w:rd%41-d09e7b"
PAGE_SIZE = 50
ENVELOPE = ENVELOPES["veritix:wrapped"].sized(PAGE_SIZE)
_ALL_EVENTS = sample_events(7)
EVENTS = _ALL_EVENTS[:100]
_LEFT_OUT = {event["id"] for event in _ALL_EVENTS[100:]}
SALES = [sale for sale in sample_sales(7, date(2026, 11, 20)) if sale["eventId"] not in _LEFT_OUT][::30]
"""Some of them refunds, some of events that are not listed."""
LABELS = "logging.googleapis.com/labels"
VARYING = ("time", "logger", "seconds", "duration_seconds", LABELS)
Counts = tuple[int, ...]


@dataclass
class Testbed:
    """`env` is the function's environment. The token comes from Secret Manager, the database's login from its URL."""

    __test__ = False  # by its name pytest would take it for tests

    env: Mapping[str, str]
    function: Function
    upstream: TicketingApi
    postgres: EmbeddedPostgres
    database: str
    bigquery: Client
    front: BigQueryFront
    dataset: str
    secret_manager: SecretManagerStandIn

    def reset(self) -> None:
        """The sample data upstream, nothing in the stores."""
        self.restore_upstream()
        self.reset_stores()

    def reset_stores(self) -> None:
        """Nothing in the stores, not even a table."""
        tables = self.sql("SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public'")[0][0]
        if tables:
            self.sql(f"DROP TABLE {tables} CASCADE")
        self.bigquery.delete_dataset(self.dataset, delete_contents=True, not_found_ok=True, timeout=30)

    def restore_upstream(self) -> None:
        """Back to the sample data, without any fault."""
        self.upstream.faults.clear()
        self.upstream.on_page = None
        self.upstream.latency_seconds = 0.0
        self.upstream.events, self.upstream.sales = list(EVENTS), list(SALES)
        for dataset in self.upstream.datasets.values():
            dataset.envelope = ENVELOPE
        self.rotate_token(TOKEN)

    def load(self) -> None:
        """Bring the sample data into both stores, unless that is what they hold."""
        self.restore_upstream()
        with suppress(pg8000.native.DatabaseError, NotFound):  # a table or the dataset isn't there
            if self.in_postgres() == self.in_bigquery() == self.wanted():
                return
        self.reset()
        assert self.function.call().status_code == 200

    def rotate_token(self, token: str) -> None:
        """The upstream takes another token from now on, and Secret Manager has it as its latest."""
        self.upstream.token = token
        self.secret_manager.add_version(SECRET, token.encode())

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.postgres.run(statement, self.database)

    def wanted(self) -> Tables:
        """What both stores must hold after a run, by the oracle."""
        return wanted_tables(self.postgres, self.upstream.events, self.upstream.sales)

    def in_postgres(self) -> Tables:
        return postgres_tables(self.postgres, self.database)

    def in_bigquery(self) -> Tables:
        return bigquery_tables(self.bigquery, self.dataset)

    def row_versions(self, *tables: str) -> list[tuple[Any, ...]]:
        """Every row of PostgreSQL's tables with the transaction that wrote it."""
        return [row for table in tables for row in self.sql(f"SELECT xmin::text, t::text FROM {table} t ORDER BY 2")]

    def run_row(self, run_id: str) -> dict[str, Any]:
        """A run's row in the ledger."""
        ((row,),) = self.sql(f"SELECT to_jsonb(r) FROM etl_runs r WHERE run_id = '{run_id}'")
        return dict(row)


@contextmanager
def open_testbed(
    postgres: EmbeddedPostgres,
    bigquery: BigQueryEmulator,
    reroute: Callable[[dict[str, str]], Mapping[str, str]] = lambda env: env,
    *,
    starts: bool = True,
) -> Iterator[Testbed]:
    """A bench with a database of its own, which the function reaches over TCP with a password.

    `reroute` may change the function's environment, to put something in between; `starts`: whether it is started.
    """
    if not postgres.run("SELECT FROM pg_roles WHERE rolname = 'etl writer'"):  # two modules may share a server
        postgres.create_role("etl writer", PASSWORD)
    database = postgres.create_database(owner="etl writer")
    dataset = f"bench_{database}"
    with ExitStack() as stack:
        stack.callback(postgres.drop_database, database)
        client = stack.enter_context(closing(bigquery.client(PROJECT)))
        front = stack.enter_context(BigQueryFront(bigquery.url))
        secret_manager = stack.enter_context(SecretManagerStandIn())
        upstream = stack.enter_context(TicketingApi(prefix="/api/v1"))
        direct = {
            "NEST_API_BASE_URL": upstream.base_url + "/",
            "NEST_API_TOKEN_SECRET": f"{SECRET}/versions/latest",
            "SECRET_MANAGER_ENDPOINT": secret_manager.endpoint,
            "DATABASE_URL": postgres.tcp_url(database, "etl writer", PASSWORD, sslmode="disable"),
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": PROJECT,
            "BQ_DATASET": dataset,
            "BIGQUERY_EMULATOR_HOST": front.url,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }
        env = reroute(direct)
        function = Function(env, secrets=[TOKEN, PASSWORD, "d09e7b"])
        if starts:
            stack.enter_context(function)
        yield Testbed(env, function, upstream, postgres, database, client, front, dataset, secret_manager)


def change_at_random(api: TicketingApi, dice: random.Random) -> None:
    """Some sales are new, change, move to another day or event, or go; an event is renamed."""
    sales = dice.sample(api.sales, k=len(api.sales) - len(api.sales) // 20)
    for place in dice.sample(range(len(sales)), k=len(sales) // 10):
        column, value = dice.choice(
            [
                ("quantity", dice.randrange(-3, 9)),
                ("totalAmount", f"{dice.randrange(1000)}.{dice.randrange(100):02d}"),
                ("createdAt", f"2026-09-{dice.randrange(1, 31):02d}T08:00:00.000Z"),
                ("eventId", dice.choice(api.events)["id"]),
            ]
        )
        sales[place] = {**sales[place], column: value}
    new = [{**dice.choice(sales), "id": 500_000 + dice.randrange(400_000)} for _ in range(len(sales) // 24)]
    api.sales = sorted({sale["id"]: sale for sale in [*sales, *new]}.values(), key=lambda sale: sale["id"])
    api.events = [{**event, "name": event["name"] + dice.choice(["", "", "!"])} for event in api.events]


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a failure, after a look at its fixed parts."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert (body["type"], body["title"]) == ("about:blank", code.replace("_", " "))
    assert body["detail"]
    return body


def steady(lines: Sequence[Mapping[str, Any]], *messages: str) -> list[dict[str, Any]]:
    """Log lines (with these messages only) without what differs from run to run."""
    return [
        {name: value for name, value in line.items() if name not in VARYING}
        for line in lines
        if not messages or line["message"] in messages
    ]


def changes(report: Mapping[str, Any], store: str) -> dict[str, Counts]:
    """Rows that were inserted, updated, deleted and left alone in a store, by table."""
    tables = report["stores"][store]["changes"]
    return {
        name: tuple(table[kind] for kind in ("inserted", "updated", "deleted", "unchanged"))
        for name, table in tables.items()
    }
