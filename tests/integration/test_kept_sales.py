"""Runs with kept sales, in this process, against real parts: increments, sweeps, the count proof, publication."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.cloud.bigquery import Client

from etl import run_etl_once
from etl.run.ledger import MemoryLedger
from etl.run.pipeline import RunOptions
from etl.run.report import RunReport
from etl.settings import Settings
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.changes import Changes
from tests.doubles.ticketing.cursors import Order
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.sample_data import plain_events
from tests.support.application import application_client
from tests.support.oracle import bigquery_tables, postgres_tables, wanted_tables
from tests.support.shop import PAGINATE, START, Sale, Shop, ShopDeadline, Warehouse, sale, text
from tests.support.upstream import json_logs

QUERIES = [
    pytest.param(PAGINATE, {}, id="nestjs-paginate"),
    pytest.param("filter=updatedAt||$gte||{since}&sort=updatedAt,DESC", {}, id="@nestjsx/crud"),
    pytest.param("updated_after={since}", {}, id="updated_after"),
    pytest.param("updatedSince={since}", {"NEST_API_CHANGED_FORMAT": "unix"}, id="Unix seconds"),
    pytest.param("updatedSince={since}", {"NEST_API_CHANGED_FORMAT": "unix_ms"}, id="Unix milliseconds"),
]


STORES = ("postgres", "bigquery, then postgres")
ONLY_POSTGRES = pytest.mark.parametrize("shop", STORES[:1], indirect=True)


@pytest.fixture(params=STORES)
def shop(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres, database: str) -> Iterator[Shop]:
    """60 sales on 6 pages that haven't changed lately; their store first."""
    own = request.param.partition(",")[0]
    sales = [sale(number, START - timedelta(days=1, seconds=number)) for number in range(60)]
    with ExitStack() as stack:
        api = stack.enter_context(TicketingApi(plain_events(5), sales, envelope="veritix:wrapped", page_size=10))
        made = Shop(api, postgres_server, database)
        made.env = {
            "NEST_API_BASE_URL": api.base_url,
            "NEST_API_CONCURRENCY": "1",
            "ETL_SALES_STORE": own,
            "NEST_API_CHANGED_QUERY": PAGINATE,
        }
        if "postgres" in request.param:
            made.env["DATABASE_URL"] = postgres_server.url(database)
        if own == "bigquery":
            front = stack.enter_context(BigQueryFront(request.getfixturevalue("bigquery_emulator").url))
            made.warehouse = Warehouse.open(front)
            stack.callback(made.warehouse.close)
            made.env |= made.warehouse.env

        def move_on(_: int) -> None:
            made.now += timedelta(seconds=made.request_seconds)

        api.before_statements = move_on
        api.changes = Changes(clock=lambda: made.now)
        yield made


def test_the_first_sweep_takes_several_runs(shop: Shop) -> None:
    """Runs read on where the last one stopped, say how far they are, and publish once all is there."""
    shop.request_seconds, shop.env["ETL_DEADLINE_SECONDS"] = 0.4, "6"
    shop.api.datasets["ticket_sales"].envelope = shop.api.datasets["ticket_sales"].envelope.sized(3)
    reports: list[RunReport] = []
    while not reports or reports[-1].status == "reading":
        reports.append(shop.run())
        assert len(reports) < 10
        if reports[-1].status == "reading":
            assert not shop.is_published
    assert len(reports) > 2
    progress = [
        report.kept_sales.progress for report in reports[:-1] if report.kept_sales and report.kept_sales.progress
    ]
    assert [one["declared_total"] for one in progress] == [60] * len(progress)
    assert sorted(one["records"] for one in progress) == [one["records"] for one in progress]
    assert (reports[-1].status, reports[-1].completeness["ticket_sales"]) == ("success", "proved")
    assert shop.is_right()


@pytest.mark.parametrize("left", [16.5, 23.5])
@pytest.mark.parametrize("query", [PAGINATE, None], ids=["with a query", "without"])
def test_time_that_runs_out_at_the_end_of_a_sweep(shop: Shop, query: str | None, left: float) -> None:
    """The run publishes what it may; the next one counts."""
    if query is None:
        del shop.env["NEST_API_CHANGED_QUERY"]
    shop.run()
    shop.env["ETL_DEADLINE_SECONDS"] = "60"
    end = shop.now + timedelta(minutes=15, seconds=60)

    def run_late(number: int) -> None:
        if shop.api.requests[number - 1].page == 6:
            shop.request_seconds, shop.now = 4.0, max(shop.now, end - timedelta(seconds=left))
        shop.now += timedelta(seconds=shop.request_seconds)

    shop.request_seconds = 1.0
    shop.api.before_statements = run_late
    late = shop.run(sweep=True)
    assert late.kept_sales is not None
    assert not late.kept_sales.sweep_ended
    shop.api.before_statements = lambda _: None
    after = shop.run()
    assert after.kept_sales is not None
    assert (after.kept_sales.sweep_ended, after.completeness["ticket_sales"]) == (True, "proved")
    assert shop.is_right()


@ONLY_POSTGRES
def test_a_run_that_reads_on_answers_202(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP: 202 with the progress, and 200 once it is published; `sweep` is a parameter."""
    shop.api.latency_seconds = 1.0
    with application_client() as client:
        for name, value in {**shop.env, "ETL_DEADLINE_SECONDS": "8"}.items():
            monkeypatch.setenv(name, value)
        first = client.post("/", json={"sweep": True})
        assert (first.status_code, first.json and first.json["status"]) == (202, "reading")
        assert first.json is not None
        assert first.json["kept_sales"]["progress"]["declared_total"] == 60
        monkeypatch.delenv("ETL_DEADLINE_SECONDS")
        shop.api.latency_seconds = 0.0
        second = client.post("/")
        assert (second.status_code, second.json and second.json["status"]) == (200, "success")
        metrics = client.get("/metrics").text
        monkeypatch.setenv("ETL_SALES_STORE", "none")
        plain_metrics = client.get("/metrics").text
        runs = client.get("/runs").json
    assert 'etl_jobs_total{status="reading"} 1.0' in metrics
    assert [
        line for line in ("etl_kept_sales 60.0", 'etl_pending_groups{store="postgres"} 0.0') if line not in metrics
    ] == []
    assert "etl_kept_sales" not in plain_metrics
    assert runs is not None
    assert [run["status"] for run in runs["runs"]] == ["success", "reading"]


@pytest.mark.parametrize(("query", "env"), QUERIES)
def test_an_increment_reads_what_changed(shop: Shop, query: str, env: dict[str, str]) -> None:
    """The run after the first one asks for one page of changes, the canary, and three totals, and is right."""
    shop.env |= {"NEST_API_CHANGED_QUERY": query} | env
    assert shop.run().status == "success"
    shop.api.sales.append(sale(100, shop.now))
    shop.change("sale-3", quantity=9)
    report = shop.run()
    assert shop.is_right()
    assert (report.completeness["ticket_sales"], report.sales_count) == ("proved", 61)
    assert len(shop.asked("/ticket-sales")) == 5
    assert len(shop.asked("page=")) == len(shop.asked("/events?page="))


def mend(shop: Shop) -> None:
    shop.change("sale-1", quantity="two")
    shop.run()
    assert shop.sql("SELECT reason FROM etl_ticket_sales WHERE sale_id = 'sale-1'") == [
        ("quantity_not_a_whole_number",)
    ]
    shop.change("sale-1", quantity=2)


CHANGES: dict[str, Callable[[Shop], Any]] = {
    "nothing": lambda _: None,
    "a new sale": lambda shop: shop.api.sales.insert(0, sale(100, shop.now)),
    "an edited amount": lambda shop: shop.change("sale-1", totalAmount="1234567890.123456789"),
    "moved to another day": lambda shop: shop.change("sale-1", sale_date="2026-01-05T10:00:00Z"),
    "moved to another event": lambda shop: shop.change("sale-1", event_id="event-4"),
    "moved to an event that isn't listed": lambda shop: shop.change("sale-1", event_id="unlisted"),
    "refunded": lambda shop: shop.change("sale-1", quantity=-2, totalAmount="-11.50"),
    "unusable, and mended": mend,
    "another name": lambda shop: shop.api.events.__setitem__(0, {"id": "event-0", "name": "Renamed"}),
    "a new event": lambda shop: shop.api.events.append({"id": "event-9", "name": "Unsold"}),
    "a late commit": lambda shop: shop.api.sales.append(sale(100, shop.now - timedelta(minutes=50))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_right_after_the_next_run(shop: Shop, change: Callable[[Shop], Any]) -> None:
    """Whatever happens to a sale or an event, the next run's tables are the sums of the list."""
    shop.run()
    change(shop)
    report = shop.run()
    assert (report.status, report.completeness["ticket_sales"]) == ("success", "proved")
    assert shop.is_right()


def test_an_unchanged_overlap_writes_nothing(shop: Shop) -> None:
    """What an increment brings once more isn't written again, neither kept nor published."""
    shop.run()
    shop.change("sale-1", quantity=7)
    shop.run()
    before = [shop.snapshot(name) for name in ("etl_ticket_sales", "event_sales_summary")]
    report = shop.run()
    assert report.kept_sales is not None
    assert report.kept_sales.increment_pages == 1
    assert [shop.snapshot(name) for name in ("etl_ticket_sales", "event_sales_summary")] == before


def test_an_undated_sale_keeps_its_day(shop: Shop) -> None:
    """A sale without a date counts on the day it was first read, one that loses its date on its last one."""
    shop.api.sales.append({**sale(100, shop.now), "sale_date": None, "createdAt": None})
    shop.run()
    shop.now += timedelta(days=2)
    shop.change("sale-100", quantity=3)
    shop.change("sale-2", sale_date=None, createdAt=None)
    report = shop.run()
    days = dict(shop.sql("SELECT sale_id, sale_date FROM etl_ticket_sales WHERE is_undated"))
    assert days == {"sale-100": date(2026, 11, 26), "sale-2": date(2026, 11, 24)}
    assert report.undated_count == 2


@pytest.mark.parametrize("route", ["found", "none", "refused", "another"])
def test_a_deletion_is_noticed_and_settled(shop: Shop, route: Any) -> None:
    """The next run says `unproved`; a sweep asks for the sale by its id, or two sweeps have to miss it."""
    assert shop.api.changes is not None
    shop.api.changes.record_route = route
    shop.run()
    shop.delete("sale-7")
    report = shop.run()
    assert report.kept_sales is not None
    assert (report.status, report.completeness["ticket_sales"], report.kept_sales.off) == ("success", "unproved", 1)
    sweeps = 0
    while not shop.is_right():
        shop.now += timedelta(hours=7)
        report = shop.run()
        assert report.kept_sales is not None
        assert report.kept_sales.sweep_ended
        sweeps += 1
    assert sweeps == (1 if route == "found" else 2)
    assert report.completeness["ticket_sales"] == "proved"
    assert not shop.sql("SELECT sale_id FROM etl_ticket_sales WHERE sale_id = 'sale-7'")


def test_a_living_sale_is_never_deleted(shop: Shop) -> None:
    """A sale that sweeps miss, since ties hide it, stays as long as the upstream declares as many as are kept."""
    assert shop.api.changes is not None
    shop.api.changes.record_route = "none"
    shop.run()
    shop.api.changes.view = lambda items: [item for item in items if item["id"] != "sale-7"]
    declare(shop, 60)
    for _ in range(4):
        shop.now += timedelta(hours=25)
        shop.run()
    assert shop.sql("SELECT count(*) FROM etl_ticket_sales WHERE sale_id = 'sale-7'") == [(1,)]


def declare(shop: Shop, total: int) -> None:
    """Let the upstream declare this total of the whole list, whatever it lists."""
    changes = shop.api.changes
    assert changes is not None
    changes.cached_seconds = 10.0**9
    changes.totals["{}"] = (shop.now, total)


def test_too_few_sales_are_never_published(shop: Shop) -> None:
    """Where more is declared than sweeps find, nothing is published; after three sweeps the run fails."""
    shop.run()
    declare(shop, 61)
    shop.change("sale-1", quantity=30)
    assert [shop.run().status for _ in range(2)] == ["reading", "reading"]
    error = shop.refused("incomplete_extract")
    assert "60 sales are kept, and the upstream declares 61" in str(error)
    assert shop.sql("SELECT max(total_tickets) < 30 FROM event_sales_summary") == [(True,)]
    declare(shop, 60)
    assert shop.run().status == "success"
    assert shop.is_right()


def test_a_cached_total_is_no_alarm(shop: Shop) -> None:
    """A total that is 20 s old is asked for again, a little later, before anything is concluded from it."""
    assert shop.api.changes is not None
    shop.run()
    shop.api.changes.cached_seconds = 20.0
    shop.api.changes.totals["{}"] = (shop.now + timedelta(minutes=15), 60)
    shop.api.sales += [sale(number, shop.now) for number in range(100, 130)]
    report = shop.run()
    assert (report.status, report.completeness["ticket_sales"]) == ("success", "proved")
    assert shop.is_right()


def test_no_declared_total(shop: Shop) -> None:
    """Where the upstream declares none, increments publish as `undeclared`, and sweeps find what is gone."""
    shop.api.datasets["ticket_sales"].envelope = ENVELOPES["next_page"].sized(10)
    assert shop.run().completeness["ticket_sales"] == "undeclared"
    shop.delete("sale-7")
    shop.api.sales.append(sale(100, shop.now))
    assert shop.run().completeness["ticket_sales"] == "undeclared"
    assert not shop.is_right()
    shop.run(sweep=True)
    assert shop.is_right()


def no_time(shop: Shop) -> None:
    shop.api.sales = [{**item, "updatedAt": None} for item in shop.api.sales]


MISBEHAVIOUR: list[Any] = [
    pytest.param({"filtering": "ignored"}, "changed before", id="a filter that is ignored"),
    pytest.param({"filtering": "stripped"}, "changed before", id="a filter that is stripped"),
    pytest.param({"filtering": "refused"}, "was refused", id="a filter that is refused"),
]


@pytest.mark.parametrize(("knobs", "said"), MISBEHAVIOUR)
def test_a_filter_that_is_not_applied(shop: Shop, knobs: dict[str, Any], said: str) -> None:
    """The run fails with the request and the setting, before anything of it is kept."""
    shop.run()
    assert shop.api.changes is not None
    for name, value in knobs.items():
        setattr(shop.api.changes, name, value)
    shop.change("sale-1", quantity=8)
    error = shop.refused("configuration_error")
    assert said in str(error)
    assert str(error).startswith("NEST_API_CHANGED_QUERY: the request /ticket-sales?filter.updatedAt=$gte:2026-11-2")
    assert shop.sql("SELECT quantity FROM etl_ticket_sales WHERE sale_id = 'sale-1'") == [(2,)]


def test_a_filter_on_another_column(shop: Shop) -> None:
    """One that is applied to the creation brings none of the edits that were read before: the run says so."""
    shop.run()
    for number in range(5):
        shop.change(f"sale-{number}", quantity=8)
    shop.run()
    assert shop.api.changes is not None
    shop.api.changes.filtering = "by creation"
    assert "brought none of 5 sales that changed since" in str(shop.refused("configuration_error"))


def without_zone(item: Sale) -> Sale:
    return item | {"updatedAt": item["updatedAt"].rstrip("Z")}


def whole_seconds(item: Sale) -> Sale:
    return item | {"updatedAt": item["updatedAt"][:19] + "Z"}


def in_the_future(item: Sale) -> Sale:
    return item | {"updatedAt": "2031-01-01T00:00:00.000Z"} if item["id"] == "sale-5" else item


def null_for_some(item: Sale) -> Sale:
    return item | {"updatedAt": None} if item["id"] in ("sale-5", "sale-6") else item


@pytest.mark.parametrize("shape", [without_zone, whole_seconds, in_the_future, null_for_some])
def test_odd_times_of_change(shop: Shop, shape: Callable[[Sale], Sale]) -> None:
    """Times without a zone are UTC, cut ones are let pass, and one in the future or none at all does no harm."""
    shop.api.sales = list(map(shape, shop.api.sales))
    shop.run()
    shop.api.sales.append(shape(sale(100, shop.now)))
    shop.change("sale-1", quantity=7)
    shop.api.sales = list(map(shape, shop.api.sales))
    report = shop.run()
    assert (report.status, report.completeness["ticket_sales"]) == ("success", "proved")
    assert shop.is_right()


@pytest.mark.parametrize("hours", [-1, 1, None], ids=["an hour behind", "an hour ahead", "no Date header"])
def test_a_clock_that_is_off(shop: Shop, hours: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    """The earlier one of both clocks counts, with a warning; without a header it is ours."""
    assert shop.api.changes is not None
    shop.api.changes.sends_date = hours is not None
    shop.api.changes.clock_off = timedelta(hours=hours or 0)
    with json_logs():
        for number in range(100, 103):
            shop.run()
            shop.api.sales.append(sale(number, shop.now))
        shop.run()
    assert shop.is_right()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line["message"] == "ETL clocks differ" for line in lines) is (hours is not None)


def test_a_lagging_replica_takes_nothing_back(shop: Shop) -> None:
    """An older answer loses for as long as the lookback; a time of change that was corrected wins in the end."""
    shop.run()
    old = list(shop.api.sales)
    shop.change("sale-1", quantity=9)
    shop.run()
    assert shop.api.changes is not None
    shop.api.changes.view = lambda _: old
    shop.run(sweep=True)
    assert shop.sql("SELECT quantity FROM etl_ticket_sales WHERE sale_id = 'sale-1'") == [(9,)]
    shop.now += timedelta(hours=2)
    shop.run(sweep=True)
    assert shop.sql("SELECT quantity FROM etl_ticket_sales WHERE sale_id = 'sale-1'") == [(2,)]


def test_a_cursor_that_has_expired(shop: Shop) -> None:
    """A sweep whose place the upstream refuses begins anew, and ends."""
    shop.api.datasets["ticket_sales"].envelope = ENVELOPES["next_cursor"].sized(10)
    shop.api.datasets["ticket_sales"].order = Order("id")
    shop.request_seconds, shop.env["ETL_DEADLINE_SECONDS"] = 1.0, "8"
    assert shop.run().status == "reading"
    shop.expire_cursor()
    shop.env["ETL_DEADLINE_SECONDS"] = "120"
    assert shop.run().status == "success"
    assert shop.is_right()


def test_pages_that_shift_while_a_slice_is_read(shop: Shop) -> None:
    """Sales that are deleted and added during a sweep, newest first: the counts fit in the end, and so do the sums."""
    shop.api.datasets["ticket_sales"].order = Order("createdAt", descending=True)
    numbers = iter(range(100, 200))

    def shift(_: Any) -> None:
        number = next(numbers, None)
        if number is not None:
            shop.api.sales.append(sale(number, shop.now, createdAt=text(shop.now)))
            shop.delete(f"sale-{number - 100}")

    shop.api.on_page = shift
    shop.run()
    shop.api.on_page = None
    for _ in range(6):
        shop.now += timedelta(hours=25)
        shop.run()
    assert shop.is_right()


def test_without_a_query_each_run_sweeps(shop: Shop) -> None:
    """An upstream that can't tell what changed is read whole, and what arrives meanwhile at either end with it."""
    del shop.env["NEST_API_CHANGED_QUERY"]
    shop.run()
    shop.change("sale-1", quantity=5)
    shop.delete("sale-2")
    arrivals = {3: sale(100, START), 4: sale(101, START)}
    shop.api.on_page = lambda served: shop.api.sales.extend(filter(None, [arrivals.pop(served.page, None)]))
    report = shop.run()
    assert (report.status, report.completeness["ticket_sales"]) == ("success", "proved")
    assert shop.is_right()


def test_records_without_an_id_are_kept_aside(shop: Shop) -> None:
    """They are in no sum, counted as often as they are there, and gone once they are gone upstream."""
    odd = {"event_id": "event-1", "quantity": 1, "price": 3, "updatedAt": text(START)}
    shop.api.sales += [odd, odd, {**odd, "quantity": 2}]
    report = shop.run()
    assert (report.status, report.completeness["ticket_sales"], report.rejected_count) == ("success", "proved", 3)
    assert shop.sql("SELECT count(*) FROM etl_ticket_sales WHERE reason = 'sale_id_missing'") == [(3,)]
    assert report.sales_count == 60
    shop.api.sales = shop.api.sales[:60]
    for _ in range(2):
        shop.now += timedelta(hours=25)
        shop.run()
    assert shop.is_right()
    assert shop.sql("SELECT count(*) FROM etl_ticket_sales") == [(60,)]


def test_a_dry_run_writes_nothing(shop: Shop) -> None:
    """It says what would be published, and leaves every table as it is."""
    tables = ["etl_ticket_sales", "event_sales_summary", "daily_ticket_sales"]
    if shop.warehouse is None:
        tables += ["etl_pending_groups", "etl_sales_state", "etl_runs"]
    else:
        tables += ["etl_ticket_sales_pending", "etl_ticket_sales_state", "etl_ticket_sales_events"]
    shop.run()
    shop.change("sale-1", quantity=9)
    before = [*map(shop.snapshot, tables), shop.tables()]
    report = shop.run(dry_run=True)
    assert report.status == "dry_run"
    assert {result.status for result in report.stores.values()} == {"dry_run"}
    assert {result.changes["daily_ticket_sales"].updated for result in report.stores.values()} == {1}
    assert [*map(shop.snapshot, tables), shop.tables()] == before


def test_another_upstream_begins_a_new_generation(shop: Shop) -> None:
    """Another base URL: nothing is published until all of it is read, and then nothing of the old one is left."""
    shop.run()
    others = [sale(number, START - timedelta(days=2)) for number in range(200, 230)]
    with TicketingApi(plain_events(5), others, envelope="veritix:wrapped", page_size=10) as other:
        other.changes = Changes(clock=lambda: shop.now)
        shop.env["NEST_API_BASE_URL"] = other.base_url
        report = shop.run(force=True)
        assert report.status == "success"
        wanted = wanted_tables(shop.postgres, other.events, others)
        assert all(tables == wanted for tables in shop.tables().values())
        assert shop.sql("SELECT count(*), min(generation) FROM etl_ticket_sales") == [(30, 2)]


def test_another_zone_moves_sales_to_other_days(shop: Shop) -> None:
    """All sales are read anew, and count on the days of the new zone."""
    shop.run()
    shop.env["ETL_TIMEZONE"] = "Pacific/Auckland"
    shop.run()
    wanted = shop.wanted("Pacific/Auckland")
    assert all(tables == wanted for tables in shop.tables().values())


def test_from_none_to_kept_sales_and_back(shop: Shop) -> None:
    """Each way the next run that publishes is right; what lies kept meanwhile does no harm."""
    own = shop.env["ETL_SALES_STORE"]
    shop.env["ETL_SALES_STORE"] = "none"
    shop.run()
    shop.change("sale-1", quantity=4)
    shop.env["ETL_SALES_STORE"] = own
    shop.run()
    assert shop.is_right()
    shop.env["ETL_SALES_STORE"] = "none"
    shop.delete("sale-3")
    shop.run()
    assert shop.is_right()
    shop.env["ETL_SALES_STORE"] = own
    shop.now += timedelta(hours=25)
    shop.run()
    assert shop.is_right()


def test_damage_by_hand_heals_with_a_sweep(shop: Shop) -> None:
    """A sweep's end compares every group, and counts what is kept anew."""
    shop.run()
    shop.sql("DELETE FROM daily_ticket_sales WHERE event_id = 'event-1'")
    shop.sql("UPDATE event_sales_summary SET total_revenue = 1 WHERE TRUE")
    shop.sql("DELETE FROM etl_ticket_sales WHERE sale_id = 'sale-9'")
    shop.run(sweep=True)
    assert shop.is_right()


@ONLY_POSTGRES
def test_a_role_that_may_not_create_tables(shop: Shop, postgres_server: EmbeddedPostgres) -> None:
    """The error has the statements that the tables' owner is to run; then the run works."""
    shop.env["ETL_SALES_STORE"] = "none"
    shop.run()
    role = f"keeper_{shop.database}"
    postgres_server.create_role(role)
    shop.sql(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{role}"')
    shop.env |= {"ETL_SALES_STORE": "postgres", "DATABASE_URL": postgres_server.url(shop.database, role)}
    error = shop.refused("load_failed")
    said = str(error)
    assert "tables are missing" in said
    assert "CREATE TABLE etl_ticket_sales" in said
    shop.sql(said.partition("let their owner run, once: ")[2])
    assert shop.run().status == "success"
    assert shop.is_right()


@ONLY_POSTGRES
def test_the_earlier_tables_with_narrower_types(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Amounts are rounded as the columns have it; they aren't taken for differences again and again."""
    shop.sql(
        "CREATE TABLE event_sales_summary (event_id varchar PRIMARY KEY, event_name varchar, total_tickets integer,"
        " total_revenue numeric(12,2), last_updated timestamp);"
        " CREATE TABLE daily_ticket_sales (event_id varchar, sale_date date, tickets_sold integer,"
        " revenue numeric(12,2), PRIMARY KEY (event_id, sale_date))"
    )
    shop.change("sale-1", totalAmount="10.129")
    with json_logs():
        shop.run()
    logged = map(json.loads, capsys.readouterr().out.splitlines())
    warned = [event["columns"] for event in logged if event["message"] == "Postgres amounts rounded"]
    assert warned == [["event_sales_summary.total_revenue", "daily_ticket_sales.revenue"]]
    wanted = shop.wanted()
    rows = postgres_tables(shop.postgres, shop.database)
    assert [row[:3] for row in rows.daily] == [row[:3] for row in wanted.daily]
    assert all(abs(row[3] - want[3]) <= Decimal("0.005") for row, want in zip(rows.daily, wanted.daily, strict=True))
    before = shop.sql("SELECT xmin::text FROM daily_ticket_sales")
    shop.run(sweep=True)
    assert shop.sql("SELECT xmin::text FROM daily_ticket_sales") == before


@ONLY_POSTGRES
def test_stores_apart(
    shop: Shop,
    bigquery_emulator: BigQueryEmulator,
    bigquery_dataset: str,
    bigquery_project: str,
    bigquery_client: Client,
) -> None:
    """What a store misses while it refuses stays pending, and comes with its next success."""
    with BigQueryFront(bigquery_emulator.url) as front:
        shop.env |= {
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": bigquery_project,
            "BQ_DATASET": bigquery_dataset,
            "BIGQUERY_EMULATOR_HOST": front.url,
        }
        assert shop.run().status == "success"
        assert bigquery_tables(bigquery_client, bigquery_dataset) == shop.wanted()
        front.fail(400, times=1000)
        for number in range(3):
            shop.change(f"sale-{number}", quantity=20 + number)
            assert shop.refused("load_failed").details["stores"] == {"postgres": "success", "bigquery": "failed"}
            assert shop.is_right()
        assert shop.pending_stores() == ["bigquery"]
        front.recover()
        shop.run()
        assert bigquery_tables(bigquery_client, bigquery_dataset) == shop.wanted()
        assert shop.pending_stores() == []


def test_a_killed_run_loses_one_slice_at_most(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed before is read on from, with the next run."""
    shop.request_seconds, shop.env["ETL_DEADLINE_SECONDS"] = 1.0, "8"
    shop.run()
    (kept,) = shop.sql(f"SELECT count(*) FROM etl_ticket_sales{'_swept' if shop.warehouse is not None else ''}")[0]
    assert 0 < kept < 60

    def die(_: Any) -> None:
        raise KeyboardInterrupt

    options = RunOptions(now=lambda: shop.now, start_deadline=lambda seconds: ShopDeadline(seconds, shop), progress=die)
    with pytest.raises(KeyboardInterrupt):
        run_etl_once(Settings.from_env(shop.env), options)
    if "DATABASE_URL" in shop.env:
        shop.postgres.run("UPDATE etl_lease SET expires_at = now()", shop.database)
    else:
        monkeypatch.setattr("etl.run.ledger._in_process", MemoryLedger())  # the process is another one
    shop.env["ETL_DEADLINE_SECONDS"] = "100"
    shop.run()
    assert len(shop.asked("/ticket-sales?page=")) <= 6 - kept // 10 + 2
    assert shop.is_right()


def have_always_lacked_totals(shop: Shop, count: int = 12) -> None:
    """The oldest sales are from a time before totals."""
    old = [item | {"totalAmount": None, "price": "12.50"} for item in shop.api.sales[:count]]
    shop.api.sales = old + shop.api.sales[count:]


def rename_totals(shop: Shop) -> None:
    """What is left to go by is the price, which says something else."""
    shop.api.sales = [
        {"price": "1.25", **{("total" if key == "totalAmount" else key): value for key, value in item.items()}}
        for item in shop.api.sales
    ]


def test_old_records_without_a_field_are_no_alarm(shop: Shop) -> None:
    """Neither a sweep that begins with them, in one run or in many, nor an edit of them all that changes nothing."""
    have_always_lacked_totals(shop)
    shop.run()
    assert shop.is_right()
    for number in range(12):
        shop.change(f"sale-{number}", buyerEmail=None)
    shop.run()
    shop.run(sweep=True)
    shop.request_seconds, shop.env["ETL_DEADLINE_SECONDS"] = 4.0, "60"
    ended = [shop.run(sweep=number == 0).kept_sales for number in range(6)]
    assert [kept.sweep_ended for kept in ended if kept is not None].index(True) > 0
    assert shop.is_right()


@pytest.mark.parametrize("options", [{}, {"sweep": True}], ids=["an increment", "a sweep"])
def test_a_renamed_field_is_an_alarm(shop: Shop, options: dict[str, Any]) -> None:
    """Nothing of such a run is kept; once the upstream is mended, or somebody says that it is right, runs go on."""
    have_always_lacked_totals(shop)
    shop.run()
    right, kept = shop.api.sales, shop.snapshot("etl_ticket_sales")
    rename_totals(shop)
    for number in range(20, 60) if not options else ():
        shop.change(f"sale-{number}")
    error = shop.refused("schema_drift", **options)
    assert error.details["fields_lost"]["total_amount"] == "totalAmount"
    assert shop.snapshot("etl_ticket_sales") == kept
    renamed, shop.api.sales = shop.api.sales, right
    shop.run(sweep=True)
    assert shop.is_right()
    shop.api.sales = renamed
    shop.run(sweep=True, force=True)
    assert shop.is_right()


def test_the_first_sweep_is_judged_as_a_whole(shop: Shop) -> None:
    """By what runs without kept sales have found; old records that lack a field may come first."""
    have_always_lacked_totals(shop)
    own = shop.env["ETL_SALES_STORE"]
    shop.env["ETL_SALES_STORE"] = "none"
    shop.run()
    shop.env["ETL_SALES_STORE"] = own
    right = shop.api.sales
    rename_totals(shop)
    assert shop.refused("schema_drift").details["fields_lost"] == {"total_amount": "totalAmount"}
    shop.api.sales = right
    shop.run()
    assert shop.is_right()
