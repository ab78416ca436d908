"""What of the targets can be held in every test run: bytes, not seconds."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.postgres import load_postgres
from etl.transform import Summary, fold_sales, summarise
from tests.function import child_env
from tests.sandbox.http_stand_in import Answer, HttpStandIn, Request, json_answer
from tests.sandbox.postgres import EmbeddedPostgres
from tests.sandbox.processes import ROOT

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
            [sys.executable, "-m", "tests.benchmarks.dry_run"],
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
