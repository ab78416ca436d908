"""Load a Summary into BigQuery: a load job into staging and a MERGE a table, or (as before) streaming inserts."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from etl.deadline import Deadline, within
from etl.errors import StoreUnavailableError
from etl.load.bigquery.client import explained_errors
from etl.load.bigquery.dataset import STAGING, Dataset
from etl.load.bigquery.sql import (
    TableNames,
    best_events_query,
    changes_query,
    compare,
    groups_query,
    json_rows,
    published_days_query,
    published_totals_query,
    read_changes,
    scope_parts,
    stored_rows_query,
    stored_tickets_query,
    stream_chunks,
    totals_query,
)
from etl.load.bigquery.tables import add_column_statement, check_tables
from etl.load.store import (
    Group,
    LoadResult,
    Published,
    PublishedDay,
    PublishedEvent,
    ScopeTotals,
    StoredTickets,
    TableChanges,
    expected_totals,
)
from etl.settings import Settings
from etl.transform.fold import Summary
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY, STAMP, STREAMED_TABLES, TABLES, Table

if TYPE_CHECKING:
    from google.cloud.bigquery import Table as BigQueryTable

_PAGE_ROWS = 5_000
"""Of what is read to be compared, held at a time."""
_NEW_FIELD = ". If that column was added a short time ago: streaming takes some minutes to know it. It passes by itself"


def load_bigquery(
    summary: Summary,
    settings: Settings,
    deadline: Deadline,
    run_id: str,
    *,
    dry_run: bool = False,
    before_write: Callable[[], None] = lambda: None,
) -> LoadResult:
    """Make BigQuery hold exactly the Summary for the events in its scope, or tell what that would change.

    In the write mode `stream` its rows are appended instead. `before_write` runs right before the tables change.
    Raises StoreUnavailableError where BigQuery refuses, or holds something else afterwards than the Summary.
    """
    started = time.perf_counter()
    with explained_errors(), within(deadline):
        store = _Store(settings, deadline, run_id)
        if dry_run:
            result = store.compare(summary)
        elif settings.bq_write_mode == "stream":
            result = store.stream(summary, before_write)
        else:
            result = store.merge(summary, before_write)
    result.seconds = time.perf_counter() - started
    return result


def stored_tickets(settings: Settings, scope: tuple[str, ...], deadline: Deadline) -> StoredTickets:
    """What BigQuery holds, in all and in scope; 0 where there is no table yet."""
    with explained_errors(), within(deadline):
        return _Store(settings, deadline, "guard").stored_tickets(scope)


def read_groups(settings: Settings, deadline: Deadline) -> Iterator[Group]:
    """Every event, then every event's day, in the order of `Group.key`; the client holds a page of them at a time.

    Whoever iterates does so `within` the deadline. Raises StoreUnavailableError where BigQuery refuses.
    """
    with explained_errors():
        yield from _Store(settings, deadline, "read").groups()


def read_published(settings: Settings, since: date | None, best: int, deadline: Deadline) -> Published:
    """The totals and, unless `since` is None, the days from then on and so many of the best-selling events."""
    with explained_errors(), within(deadline):
        return _Store(settings, deadline, "read").published(since, best)


class _Store:
    """The two tables in one dataset, for one run."""

    def __init__(self, settings: Settings, deadline: Deadline, run_id: str) -> None:
        self._settings = settings
        self._run_id = run_id
        self._dataset = Dataset(settings, deadline, run_id)
        self._jobs = self._dataset.jobs
        self._names = {
            EVENT_SALES_SUMMARY.name: settings.bq_table_event_summary,
            DAILY_TICKET_SALES.name: settings.bq_table_daily_sales,
        }
        self._columns: dict[str, set[str]] = {}
        """Those that the tables have, by table."""

    def merge(self, summary: Summary, before_write: Callable[[], None]) -> LoadResult:
        """Stage both tables, and merge both in one transaction."""
        result = LoadResult("bigquery")
        self._ensure_tables(TABLES)
        self._outdate_others()
        try:
            for table in TABLES:
                self._stage(table, summary)
            statements: list[str] = []
            for table in TABLES:
                names = self._table_names(table)
                row = next(self._jobs.query(changes_query(table, names)))
                changed = read_changes(row)
                result.changes[table.name] = changed.changes
                statements += changed.statements(table, names)
            before_write()
            script = ["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"]
            self._jobs.query(";\n".join(script) + ";", step="merge")
            self._reconcile(summary, result)
        finally:
            self._dataset.drop_staging(*map(self._staging_name, TABLES))
        return result

    def stream(self, summary: Summary, before_write: Callable[[], None]) -> LoadResult:
        """Append the rows. Row ids let BigQuery drop a repeated request for about a minute, at best."""
        result = LoadResult("bigquery")
        self._ensure_tables(STREAMED_TABLES)
        self._ensure_stamps()
        before_write()
        for table in STREAMED_TABLES:
            changes = result.changes[table.name] = TableChanges()
            for rows in stream_chunks(table, summary):
                ids = [f"{self._run_id}:" + ":".join(str(row[name]) for name in table.key) for row in rows]
                errors = self._dataset.client.insert_rows_json(
                    self._path(table), rows, row_ids=ids, **self._dataset.bounds
                )
                if errors:
                    hint = _NEW_FIELD if "no such field" in str(errors) else ""
                    raise StoreUnavailableError(
                        f"BigQuery refused {len(errors)} rows of {table.name}: {errors[0]}{hint}"
                    )
                changes.inserted += len(rows)
        return result

    def compare(self, summary: Summary) -> LoadResult:
        """What `merge` would do, told without writing: the stored rows in scope are read and compared here."""
        result = LoadResult("bigquery", "dry_run")
        found = self._find_tables(TABLES)
        for table in TABLES:
            stored: Iterator[Any] = iter(())
            if table.name in found and self._settings.bq_write_mode != "stream":
                stored = self._query_scope(stored_rows_query(table, self._quoted(table)), summary.scope)
            result.changes[table.name] = compare(table, summary, (tuple(row.values()) for row in stored))
        return result

    def stored_tickets(self, scope: tuple[str, ...]) -> StoredTickets:
        """See the function of that name."""
        if not self._has_table(EVENT_SALES_SUMMARY):
            return StoredTickets(0, 0, Decimal())
        rows = list(self._query_scope(stored_tickets_query(self._quoted(EVENT_SALES_SUMMARY)), scope))
        revenue = sum((Decimal(row["revenue"]) for row in rows), Decimal())
        return StoredTickets(int(rows[0]["total"]), sum(int(row["in_scope"]) for row in rows), revenue)

    def groups(self) -> Iterator[Group]:
        """What both tables hold, in the order of `Group.key`."""
        found = self._find_tables(TABLES)
        for table in TABLES:
            if table.name in found:
                for row in self._jobs.query(groups_query(table, self._quoted(table)), page_size=_PAGE_ROWS):
                    yield Group(row["event_id"], row["day"], row["tickets"], row["revenue"])

    def published(self, since: date | None, best: int) -> Published:
        """See `read_published`."""
        found = self._find_tables(TABLES)
        if len(found) < len(TABLES):
            return Published()
        summary, daily = self._quoted(EVENT_SALES_SUMMARY), self._quoted(DAILY_TICKET_SALES)
        totals = next(self._jobs.query(published_totals_query(summary)))
        published = Published(totals["events"], totals["tickets"], totals["revenue"])
        if since is None:
            return published
        days = self._jobs.query(published_days_query(daily, since))
        events = self._jobs.query(best_events_query(summary, best))
        return replace(
            published,
            days=tuple(PublishedDay(*row.values()) for row in days),
            best=tuple(PublishedEvent(*row.values()) for row in events),
        )

    def _query_scope(self, query: str, scope: tuple[str, ...]) -> Iterator[Any]:
        """A query's rows for the events in scope: a request may have room for some of their ids only."""
        from google.cloud.bigquery import ArrayQueryParameter

        return chain.from_iterable(
            self._jobs.query(query, [ArrayQueryParameter("scope", "STRING", part)]) for part in scope_parts(scope)
        )

    def _stage(self, table: Table, summary: Summary) -> None:
        """A load job into a table that expires."""
        staging = self._dataset.stage_table(self._staging_name(table), replace(table, partition=None))
        body = io.BytesIO()
        for row in json_rows(table, summary):
            body.write(row)
        if body.tell():
            self._dataset.load(staging, body, step=f"stage-{table.name}")

    def _reconcile(self, summary: Summary, result: LoadResult) -> None:
        """Read back what the tables hold for the scope; raises where it isn't the Summary."""
        started = time.perf_counter()
        for table, expected in expected_totals(summary):
            row = next(self._jobs.query(totals_query(table, self._table_names(table))))
            stored = result.reconciled[table.name] = ScopeTotals(row["n"], row["tickets"], row["revenue"])
            if stored != expected:
                raise StoreUnavailableError(
                    f"BigQuery: {table.name} holds {stored} after the load, and should hold {expected}. Something else "
                    "writes to it: stop that, and run again."
                )
        result.reconcile_seconds = time.perf_counter() - started

    def _ensure_tables(self, tables: Sequence[Table]) -> None:
        """Create what is missing. Where a table is there, no right to create anything is needed."""
        found = self._find_tables(tables)
        for table in tables:
            stored = found.get(table.name) or self._dataset.create_table(self._names[table.name], table)
            self._columns[table.name] = {field.name for field in stored.schema}

    def _ensure_stamps(self) -> None:
        """A daily table of the write mode `merge`, or of an earlier version, gets the column that tells copies apart.

        The run ends there: for some minutes streaming doesn't know a new column, and may lose rows without a word.
        """
        for table in STREAMED_TABLES:
            if STAMP.name not in self._columns[table.name]:
                path = self._path(table)
                self._jobs.query(add_column_statement(path, STAMP), step="add-column")
                raise StoreUnavailableError(
                    f"BigQuery: {path} had no column {STAMP.name} to tell the copies of a row apart by, and has been "
                    "given it. Streaming takes some minutes to know a new column: run again in 10 minutes."
                )

    def _find_tables(self, tables: Sequence[Table]) -> dict[str, BigQueryTable]:
        """Those that are there. Raises ConfigurationError where one of them can't hold a Summary."""
        tried = {table.name: self._dataset.find_table(self._names[table.name]) for table in tables}
        found = {name: stored for name, stored in tried.items() if stored is not None}
        check_tables((table, self._path(table), found[table.name]) for table in tables if table.name in found)
        return found

    def _has_table(self, table: Table) -> bool:
        return bool(self._find_tables((table,)))

    def _outdate_others(self) -> None:
        """Drop what other runs have staged: they are over, or have lost the lease to this one.

        One of those that wakes up late, or whose MERGE was held up on its way, then has nothing to merge any more:
        BigQuery knows nothing of the lease.
        """
        # Those of other deployments in the same dataset load other tables.
        ours = rf"{STAGING}({'|'.join(map(re.escape, self._names.values()))})_[^_]+(_[0-9a-f]+)?"
        bounds = self._dataset.bounds
        for found in self._dataset.client.list_tables(self._dataset.path, **bounds):
            if re.fullmatch(ours, found.table_id):
                self._dataset.client.delete_table(found.reference, not_found_ok=True, **bounds)

    def _staging_name(self, table: Table) -> str:
        return self._dataset.staging_name(self._names[table.name])

    def _path(self, table: Table) -> str:
        return self._dataset.table_path(self._names[table.name])

    def _quoted(self, table: Table) -> str:
        return f"`{self._path(table)}`"

    def _staging_path(self, table: Table) -> str:
        return self._dataset.table_path(self._staging_name(table))

    def _table_names(self, table: Table) -> TableNames:
        return TableNames(
            self._quoted(table),
            f"`{self._staging_path(table)}`",
            f"`{self._staging_path(EVENT_SALES_SUMMARY)}`",
            has_stamps=STAMP.name in self._columns[table.name] - set(table.names),
        )
