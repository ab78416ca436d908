"""What of the targets every test run can hold (bytes, not seconds), and whether the benchmark measures what it says."""

import json
import subprocess
import sys
import uuid
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.load.postgres.load import load_postgres
from etl.transform.fold import Summary, fold_sales, summarise
from tests import ROOT
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HttpStandIn
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks import floor
from tests.evidence.benchmarks.kinds import KINDS, W2, Kind
from tests.evidence.benchmarks.rows import ROWS
from tests.evidence.benchmarks.tables import Tables
from tests.evidence.benchmarks.workload import Workload, make_workloads
from tests.sandbox.function import child_env
from tests.support.markdown import table

EVENTS, DAYS = 50, 30
PAGE_SIZE = 10_000
BYTES_A_SALE = 10
"""The 64-bit hash of its id, in an array that grows by an eighth."""


class ManyPages(HttpStandIn):
    """An upstream of any number of sales at the price of one page: each page is the first one under other ids."""

    def __init__(self, pages: int) -> None:
        super().__init__()
        self._pages = pages
        days = [date(2026, 1, 1) + timedelta(days=day) for day in range(DAYS)]
        self._items = ",".join(
            f'{{"id":1@@@{i:04d},"event_id":"event-{i % EVENTS}","quantity":{1 + i % 4},"price":{10 + i % 100 / 100},'
            f'"total_amount":{20 + i % 50 / 100},"sale_date":"{days[i // EVENTS % DAYS]}T12:00:00.000Z"}}'
            for i in range(PAGE_SIZE)
        ).encode()

    def respond(self, request: Request) -> Answer:
        if request.path == "/events":
            return json_answer([{"id": f"event-{event}", "name": f"Event {event}"} for event in range(EVENTS)])
        page = int(request.query.get("page", 1))
        counters = f'"page":{page},"totalPages":{self._pages},"total":{self._pages * PAGE_SIZE}'
        body = b'{"data":[%b],%b}' % (self._items.replace(b"@@@", b"%03d" % page), counters.encode())
        return Answer(200, body, {"Content-Type": "application/json"})


def peak_of_a_run(pages: int, database_url: str) -> int:
    """The peak memory of a process that makes a dry run over so many pages, in bytes."""
    with ManyPages(pages) as upstream:
        done = subprocess.run(
            [sys.executable, "-m", "tests.evidence.benchmarks.dry_run"],
            cwd=ROOT,
            env={
                **child_env(),
                "NEST_API_BASE_URL": upstream.url,
                "DATABASE_URL": database_url,
                "NEST_API_CONCURRENCY": "1",  # how many pages lie ready ahead would be left to chance
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    sales, daily_rows, peak = json.loads(done.stdout)
    assert (sales, daily_rows) == (pages * PAGE_SIZE, EVENTS * DAYS)
    return int(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_depends_on_the_sales_by_the_hashes_of_their_ids_alone(database_url: str) -> None:
    """Ten times the sales in the same groups take 10 bytes for each further sale, and a tenth more at most.

    The smaller run is large enough to fill the window of ids that are kept as they are.
    """
    small, large = 20, 200
    fewer, more = peak_of_a_run(small, database_url), peak_of_a_run(large, database_url)
    assert more - fewer <= (large - small) * PAGE_SIZE * BYTES_A_SALE + fewer // 10


def load(summary: Summary, database_url: str) -> None:
    engine = sa.create_engine(database_url)
    load_postgres(summary, engine, Deadline(60))
    engine.dispose()


def plain_summary(events: int, days: int) -> Summary:
    names: dict[str, str | None] = {f"event-{event:04d}": f"Event {event}" for event in range(events)}
    rows = ((name, date(2026, 1, 1) + timedelta(day), 2 + day, 25 * 10**9) for day in range(days) for name in names)
    return summarise(names, fold_sales(rows), datetime(2026, 11, 23, 12, tzinfo=UTC))


def test_a_load_that_changes_nothing_writes_next_to_nothing(
    postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    """A Summary once more writes no daily row, and the server logs 2% of what the first load took, at most.

    There are as many days to an event as in W1, since an event's row is written each time: its `last_updated` is new.
    """

    def run(statement: str) -> list[tuple[Any, ...]]:
        return postgres_server.run(statement, str(sa.make_url(database_url).database))

    def logged_bytes() -> int:
        return int(run("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")[0][0])

    def daily_rows() -> list[tuple[Any, ...]]:
        return run("SELECT count(*), sum(hashtextextended(t::text || ctid || xmin, 0)) FROM daily_ticket_sales t")

    load(
        plain_summary(1, 1), database_url
    )  # rows in tables of the same transaction wouldn't be logged: make them first
    summary = plain_summary(2000, 45)
    marks = [logged_bytes()]
    load(summary, database_url)
    marks.append(logged_bytes())
    run("VACUUM event_sales_summary, daily_ticket_sales")  # as autovacuum would, which is off here
    before = daily_rows()
    assert before[0][0] == 90_000
    marks.append(logged_bytes())
    load(summary, database_url)
    marks.append(logged_bytes())
    assert daily_rows() == before
    assert marks[3] - marks[2] <= 0.02 * (marks[1] - marks[0])


SMALL = 0.002
"""The scale of workloads of 2,000 sales of 10 events."""


def read_pages(workload: Workload) -> dict[Any, tuple[str, str, int, Decimal]]:
    """The sales by their ids: event id, day, quantity and total."""
    pages = [
        json.loads(workload.page(number).read_bytes(), parse_float=Decimal)["data"]
        for number in range(1, workload.pages + 1)
    ]
    return {
        sale["id"]: (sale["event_id"], sale["sale_date"][:10], sale["quantity"], Decimal(sale["total_amount"]))
        for page in pages
        for sale in page
    }


def sums_of(workload: Workload) -> dict[tuple[str, str], tuple[int, Decimal]]:
    """What its results say: tickets and revenue by event id and day."""
    lines = (line.split("\t") for line in workload.results.read_text().splitlines())
    return {(event, day): (int(tickets), Decimal(revenue)) for event, day, tickets, revenue in lines}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_workloads_come_to_their_results(kind: Kind, tmp_path: Path) -> None:
    """As many different sales as were asked for, and the sums of them; 1% of them changes, and nothing else does."""
    made = make_workloads(kind, SMALL, tmp_path)
    for workload in (made.first, made.changed):
        sales = read_pages(workload)
        sums: defaultdict[tuple[str, str], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal()))
        for event, day, quantity, total in sales.values():
            tickets, revenue = sums[event, day]
            sums[event, day] = (tickets + quantity, revenue + total)
        assert len(sales) == workload.sales == 2_000
        assert {event for event, _ in sums} <= workload.event_names().keys()
        assert sums == sums_of(workload)
    first, changed = read_pages(made.first), read_pages(made.changed)
    assert first.keys() == changed.keys()
    assert 10 <= sum(first[sale] != changed[sale] for sale in first) <= 40


def test_the_second_workload_is_less_kind(tmp_path: Path) -> None:
    """UUIDs, amounts as JavaScript writes them, and days on which few of the events sell."""
    workload = make_workloads(W2, SMALL, tmp_path).first
    sales = read_pages(workload)
    uuids = [str(uuid.UUID(text)) for text in (*sales, *workload.event_names())]
    assert uuids == [*sales, *workload.event_names()]
    assert {len(str(total).partition(".")[2]) for *_, total in sales.values()} == {0, 1, 2}
    days: defaultdict[str, set[str]] = defaultdict(set)
    for event, day in sums_of(workload):
        days[day].add(event)
    assert sum(map(len, days.values())) / len(days) < len(workload.event_names()) / 4


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_floor_does_the_work_of_a_run(kind: Kind, tmp_path: Path, postgres_server: EmbeddedPostgres) -> None:
    """It sums each sale once, exactly, fills empty tables, and then writes only those daily rows that differ."""
    made = make_workloads(kind, SMALL, tmp_path)
    _, groups = floor.fold_pages(made.first.directory, made.first.pages)
    assert groups == sums_of(made.first)
    tables = Tables(postgres_server, made)

    def load(workload: Workload, *, only_changed: bool) -> None:
        where = str(workload.directory), str(postgres_server.socket), tables.database
        floor.load(*where, only_changed=only_changed)
        tables.check(workload)

    load(made.first, only_changed=False)
    writers = tables.daily_writers()
    load(made.changed, only_changed=True)
    first, changed = sums_of(made.first), sums_of(made.changed)
    assert tables.daily_rows_not_by(writers) == sum(first[group] != changed[group] for group in first) > 0
    tables.hold(made.first)
    with pytest.raises(SandboxError, match=r"[1-9]\d* daily rows and [1-9]\d* summary rows are wrong"):
        tables.check(made.changed)
    postgres_server.drop_database(tables.database)


def test_the_table_shows_every_row() -> None:
    """docs/performance.md has the rows of the benchmark, in its words and order."""
    assert [what for what, _ in table(ROOT / "docs" / "performance.md", "what", "measured")] == [
        row.what for row in ROWS
    ]
