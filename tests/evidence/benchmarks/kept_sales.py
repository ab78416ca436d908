"""Rows 9 to 11: what kept sales cost, beside reading everything, and as they become more."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property

from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HttpStandIn
from tests.evidence.benchmarks.findings import Finding
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.whole_run import WholeRun, run_once

SALES, EVENTS, DAYS = 200_000, 1_000, 60
PAGE_SIZE, PAGE_SECONDS = 100, 0.02
LARGE_PAGE = 10_000
_OLD = datetime(2026, 1, 1, tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uuid(number: int) -> str:
    """Spread as random ones are, and the same each time."""
    return f"{number * 2654435761 & 0xFFFFFFFF:08x}-{number & 0xFFFF:04x}-4000-8000-{number:012x}"


class ChangingSales(HttpStandIn):
    """An upstream of any number of sales, made as they are asked for; `changed` is when `changes` of them, evenly
    spread, have changed, None before that. Each page takes `page_seconds`.
    """

    def __init__(self, sales: int, page_seconds: float) -> None:
        super().__init__()
        self.changed: str | None = None
        self.changes = 0
        self._sales = sales
        self._page_seconds = page_seconds

    @cached_property
    def _days(self) -> list[str]:
        return [_text(_OLD - timedelta(days=day)) for day in range(DAYS)]

    def respond(self, request: Request) -> Answer:
        if request.path == "/events":
            return json_answer([{"id": _uuid(event), "name": f"Event {event}"} for event in range(EVENTS)])
        time.sleep(self._page_seconds)
        query = request.query
        size, page = int(query["limit"]), int(query.get("page", 1))
        since = query.get("updated_after")
        total = self._sales if since is None else self.changes if self.changed and self.changed >= since else 0
        numbers = range((page - 1) * size, min(page * size, total))
        items = ",".join(self._sale(number if since is None else number * self._stride) for number in numbers)
        counters = f'"page":{page},"totalPages":{max(1, -(-total // size))},"total":{total}'
        return Answer(200, f'{{"data":[{items}],{counters}}}'.encode(), {"Content-Type": "application/json"})

    def _sale(self, number: int) -> str:
        is_changed = bool(self.changes) and number % self._stride == 0 and number // self._stride < self.changes
        changed_at = self.changed if is_changed else _text(_OLD)
        return (
            f'{{"id":"{_uuid(number)}","event_id":"{_uuid(number % EVENTS)}","quantity":{1 + number % 3 + is_changed},'
            f'"price":{10 + number % 90}.99,"sale_date":"{self._days[number // EVENTS % DAYS]}",'
            f'"updatedAt":"{changed_at}"}}'
        )

    @property
    def _stride(self) -> int:
        return self._sales // self.changes

    def change(self, count: int) -> None:
        """As many sales have one ticket more since now."""
        self.changes, self.changed = count, _text(datetime.now(UTC))


def _settings(upstream: ChangingSales, session: Session, database: str, page_size: int) -> dict[str, str]:
    return {
        "NEST_API_BASE_URL": upstream.url,
        "NEST_API_PAGE_SIZE": str(page_size),
        "DATABASE_URL": session.postgres.url(database),
    }


def _kept(settings: Mapping[str, str]) -> dict[str, str]:
    return {**settings, "ETL_SALES_STORE": "postgres", "NEST_API_CHANGED_QUERY": "updated_after={since}"}


def one_percent_changed(session: Session) -> Finding:
    """Row 9: a run with 1% of the sales changed, with and without kept sales; both end with the same tables."""
    sales = max(PAGE_SIZE, round(SALES * session.scale))
    with ChangingSales(sales, PAGE_SECONDS) as upstream:
        databases = [session.postgres.create_database() for _ in range(2)]
        whole, kept = (_settings(upstream, session, database, PAGE_SIZE) for database in databases)
        run_once(whole)
        run_once(_kept(kept))
        upstream.change(sales // 100)
        runs = {"whole": run_once(whole), "kept": run_once(_kept(kept))}
        held = [_totals(session, database) for database in databases]
    if held[0] != held[1]:
        raise AssertionError(f"the two databases hold {held}")
    times = runs["kept"].seconds / runs["whole"].seconds
    session.tell(f"1% of {sales} sales changed: {times:.3f} of the whole run's time")
    return Finding(
        f"{times:.3f} of the time ({runs['kept'].seconds:.1f} s against {runs['whole'].seconds:.1f} s)",
        times,
        times <= 0.1,
        {name: _plain(run) for name, run in runs.items()},
    )


def ten_times_the_kept_sales(session: Session) -> Finding:
    """Row 10: the same number of changes among ten times as many kept sales."""
    sales = max(LARGE_PAGE, round(SALES * session.scale))
    seconds = {}
    for count in (sales, 10 * sales):
        with ChangingSales(count, 0.0) as upstream:
            settings = _kept(_settings(upstream, session, session.postgres.create_database(), LARGE_PAGE))
            run_once(settings)
            runs = []
            for _ in range(session.pairs):
                upstream.change(1_000)
                runs.append(run_once(settings).seconds)
        seconds[count] = sorted(runs)[len(runs) // 2]
        session.tell(f"1,000 changes among {count} kept sales: {seconds[count]:.2f} s")
    times = seconds[10 * sales] / seconds[sales]
    return Finding(f"{times:.2f} times the time", times, times <= 1.3, {str(count): s for count, s in seconds.items()})


def bytes_a_kept_sale(session: Session) -> Finding:
    """Row 11: with its indexes, at first and once a tenth has changed; and what a sweep over the same sales writes."""
    sales = max(LARGE_PAGE, round(SALES * session.scale))
    with ChangingSales(sales, 0.0) as upstream:
        database = session.postgres.create_database()
        settings = _kept(_settings(upstream, session, database, LARGE_PAGE))
        run_once(settings)
        first = _bytes(session, database, sales)
        upstream.change(sales // 10)
        run_once(settings)
        later = _bytes(session, database, sales)
        before = session.postgres.run("SELECT pg_current_wal_lsn()")[0][0]
        run_once({**settings, "ETL_SWEEP_HOURS": "0"})
        wal = float(session.postgres.run(f"SELECT pg_current_wal_lsn() - '{before}'::pg_lsn")[0][0]) / sales
    return Finding(
        f"{first:.0f} bytes a sale, {later:.0f} once a tenth has changed; a sweep writes {wal:.1f} bytes of WAL a sale",
        first,
        first <= 300 and later <= 400 and wal <= 24,
        {"bytes": first, "bytes_later": later, "wal": wal},
    )


def _bytes(session: Session, database: str, sales: int) -> float:
    return float(session.postgres.run("SELECT pg_total_relation_size('etl_ticket_sales')", database)[0][0]) / sales


def _totals(session: Session, database: str) -> list[tuple[object, ...]]:
    return session.postgres.run("SELECT count(*), sum(tickets_sold), sum(revenue) FROM daily_ticket_sales", database)


def _plain(run: WholeRun) -> dict[str, object]:
    return {"seconds": run.seconds, "peak_bytes": run.peak_bytes, "stages": run.stages}
