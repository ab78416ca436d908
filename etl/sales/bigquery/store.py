"""Kept sales in BigQuery: a load job a slice, and scripts that move the state on in one transaction each."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from itertools import count, groupby
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec.structs import replace

from etl.deadline import Deadline, within
from etl.errors import AlreadyRunningError, EtlError, StoreUnavailableError
from etl.load.bigquery.client import explained_errors
from etl.load.bigquery.dataset import Dataset
from etl.load.bigquery.sql import request_parts
from etl.load.bigquery.tables import Definition, check_tables
from etl.load.store import LoadResult, StoredTickets, TableChanges
from etl.records.values import DECIMALS
from etl.sales.bigquery import sql
from etl.sales.bigquery.tables import CHANGES, GROUPS, STAGED, TOTALS, Names, table_names
from etl.sales.kept import KeptSale
from etl.sales.pending import Pending, PendingRow
from etl.sales.run import Ingested, Judge, NoteRows, SliceBounds
from etl.sales.state import Counts, SalesState, from_json, to_json
from etl.sales.status import Groups, SalesStatus, sales_status
from etl.settings import Settings
from etl.transform.fold import Days
from etl.transform.fold import Names as EventNames
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY, TABLES

if TYPE_CHECKING:
    from google.cloud.bigquery import Table as BigQueryTable

MAX_LOADS_A_DAY = 1_500
"""Load jobs that BigQuery takes for one table. Source: BigQuery documentation, "Quotas and limits", load jobs."""
_RUNS_A_DAY = 96
_SPARE = timedelta(seconds=60)
"""An increment that is read again begins some seconds earlier."""
_PAGE_ROWS = 5_000
MAX_SLICE_BYTES = 6_000_000
"""So large a file is, about 150,000 sales: it is in memory twice while it is sent."""
_GZIP = 31
_TYPED = 200
"""Bytes by which a parameter's row is longer in a request than in JSON: its columns have names and types there."""


class StagedSales:
    """Sales as compressed lines of JSON: so a slice has more of them than there would be memory for otherwise."""

    def __init__(self, first: int = 0) -> None:
        self.days: set[date] = set()
        self.body = BytesIO()
        self._first = first
        self._count = 0
        self._compress = zlib.compressobj(level=1, wbits=_GZIP)
        self._encode = msgspec.json.Encoder().encode

    def extend(self, sales: Iterable[KeptSale]) -> None:
        """Take further sales, in the order in which they were read."""
        lines = bytearray()
        for sale in sales:
            row = sale._asdict()
            row["number"] = self._first + self._count
            self._count += 1
            if sale.sale_date is not None:
                self.days.add(date.fromisoformat(sale.sale_date))
            lines += self._encode(row) + b"\n"
        self.body.write(self._compress.compress(lines))

    def close(self) -> BytesIO:
        """The file, complete."""
        self.body.write(self._compress.flush())
        return self.body

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether the file has become large."""
        return self.body.tell() >= MAX_SLICE_BYTES


class BigQuerySales:
    """The kept sales of one run. `before_write` is called before each script: it raises unless the lease is held.

    Without PostgreSQL there is no lease between instances. Then the state's version is the fence: each script checks
    that it is what this run has read or written last, and moves it on, in one transaction with what it writes.

    A dry run stages what it has read, compares, and writes nothing else.
    """

    name = "bigquery"
    bounds = SliceBounds(seconds=60.0, a_run=MAX_LOADS_A_DAY // _RUNS_A_DAY)
    needs_creation = True

    def __init__(
        self,
        settings: Settings,
        deadline: Deadline,
        run_id: str,
        before_write: Callable[[], None] = lambda: None,
        *,
        dry_run: bool = False,
    ) -> None:
        self._settings = settings
        self._deadline = deadline
        self._before_write = before_write
        self._dry_run = dry_run
        with self._explained():
            self._dataset = Dataset(settings, deadline, run_id)
        self._names = Names.of(
            self._dataset.path,
            settings.bq_table_ticket_sales,
            settings.bq_table_event_summary,
            settings.bq_table_daily_sales,
        )
        self._version = 0
        self._unsaved: SalesState | None = None
        self._answer: Any = None
        self._steps = count(1)
        self._rows: tuple[int, int] | None = None
        self._base = Counts()
        """A dry run's changes are told from what is kept, not from each other."""
        self._dry_staging: BigQueryTable | None = None
        self._dry_changes: str | None = None
        self._dry_staged = 0
        self._dry_ingested = Ingested()
        self._dry_days: set[date] = set()
        self._dry_events: list[tuple[str, str | None, bool]] = []

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Bounds and explains what is asked of BigQuery."""
        with explained_errors(), within(self._deadline):
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """Write the state that nothing has written yet; where the run has failed, as far as that is possible."""
        if self._dry_staging is not None:
            self._dataset.drop_staging(self._dry_staging.table_id, *filter(None, [self._dry_changes]))
        if self._unsaved is None or self._dry_run:
            return
        if error is None:
            self._commit(self._unsaved, [], "state")
        elif isinstance(error, EtlError) and not isinstance(error, AlreadyRunningError):
            with suppress(EtlError):
                self._commit(self._unsaved, [], "state")

    # State

    def open(self, fingerprint: str) -> SalesState:
        """The state; of a new generation where the fingerprint isn't the one that was kept."""
        with self._explained():
            there = self._ensure_tables()
            state = self._read_state() if there else None
        if state is None:
            return SalesState(fingerprint)
        self._base = state.counts
        if state.fingerprint == fingerprint:
            return state
        state = state.next_generation(fingerprint)
        if not self._dry_run:
            state = self._commit(state, [sql.empty(self._names.missed)], "generation")
        return state

    def _ensure_tables(self) -> bool:
        """Create what is missing, except in a dry run. Returns whether all are there."""
        names = table_names(self._settings.bq_table_ticket_sales)
        wanted: dict[str, Definition] = {
            **names,
            self._settings.bq_table_event_summary: EVENT_SALES_SUMMARY,
            self._settings.bq_table_daily_sales: DAILY_TICKET_SALES,
        }
        found = {name: self._dataset.find_table(name) for name in wanted}
        if not self._dry_run:
            for name, stored in found.items():
                if stored is None:
                    found[name] = self._dataset.create_table(name, wanted[name])
        check_tables(
            (wanted[name], self._dataset.table_path(name), stored)
            for name, stored in found.items()
            if stored is not None
        )
        return None not in found.values()

    def _read_state(self) -> SalesState | None:
        table = self._dataset.table_path(f"{self._settings.bq_table_ticket_sales}_state")
        rows = list(self._dataset.client.list_rows(table, **self._dataset.bounds))
        if not rows:
            return None
        self._version = rows[0]["version"]
        return from_json(rows[0]["state"])

    def save(self, state: SalesState) -> None:
        """Write the state with the next script, at the latest at the end."""
        self._unsaved = state

    def _commit(
        self,
        state: SalesState,
        statements: Sequence[str],
        step: str,
        parameters: Mapping[str, Any] | None = None,
        answer: str | None = None,
    ) -> SalesState:
        """One transaction: the statements, and the state. `answer` is a query after it, whose row `self._answer` is."""
        from google.api_core.exceptions import GoogleAPICallError

        self._before_write()
        script = sql.transaction(self._names, statements) + (f"\n{answer};" if answer else "")
        values = {**(parameters or {}), "version": self._version, "state": to_json(state)}
        with self._explained():
            try:
                rows = self._dataset.jobs.query(script, parameters_for(values, script), step=self._step(step))
            except GoogleAPICallError as error:
                said = error.message or ""
                if sql.FENCE in said:
                    raise AlreadyRunningError(
                        "another run has moved the kept sales in BigQuery on meanwhile; nothing more is written by "
                        "this one"
                    ) from None
                if sql.CHECK in said:
                    raise StoreUnavailableError(
                        "BigQuery: after the publication the tables wouldn't hold what was written; nothing was "
                        "changed. Something else writes to them: stop that, and run again."
                    ) from None
                raise
            self._answer = next(iter(rows), None) if answer else None
        self._version += 1
        self._unsaved = None
        return state

    def _step(self, step: str) -> str:
        return f"{next(self._steps)}-{step}"

    # What is read

    def stage(self) -> StagedSales:
        """Compressed lines of JSON."""
        return StagedSales(self._dry_staged)

    def ingest(
        self,
        sales: StagedSales,
        state: SalesState,
        advance: Callable[[SalesState], SalesState],
        *,
        asked_at: datetime,
        lookback: float,
        judge: Judge,
        is_swept: bool = False,
    ) -> tuple[SalesState, Ingested]:
        """Keep what was read, and the state as `advance` moves it on: both or neither.

        A sweep's sales are put aside until `apply_sweep`: compared slice by slice they would cost a scan of all days
        each. What an increment brings meanwhile is kept, and put aside, too: the sweep has seen it.
        """
        if not sales:
            state = advance(state)
            self.save(state)
            return state, Ingested()
        step = f"sweep-{state.sweep.number}" if is_swept and state.sweep is not None else "increment"
        if self._dry_run:
            return self._compare_only(sales, state, advance, asked_at, lookback, judge)
        with self._explained():
            staging = self._dataset.stage_table(self._staging("slice"), STAGED)
            self._dataset.load(staging, sales.close(), self._step(f"{step}-load"))
        rows = sql.staged_rows(f"`{self._dataset.table_path(staging.table_id)}`")
        aside = [sql.insert_swept(self._names, rows)] if state.sweep is not None else []
        values = {"asked_at": asked_at}
        try:
            if is_swept:
                return self._commit(advance(state), aside, step, values), Ingested()
            return self._apply(rows, sorted(sales.days), state, advance, asked_at, lookback, judge, step, aside)
        finally:
            self._dataset.drop_staging(staging.table_id)

    def apply_sweep(self, state: SalesState, lookback: float, judge: Judge) -> tuple[SalesState, Ingested]:
        """Keep what the sweep that has come to its end has brought."""
        asked_at = datetime.now(UTC) if state.sweep is None else state.sweep.began_at
        return self._apply(
            sql.swept_rows(self._names), None, state, lambda moved: moved, asked_at, lookback, judge, "apply", []
        )

    def _apply(
        self,
        rows: str,
        days: Sequence[date] | None,
        state: SalesState,
        advance: Callable[[SalesState], SalesState],
        asked_at: datetime,
        lookback: float,
        judge: Judge,
        step: str,
        more: Sequence[str],
    ) -> tuple[SalesState, Ingested]:
        """Compare rows with what is kept, and write what differs."""
        since = _fresh_since(state, asked_at, lookback)
        values = {
            "asked_at": asked_at,
            "lookback": int(lookback * 1_000_000),
            "generation": state.generation,
            "created_since": since,
            "stores": state.marked_stores,
        }
        changes, row = self._compare(rows, days, state, values, step)
        try:
            ingested = _ingested(row)
            judge(ingested)
            fresh = {one["day"]: one["created_at"] for one in row["fresh"]}
            state = advance(_moved(state, row).with_pending(row["pending_days"]).with_fresh(fresh, since))
            statements = [*self._apply_statements(changes, row, state), *more]
            if statements:
                self._commit(state, statements, step, values)
            else:
                self.save(state)
        finally:
            self._dataset.drop_staging(changes)
        return state, ingested

    def _compare(
        self, rows: str, days: Sequence[date] | None, state: SalesState, values: Mapping[str, Any], step: str
    ) -> tuple[str, Any]:
        """The staged changes, and what they come to (see `changes_query`).

        Where sales seem to be new on these days that may be kept on others, those are looked at, too.
        """
        searched = None if days is None else {*days, *state.fresh_days}
        while True:
            changes = self._staging("changes")
            table = self._quoted(changes)
            chosen = None if searched is None else sorted(searched)
            statements = [sql.insert_changes(self._names, table, rows, chosen), sql.changes_query(table)]
            with self._explained():
                self._dataset.stage_table(changes, CHANGES)
                row = self._query(";\n".join(statements) + ";", values, step=f"{step}-compare")
                if searched is None or not row["doubtful"] or not state.counts.kept:
                    return changes, row
                query = sql.elsewhere_query(self._names, table)
                elsewhere = {found["sale_date"] for found in self._rows_of(query, values)}
            if elsewhere <= searched:
                return changes, row
            searched |= elsewhere
            self._dataset.drop_staging(changes)

    def _apply_statements(self, changes: str, row: Any, state: SalesState) -> list[str]:
        table = self._quoted(changes)
        if not (row["days"] or row["dateless"]):
            return []
        statements = sql.apply_changes(self._names, table, row["days"], has_dateless=row["dateless"] > 0)
        if state.marked_stores and row["pending_days"]:
            statements.append(sql.insert_pending(self._names, table))
        return statements

    def _compare_only(
        self,
        sales: StagedSales,
        state: SalesState,
        advance: Callable[[SalesState], SalesState],
        asked_at: datetime,
        lookback: float,
        judge: Judge,
    ) -> tuple[SalesState, Ingested]:
        """All that a dry run has read so far, compared with what is kept."""
        with self._explained():
            if self._dry_staging is None:
                self._dry_staging = self._dataset.stage_table(self._staging("slice"), STAGED)
            self._dataset.load(self._dry_staging, sales.close(), self._step("increment-load"), append=True)
        self._dry_staged += len(sales)
        self._dry_days |= sales.days
        values = {
            "asked_at": asked_at,
            "lookback": int(lookback * 1_000_000),
            "generation": state.generation,
            "created_since": _fresh_since(state, asked_at, lookback),
        }
        rows = sql.staged_rows(self._quoted(self._dry_staging.table_id))
        former = self._dry_changes
        self._dry_changes, row = self._compare(rows, sorted(self._dry_days), state, values, "increment")
        before, self._dry_ingested = self._dry_ingested, _ingested(row)
        ingested = self._dry_ingested - before
        judge(ingested)
        if former is not None:
            self._dataset.drop_staging(former)
        state = _moved(replace(state, counts=self._base), row).with_pending(row["pending_days"])
        return advance(state), ingested

    # Events

    def keep_events(self, names: EventNames, state: SalesState) -> SalesState:
        """Keep which events are listed, with their names; one without a name keeps the name that it had."""
        digest = hashlib.sha256(msgspec.json.encode(sorted(names.items()))).hexdigest()
        if digest == state.events_digest:
            return state
        kept = self._listed_events() if self._version else {}
        changed = [
            (event_id, name or kept.get(event_id, (None, False))[0], True)
            for event_id, name in names.items()
            if event_id not in kept or not kept[event_id][1] or (name is not None and name != kept[event_id][0])
        ]
        changed += [
            (event_id, None, False) for event_id, (_, is_listed) in kept.items() if is_listed and event_id not in names
        ]
        if not changed:
            return replace(state, events_digest=digest)
        state = state.with_pending([None])
        if self._dry_run:
            self._dry_events = changed
            return state
        for part in _parts(changed):
            statements = [sql.merge_events(self._names)]
            values: dict[str, Any] = {"events": part}
            if state.marked_stores:
                statements.append(sql.insert_pending_groups(self._names))
                values |= {"groups": [(event_id, None) for event_id, _, _ in part], "stores": state.marked_stores}
            self._commit(state, statements, "events", values)
        return replace(state, events_digest=digest)

    def _listed_events(self) -> dict[str, tuple[str | None, bool]]:
        table = self._dataset.table_path(f"{self._settings.bq_table_ticket_sales}_events")
        with self._explained():
            rows = self._dataset.client.list_rows(table, page_size=_PAGE_ROWS, **self._dataset.bounds)
            return {row["event_id"]: (row["event_name"], row["is_listed"]) for row in rows}

    def events(self) -> tuple[str, ...]:
        """The ids of all events that are listed or sold, in order."""
        return tuple(sorted({*self._listed_events(), *(event_id for event_id, _, _ in self._dry_events)}))

    # Sweeps

    def begin_sweep(self, state: SalesState) -> SalesState:
        """Write that a sweep begins, and forget what the one before it has seen."""
        return self._commit(state, [sql.empty(self._names.swept)], "sweep")

    def unseen(self, sweep: int, limit: int) -> tuple[int, list[str]]:  # noqa: ARG002 - SWEPT holds one sweep
        """How many kept sales the sweep hasn't seen, nor an increment since it began; and so many of their ids."""
        row = self._query(sql.unseen_query(self._names, limit))
        return row["number"], row["ids"]

    def note_misses(self, sweep: int, state: SalesState, *, counts: bool) -> int:  # noqa: ARG002
        """Note which sales the sweep hasn't seen; a miss adds to the earlier ones where it `counts`."""
        self._commit(
            state,
            [sql.merge_missed(self._names)],
            "misses",
            {"misses": int(counts)},
            answer=sql.missed_query(self._names),
        )
        return int(self._answer["number"])

    def delete(self, ids: Sequence[str], state: SalesState) -> SalesState:
        """Delete kept sales; the groups that they leave are pending."""
        for part in _parts(ids):
            state = self._delete(sql.ARE_GIVEN, state, {"ids": part})
        return state

    def delete_missed(self, state: SalesState) -> SalesState:
        """Delete the sales that have been missed twice or more."""
        return self._delete(sql.are_missed(self._names), state, {})

    def delete_outdated(self, state: SalesState) -> SalesState:
        """Delete what is left of earlier generations; there is nothing once a sweep of this one has ended."""
        if state.swept_at is not None or state.generation == 1:
            return state
        return self._delete(sql.ARE_OUTDATED, state, {})

    def _delete(self, condition: str, state: SalesState, values: Mapping[str, Any]) -> SalesState:
        changes = self._staging("changes")
        table = self._quoted(changes)
        statements = [sql.insert_deletions(self._names, table, condition), sql.changes_query(table)]
        values = {**values, "generation": state.generation, "created_since": datetime.now(UTC)}
        with self._explained():
            self._dataset.stage_table(changes, CHANGES)
        try:
            row = self._query(";\n".join(statements) + ";", values, step="delete-compare")
            state = _moved(state, row).with_pending(row["pending_days"])
            written = self._apply_statements(changes, row, state)
            if written:
                forget = sql.delete_missed(self._names, table)
                self._commit(state, [*written, forget], "delete", {**values, "stores": state.marked_stores})
        finally:
            self._dataset.drop_staging(changes)
        return state

    def recount(self) -> Counts:
        """The counts, counted anew."""
        return _counts(self._query(sql.counts_query(self._names)))

    # What is asked before a publication

    def stored_tickets(self, _: tuple[str, ...], deadline: Deadline) -> StoredTickets:
        """What is published, of the events that are kept."""
        with explained_errors(), within(deadline):
            row = self._query(sql.published_query(self._names))
        self._rows = row["events"], row["days"]
        return StoredTickets(int(row["total"]), int(row["in_scope"]), Decimal(row["revenue"]))

    def groups(self) -> Iterator[tuple[str, Days]]:
        """Each event's days, in the order of events and days."""
        rows = self._rows_of(sql.groups_query(self._names))
        for event_id, days in groupby(rows, key=lambda row: row["event_id"]):
            yield (
                event_id,
                [(day["sale_date"], int(day["tickets"]), int(day["revenue"].scaleb(DECIMALS))) for day in days],
            )

    def reasons(self) -> dict[str, int]:
        """How many kept sales can't be used, by reason."""
        return {row["reason"]: row["sales"] for row in self._rows_of(sql.reasons_query(self._names))}

    # Publication

    def publish(self, state: SalesState, now: datetime, note: NoteRows, _: object) -> tuple[SalesState, LoadResult]:
        """Publish what is pending here, and the state, in one transaction. `note` gets the number of rows.

        Raises StoreUnavailableError where the tables then wouldn't hold what they should.
        """
        published = state.published_in(self.name, now)
        changes = {table.name: TableChanges() for table in TABLES}
        result = LoadResult(self.name, "dry_run" if self._dry_run else "success", changes=changes)
        source = self._source(self.name, state)
        if source is not None:
            groups, totals = self._staging("groups"), self._staging("totals")
            try:
                row = self._prepare(source, groups, totals)
                for table, prefix in ((DAILY_TICKET_SALES, "daily"), (EVENT_SALES_SUMMARY, "summary")):
                    kinds = ("inserted", "updated", "deleted", "unchanged")
                    changes[table.name] = TableChanges(*(row[f"{prefix}_{kind}"] for kind in kinds))
                if self._dry_run:
                    self.save(published)
                else:
                    names = self._names
                    written = sql.publish_statements(names, self._quoted(groups), self._quoted(totals), row["days"])
                    self._commit(published, written, "publish", {"store": self.name, "now": now})
            finally:
                self._dataset.drop_staging(groups, totals)
        else:
            self.save(published)
        if self._rows is not None:
            note(
                *(
                    held + changes[table.name].inserted - changes[table.name].deleted
                    for held, table in zip(self._rows, TABLES, strict=True)
                )
            )
        return published, result

    def _prepare(self, source: sql.Source, groups: str, totals: str) -> Any:
        """Stage the sums beside what is published; returns what is to change."""
        with self._explained():
            self._dataset.stage_table(groups, GROUPS)
            self._dataset.stage_table(totals, TOTALS)
        quoted = self._quoted(groups), self._quoted(totals)
        script = [
            sql.insert_groups(source, quoted[0]),
            sql.insert_totals(source, *quoted),
            sql.publication_query(*quoted),
        ]
        return self._query(";\n".join(script) + ";", {"store": self.name, **self._dry_values()}, step="sums")

    def _source(self, store: str, state: SalesState) -> sql.Source | None:
        """What a store is to be brought to; None where nothing is pending there."""
        names = self._names
        pending = state.pending_days.get(store, ())
        is_new = not state.holds(store)
        if not (is_new or pending):
            return None
        days = None if is_new else [day for day in pending if day is not None]
        if not self._dry_run:
            return sql.Source(names, names.sales, sql.pending_rows(names), sql.all_events(names), days)
        changes = self._changed()
        return sql.Source(
            names, sql.sales_with(names, changes), sql.pending_with(names, changes), sql.events_with(names), days
        )

    def _changed(self) -> str:
        """A dry run's changes, also where there are none."""
        if self._dry_changes is None:
            self._dry_changes = self._staging("changes")
            with self._explained():
                self._dry_staging = self._dataset.stage_table(self._dry_changes, CHANGES)
        return self._quoted(self._dry_changes)

    def _dry_values(self) -> dict[str, Any]:
        return {"events": self._dry_events} if self._dry_run else {}

    def pending(self, store: str, state: SalesState, now: datetime) -> Pending | None:  # noqa: ARG002
        """What another store is to be brought to: groups and events, as rows. None: nothing."""
        source = self._source(store, state)
        if source is None:
            return None
        values = {"store": store, **self._dry_values()}
        return Pending(self._handed_over(sql.handover_query(source), values), source.is_everything)

    def _handed_over(self, query: str, values: Mapping[str, Any]) -> Iterator[PendingRow]:
        with explained_errors():
            for row in self._rows_of(query, values):
                yield PendingRow(*row.values())

    def mark_published(self, store: str, state: SalesState, now: datetime) -> SalesState:
        """Forget what was pending in a store that has it now. Returns the state with it."""
        statements = [sql.delete_pending(self._names)]
        return self._commit(state.published_in(store, now), statements, f"published-{store}", {"store": store})

    def mark_pending(self, groups: Groups) -> None:
        """Note that no store may hold these events' days (None: their totals)."""
        with self._explained():
            state = self._read_state()
        if state is None or not state.marked_stores:
            return
        for part in _parts(groups):
            state = state.with_pending(day for _, day in part)
            statements = [sql.insert_pending_groups(self._names)]
            self._commit(state, statements, "pending", {"groups": part, "stores": state.marked_stores})

    def status(self) -> SalesStatus | None:
        """How the kept sales stand; None where none has been kept yet. Nothing is asked of BigQuery's engine where
        nothing is pending.
        """
        from google.api_core.exceptions import NotFound

        with self._explained(), suppress(NotFound):
            state = self._read_state()
            if state is not None:
                rows = self._rows_of(sql.pending_query(self._names)) if any(state.pending_days.values()) else ()
                return sales_status(self._settings, state, {row["store"]: row["pending"] for row in rows})
        return None

    # How it asks

    def _query(self, query: str, values: Mapping[str, Any] | None = None, *, step: str | None = None) -> Any:
        """The one row of a query."""
        return next(self._rows_of(query, values, step=step))

    def _rows_of(
        self, query: str, values: Mapping[str, Any] | None = None, *, step: str | None = None
    ) -> Iterator[Any]:
        with self._explained():
            return self._dataset.jobs.query(
                query,
                parameters_for(values or {}, query),
                step=None if step is None else self._step(step),
                page_size=_PAGE_ROWS,
            )

    def _staging(self, what: str) -> str:
        name = self._dataset.staging_name(self._settings.bq_table_ticket_sales)
        return f"{name}_{next(self._steps)}_{what}"

    def _quoted(self, name: str) -> str:
        return f"`{self._dataset.table_path(name)}`"


def read_status(settings: Settings, deadline: Deadline) -> SalesStatus | None:
    """How the kept sales stand; None where none has been kept yet. Raises StoreUnavailableError."""
    return BigQuerySales(settings, deadline, "read").status()


def _fresh_since(state: SalesState, asked_at: datetime, lookback: float) -> datetime:
    """From which creation on it is known on which days sales were put; it never goes back."""
    horizon = (state.watermark or asked_at) - timedelta(seconds=lookback) - _SPARE
    if state.fresh_since is None:
        return horizon if not state.counts.kept else asked_at + timedelta(seconds=lookback)
    return max(state.fresh_since, horizon)


def _moved(state: SalesState, row: Any) -> SalesState:
    return replace(state, counts=state.counts + _counts(row))


def _ingested(row: Any) -> Ingested:
    return Ingested(row["inserted"], row["updated"], row["recounted"])


def _counts(row: Any) -> Counts:
    return Counts(
        int(row["kept"]),
        int(row["rejected"]),
        int(row["undated"]),
        int(row["untimed"]),
        int(row["tickets"]),
        Decimal(row["revenue"]),
    )


def _parts(values: Sequence[Any]) -> Iterator[list[Any]]:
    return request_parts(values, lambda value: len(msgspec.json.encode(value)) + _TYPED)


_SCALARS = {bool: "BOOL", int: "INT64", str: "STRING", datetime: "TIMESTAMP"}
_STRUCTS = {
    "events": (("event_id", "STRING"), ("event_name", "STRING"), ("is_listed", "BOOL")),
    "groups": (("event_id", "STRING"), ("sale_date", "DATE")),
}
"""The parameters that are arrays of rows, with their columns."""


def parameters_for(values: Mapping[str, Any], query: str) -> list[Any]:
    """The parameters that a query names."""
    from google.cloud.bigquery import (
        ArrayQueryParameter,
        ScalarQueryParameter,
        ScalarQueryParameterType,
        StructQueryParameter,
        StructQueryParameterType,
    )

    parameters: list[Any] = []
    for name, value in values.items():
        if f"@{name}" not in query:
            continue
        if name in _STRUCTS:
            columns = _STRUCTS[name]
            fields = [ScalarQueryParameterType(kind, name=column) for column, kind in columns]  # type: ignore[no-untyped-call]
            rows = [
                StructQueryParameter(
                    None, *(ScalarQueryParameter(*column, part) for column, part in zip(columns, row, strict=True))
                )
                for row in value
            ]
            row_type = StructQueryParameterType(*fields)  # type: ignore[no-untyped-call]
            parameters.append(ArrayQueryParameter(name, row_type, rows))
        elif isinstance(value, list):
            parameters.append(ArrayQueryParameter(name, "STRING", value))
        else:
            parameters.append(ScalarQueryParameter(name, _SCALARS[type(value)], value))
    return parameters
