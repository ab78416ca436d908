"""Kept sales in BigQuery: what a run costs there, its fence, its copies of ids, and BigQuery's limits."""

import itertools
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from typing import Any

import pytest

from etl.extract.tally import Progress
from etl.run.ledger import MemoryLedger
from etl.sales.bigquery.store import MAX_LOADS_A_DAY, BigQuerySales
from etl.sales.postgres.store import PostgresSales
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.http_server import Request
from tests.doubles.http_stand_in import LOSE_ANSWER
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.changes import Changes
from tests.doubles.ticketing.sample_data import plain_events
from tests.support.shop import PAGINATE, START, Shop, Warehouse, sale, text

_LOAD = re.compile(r"/upload/bigquery/.*/jobs")
_JOB = re.compile(r"/bigquery/.*/jobs")


@pytest.fixture(params=["alone", "with PostgreSQL"])
def shop(
    request: pytest.FixtureRequest,
    bigquery_emulator: BigQueryEmulator,
    postgres_server: EmbeddedPostgres,
    database: str,
) -> Iterator[Shop]:
    """60 sales on 6 pages that haven't changed lately."""
    sales = [sale(number, START - timedelta(days=1, seconds=number)) for number in range(60)]
    with ExitStack() as stack:
        api = stack.enter_context(TicketingApi(plain_events(5), sales, envelope="veritix:wrapped", page_size=10))
        warehouse = Warehouse.open(stack.enter_context(BigQueryFront(bigquery_emulator.url)))
        stack.callback(warehouse.close)
        made = Shop(api, postgres_server, database, warehouse)
        made.env = {
            "NEST_API_BASE_URL": api.base_url,
            "NEST_API_CONCURRENCY": "1",
            "ETL_SALES_STORE": "bigquery",
            "NEST_API_CHANGED_QUERY": PAGINATE,
            **warehouse.env,
        }
        if request.param != "alone":
            made.env["DATABASE_URL"] = postgres_server.url(database)

        def move_on(_: int) -> None:
            made.now += timedelta(seconds=made.request_seconds)

        api.before_statements = move_on
        api.changes = Changes(clock=lambda: made.now)
        yield made


ALONE = pytest.mark.parametrize("shop", ["alone"], indirect=True)


def front(shop: Shop) -> BigQueryFront:
    assert shop.warehouse is not None
    return shop.warehouse.front


def jobs(shop: Shop, run: Callable[[], Any]) -> list[str]:
    """What a run asks of BigQuery's engine: the text of each query, and `load` for each load job."""
    before = len(front(shop).log)
    run()
    return ["load" if _LOAD.search(seen.path) else query_of(seen) for seen in front(shop).log[before:] if is_job(seen)]


def is_job(seen: Request) -> bool:
    return seen.method == "POST" and bool(_LOAD.fullmatch(seen.path) or _JOB.fullmatch(seen.path))


def query_of(seen: Request) -> str:
    return str(seen.json["configuration"]["query"]["query"])


def is_scan(query: str) -> bool:
    """Whether it looks for ids on all days."""
    return query.lstrip().startswith("SELECT DISTINCT sale_date")


def new_sale(shop: Shop, number: int) -> dict[str, Any]:
    return sale(number, shop.now, createdAt=text(shop.now))


def test_a_run_without_changes_takes_few_jobs(shop: Shop) -> None:
    """Two where nothing comes, four where an overlap comes once more; nothing is scanned for ids."""
    shop.run()
    assert len(jobs(shop, shop.run)) == 2
    shop.api.sales.append(new_sale(shop, 100))
    shop.run()
    asked = jobs(shop, shop.run)
    assert len(asked) == 4
    assert not any(map(is_scan, asked))


CHANGES: dict[str, Callable[[Shop], Any]] = {
    "a new sale": lambda shop: shop.api.sales.append(new_sale(shop, 100)),
    "an edited amount": lambda shop: shop.change("sale-1", totalAmount="11.10"),
    "moved to another day": lambda shop: shop.change("sale-1", sale_date="2026-01-05T10:00:00Z"),
}


@pytest.mark.parametrize(("change", "scans"), [(CHANGES[name], int("moved" in name)) for name in CHANGES], ids=CHANGES)
def test_a_slice_takes_few_jobs(shop: Shop, change: Callable[[Shop], Any], scans: int) -> None:
    """At most ten with one slice; ids are looked for on other days where a sale's creation doesn't prove it new."""
    shop.run()
    change(shop)
    asked = jobs(shop, shop.run)
    assert asked.count("load") == 1
    assert len(asked) <= 10
    assert sum(map(is_scan, asked)) == scans
    assert shop.is_right()


def test_a_scan_reads_ids_and_days_alone(shop: Shop) -> None:
    """BigQuery bills by columns: of all days it reads two, of touched days all, and names those as constants."""
    shop.run()
    shop.change("sale-1", sale_date="2026-01-05T10:00:00Z")
    asked = jobs(shop, shop.run)
    (scan,) = filter(is_scan, asked)
    assert set(re.findall(r"\b(?:event_id|quantity|amount|changed_at|reason)\b", scan)) == set()
    (merge,) = [query for query in asked if "etl_ticket_sales` t" in query and "MERGE" in query]
    assert "t.sale_date IN (DATE '2026-01-05', DATE '2026-11-25')" in merge


def test_an_overlap_transfers_no_more_than_what_came(shop: Shop) -> None:
    """The bytes that go to and from BigQuery grow with what changed, not with what is kept."""
    shop.api.sales += [sale(number, START - timedelta(days=1)) for number in range(100, 700)]
    shop.run()
    shop.change("sale-1", quantity=9)
    before = len(front(shop).log)
    shop.run()
    uploaded = [seen for seen in front(shop).log[before:] if seen.method == "PUT"]
    assert sum(len(seen.body) for seen in uploaded) < 400


@ALONE
def test_events_are_compared_where_the_list_differs(shop: Shop) -> None:
    """What was kept of them is fetched after a sweep, and where an event has come, has gone or has another name."""

    def fetches() -> int:
        before = len(front(shop).log)
        shop.run()
        assert shop.is_right()
        return sum(seen.path.endswith("_events/data") for seen in front(shop).log[before:])

    fetches()
    assert [fetches() for _ in range(3)] == [1, 0, 0]
    shop.api.events = [{**shop.api.events[0], "name": "Renamed"}, *shop.api.events[1:]]
    assert [fetches(), fetches()] == [1, 0]


@ALONE
def test_a_day_of_sweeps_takes_fewer_loads_than_bigquery_allows(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """96 runs that sweep all the time, with increments, commit fewer slices than BigQuery takes load jobs a day."""
    commits = 0
    ingest = PostgresSales.ingest

    def count(store: PostgresSales, sales: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal commits
        commits += bool(sales)
        return ingest(store, sales, *arguments, **options)

    monkeypatch.setattr(PostgresSales, "bounds", BigQuerySales.bounds)
    monkeypatch.setattr(PostgresSales, "ingest", count)
    shop.warehouse = None
    shop.env |= {"ETL_SALES_STORE": "postgres", "DATABASE_URL": shop.postgres.url(shop.database), "BQ_ENABLED": "false"}
    shop.env |= {"ETL_SWEEP_HOURS": "0", "ETL_DEADLINE_SECONDS": "840", "NEST_API_BASE_URL": shop.api.base_url}
    shop.api.sales = [sale(number, START - timedelta(days=1, seconds=number)) for number in range(300)]
    shop.request_seconds = 20.0
    statuses = []
    for number in range(96):
        shop.api.sales.append(new_sale(shop, 1000 + number))
        shop.now = START + timedelta(minutes=15 * number)
        statuses.append(shop.run().status)
    assert "success" in statuses
    assert 96 < commits < MAX_LOADS_A_DAY
    assert commits <= 96 * (BigQuerySales.bounds.a_run or 0)


def test_moves_while_slices_are_read(shop: Shop) -> None:
    """Sales that move to other days all the time, five a second, are never kept twice, nor counted twice."""
    dice = random.Random(7)
    shop.run()

    def move(_: Any) -> None:
        for _ in range(max(1, round(5 * shop.request_seconds))):
            day = START - timedelta(days=dice.randrange(40))
            shop.change(f"sale-{dice.randrange(60)}", sale_date=text(day))

    shop.api.on_page = move
    for sweep in (False, False, True, False):
        report = shop.run(sweep=sweep)
        if report.status == "success":
            kept = shop.sql("SELECT COUNT(*), COUNT(DISTINCT sale_id), SUM(quantity) FROM etl_ticket_sales")
            assert kept[0][:2] == (60, 60)
            assert shop.sql("SELECT SUM(total_tickets) FROM event_sales_summary") == [kept[0][2:]]
    shop.api.on_page = None
    shop.run()
    assert shop.is_right()


@ALONE
def test_a_second_instance_is_fenced_off(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two instances without a lease between them the one that writes later fails, and has written nothing."""
    shop.run()
    shop.api.sales.append(new_sale(shop, 100))
    once = itertools.chain([True], itertools.repeat(False))

    def run_another(progress: Progress) -> None:
        if progress.what == "increment" and next(once):
            with monkeypatch.context() as patch:
                patch.setattr("etl.run.ledger._in_process", MemoryLedger())
                assert shop.run().status == "success"

    error = shop.refused("already_running", progress=run_another)
    assert "another run has moved the kept sales" in str(error)
    assert shop.is_right()
    shop.run()
    assert shop.is_right()


@ALONE
def test_a_script_that_was_held_up_does_nothing(shop: Shop) -> None:
    """A script of an old run that BigQuery gets later, after a newer run, finds the state moved on."""
    shop.run()
    shop.change("sale-1", quantity=7)
    before = len(front(shop).log)
    shop.run()
    held_up = [seen for seen in front(shop).log[before:] if seen.method == "POST" and b"BEGIN TRANSACTION" in seen.body]
    shop.change("sale-1", quantity=3)
    shop.run()
    for seen in held_up:
        late = Request(seen.method, seen.target, seen.headers, seen.body.replace(b"veritix-etl-", b"veritix-etl-late-"))
        answer = front(shop).respond(late)
        assert isinstance(answer.body, bytes)
        assert b"etl fence" in answer.body or b"not found" in answer.body.lower()
    assert shop.is_right()


@pytest.mark.parametrize("path", ["upload_id=", "uploadType=", "/jobs?", "/queries/"])
def test_a_lost_answer_is_no_second_load(shop: Shop, path: str) -> None:
    """What the answer was lost of isn't done twice: the job is known by its id."""
    shop.run()
    shop.api.sales.append(new_sale(shop, 100))
    front(shop).fail(LOSE_ANSWER, times=2, path=path)
    shop.run()
    assert shop.sql("SELECT COUNT(*), COUNT(DISTINCT sale_id) FROM etl_ticket_sales") == [(61, 61)]
    assert shop.is_right()


@pytest.mark.parametrize("failures", [1, 2])
def test_a_burnt_job_id_is_followed_by_the_next(shop: Shop, failures: int) -> None:
    """A job that failed for a reason that passes is begun again under another id; the run succeeds."""
    shop.run()
    shop.change("sale-1", quantity=7)
    front(shop).fail_jobs(*["backendError"] * failures)
    assert shop.run().status == "success"
    assert shop.is_right()


def test_a_job_that_fails_for_good(shop: Shop) -> None:
    """After three generations the run fails; the next one is right."""
    shop.run()
    shop.change("sale-1", quantity=7)
    front(shop).fail_jobs(*["backendError"] * 3)
    assert "made to fail with backendError" in str(shop.refused("load_failed"))
    shop.run()
    assert shop.is_right()


@ALONE
def test_more_days_than_one_statement_may_modify(shop: Shop) -> None:
    """Sales of 4,100 days come in two MERGEs, each within its days."""
    shop.api.sales = [
        sale(number, START - timedelta(days=1), sale_date=text(START - timedelta(days=number)))
        for number in range(4100)
    ]
    shop.api.datasets["ticket_sales"].envelope = shop.api.datasets["ticket_sales"].envelope.sized(1000)
    asked = jobs(shop, shop.run)
    (merge,) = [query for query in asked if "MERGE" in query and "etl_ticket_sales` t" in query]
    assert merge.count("etl_ticket_sales` t\n") == 2
    assert shop.is_right()


@ALONE
def test_months_as_partitions(shop: Shop) -> None:
    """A setting makes months of the partitions: 10,000 of them are 800 years."""
    shop.env["BQ_PARTITION_BY"] = "month"
    shop.run()
    shop.change("sale-1", sale_date="1999-05-05T10:00:00Z")
    shop.run()
    assert shop.is_right()
    assert shop.warehouse is not None
    for name in ("etl_ticket_sales", "daily_ticket_sales"):
        partitioning = shop.warehouse.client.get_table(f"{shop.warehouse.dataset}.{name}").time_partitioning
        assert (partitioning.type_, partitioning.field) == ("MONTH", "sale_date")


@ALONE
def test_more_days_than_a_table_may_have(shop: Shop) -> None:
    """Nothing of such a sweep is kept, and the error says what to do; months go on."""
    shop.api.sales = [
        sale(number, START - timedelta(days=1), sale_date=text(START - timedelta(days=number))) for number in range(30)
    ]
    front(shop).tables.max_partitions = 20
    error = shop.refused("load_failed")
    assert "BQ_PARTITION_BY=month" in str(error)
    assert shop.sql("SELECT COUNT(*) FROM etl_ticket_sales") == [(0,)]
    shop.env["BQ_PARTITION_BY"] = "month"
    assert shop.warehouse is not None
    for name in ("etl_ticket_sales", "daily_ticket_sales"):
        shop.warehouse.client.delete_table(f"{shop.warehouse.dataset}.{name}")
    shop.run()
    assert shop.is_right()


@ALONE
def test_a_table_without_partitions_is_refused(shop: Shop) -> None:
    """Somebody made it: each run would scan all of it. The error has the statement that sets it aside."""
    shop.run()
    assert shop.warehouse is not None
    client, path = shop.warehouse.client, f"{shop.warehouse.dataset}.etl_ticket_sales"
    made = client.get_table(path)
    client.delete_table(path)
    made.time_partitioning = None
    made._properties.pop("timePartitioning", None)
    made.clustering_fields = None
    client.create_table(made)
    error = str(shop.refused("configuration_error"))
    assert "isn't partitioned by sale_date" in error
    assert "RENAME TO etl_ticket_sales_before" in error


@ALONE
def test_a_table_that_wants_a_filter(shop: Shop) -> None:
    """`require_partition_filter` on either partitioned table keeps no run from anything."""
    shop.run()
    for name in ("etl_ticket_sales", "daily_ticket_sales"):
        assert shop.warehouse is not None
        path = f"{shop.warehouse.client.project}.{shop.warehouse.dataset}.{name}"
        shop.warehouse.sql(f"ALTER TABLE `{path}` SET OPTIONS (require_partition_filter = TRUE)")
    shop.change("sale-1", sale_date="2026-01-05T10:00:00Z")
    shop.delete("sale-2")
    shop.run()
    shop.run(sweep=True)
    assert shop.sql("SELECT COUNT(*) FROM etl_ticket_sales WHERE sale_date >= DATE '2000-01-01'") == [(59,)]


@ALONE
def test_a_dataset_in_another_location(shop: Shop) -> None:
    """The error names both, and what to write."""
    shop.run()
    front(shop).location = "EU"
    error = str(shop.refused("configuration_error"))
    assert "BQ_LOCATION is US, and the dataset" in error
    assert "write BQ_LOCATION=EU" in error


@ALONE
def test_after_the_write_mode_stream(shop: Shop) -> None:
    """Rows in the streaming buffer can't be changed: the run says that it passes; the first one after it is right."""
    shop.env |= {"ETL_SALES_STORE": "none", "BQ_WRITE_MODE": "stream"}
    for _ in range(2):
        shop.run()
    shop.env |= {"ETL_SALES_STORE": "bigquery", "BQ_WRITE_MODE": "merge"}
    assert "streaming buffer" in str(shop.refused("load_failed"))
    front(shop).tables.settle()
    assert shop.run().status == "success"
    assert shop.is_right()


@ALONE
def test_stream_beside_kept_sales_is_refused(shop: Shop) -> None:
    """It only appends; kept sales publish what changed."""
    shop.env["BQ_WRITE_MODE"] = "stream"
    assert "write BQ_WRITE_MODE=merge" in str(shop.refused("configuration_error"))


@ALONE
def test_requests_stay_below_the_limit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events and ids that don't fit into one request go in several."""
    monkeypatch.setattr("etl.load.bigquery.sql.REQUEST_BYTES", 20_000)
    monkeypatch.setattr(front(shop), "_request_bytes", 60_000)
    shop.api.events = [{"id": f"event-{number}", "name": "N" * 80} for number in range(300)]
    asked = jobs(shop, shop.run)
    assert sum("UNNEST(@events)" in query for query in asked) > 2
    assert shop.is_right()


def test_a_store_that_was_down_catches_up(shop: Shop) -> None:
    """While BigQuery refuses, nothing moves; then both stores have it."""
    shop.run()
    front(shop).fail(400, times=1000)
    shop.change("sale-1", quantity=20)
    shop.refused("load_failed")
    front(shop).recover()
    shop.run()
    assert shop.is_right()


@pytest.mark.parametrize("shop", ["with PostgreSQL"], indirect=True)
def test_postgres_misses_nothing_while_it_is_down(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed over to it stays pending until it takes it; days that are sold no more go there, too."""
    shop.run()

    def refuse(*_: Any, **__: Any) -> Any:
        from etl.errors import StoreUnavailableError

        raise StoreUnavailableError("made to fail")

    with monkeypatch.context() as patch:
        patch.setattr("etl.sales.postgres.publication.publish_postgres", refuse)
        for number in range(3):
            shop.change(f"sale-{number}", sale_date=f"2026-0{number + 1}-05T10:00:00Z")
            assert shop.refused("load_failed").details["stores"] == {"bigquery": "success", "postgres": "failed"}
        assert shop.pending_stores() == ["postgres"]
    shop.run()
    assert shop.is_right()
    assert shop.pending_stores() == []
    shop.postgres.run("TRUNCATE daily_ticket_sales", shop.database)
    shop.run(sweep=True)
    assert shop.is_right()


def test_a_sale_on_a_day_that_is_remembered(shop: Shop) -> None:
    """A sale that was read shortly after its creation, and then moves, is found on its day without a scan."""
    shop.run()
    shop.api.sales.append(sale(100, shop.now, createdAt=text(shop.now), sale_date="2026-02-02T10:00:00Z"))
    shop.run()
    shop.change("sale-100", sale_date="2026-03-03T10:00:00Z")
    asked = jobs(shop, shop.run)
    assert not any(map(is_scan, asked))
    assert shop.sql("SELECT sale_date FROM etl_ticket_sales WHERE sale_id = 'sale-100'") == [(date(2026, 3, 3),)]
    assert shop.is_right()
