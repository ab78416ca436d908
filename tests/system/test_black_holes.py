"""Whoever accepts and never answers: the run ends with the right error while its caller still listens."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from etl.settings import DEADLINE_MARGIN_SECONDS
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.black_hole import BlackHole
from tests.doubles.cloud_sql import PROXY_PORT, CloudSqlStandIn
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HANG
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.postgres_proxy import Arrival
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.function import Function
from tests.support.runs_apart import Outcome, run_apart
from tests.support.testbed import PROJECT, problem
from tests.support.waiting import BUSY_SECONDS

DEADLINE = 2.0
LEDGER_SECONDS = 15.0
AT_ONCE = 8
HEADERS_ONLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
USER, PASSWORD = "black hole", "p4ss"


@dataclass(frozen=True)
class Parts:
    """What there is to put a black hole into; `stack` ends it."""

    stack: ExitStack
    postgres: EmbeddedPostgres
    bigquery: BigQueryEmulator

    def hole(self, head: bytes = b"", address: tuple[str, int] = ("127.0.0.1", 0)) -> BlackHole:
        return self.stack.enter_context(BlackHole(head=head, address=address))

    def upstream(self, *faults: Fault) -> dict[str, str]:
        api = TicketingApi(plain_events(3), plain_sales(30), faults=faults)
        return {"NEST_API_BASE_URL": self.stack.enter_context(api).base_url}

    def database(self, silent_at: bytes | None = None) -> dict[str, str]:
        """A database of its own, which falls silent, for everybody, when somebody says that to it."""
        name = self.postgres.create_database(owner=USER)
        way = self.stack.enter_context(BlackHole(self.postgres.port, silent_at=silent_at))
        return {"DATABASE_URL": self.postgres.tcp_url(name, USER, PASSWORD, sslmode="disable", port=str(way.port))}

    def database_silent_in_mid_read(self) -> dict[str, str]:
        """The connection that began the run lies in the pool then, and is found dead."""
        name = self.postgres.create_database(owner=USER)
        way = self.stack.enter_context(BlackHole(self.postgres.port))
        api = self.stack.enter_context(TicketingApi(plain_events(3), plain_sales(30)))
        api.on_page = lambda _: way.is_open.clear()
        url = self.postgres.tcp_url(name, USER, PASSWORD, sslmode="disable", port=str(way.port))
        return {"DATABASE_URL": url, "NEST_API_BASE_URL": api.base_url}

    def cloud_sql(self, kind: type[CloudSqlStandIn], **settings: str) -> dict[str, str]:
        instance = self.stack.enter_context(kind(self.postgres))
        return {
            "INSTANCE_CONNECTION_NAME": instance.instance_connection_name,
            "DB_USER": USER,
            "DB_PASS": PASSWORD,
            "DB_NAME": "postgres",
            "CLOUD_SQL_ADMIN_ENDPOINT": instance.admin_endpoint,
        } | settings

    def bigquery_at(self, url: str) -> dict[str, str]:
        return {
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": PROJECT,
            "BQ_DATASET": self.postgres.create_database(),  # a name that nobody else has
            "BIGQUERY_EMULATOR_HOST": url,
        }

    def bigquery_silent_at(self, path: str) -> dict[str, str]:
        front = self.stack.enter_context(BigQueryFront(self.bigquery.url))
        front.fail(HANG, times=99, path=path)
        return self.bigquery_at(front.url)

    def secret_at(self, url: str) -> dict[str, str]:
        return {"NEST_API_TOKEN_SECRET": "projects/p/secrets/s/versions/1", "SECRET_MANAGER_ENDPOINT": url}


class SilentBehindTls(CloudSqlStandIn):
    """Its instance takes the TLS handshake, and then says nothing."""

    def _route(self, _: Arrival) -> str | int:
        return self.hole.port

    def __enter__(self) -> "SilentBehindTls":
        self.hole = BlackHole().__enter__()
        super().__enter__()
        return self


class SilentInstance(CloudSqlStandIn):
    """Its instance is at an address where nobody says anything."""

    ADDRESS = "127.0.0.77"

    def respond(self, request: Request) -> Answer:
        if request.path.endswith("/connectSettings"):
            return json_answer(self._settings() | {"ipAddresses": [{"type": "PRIMARY", "ipAddress": self.ADDRESS}]})
        return super().respond(request)


TIDYING = ("BigQuery, at tables/etl_staging", "PostgreSQL, from DELETE FROM etl_runs on")
Env = Mapping[str, str]
Outcomes = Mapping[str, Future[Outcome]]
HOLES: dict[str, Callable[[Parts], Env]] = {
    "upstream": lambda parts: parts.database() | {"NEST_API_BASE_URL": parts.hole().url},
    "upstream, headers only": lambda parts: parts.database() | {"NEST_API_BASE_URL": parts.hole(HEADERS_ONLY).url},
    "upstream's sales": lambda parts: parts.database() | parts.upstream(Fault("hang", dataset="ticket_sales")),
    "Secret Manager": lambda parts: parts.database() | parts.upstream() | parts.secret_at(parts.hole().url),
    "Secret Manager, headers only": lambda parts: (
        parts.database() | parts.upstream() | parts.secret_at(parts.hole(HEADERS_ONLY).url)
    ),
    "PostgreSQL": lambda parts: (
        parts.upstream() | {"DATABASE_URL": f"postgresql://u:p@127.0.0.1:{parts.hole().port}/d"}
    ),
    **{
        f"PostgreSQL, from {word} on": lambda parts, word=word: parts.upstream() | parts.database(word.encode())  # type: ignore[misc]
        for word in (
            "set_config",
            "CREATE TABLE",
            "etl_lease",
            "CREATE TEMP",
            "COPY",
            "INSERT INTO daily",
            "UPDATE etl_runs",
            "DELETE FROM etl_runs",
        )
    },
    "PostgreSQL, while the upstream is read": lambda parts: parts.database_silent_in_mid_read(),
    "Cloud SQL's Admin API": lambda parts: (
        parts.upstream() | parts.cloud_sql(CloudSqlStandIn, CLOUD_SQL_ADMIN_ENDPOINT=parts.hole().url)
    ),
    "Cloud SQL's Admin API, headers only": lambda parts: (
        parts.upstream() | parts.cloud_sql(CloudSqlStandIn, CLOUD_SQL_ADMIN_ENDPOINT=parts.hole(HEADERS_ONLY).url)
    ),
    "Cloud SQL's instance": lambda parts: parts.upstream() | parts.cloud_sql(SilentInstance),
    "Cloud SQL's instance, behind TLS": lambda parts: parts.upstream() | parts.cloud_sql(SilentBehindTls),
    "BigQuery": lambda parts: parts.upstream() | parts.database() | parts.bigquery_at(parts.hole().url),
    "BigQuery, headers only": lambda parts: (
        parts.upstream() | parts.database() | parts.bigquery_at(parts.hole(HEADERS_ONLY).url)
    ),
    "BigQuery alone": lambda parts: parts.upstream() | parts.bigquery_at(parts.hole().url),
    **{
        f"BigQuery, at {path}": lambda parts, path=path: (  # type: ignore[misc]
            parts.upstream() | parts.database() | parts.bigquery_silent_at(path)
        )
        for path in ("/tables", "uploadType", "upload_id=", "/jobs?", "/queries/", "tables/etl_staging")
    },
}
SOON: dict[str, tuple[str, Callable[[Parts], Env]]] = {
    "upstream": (
        "upstream_error",
        lambda parts: parts.database() | {"NEST_API_BASE_URL": parts.hole().url, "NEST_API_TIMEOUT_SECONDS": "0.2"},
    ),
    "PostgreSQL": (
        "load_failed",
        lambda parts: (
            parts.upstream()
            | {"DATABASE_URL": f"postgresql://u:p@127.0.0.1:{parts.hole().port}/d?sslmode=disable&connect_timeout=1"}
        ),
    ),
}


@pytest.fixture(scope="module")
def outcomes(postgres_server: EmbeddedPostgres, bigquery_emulator: BigQueryEmulator) -> Iterator[Outcomes]:
    """Each black hole, met by a run in a process of its own."""
    postgres_server.create_role(USER, PASSWORD)
    with ExitStack() as stack:
        parts = Parts(stack, postgres_server, bigquery_emulator)
        parts.hole(address=(SilentInstance.ADDRESS, PROXY_PORT))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        deadline = {"ETL_DEADLINE_SECONDS": str(DEADLINE)}
        runs = {name: pool.submit(run_apart, {**make(parts), **deadline}) for name, make in HOLES.items()}
        runs |= {f"{name}, soon": pool.submit(run_apart, make(parts)) for name, (_, make) in SOON.items()}
        yield runs


@pytest.mark.usefixtures("outcomes")
def test_looking_at_the_ledger_is_bounded(postgres_server: EmbeddedPostgres) -> None:
    """`/runs` and `/metrics` are 503 within their 15 s while the database is a black hole, from the start or from a
    moment on, and answer again afterwards; `/health` doesn't know. The runs below go on meanwhile.
    """
    with BlackHole(postgres_server.port) as way:
        postgres_server.create_role("watcher", PASSWORD)
        url = postgres_server.tcp_url("postgres", "watcher", PASSWORD, sslmode="disable", port=str(way.port))
        env = {"NEST_API_BASE_URL": "http://127.0.0.1:1", "DATABASE_URL": url}
        with Function(env, secrets=[PASSWORD]) as function, ThreadPoolExecutor(2) as callers:
            assert function.call("GET", "/runs").json() == {"runs": []}
            way.is_open.clear()
            started = time.monotonic()
            for answer in callers.map(lambda path: function.call("GET", path), ("/runs", "/metrics")):
                problem(answer, 503, "load_failed")
            assert time.monotonic() - started < LEDGER_SECONDS
            assert function.call("GET", "/health").status_code == 200
            way.is_open.set()
            assert function.call("GET", "/runs").json() == {"runs": []}


@pytest.mark.parametrize("name", HOLES)
def test_the_deadline_ends_it(name: str, outcomes: Outcomes) -> None:
    """With a black hole anywhere, from the first word on or in the middle, the run is `deadline_exceeded` in time.

    In time is before the platform's own time-out. Where only the tidying is left, both stores are loaded: that may be a
    success in the last moment.
    """
    outcome = outcomes[name].result()
    codes = {"deadline_exceeded", "success"} if name in TIDYING else {"deadline_exceeded"}
    assert outcome.code in codes, outcome
    assert outcome.seconds < DEADLINE + DEADLINE_MARGIN_SECONDS, outcome


@pytest.mark.parametrize("name", SOON)
def test_its_own_time_out_ends_it(name: str, outcomes: Outcomes) -> None:
    """Where a part has a time-out of its own, the run ends by that, with that part's error."""
    outcome = outcomes[f"{name}, soon"].result()
    assert (outcome.code, outcome.seconds < BUSY_SECONDS) == (SOON[name][0], True), outcome
