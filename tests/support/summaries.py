"""Summaries in a few words, and the two stores as tests see them: loaded by the product, read back with plain SQL."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import count
from types import TracebackType
from typing import Any, Protocol, Self

import pg8000.native
import sqlalchemy as sa
from google.api_core.exceptions import NotFound

from etl.database_url import parse_database_url
from etl.deadline import Deadline
from etl.load.bigquery.load import load_bigquery
from etl.load.bigquery.load import stored_tickets as stored_in_bigquery
from etl.load.postgres.database import engine_for
from etl.load.postgres.load import load_postgres
from etl.load.postgres.load import stored_tickets as stored_in_postgres
from etl.load.store import LoadResult, StoredTickets, TableChanges
from etl.settings import Settings
from etl.transform.fold import Summary, fold_sales, summarise
from tests.doubles.bigquery import BigQueryEmulator

MORNING = datetime(2026, 1, 31, 6, 0, 0, 123456, tzinfo=UTC)
SECONDS = 60.0
EVENTS, DAYS = "event_sales_summary", "daily_ticket_sales"
KEYS = {EVENTS: 1, DAYS: 2}

Rows = list[tuple[Any, ...]]
Sale = tuple[str, str, int, str]
"""Event id, day, quantity, amount."""

_run_numbers = count(1)


def summary_of(names: Mapping[str, str | None], sales: Iterable[Sale] = (), at: datetime = MORNING) -> Summary:
    """The Summary of these events and sales."""
    rows = (
        (event_id, date.fromisoformat(day), quantity, int(Fraction(amount) * 10**9))
        for event_id, day, quantity, amount in sales
    )
    return summarise(dict(names), fold_sales(rows), at)


def rows_of(summary: Summary) -> dict[str, Rows]:
    """The rows that a store without any others holds after this Summary, without `last_updated`."""
    return {
        EVENTS: [(e.event_id, e.event_name, e.total_tickets, e.total_revenue) for e in summary.events],
        DAYS: [(d.event_id, d.sale_date, d.tickets_sold, d.revenue) for d in summary.daily()],
    }


def big_summary(events: int, days: int) -> Summary:
    """Many daily rows, each with other amounts."""
    return summary_of(
        {f"event {number}": f"Event {number}" for number in range(events)},
        [
            (f"event {number}", date.fromordinal(738_000 + day).isoformat(), number + day, f"{number}.{day:09d}")
            for number in range(events)
            for day in range(days)
        ],
    )


def counts(changes: TableChanges) -> tuple[int, int, int, int]:
    """Inserted, updated, deleted, unchanged."""
    return changes.inserted, changes.updated, changes.deleted, changes.unchanged


class Store(Protocol):
    """One of the two stores."""

    def load(self, summary: Summary, *, dry_run: bool = False) -> LoadResult:
        """As the pipeline does it."""

    def stored_tickets(self, scope: Iterable[str]) -> StoredTickets:
        """As the pipeline's guard asks."""

    def tables(self) -> list[str]:
        """The names of all tables, also left-over ones."""

    def raw_rows(self, table: str) -> Rows:
        """Every column, in the order of the key; none where there is no table."""

    def rows(self, table: str) -> Rows:
        """Without `last_updated`."""


class _Reader:
    def _select(self, table: str) -> Rows:
        raise NotImplementedError

    def raw_rows(self, table: str) -> Rows:
        return sorted(self._select(table), key=lambda row: row[: KEYS[table]])

    def rows(self, table: str) -> Rows:
        return [row[:4] for row in self.raw_rows(table)]


class PostgresStore(_Reader):
    """A database; what isn't the product's goes through a connection of the superuser's own."""

    def __init__(self, url: str, user: str | None = None) -> None:
        login = parse_database_url(url)
        self.settings = Settings("http://upstream", database_url=replace(login, user=user or login.user))
        self.engine = engine_for(self.settings)
        self.name = login.database
        self._reader = pg8000.native.Connection(
            "postgres",
            database=self.name,
            unix_sock=login.unix_sock,
            startup_params={"client_encoding": "UTF8"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._reader.close()
        self.engine.dispose()

    def load(self, summary: Summary, *, dry_run: bool = False, seconds: float = SECONDS, **options: Any) -> LoadResult:
        return load_postgres(summary, self.engine, Deadline(seconds), dry_run=dry_run, **options)

    def stored_tickets(self, scope: Iterable[str]) -> StoredTickets:
        return stored_in_postgres(self.engine, tuple(scope), Deadline(SECONDS))

    def run(self, sql: str) -> Rows:
        """As the superuser, in a transaction of its own."""
        return [tuple(row) for row in self._reader.run(sql) or ()]

    def tables(self) -> list[str]:
        return [name for (name,) in self.run("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384")]

    def _select(self, table: str) -> Rows:
        return self.run(f"SELECT * FROM {table}") if table in self.tables() else []

    def versions(self, table: str) -> Rows:
        """Key and `xmin` of each row: another one for each time that it was written."""
        key = ", ".join(("event_id", "sale_date")[: KEYS[table]])
        return sorted(self.run(f"SELECT {key}, xmin::text FROM {table}"))

    def open_transactions(self) -> Rows:
        """What other sessions have left open."""
        return self.run(
            "SELECT state, query FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle'"
        )


class BigQueryStore(_Reader):
    """A dataset in the emulator. `endpoint`: where the product goes, if that isn't the emulator itself."""

    def __init__(
        self, emulator: BigQueryEmulator, project: str, dataset: str, endpoint: str | None = None, **settings: Any
    ) -> None:
        self.settings = Settings(
            "http://upstream",
            bq_enabled=True,
            bq_project_id=project,
            bq_dataset=dataset,
            bigquery_emulator_host=endpoint or emulator.url,
            **settings,
        )
        self._parts = ExitStack()
        self.client = self._parts.enter_context(closing(emulator.client(project)))
        self.dataset = f"{project}.{dataset}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._parts.close()

    def load(
        self,
        summary: Summary,
        *,
        dry_run: bool = False,
        seconds: float = SECONDS,
        run_id: str | None = None,
        **options: Any,
    ) -> LoadResult:
        run_id = run_id or f"run-{next(_run_numbers)}"
        return load_bigquery(summary, self.settings, Deadline(seconds), run_id, dry_run=dry_run, **options)

    def stored_tickets(self, scope: Iterable[str]) -> StoredTickets:
        return stored_in_bigquery(self.settings, tuple(scope), Deadline(SECONDS))

    def tables(self) -> list[str]:
        try:
            return [str(table.table_id) for table in self.client.list_tables(self.dataset, timeout=10)]
        except NotFound:
            return []

    def run(self, sql: str) -> Rows:
        """Any statement; `{}` stands for the dataset."""
        job = self.client.query(sql.format(self.dataset), timeout=30, job_retry=None)
        return [tuple(row.values()) for row in job.result(timeout=30, job_retry=None)]

    def _select(self, table: str) -> Rows:
        try:
            return self.run(f"SELECT * FROM `{{}}.{table}`")
        except NotFound:
            return []


def amounts(rows: Rows) -> tuple[int, int, Decimal]:
    """How many rows, and the sums of their tickets and revenue."""
    return len(rows), sum(row[2] for row in rows), sum((row[3] for row in rows), Decimal())


def engine_of(url: str) -> sa.Engine:
    """The product's engine for a DATABASE_URL."""
    return engine_for(Settings("http://upstream", database_url=parse_database_url(url)))
