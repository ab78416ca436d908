"""One run in this process, against real parts: every way in and out that needs no HTTP."""

import asyncio
import gc
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from google.cloud.bigquery import Client

from etl import run_etl_once
from etl.errors import EtlError
from etl.extract.client import Api
from etl.extract.tally import Progress
from etl.run.ledger import MemoryLedger
from etl.run.pipeline import RunOptions
from etl.settings import ENVIRONMENT
from tests.doubles import fault_acts as acts
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.cloud_sql import CloudSqlStandIn
from tests.doubles.fault_proxy import Act, FaultProxy, Link, Trap
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HANG
from tests.doubles.moments import MOMENTS
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.secret_manager import SecretManagerStandIn
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.doubles.wire import PostgresWire, Step
from tests.support.earlier_ledger import run_row
from tests.support.oracle import bigquery_tables, postgres_tables, wanted_tables
from tests.support.runs import refused, run
from tests.support.upstream import json_logs
from tests.support.waiting import takes_at_most

SECRET = "projects/veritix-test/secrets/token"
Logged = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi(plain_events(10), plain_sales(200, events=10), page_size=50) as api:
        yield api


@pytest.fixture
def env(upstream: TicketingApi, database_url: str) -> dict[str, str]:
    """The sample upstream and an empty database."""
    return {"NEST_API_BASE_URL": upstream.base_url, "DATABASE_URL": database_url}


@pytest.fixture
def bigquery_env(bigquery_emulator: BigQueryEmulator, bigquery_dataset: str, bigquery_project: str) -> dict[str, str]:
    """A dataset that doesn't exist yet."""
    return {
        "BQ_ENABLED": "true",
        "BQ_PROJECT_ID": bigquery_project,
        "BQ_DATASET": bigquery_dataset,
        "BIGQUERY_EMULATOR_HOST": bigquery_emulator.url,
    }


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Logged]:
    """The log lines since it was last asked, of these messages or all."""

    def lines(*messages: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line for line in found if not messages or line["message"] in messages]

    with json_logs():
        yield lines


def test_from_python_a_run_is_as_the_environment_says(
    upstream: TicketingApi,
    env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: EmbeddedPostgres,
    database: str,
) -> None:
    """`run_etl_once()` loads, returns its report, tells its progress page by page, and leaves the process as it was."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    shown: list[Progress] = []
    report = run_etl_once(options=RunOptions(progress=shown.append))
    assert (report.status, report.trigger, report.sales_count) == ("success", "python", 200)
    # The last page is full, and asked for once more.
    sales = (Progress("ticket_sales", read=page * 50, total=200, pages=page) for page in (1, 2, 3, 4, 4))
    assert shown == [Progress("events", read=10, total=10, pages=1), *sales]
    wanted = wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_tables(postgres_server, database) == wanted
    assert gc.isenabled()


def test_the_summary_is_all_of_an_event_and_nothing_of_the_others(
    upstream: TicketingApi,
    env: dict[str, str],
    bigquery_env: dict[str, str],
    bigquery_client: Client,
    bigquery_dataset: str,
    postgres_server: EmbeddedPostgres,
    database: str,
) -> None:
    """Sales that moved leave no row behind, gone events keep theirs, a lost name is kept, and money is exact."""
    large = {"id": 1000, "event_id": "event-1", "quantity": 1, "totalAmount": "12345678901234.123456789"}
    upstream.sales.append({**large, "sale_date": "2026-03-01"})
    assert run(env | bigquery_env).status == "success"
    left_alone = [row for row in postgres_tables(postgres_server, database).daily if row[0] == "event-9"]
    assert left_alone

    upstream.events = [{"id": event["id"]} for event in upstream.events[:9]] + [{"id": "new", "name": "New"}]
    kept = [sale for sale in upstream.sales if sale["event_id"] != "event-9"]
    upstream.sales = [{**sale, "event_id": "event-2"} if sale["event_id"] == "event-3" else sale for sale in kept]
    upstream.sales = [
        {**sale, "sale_date": "2026-02-02T10:00:00Z"} if sale["event_id"] == "event-4" else sale
        for sale in upstream.sales
    ]
    report = run(env | bigquery_env)
    named = [{"id": f"event-{number}", "name": f"Event {number}"} for number in range(9)]
    wanted = wanted_tables(postgres_server, [*named, {"id": "new", "name": "New"}], upstream.sales)
    assert ("new", "New", 0, Decimal(0)) in wanted.events
    assert ("event-1", date(2026, 3, 1), 1, Decimal("12345678901234.123456789")) in wanted.daily
    for tables in (postgres_tables(postgres_server, database), bigquery_tables(bigquery_client, bigquery_dataset)):
        assert tables.of(wanted) == wanted
        assert [row for row in tables.daily if row[0] == "event-9"] == left_alone
    for result in report.stores.values():
        assert result.changes["daily_ticket_sales"].deleted > 0
        assert result.reconciled["daily_ticket_sales"].revenue == sum(row[3] for row in wanted.daily)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_today_is_today_in_the_time_zone(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, zone: str
) -> None:
    """Sales without a date are of the day that it is there: of these two zones one is always a day off UTC."""
    upstream.sales = [{"id": 1, "event_id": "event-1"}]
    before = datetime.now(ZoneInfo(zone)).date()
    assert run({**env, "ETL_TIMEZONE": zone}).undated_count == 1
    ((_, day, tickets, revenue),) = postgres_tables(postgres_server, database).daily
    assert before <= day <= datetime.now(ZoneInfo(zone)).date()
    assert (tickets, revenue) == (1, Decimal(0))


@pytest.mark.parametrize(
    ("setting", "accepted", "reads"),
    [
        pytest.param({}, None, 0, id="none"),
        pytest.param({"NEST_API_TOKEN": "plain"}, "plain", 0, id="NEST_API_TOKEN"),
        pytest.param({"NEST_API_TOKEN_SECRET": f"{SECRET}/versions/latest"}, "second", 1, id="latest"),
        pytest.param({"NEST_API_TOKEN_SECRET": f"{SECRET}/versions/1"}, "first", 1, id="a number"),
    ],
)
def test_the_ways_to_give_the_token(
    upstream: TicketingApi, env: dict[str, str], setting: dict[str, str], accepted: str | None, reads: int
) -> None:
    """Every request carries it; a secret is read once a run."""
    upstream.token = accepted
    with SecretManagerStandIn() as secret_manager:
        for token in (b"first", b"second\n"):
            secret_manager.add_version(SECRET, token)
        assert run({**env, **setting, "SECRET_MANAGER_ENDPOINT": secret_manager.endpoint}).status == "success"
        assert len(secret_manager.log) == reads
    expected = None if accepted is None else f"Bearer {accepted}"
    assert {request.headers.get("authorization") for request in upstream.requests} == {expected}


def test_a_token_that_stays_refused(upstream: TicketingApi, env: dict[str, str], logged: Logged) -> None:
    """A 401 re-reads the secret once, then the run fails; an unreadable secret is a configuration_error."""
    upstream.token = "another"
    with SecretManagerStandIn() as secret_manager:
        env = {**env, "NEST_API_TOKEN_SECRET": f"{SECRET}/versions/latest"}
        env["SECRET_MANAGER_ENDPOINT"] = secret_manager.endpoint
        missing = refused(env, "configuration_error")
        assert f"{SECRET}/versions/latest" in str(missing)
        secret_manager.add_version(SECRET, b"stale-4f0b")
        reads = len(secret_manager.log)
        error = refused(env, "upstream_error")
        assert len(secret_manager.log) - reads == 2
    assert "401" in str(error)
    assert "stale-4f0b" not in str(error) + str(logged())


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        pytest.param("a\0b", "a\\x00b", id="NUL"),
        pytest.param("a\ud800b", "a\\ud800b", id="lone surrogate"),
        pytest.param("a\n\x1b[2Jb", "a\\n\\x1b[2Jb", id="line break and terminal code"),
    ],
)
def test_what_no_table_can_hold_stands_in_an_error(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, word: str, shown: str
) -> None:
    """The upstream's words and keys don't keep a failed run from being recorded, and its lease is given back."""
    upstream.faults.append(Fault("status", status=400, body=json.dumps({"message": word}).encode()))
    errors = [refused(env, "upstream_error")]
    upstream.sales = [{word: 1}] * 11
    errors.append(refused(env, "too_many_rejects"))
    recorded = postgres_server.run("SELECT error_code, error_text FROM etl_runs ORDER BY started_at", database)
    assert recorded == [(error.code, str(error)) for error in errors]
    assert [text.count(shown) for _, text in recorded] == [1, 1]
    assert postgres_server.run("SELECT run_id FROM etl_lease", database) == [(None,)]


def test_cloud_sql_with_a_password(
    upstream: TicketingApi, postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """The real Connector logs in with DB_USER and DB_PASS; a wrong password is a load_failed that doesn't show it."""
    postgres_server.create_role("cloud writer", "cloud-pw-55a1")
    postgres_server.run(f'ALTER DATABASE "{database}" OWNER TO "cloud writer"')
    with CloudSqlStandIn(postgres_server) as cloud_sql:
        env = {
            "NEST_API_BASE_URL": upstream.base_url,
            "INSTANCE_CONNECTION_NAME": cloud_sql.instance_connection_name,
            "DB_USER": "cloud writer",
            "DB_PASS": "cloud-pw-55a1",
            "DB_NAME": database,
            "CLOUD_SQL_ADMIN_ENDPOINT": cloud_sql.admin_endpoint,
        }
        assert run(env).status == "success"
        error = refused({**env, "DB_PASS": "wrong-pw-90be"}, "load_failed")
    assert "28P01" in str(error)
    assert "pw-" not in str(error) + str(logged())
    wanted = wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_tables(postgres_server, database) == wanted
    postgres_server.run(f'ALTER DATABASE "{database}" OWNER TO postgres')


def test_streaming_into_bigquery_appends(
    upstream: TicketingApi,
    bigquery_env: dict[str, str],
    bigquery_client: Client,
    bigquery_dataset: str,
    postgres_server: EmbeddedPostgres,
) -> None:
    """Each run adds its rows, a dry run says so, and no number of runs makes the guard think that tickets are lost."""
    env = {"NEST_API_BASE_URL": upstream.base_url, **bigquery_env, "BQ_WRITE_MODE": "stream"}
    wanted = wanted_tables(postgres_server, upstream.events, upstream.sales)
    for _ in range(4):
        dry = run(env, dry_run=True).stores["bigquery"]
        wet = run(env).stores["bigquery"]
        counted = [
            {name: (c.inserted, c.updated, c.deleted, c.unchanged) for name, c in result.changes.items()}
            for result in (dry, wet)
        ]
        rows = {"event_sales_summary": len(wanted.events), "daily_ticket_sales": len(wanted.daily)}
        assert counted[1] == {name: (count, 0, 0, 0) for name, count in rows.items()}
        assert counted[0] == counted[1]
    held = bigquery_tables(bigquery_client, bigquery_dataset)
    assert held.events == sorted(wanted.events * 4)
    assert held.daily == sorted(wanted.daily * 4)


def test_drift_is_repaired_by_one_more_reading(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """A sale deleted behind the reader pushes another one past it: the log tells, the second reading is loaded."""

    def delete_one(page: Any) -> None:
        if (page.dataset, page.page) == ("ticket_sales", 2):
            upstream.on_page = None
            upstream.sales = upstream.sales[1:]

    upstream.on_page = delete_one
    report = run(env)
    assert report.completeness["ticket_sales"] == "proved"
    (drift,) = logged("ETL extract drift")
    assert (drift["severity"], drift["dataset"]) == ("WARNING", "ticket_sales")
    assert (drift["distinct"], drift["first_total"], drift["last_total"]) == (199, 200, 199)
    wanted = wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_tables(postgres_server, database) == wanted

    upstream.faults.append(Fault("show", dataset="ticket_sales", show={"total": 300}, times=None))
    requests = len(upstream.requests)
    refused(env, "incomplete_extract")
    assert len(upstream.requests) - requests == 1 + 4 + 1 + 4  # the events, and the sales twice, with a total before
    assert run(env, force=True).completeness["ticket_sales"] == "unproved"


def test_renamed_to_a_known_name_is_no_drift(upstream: TicketingApi, env: dict[str, str]) -> None:
    """A field may move to another of its keys; what is compared is the last run that succeeded."""
    assert run(env).fields_not_found == {"events": [], "ticket_sales": ["total_amount"]}
    sales = upstream.sales
    upstream.sales = [{"qty" if key == "quantity" else key: value for key, value in sale.items()} for sale in sales]
    assert run(env).status == "success"
    upstream.sales = [{key: value for key, value in sale.items() if key != "quantity"} for sale in sales]
    for _ in range(2):
        error = refused(env, "schema_drift")
        assert error.details["fields_lost"] == {"quantity": "qty"}
        assert error.details["keys_seen"] == ["id", "event_id", "price", "sale_date"]
    report = run(env, force=True)
    assert (report.total_tickets, report.fields_not_found["ticket_sales"]) == (200, ["quantity", "total_amount"])


def test_too_many_rejects_are_kept_all_the_same(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """All are counted, 1,000 are kept, nothing is loaded; unreadable dates count towards the ratio too."""
    good = plain_sales(2000, events=10)
    upstream.sales = [{**sale, "quantity": "x"} if sale["id"] % 2 else sale for sale in good] + good[:400]
    upstream.sales = [{**sale, "id": number} for number, sale in enumerate(upstream.sales)]
    error = refused(env, "too_many_rejects")
    assert error.details["reasons"] == {"quantity_not_a_whole_number": 1000}
    upstream.sales = [{**sale, "quantity": "x"} if sale["id"] % 2 else sale for sale in upstream.sales]
    error = refused(env, "too_many_rejects")
    assert error.details["reasons"] == {"quantity_not_a_whole_number": 2200}
    kept = postgres_server.run(f"SELECT count(*) FROM etl_rejected_records WHERE run_id = '{error.run_id}'", database)
    assert kept == [(1000,)]
    tables = postgres_server.run("SELECT to_regclass('event_sales_summary')", database)
    assert tables == [(None,)]

    upstream.sales = [{**sale, "sale_date": "the day before"} if sale["id"] % 18 == 0 else sale for sale in good]
    error = refused(env, "too_many_rejects")
    assert error.details["reasons"] == {"sale_date_unreadable": 111}
    assert run({**env, "ETL_MAX_REJECT_RATIO": "0.06"}).undated_count == 111
    assert logged("ETL records rejected")


def test_a_load_that_ends_up_with_other_numbers_is_rolled_back(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """The tables are read back in the load's own transaction: a trigger that meddles is named, and nothing kept."""
    run(env)
    before = postgres_tables(postgres_server, database)
    postgres_server.run(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.tickets_sold := NEW.tickets_sold + 1; RETURN NEW; END $$;"
        "CREATE TRIGGER meddle BEFORE UPDATE ON daily_ticket_sales FOR EACH ROW EXECUTE FUNCTION meddle()",
        database,
    )
    upstream.sales = [{**sale, "quantity": 5} for sale in upstream.sales]
    logged()
    error = refused(env, "load_failed")
    assert "daily_ticket_sales" in str(error)
    assert error.details["stores"] == {"postgres": "failed"}
    assert [line["error"] for line in logged("Postgres load failed")] == [str(error)]
    assert postgres_tables(postgres_server, database) == before


def test_a_runner_whose_lease_was_taken_over_writes_nothing(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str
) -> None:
    """It has been outlived by a newer run: its load's transaction is rolled back, and the other's row stays."""
    run(env)
    before = postgres_tables(postgres_server, database)
    upstream.sales = [{**sale, "quantity": 5} for sale in upstream.sales]

    def take_over(page: Any) -> None:
        if page.dataset == "ticket_sales" and page.last:
            postgres_server.run(
                "UPDATE etl_lease SET fence = fence + 1, run_id = 'newer', expires_at = now() + interval '90 s'",
                database,
            )

    upstream.on_page = take_over
    error = refused(env, "already_running")
    assert postgres_tables(postgres_server, database) == before
    assert postgres_server.run("SELECT run_id FROM etl_lease", database) == [("newer",)]
    row = postgres_server.run(f"SELECT status, error_code FROM etl_runs WHERE run_id = '{error.run_id}'", database)
    assert row == [("failed", "already_running")]


def test_connections_that_are_cut_in_mid_run(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str
) -> None:
    """As by a fail-over while the upstream is being read: the load takes new ones."""

    def cut(page: Any) -> None:
        if page.last:
            postgres_server.terminate_backends(database)

    upstream.on_page = cut
    assert run(env).status == "success"
    wanted = wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_tables(postgres_server, database) == wanted


def test_a_store_that_hangs_is_given_up_at_the_deadline(
    upstream: TicketingApi,
    env: dict[str, str],
    bigquery_env: dict[str, str],
    bigquery_emulator: BigQueryEmulator,
    bigquery_client: Client,
    bigquery_dataset: str,
    postgres_server: EmbeddedPostgres,
    database: str,
    logged: Logged,
) -> None:
    """The run ends then, its answer says which store holds what, and the next run heals."""
    with BigQueryFront(bigquery_emulator.url) as front:
        env = {**env, **bigquery_env, "BIGQUERY_EMULATOR_HOST": front.url}
        run(env)
        old = bigquery_tables(bigquery_client, bigquery_dataset)
        upstream.sales = [{**sale, "quantity": 5} for sale in upstream.sales]
        new = wanted_tables(postgres_server, upstream.events, upstream.sales)
        front.fail(HANG, times=3, path="upload/bigquery")
        logged()
        with takes_at_most(4), pytest.raises(EtlError) as caught:
            run({**env, "ETL_DEADLINE_SECONDS": "4"})  # a busy machine must have loaded PostgreSQL by then
        assert caught.value.code == "deadline_exceeded"
        assert caught.value.details["stores"] == {"postgres": "success", "bigquery": "failed"}
        assert len(logged("BigQuery load failed")) == 1
        assert postgres_tables(postgres_server, database) == new
        assert bigquery_tables(bigquery_client, bigquery_dataset) == old
    env["BIGQUERY_EMULATOR_HOST"] = bigquery_emulator.url
    assert run(env).status == "success"
    assert bigquery_tables(bigquery_client, bigquery_dataset) == new

    with closing(postgres_server.connect(database)) as c:
        c.run("BEGIN")
        c.run("LOCK TABLE daily_ticket_sales IN ACCESS EXCLUSIVE MODE")
        with takes_at_most(2), pytest.raises(EtlError) as caught:
            run({**env, "ETL_DEADLINE_SECONDS": "2"})
        assert caught.value.code == "deadline_exceeded"
        assert caught.value.details["stores"] == {"postgres": "failed", "bigquery": "failed"}
        assert len(logged("Postgres load failed")) == 1
    row = postgres_server.run(
        f"SELECT status, postgres_status FROM etl_runs WHERE run_id = '{caught.value.run_id}'", database
    )
    assert row == [("failed", "failed")]
    assert run(env).status == "success"


class UnendingLoads(BigQueryFront):
    """Load jobs go on for ever."""

    def respond(self, request: Request) -> Answer:
        job = {"jobReference": {"projectId": "veritix-test", "jobId": "loading"}, "configuration": {"load": {}}}
        if request.method == "PUT" or request.path.endswith("/jobs/loading"):
            return json_answer({**job, "kind": "bigquery#job", "id": "loading", "status": {"state": "RUNNING"}})
        return super().respond(request)


def test_a_job_that_is_given_up_shortly_before_the_deadline(
    env: dict[str, str], bigquery_env: dict[str, str], bigquery_emulator: BigQueryEmulator
) -> None:
    """The next look at it would come too late: also then it is the run's time that was too short."""
    with UnendingLoads(bigquery_emulator.url) as front:
        env = {**env, **bigquery_env, "BIGQUERY_EMULATOR_HOST": front.url, "ETL_DEADLINE_SECONDS": "3"}
        error = refused(env, "deadline_exceeded")
    assert re.search("the run's 3 s are up: BigQuery's job .* had not ended", str(error))
    assert error.details["stores"] == {"postgres": "success", "bigquery": "failed"}


GIVE_BACK = MOMENTS["postgres"]["give-back"].pattern


async def fall_silent(link: Link, step: Step) -> None:
    """The work is done, no answer comes, and the connection stays."""
    link.held = []
    await link.forward(step.whole)
    await link.swallow()


@pytest.mark.parametrize(
    ("step", "act", "code"),
    [
        pytest.param(
            "^commit", acts.lose_answer, "load_failed", id="the lease was taken, and the answer to that is lost"
        ),
        pytest.param(GIVE_BACK, acts.lose_answer, None, id="the end is noted over a connection that breaks"),
        pytest.param(GIVE_BACK, fall_silent, None, id="the end is noted over one that falls silent"),
    ],
)
def test_the_lease_is_given_back_however_the_ledger_is_reached(
    env: dict[str, str],
    postgres_server: EmbeddedPostgres,
    database: str,
    step: str,
    act: Act,
    code: str | None,
) -> None:
    """Whatever becomes of one connection: the ledger then says how the run ended, and the next one may start."""
    with FaultProxy(str(postgres_server.socket), PostgresWire) as way:
        trap = Trap(step, act)
        way.set(trap)
        url = f"postgresql://postgres@127.0.0.1:{way.port}/{database}?sslmode=disable"
        env = {**env, "DATABASE_URL": url, "ETL_DEADLINE_SECONDS": "4"}
        if code is None:
            assert run(env).status == "success"
        else:
            refused(env, code)
        assert trap.sprung.is_set()
        rows = postgres_server.run("SELECT status, error_code FROM etl_runs", database)
        assert rows == [("failed", code) if code else ("success", None)]
        assert postgres_server.run("SELECT run_id FROM etl_lease", database) == [(None,)]
        assert run(env).status == "success"


UNUSABLE = {"id": 5000, "event_id": "event-1", "quantity": "two"}
COMMITS = [
    pytest.param(MOMENTS["postgres"]["commit-finish"].pattern, id="that the run has ended"),
    pytest.param(r"(?s)^commit\n.*INSERT INTO etl_rejected_records", id="what it has rejected"),
    pytest.param(r"(?s)^commit\n.*DELETE FROM etl_runs", id="what is forgotten"),
]


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("act", [acts.lose_answer, acts.cut_request(0.5)], ids=["answer lost", "request cut"])
def test_nothing_is_counted_twice(
    upstream: TicketingApi,
    env: dict[str, str],
    postgres_server: EmbeddedPostgres,
    database: str,
    commit: str,
    act: Act,
    logged: Logged,
) -> None:
    """The server has committed and the answer is lost, or it never got that far: the next try does the rest."""
    upstream.sales = [*upstream.sales, UNUSABLE]
    for number in (1, 2):
        with FaultProxy(str(postgres_server.socket), PostgresWire) as way:
            trap = Trap(commit, act)
            way.set(trap)
            url = f"postgresql://postgres@127.0.0.1:{way.port}/{database}?sslmode=disable"
            report = run({**env, "DATABASE_URL": url})
            assert trap.sprung.is_set()
        assert (report.status, report.rejected_count) == ("success", 1)
        counts = postgres_server.run("SELECT status, runs FROM etl_job_counts", database)
        assert counts == [("success", number)]
        kept = postgres_server.run("SELECT run_id, times_seen FROM etl_rejected_records", database)
        assert kept == [(report.run_id, number)]
    assert logged("ETL run not recorded") == []


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
def test_what_is_too_old_is_deleted_at_a_runs_end(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, fails: bool
) -> None:
    """By ETL_RETENTION_DAYS, however the run ends; a dry run deletes nothing."""
    run(env)
    for run_id, days_ago in (("r1", 8), ("r2", 6), ("r3", 91)):
        postgres_server.run(run_row(run_id, days_ago, "failed"), database)
    there = "SELECT run_id FROM etl_runs WHERE run_id LIKE 'r%' ORDER BY run_id"
    run({**env, "ETL_RETENTION_DAYS": "7"}, dry_run=True)
    assert postgres_server.run(there, database) == [("r1",), ("r2",), ("r3",)]
    upstream.token = "another" if fails else None
    for setting, left in (({}, [("r1",), ("r2",)]), ({"ETL_RETENTION_DAYS": "7"}, [("r2",)])):
        if fails:
            refused({**env, **setting}, "upstream_error")
        else:
            run({**env, **setting})
        assert postgres_server.run(there, database) == left


def test_what_can_not_be_deleted_does_not_fail_a_run(
    env: dict[str, str],
    postgres_server: EmbeddedPostgres,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    """Its lease is back by then, so that others may run while it waits; the log says what was in the way."""
    monkeypatch.setattr("etl.run.recording.FORGETTING_SECONDS", 0.5)
    run(env)
    logged()
    with closing(postgres_server.connect(database)) as c:
        c.run("BEGIN")
        c.run("LOCK TABLE etl_rejected_records IN ACCESS EXCLUSIVE MODE")
        assert run(env).status == "success"
        (line,) = logged("ETL old records not deleted")
        assert (line["severity"], "SQLSTATE 57014" in line["error"]) == ("WARNING", True)
        assert postgres_server.run("SELECT run_id FROM etl_lease", database) == [(None,)]
    assert postgres_server.run("SELECT status, count(*) FROM etl_runs GROUP BY status", database) == [("success", 2)]
    run(env)
    assert logged("ETL old records not deleted") == []


def test_a_run_whose_time_is_up_deletes_nothing(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """The next one does it: its caller isn't kept waiting."""
    run(env)
    postgres_server.run(run_row("r1", 100, "failed"), database)
    upstream.faults.append(Fault("hang"))
    refused({**env, "ETL_DEADLINE_SECONDS": "1"}, "deadline_exceeded")
    assert postgres_server.run("SELECT 1 FROM etl_runs WHERE run_id = 'r1'", database) == [(1,)]
    assert logged("ETL old records not deleted") == []


def test_a_failure_is_judged_once(
    env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """A store fails shortly before the run's time is up, and it is up once that is written: all say the same."""
    with FaultProxy(str(postgres_server.socket), PostgresWire) as way:
        url = f"postgresql://postgres@127.0.0.1:{way.port}/{database}?sslmode=disable"
        late = time.monotonic() + 2.5

        async def be_silent_and_break(link: Link, _: Step) -> None:
            await asyncio.sleep(late - 0.5 - time.monotonic())
            link.reset()

        async def be_slow(link: Link, step: Step) -> None:
            await asyncio.sleep(late + 0.2 - time.monotonic())
            await link.forward(step.data)

        traps = [Trap(MOMENTS["postgres"]["copy-daily"].pattern, be_silent_and_break), Trap(GIVE_BACK, be_slow)]
        for trap in traps:
            way.set(trap)
        error = refused({**env, "DATABASE_URL": url, "ETL_DEADLINE_SECONDS": "2.5"}, "load_failed")
        assert all(trap.sprung.is_set() for trap in traps)
    (line,) = logged("ETL job failed")
    (row,) = postgres_server.run("SELECT error_code, error_text FROM etl_runs", database)
    assert row == (line["code"], line["error"]) == (error.code, str(error))


def test_an_unexpected_error_in_a_thread_that_fetches_ahead(
    upstream: TicketingApi, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    """The log has the frames of the run, and then those of the thread."""
    fetch_page = Api.fetch_page

    def fail_ahead(api: Api, dataset: Any, request: Any, decoder: Any) -> Any:
        if threading.current_thread().name.startswith("fetch"):
            raise KeyError("value-18a2")
        return fetch_page(api, dataset, request, decoder)

    monkeypatch.setattr(Api, "fetch_page", fail_ahead)
    upstream.latency_seconds = 0.03
    error = refused(env, "internal_error")
    (line,) = logged("ETL job failed")
    functions = [frame.split(" ")[-1] for frame in line["frames"]]
    assert functions[:2] == ["KeyError:", "_Runner.execute"]
    assert functions[-3:] == ["_WorkItem.run", "PageStream._fetch", fail_ahead.__qualname__]
    assert "PageStream._take" in functions
    assert "an unexpected KeyError at etl/extract/pages.py:" in str(error)
    assert "value-18a2" not in str(line)


class BrokenLedger(MemoryLedger):
    """A ledger with a fault of the program's own."""

    def finish(self, *_: object) -> None:
        raise KeyError("value-60f3")


def test_a_run_that_can_not_be_recorded_for_an_unexpected_reason(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    """It comes to what it came to, and the log tells where the ledger's fault is."""
    monkeypatch.setattr("etl.run.pipeline.ledger_for", lambda _: BrokenLedger())
    assert run(env).status == "success"
    (line,) = logged("ETL run not recorded")
    assert line["frames"][-1].endswith(" BrokenLedger.finish")
    assert "value-60f3" not in str(line)


REFUSE = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE insufficient_privilege; END $$",
    "CREATE TRIGGER refuse BEFORE UPDATE ON etl_runs FOR EACH ROW EXECUTE FUNCTION refuse()",
)


def test_a_ledger_that_refuses_is_asked_once(
    env: dict[str, str], postgres_server: EmbeddedPostgres, database: str, logged: Logged
) -> None:
    """A right that is missing will be missing again: the log says so, and the answer doesn't wait."""
    assert run(env).status == "success"
    for statement in REFUSE:
        postgres_server.run(statement, database)
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if re.search(GIVE_BACK, statement):
            asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        refused(env, "load_failed")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(asked) == 1
    (line,) = logged("ETL run not recorded")
    assert "SQLSTATE 42501" in line["error"]


def test_tables_that_cannot_hold_the_sums_stop_it_before_a_request(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str
) -> None:
    """Also with force, and in a dry run: the upstream is asked for nothing, and the statement in the error mends it."""
    assert run(env).status == "success"
    before = len(upstream.requests)
    rows = postgres_server.run("SELECT * FROM daily_ticket_sales ORDER BY 1, 2", database)
    postgres_server.run("ALTER TABLE daily_ticket_sales ALTER COLUMN revenue TYPE double precision", database)
    for options in ({}, {"force": True}, {"dry_run": True}):
        error = refused(env, "configuration_error", **options)
        assert "daily_ticket_sales.revenue is double precision, and must be numeric(38,9): ALTER TABLE" in str(error)
    assert len(upstream.requests) == before
    (problem,) = error.details["problems"]
    postgres_server.run(problem.partition(": ")[2], database)
    assert run(env).status == "success"
    assert postgres_server.run("SELECT * FROM daily_ticket_sales ORDER BY 1, 2", database) == rows


def test_what_stops_a_run_before_it_connects_is_logged(env: dict[str, str], logged: Logged) -> None:
    """A setting that is only found wrong when the database is to be reached ends the run as every other failure."""
    url = "postgresql://etl@db.example.com/etl?sslmode=verify-ca&sslrootcert=/nowhere/ca.pem"
    error = refused({**env, "DATABASE_URL": url}, "configuration_error")
    (line,) = logged("ETL job failed")
    assert (line["code"], line["error"], line["status"]) == (error.code, str(error), "failed")
    assert error.run_id == line["logging.googleapis.com/labels"]["run_id"]
