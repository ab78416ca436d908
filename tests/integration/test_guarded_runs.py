"""Whole runs, one after another: which changes upstream a guard refuses, and which it lets pass. Rules: test_guards."""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from google.cloud.bigquery import Client

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.http_stand_in import HANG
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.oracle import bigquery_tables, postgres_tables, wanted_tables
from tests.support.runs import refused, run
from tests.support.upstream import json_logs, logged

Items = Sequence[dict[str, Any]]


@pytest.fixture
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi(plain_events(10), plain_sales(100, events=10)) as api:
        yield api


@pytest.fixture
def postgres_env(upstream: TicketingApi, database_url: str) -> dict[str, str]:
    return {"NEST_API_BASE_URL": upstream.base_url, "DATABASE_URL": database_url}


@pytest.fixture
def front(bigquery_emulator: BigQueryEmulator) -> Iterator[BigQueryFront]:
    with BigQueryFront(bigquery_emulator.url) as front:
        yield front


@pytest.fixture
def bigquery_env(
    upstream: TicketingApi, front: BigQueryFront, bigquery_dataset: str, bigquery_project: str
) -> dict[str, str]:
    """A dataset that doesn't exist yet."""
    return {
        "NEST_API_BASE_URL": upstream.base_url,
        "BQ_ENABLED": "true",
        "BQ_PROJECT_ID": bigquery_project,
        "BQ_DATASET": bigquery_dataset,
        "BIGQUERY_EMULATOR_HOST": front.url,
    }


SHOP = [{"id": "e", "name": "Event"}]
FIRST_DAY, REFUND_DAY = "2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z"


def sales_of(*prices: int, first: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """One ticket each, at these prices."""
    usual = {"event_id": "e", "quantity": 1, "sale_date": FIRST_DAY, **fields}
    return [{"id": number, "price": price, **usual} for number, price in enumerate(prices, first)]


def refunds_of(*prices: int) -> list[dict[str, Any]]:
    """Of one ticket each, on the next day."""
    return sales_of(*prices, first=1001, quantity=-1, sale_date=REFUND_DAY)


def money_back(times: int) -> list[dict[str, Any]]:
    """10 each on the next day, and the tickets stay."""
    return [{**sale, "quantity": 0, "totalAmount": "-10.00"} for sale in refunds_of(*[10] * times)]


HUNDRED = sales_of(*[10] * 100)
PRICES = [200, 150, 150, 120, 100, 100, 80, 60, 40, 20, 20, 20, 10, 10, 10]
NAMED = [{"id": f"e{number}", "name": f"Event {number}"} for number in range(15)]
WITH_TOTALS = [{**sale, "totalAmount": f"{sale['price']}.50"} for sale in HUNDRED]


def without(items: Items, *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name not in names} for item in items]


LET_PASS: list[Any] = [
    pytest.param(SHOP, sales_of(50), SHOP, sales_of(50) + refunds_of(50), id="the first ticket sold, then refunded"),
    pytest.param(SHOP, sales_of(50), SHOP, [], id="the first ticket sold, then gone"),
    pytest.param(NAMED, sales_of(50), [*NAMED[1:], {"name": "Event 0"}], sales_of(50), id="1 bad event of 15"),
    pytest.param(SHOP, WITH_TOTALS, SHOP, without(WITH_TOTALS, "price"), id="no price any more beside a total"),
    pytest.param(SHOP, sales_of(*PRICES), [{"id": "e"}], sales_of(*PRICES), id="the only event loses its name"),
    pytest.param(
        SHOP,
        sales_of(*PRICES),
        SHOP,
        sales_of(*PRICES) + refunds_of(*PRICES[:9]),
        id="a refund day of a small shop",
    ),
    pytest.param(
        SHOP, sales_of(*PRICES), SHOP, sales_of(*PRICES)[9:], id="the same, where what is refunded is listed no more"
    ),
    pytest.param(SHOP, sales_of(*[0] * 100), SHOP, sales_of(*[0] * 100) + money_back(1), id="tickets that are free"),
    pytest.param(
        SHOP,
        HUNDRED + money_back(99),
        SHOP,
        HUNDRED + money_back(103),
        id="nearly all money was given back, and more is",
    ),
]


@pytest.mark.parametrize(("events", "sales", "new_events", "new_sales"), LET_PASS)
def test_what_may_be_as_it_is(
    upstream: TicketingApi,
    postgres_env: dict[str, str],
    postgres_server: EmbeddedPostgres,
    database: str,
    events: Items,
    sales: Items,
    new_events: Items,
    new_sales: Items,
) -> None:
    """No guard stops a run for what is in a shop's nature; the store then holds what was read."""
    upstream.events, upstream.sales = list(events), list(sales)
    assert run(postgres_env).status == "success"
    upstream.events, upstream.sales = list(new_events), list(new_sales)
    for dry_run in (True, False):
        assert run(postgres_env, dry_run=dry_run).status == ("dry_run" if dry_run else "success")
    assert postgres_tables(postgres_server, database) == wanted_tables(postgres_server, events, new_sales)


REFUSED: list[Any] = [
    pytest.param(SHOP, HUNDRED, SHOP, sales_of(*[0] * 100), "suspicious_extract", id="100 amounts become 0"),
    pytest.param(
        SHOP,
        WITH_TOTALS,
        SHOP,
        [{**sale, "totalAmount": "0.00"} for sale in WITH_TOTALS],
        "suspicious_extract",
        id="100 totals become 0",
    ),
    pytest.param(SHOP, HUNDRED, SHOP, HUNDRED[:49], "suspicious_extract", id="more than half of the sales are gone"),
    pytest.param(SHOP, HUNDRED[:11], SHOP, [], "suspicious_extract", id="eleven sales, and then none"),
    pytest.param(SHOP, HUNDRED[:11], [], HUNDRED[:11], "suspicious_extract", id="eleven sales, and no events"),
    pytest.param(NAMED, HUNDRED, without(NAMED, "name"), HUNDRED, "schema_drift", id="15 events lose their names"),
    pytest.param(SHOP, HUNDRED, SHOP, without(HUNDRED, "price"), "schema_drift", id="no price, and no total"),
    pytest.param(SHOP, WITH_TOTALS, SHOP, without(WITH_TOTALS, "totalAmount"), "schema_drift", id="no total"),
    pytest.param(
        SHOP, WITH_TOTALS, SHOP, without(WITH_TOTALS, "quantity"), "schema_drift", id="no quantity beside a total"
    ),
    pytest.param(
        SHOP, HUNDRED, SHOP, [{**sale, "sale_date": ""} for sale in HUNDRED], "schema_drift", id="all dates are empty"
    ),
    pytest.param(
        NAMED,
        HUNDRED,
        [*NAMED[:4], *without(NAMED[4:], "id")],
        HUNDRED,
        "too_many_rejects",
        id="11 bad events of 15",
    ),
]


@pytest.mark.parametrize(("events", "sales", "new_events", "new_sales", "code"), REFUSED)
def test_what_cannot_be_right(
    upstream: TicketingApi,
    postgres_env: dict[str, str],
    postgres_server: EmbeddedPostgres,
    database: str,
    events: Items,
    sales: Items,
    new_events: Items,
    new_sales: Items,
    code: str,
) -> None:
    """The run is refused, dry or not, and the store keeps what it has; `force` loads it."""
    upstream.events, upstream.sales = list(events), list(sales)
    assert run(postgres_env).status == "success"
    before = postgres_tables(postgres_server, database)
    upstream.events, upstream.sales = list(new_events), list(new_sales)
    for dry_run in (True, False):
        refused(postgres_env, code, dry_run=dry_run)
    assert postgres_tables(postgres_server, database) == before
    assert run(postgres_env, force=True).status == "success"


def test_what_was_forced_is_no_news(upstream: TicketingApi, postgres_env: dict[str, str]) -> None:
    """An upstream that no longer lists the events of its sales is forced once; then it is as it was."""
    run(postgres_env)
    events, upstream.events = upstream.events, []
    for _ in range(2):
        refused(postgres_env, "suspicious_extract")
    run(postgres_env, force=True)
    run(postgres_env)
    upstream.events = events
    run(postgres_env)
    upstream.events = []
    refused(postgres_env, "suspicious_extract")


def test_a_guard_that_a_few_records_have_passed_stays_awake(
    upstream: TicketingApi, postgres_env: dict[str, str]
) -> None:
    """Three sales without a quantity may be chance; what is known of it is kept until there are enough to tell."""
    upstream.sales = plain_sales(3)
    run(postgres_env)
    for count in (3, 8):
        upstream.sales = without(plain_sales(count), "quantity")
        assert run(postgres_env).fields_not_found["ticket_sales"] == ["quantity", "total_amount"]
    upstream.sales = without(plain_sales(9), "quantity")
    assert refused(postgres_env, "schema_drift").details["fields_lost"] == {"quantity": "quantity"}
    run(postgres_env, force=True)
    assert run(postgres_env).status == "success"


PARTS = [(40, 1), (10, 41), (40, 51), (10, 91)]
"""Numbers of sales, and the first one's id."""


def test_the_ledger_keeps_how_many_records_had_a_field(
    upstream: TicketingApi, postgres_env: dict[str, str], postgres_server: EmbeddedPostgres, database: str
) -> None:
    """Of those in which it was looked for, on plain pages and others; and rows of earlier versions are understood."""
    priced, elsewhere, total, undated = (plain_sales(size, first_id=first) for size, first in PARTS)
    upstream.sales = [
        *priced,
        *({**sale, "sale_date": "2026-01-01T12:00:00+01:00"} for sale in elsewhere),
        *({**sale, "totalAmount": "7.5"} for sale in total),
        *({**sale, "sale_date": "", "event_id": None, "event": {"event_id": "event-1"}} for sale in undated),
    ]
    for size in (10, 100):
        upstream.datasets["ticket_sales"].envelope = ENVELOPES["veritix"].sized(size)
        run_id = run({**postgres_env, "NEST_API_CONCURRENCY": "1"}).run_id
        ((kept,),) = postgres_server.run(f"SELECT fields_found FROM etl_runs WHERE run_id = '{run_id}'", database)
        assert kept == {
            "events": {
                "event_id": {"key": "id", "had": 10, "read": 10},
                "event_name": {"key": "name", "had": 10, "read": 10},
            },
            "ticket_sales": {
                "sale_id": {"key": "id", "had": 100, "read": 100},
                "event_id": {"key": "event_id", "had": 100, "read": 100},
                "quantity": {"key": "quantity", "had": 100, "read": 100},
                "price": {"key": "price", "had": 60, "read": 60},
                "total_amount": {"key": "totalAmount", "had": 40, "read": 100},
                "sale_date": {"key": "sale_date", "had": 90, "read": 100},
            },
        }
    earlier = {dataset: {name: field["key"] for name, field in fields.items()} for dataset, fields in kept.items()}
    postgres_server.run(f"UPDATE etl_runs SET fields_found = '{json.dumps(earlier)}'", database)
    upstream.sales = without(upstream.sales, "quantity")
    assert refused(postgres_env, "schema_drift").details["fields_lost"] == {"quantity": "quantity"}


@pytest.mark.parametrize("name", ["null", "Null", "NULL"])
def test_an_event_that_is_called_null(upstream: TicketingApi, postgres_env: dict[str, str], name: str) -> None:
    """Its tickets count as those of any other."""
    upstream.events = [{"id": name, "name": "N"}]
    upstream.sales = sales_of(*[10] * 30, event_id=name)
    run(postgres_env)
    del upstream.sales[10:]
    error = refused(postgres_env, "suspicious_extract")
    assert (error.details["stored_tickets"], error.details["new_tickets"]) == (30, 10)


EARLIER_TABLES = [
    """CREATE TABLE event_sales_summary (event_id varchar PRIMARY KEY, event_name varchar, total_tickets integer,
                                         total_revenue numeric(12,2), last_updated timestamptz)""",
    """CREATE TABLE daily_ticket_sales (event_id varchar, sale_date date, tickets_sold integer, revenue numeric(12,2),
                                        PRIMARY KEY (event_id, sale_date))""",
]


def test_amounts_that_an_earlier_table_has_rounded(
    upstream: TicketingApi, postgres_env: dict[str, str], postgres_server: EmbeddedPostgres, database: str
) -> None:
    """What rounding adds to a sum is no fall in revenue, even where none is allowed."""
    for statement in EARLIER_TABLES:
        postgres_server.run(statement, database)
    upstream.sales = [{**sale, "quantity": 1, "price": "0.005"} for sale in plain_sales(101, events=1, days=1)]
    for _ in range(2):
        assert run({**postgres_env, "ETL_MAX_SHRINK_RATIO": "0"}).status == "success"
    assert postgres_tables(postgres_server, database).events[0][3] == Decimal("0.51")


@pytest.mark.parametrize("full", ["postgres", "bigquery"])
def test_a_new_store_beside_a_full_one(
    upstream: TicketingApi,
    postgres_env: dict[str, str],
    bigquery_env: dict[str, str],
    bigquery_client: Client,
    bigquery_dataset: str,
    postgres_server: EmbeddedPostgres,
    database: str,
    full: str,
) -> None:
    """Each is asked what it holds: what the full one would lose, the empty one doesn't get either."""
    run(postgres_env if full == "postgres" else bigquery_env)
    sales = upstream.sales
    for left in (0, 40):
        upstream.sales = sales[:left]
        error = refused(postgres_env | bigquery_env, "suspicious_extract")
        assert error.details["store"] == full
        assert error.details["stored_tickets"] == sum(sale["quantity"] for sale in sales)
    assert postgres_server.run("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'daily%'", database) == [
        (int(full == "postgres"),)
    ]
    upstream.sales = sales
    assert run(postgres_env | bigquery_env).status == "success"
    wanted = wanted_tables(postgres_server, upstream.events, sales)
    assert postgres_tables(postgres_server, database) == wanted
    assert bigquery_tables(bigquery_client, bigquery_dataset) == wanted


@pytest.mark.parametrize(
    ("kind", "force", "settings", "code"),
    [
        pytest.param(403, False, {}, "load_failed", id="refuses"),
        pytest.param(403, True, {}, "load_failed", id="refuses, and force"),
        pytest.param(HANG, False, {"ETL_DEADLINE_SECONDS": "4"}, "deadline_exceeded", id="hangs"),
    ],
)
def test_bigquery_that_does_not_say_what_it_holds(
    upstream: TicketingApi,
    postgres_env: dict[str, str],
    bigquery_env: dict[str, str],
    bigquery_client: Client,
    bigquery_dataset: str,
    bigquery_emulator: BigQueryEmulator,
    front: BigQueryFront,
    postgres_server: EmbeddedPostgres,
    database: str,
    capsys: pytest.CaptureFixture[str],
    kind: int | str,
    force: bool,
    settings: dict[str, str],
    code: str,
) -> None:
    """It isn't loaded, as nothing guards it; PostgreSQL is, in time, and the next run heals."""
    env = postgres_env | bigquery_env
    run(env)
    old = bigquery_tables(bigquery_client, bigquery_dataset)
    upstream.sales = upstream.sales[:70]
    front.fail(kind, times=99, path="tables/event_sales_summary")
    asked = len(front.log)
    with json_logs():
        error = refused(env | settings, code, force=force)
    assert error.details["stores"] == {"postgres": "success", "bigquery": "failed"}
    assert "BigQuery" in str(error)
    assert [line["error"] for line in logged(capsys, "BigQuery load failed")] == [str(error)]
    assert {request.method for request in front.log[asked:]} == {"GET"}
    new = wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_tables(postgres_server, database) == new
    assert bigquery_tables(bigquery_client, bigquery_dataset) == old
    row = postgres_server.run(
        f"SELECT postgres_status, bigquery_status, error_code FROM etl_runs WHERE run_id = '{error.run_id}'", database
    )
    assert row == [("success", "failed", code)]
    assert run({**env, "BIGQUERY_EMULATOR_HOST": bigquery_emulator.url}).status == "success"
    assert bigquery_tables(bigquery_client, bigquery_dataset) == new


def test_postgres_that_does_not_say_what_it_holds(
    upstream: TicketingApi,
    postgres_env: dict[str, str],
    bigquery_env: dict[str, str],
    bigquery_client: Client,
    bigquery_dataset: str,
    postgres_server: EmbeddedPostgres,
    database: str,
) -> None:
    """A table that can't be asked for its sums ends the run before anything is read, and neither store is loaded."""
    env = postgres_env | bigquery_env
    run(env)
    postgres_server.run("ALTER TABLE event_sales_summary RENAME total_revenue TO other", database)
    before, asked = bigquery_tables(bigquery_client, bigquery_dataset), len(upstream.requests)
    upstream.sales = upstream.sales[:70]
    assert "total_revenue" in str(refused(env, "configuration_error"))
    assert len(upstream.requests) == asked
    assert bigquery_tables(bigquery_client, bigquery_dataset) == before
    postgres_server.run("ALTER TABLE event_sales_summary RENAME other TO total_revenue", database)
    assert run(env).status == "success"
    new = wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_tables(postgres_server, database) == new
