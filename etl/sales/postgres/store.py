"""Kept sales in PostgreSQL: staged by COPY, applied by set-based SQL; each step a transaction that holds the lease."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import msgspec
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.load.postgres.database import transaction
from etl.load.postgres.load import stored_tickets
from etl.load.postgres.staging import NULL, copy_rows
from etl.load.postgres.upgrade import upgrade
from etl.load.store import LoadResult, StoredTickets
from etl.records.values import DECIMALS
from etl.sales.kept import COMPARED, COUNTED, KeptSale
from etl.sales.postgres.publication import fill_from_kept, pending_summary, publish_postgres
from etl.sales.postgres.tables import EVENTS, MISSED, PENDING, STATE, SWEPT, TICKET_SALES, metadata
from etl.sales.run import Ingested, Judge, NoteRows, SliceBounds
from etl.sales.state import Counts, SalesState, from_json, to_json
from etl.sales.status import SalesStatus, sales_status
from etl.settings import Settings
from etl.transform.fold import Days, Names, Summary
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY

_NAME = "sales"
_STAGED = "etl_staging_sales"
_STAGED_EVENTS = "etl_staging_events"
_STAGED_MISSES = "etl_staging_misses"
_HASHES_A_ROW = 200
"""So that a row stays below the 2 KB from which PostgreSQL would store it apart."""
MAX_SLICE_SALES = 50_000
_COLUMNS = ("sale_id", *COMPARED, "asked_at", "generation")


class StagedSales(list[KeptSale]):
    """Sales as they were read."""

    @property
    def is_full(self) -> bool:
        """Whether they are as many as one transaction should have."""
        return len(self) >= MAX_SLICE_SALES


class PostgresSales:
    """The kept sales of one run. `hold` is called last in each transaction: it raises unless the lease is still held.

    A dry run does all of it in one transaction, and rolls that back at the end.
    """

    name = "postgres"
    bounds = SliceBounds(seconds=30.0)
    needs_creation = False

    def __init__(
        self, engine: sa.Engine, deadline: Deadline, hold: Callable[[sa.Connection], None], *, dry_run: bool = False
    ) -> None:
        self._engine = engine
        self._deadline = deadline
        self._hold = hold
        self._dry_run = dry_run
        self._stack = ExitStack()
        self._shared: sa.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Give a dry run's connection back, with nothing written."""
        if self._shared is not None:
            self._shared.rollback()
        self._stack.close()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of its own; in a dry run the only one."""
        if not self._dry_run:
            with transaction(self._engine, self._deadline) as connection:
                yield connection
                self._hold(connection)
            return
        if self._shared is None:
            self._shared = self._stack.enter_context(transaction(self._engine, self._deadline))
        yield self._shared

    def open(self, fingerprint: str) -> SalesState:
        """The state; of a new generation where the fingerprint isn't the one that was kept."""
        with self.transaction() as connection:
            upgrade(connection, metadata, explain_new=True)
            state = read_state(connection)
            if state is not None and state.fingerprint == fingerprint:
                return state
            state = SalesState(fingerprint) if state is None else state.next_generation(fingerprint)
            connection.execute(sa.delete(MISSED))
            self.save_in(connection, state)
            return state

    def save(self, state: SalesState) -> None:
        """Write the state by itself."""
        with self.transaction() as connection:
            self.save_in(connection, state)

    def save_in(self, connection: sa.Connection, state: SalesState) -> None:
        """Write the state within a transaction of the caller's. A dry run's would keep others waiting."""
        if not self._dry_run:
            connection.execute(_SAVE, {"name": _NAME, "state": to_json(state)})

    def stage(self) -> StagedSales:
        """A list."""
        return StagedSales()

    def ingest(
        self,
        sales: Sequence[KeptSale],
        state: SalesState,
        advance: Callable[[SalesState], SalesState],
        *,
        asked_at: datetime,
        lookback: float,
        judge: Judge,
        is_swept: bool = False,  # noqa: ARG002 - a sweep's sales are kept as they come
    ) -> tuple[SalesState, Ingested]:
        """Keep what was read, and the state as `advance` moves it on: both or neither.

        The later answer wins; but one with an older time of change loses to a row that was read less than `lookback`
        seconds before. What doesn't differ isn't written. While a sweep is under way it has seen all of them.
        """
        ingested, moved = Ingested(), Counts()
        with self.transaction() as connection:
            if sales:
                ingested, moved = self._apply(connection, sales, state, asked_at, lookback)
                judge(ingested)
            state = advance(_moved(state, moved))
            self.save_in(connection, state)
        return state, ingested

    def apply_sweep(self, state: SalesState, lookback: float, judge: Judge) -> tuple[SalesState, Ingested]:  # noqa: ARG002
        """Nothing: `ingest` has kept all of it."""
        return state, Ingested()

    def _apply(
        self,
        connection: sa.Connection,
        sales: Sequence[KeptSale],
        state: SalesState,
        asked_at: datetime,
        lookback: float,
    ) -> tuple[Ingested, Counts]:
        """Returns what it did, and by how much the counts have moved."""
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_STAGED}")
        connection.exec_driver_sql(
            f'CREATE TEMPORARY TABLE {_STAGED} (number integer, sale_id text COLLATE "C", event_id text COLLATE "C",'
            " sale_date date, quantity bigint, amount numeric(38,9), is_undated boolean, changed_at timestamptz,"
            " reason text) ON COMMIT DROP"
        )
        copy_rows(connection, _STAGED, ("number", "sale_id", *COMPARED), _texts(sales), self._deadline, _IS_TEXT)
        connection.exec_driver_sql(f"ANALYZE {_STAGED}")
        row = connection.execute(
            _INGEST,
            {
                "generation": state.generation,
                "asked_at": asked_at,
                "lookback": lookback,
                "stores": self._stores(state),
            },
        ).one()
        if state.sweep is not None:
            connection.execute(_NOTE_SWEPT, {"sweep": state.sweep.number})
        return Ingested(row.inserted, row.updated, row.recounted), _counts(row)

    def keep_events(self, names: Names, state: SalesState) -> SalesState:
        """Keep which events are listed, with their names; an event without one keeps the name that it had."""
        with self.transaction() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_STAGED_EVENTS}")
            connection.exec_driver_sql(
                f'CREATE TEMPORARY TABLE {_STAGED_EVENTS} (event_id text COLLATE "C", event_name text) ON COMMIT DROP'
            )
            copy_rows(connection, _STAGED_EVENTS, ("event_id", "event_name"), iter(names.items()), self._deadline)
            connection.exec_driver_sql(f"ANALYZE {_STAGED_EVENTS}")
            connection.execute(_KEEP_EVENTS, {"stores": self._stores(state)})
        return state

    @staticmethod
    def _stores(state: SalesState) -> str:
        """The stores for which it is noted what is pending; in the others everything is."""
        return json.dumps(state.marked_stores)

    def begin_sweep(self, state: SalesState) -> SalesState:
        """Write that a sweep begins, and forget what the one before it has seen."""
        with self.transaction() as connection:
            connection.execute(sa.delete(SWEPT))
            self.save_in(connection, state)
        return state

    def unseen(self, sweep: int, limit: int) -> tuple[int, list[str]]:
        """How many kept sales a sweep hasn't seen, nor an increment since it began; and so many of their ids."""
        with self.transaction() as connection:
            row = connection.execute(_COUNT_UNSEEN, {"sweep": sweep, "limit": limit}).one()
            return row.number, row.ids

    def note_misses(self, sweep: int, state: SalesState, *, counts: bool) -> int:  # noqa: ARG002
        """Note which sales the sweep hasn't seen; a miss adds to the earlier ones where it `counts`."""
        with self.transaction() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_STAGED_MISSES}")
            connection.execute(_STAGE_MISSES, {"sweep": sweep, "misses": int(counts)})
            connection.execute(sa.delete(MISSED))
            connection.exec_driver_sql(f"INSERT INTO {MISSED.name} SELECT * FROM {_STAGED_MISSES}")
            return int(connection.execute(_COUNT_MISSED).scalar_one())

    def delete(self, ids: Iterable[str], state: SalesState) -> SalesState:
        """Delete kept sales; the groups that they leave are pending."""
        return self._delete("sale_id IN (SELECT json_array_elements_text(CAST(:ids AS json)))", state, list(ids))

    def delete_missed(self, state: SalesState) -> SalesState:
        """Delete the sales that have been missed twice or more."""
        return self._delete(f"sale_id IN (SELECT m.sale_id FROM {MISSED.name} m WHERE m.misses > 1)", state)

    def delete_outdated(self, state: SalesState) -> SalesState:
        """Delete what is left of earlier generations: another upstream's sales, or ones that are gone."""
        return self._delete("generation < :generation", state)

    def _delete(self, condition: str, state: SalesState, ids: Sequence[str] = ()) -> SalesState:
        values = {"ids": json.dumps(ids), "generation": state.generation, "stores": self._stores(state)}
        statement = sa.text(_DELETE.format(condition=condition))
        with self.transaction() as connection:
            used = {name: value for name, value in values.items() if f":{name}" in statement.text}
            state = _moved(state, _counts(connection.execute(statement, used).one()))
            self.save_in(connection, state)
        return state

    def events(self) -> tuple[str, ...]:
        """The ids of all events that are listed or sold, in order."""
        with self.transaction() as connection:
            return tuple(connection.execute(_ALL_EVENTS).scalars())

    def stored_tickets(self, scope: tuple[str, ...], deadline: Deadline) -> StoredTickets:
        """What is published, of the events in scope."""
        return stored_tickets(self._engine, scope, deadline)

    def groups(self) -> Iterator[tuple[str, Days]]:
        """Each event's days, in the order of events and days."""
        with self.transaction() as connection:
            rows = connection.execute(_GROUPS).all()
        for event_id, days in groupby(rows, key=itemgetter(0)):
            yield event_id, [(day, int(tickets), int(revenue.scaleb(DECIMALS))) for _, day, tickets, revenue in days]

    def reasons(self) -> dict[str, int]:
        """How many kept sales can't be used, by reason."""
        with self.transaction() as connection:
            return {row.reason: row.sales for row in connection.execute(_REASONS)}

    def publish(
        self, state: SalesState, now: datetime, note: NoteRows, seal: Callable[[sa.Connection], None]
    ) -> tuple[SalesState, LoadResult]:
        """Publish what is pending here, with the state, and whatever `seal` adds, in one transaction.

        `note` gets the number of rows that the published tables then have. Raises as `publish_postgres` does.
        """
        published = state.published_in(self.name, now)
        with self.transaction() as connection:
            fill = partial(fill_from_kept, everything=not state.holds(self.name))
            result = publish_postgres(connection, now, fill, dry_run=self._dry_run)
            connection.execute(_PUBLISHED, {"store": self.name})
            self.save_in(connection, published)
            note(*connection.execute(_PUBLISHED_ROWS).one())
            seal(connection)
        return published, result

    def pending(self, store: str, state: SalesState, now: datetime) -> Summary | None:
        """What another store is to be brought to: its events with something pending, whole. None: nothing."""
        is_new = not state.holds(store)
        with self.transaction() as connection:
            summary = pending_summary(connection, store, now, everything=is_new)
        return summary if summary.events or is_new else None

    def mark_published(self, store: str, state: SalesState, now: datetime) -> SalesState:
        """Forget what was pending in a store that has it now. Returns the state with it."""
        state = state.published_in(store, now)
        with self.transaction() as connection:
            connection.execute(_PUBLISHED, {"store": store})
            self.save_in(connection, state)
        return state

    def recount(self) -> Counts:
        """The counts, counted anew."""
        with self.transaction() as connection:
            return _counts(connection.execute(_RECOUNT).one())


def status_in(connection: sa.Connection, settings: Settings) -> SalesStatus | None:
    """How the kept sales stand, within a transaction of the caller's; None where none has been kept yet."""
    state = read_state(connection) if sa.inspect(connection).has_table(STATE.name) else None
    if state is None:
        return None
    counted = sa.select(PENDING.c.store, sa.func.count().label("pending")).group_by(PENDING.c.store)
    return sales_status(settings, state, {row.store: row.pending for row in connection.execute(counted)})


def read_state(connection: sa.Connection) -> SalesState | None:
    """What is remembered; None where no sale has been kept yet. The table must be there."""
    text = connection.execute(sa.select(STATE.c.state).where(STATE.c.name == _NAME)).scalar()
    return None if text is None else from_json(text)


def _moved(state: SalesState, moved: Counts) -> SalesState:
    return msgspec.structs.replace(state, counts=state.counts + moved)


def _counts(row: Any) -> Counts:
    return Counts(
        int(row.kept), int(row.rejected), int(row.undated), int(row.untimed), int(row.tickets), Decimal(row.revenue)
    )


_IS_TEXT = (False, True, True, False, False, False, False, False, True)
"""Which of the staged columns may hold anything, and have to be escaped."""


def _texts(sales: Sequence[KeptSale]) -> Iterator[tuple[str | None, ...]]:
    for number, sale in enumerate(sales):
        yield (
            str(number),
            sale.sale_id,
            sale.event_id,
            sale.sale_date or NULL,
            NULL if sale.quantity is None else str(sale.quantity),
            sale.amount or NULL,
            "t" if sale.is_undated else "f",
            NULL if sale.changed_at is None else sale.changed_at.isoformat(),
            sale.reason,
        )


def _list(columns: Iterable[str], prefix: str = "") -> str:
    return ", ".join(prefix + column for column in columns)


_COUNTS_OF = """
    count({id}) AS kept, count({reason}) AS rejected,
    count(*) FILTER (WHERE {reason} IS NULL AND {undated}) AS undated,
    count(*) FILTER (WHERE {id} IS NOT NULL AND {changed} IS NULL) AS untimed,
    coalesce(sum({quantity}) FILTER (WHERE {reason} IS NULL), 0) AS tickets,
    coalesce(sum({amount}) FILTER (WHERE {reason} IS NULL), 0) AS revenue"""


def _sums(prefix: str) -> str:
    """The counts of rows; some of them may not be there."""
    names = ("sale_id", "reason", "is_undated", "changed_at", "quantity", "amount")
    keys = ("id", "reason", "undated", "changed", "quantity", "amount")
    return _COUNTS_OF.format(**{key: prefix + name for key, name in zip(keys, names, strict=True)})


_COUNT_NAMES = ("kept", "rejected", "undated", "untimed", "tickets", "revenue")
_PENDING_OF = (
    f"INSERT INTO {PENDING.name} (store, event_id, sale_date) SELECT s.store, g.event_id, g.sale_date FROM {{groups}} g"
    " CROSS JOIN json_array_elements_text(CAST(:stores AS json)) AS s(store) ON CONFLICT DO NOTHING"
)
_INGEST = sa.text(f"""
WITH latest AS (
  SELECT DISTINCT ON (sale_id) * FROM {_STAGED} ORDER BY sale_id, changed_at DESC NULLS LAST, number DESC
), compared AS (
  SELECT l.sale_id, l.event_id, CASE WHEN l.is_undated THEN coalesce(k.sale_date, l.sale_date) ELSE l.sale_date END
      AS sale_date, l.quantity, l.amount, l.is_undated, l.changed_at, l.reason,
    k.sale_id AS old_sale_id, {", ".join(f"k.{name} AS old_{name}" for name in COMPARED)},
    k.generation AS old_generation, k.asked_at AS old_asked_at
  FROM latest l LEFT JOIN {TICKET_SALES.name} k ON k.sale_id = l.sale_id
), changed AS MATERIALIZED (
  SELECT *, old_sale_id IS NULL OR ({_list(COUNTED)}, reason) IS DISTINCT FROM ({_list(COUNTED, "old_")}, old_reason)
      AS is_recounted
  FROM compared
  WHERE old_sale_id IS NULL OR old_generation < :generation
    OR (({_list(COMPARED)}) IS DISTINCT FROM ({_list(COMPARED, "old_")})
      AND NOT coalesce(changed_at < old_changed_at
        AND CAST(:asked_at AS timestamptz) - old_asked_at < make_interval(secs => :lookback), false))
), written AS (
  INSERT INTO {TICKET_SALES.name} ({_list(_COLUMNS)})
  SELECT sale_id, {_list(COMPARED)}, CAST(:asked_at AS timestamptz), CAST(:generation AS integer) FROM changed
  ORDER BY sale_id
  ON CONFLICT (sale_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
), regrouped AS (
  SELECT event_id, sale_date FROM changed WHERE is_recounted AND reason IS NULL
  UNION
  SELECT old_event_id, old_sale_date FROM changed
  WHERE is_recounted AND old_sale_id IS NOT NULL AND old_reason IS NULL
), pending AS (
  {_PENDING_OF.format(groups="regrouped")}
), new AS (SELECT {_sums("")} FROM changed), old AS (SELECT {_sums("old_")} FROM changed)
SELECT (SELECT count(*) FROM changed WHERE old_sale_id IS NULL) AS inserted,
  (SELECT count(*) FROM changed WHERE old_sale_id IS NOT NULL) AS updated,
  (SELECT count(*) FROM changed WHERE is_recounted) AS recounted,
  {", ".join(f"new.{name} - old.{name} AS {name}" for name in _COUNT_NAMES)}
FROM new, old""")
_NOTE_SWEPT = sa.text(
    f"INSERT INTO {SWEPT.name} (sweep, hashes) SELECT :sweep, array_agg(hash) FROM (SELECT hash,"
    f" (row_number() OVER () - 1) / {_HASHES_A_ROW} AS part FROM (SELECT DISTINCT hashtextextended(sale_id, 0) AS hash"
    f" FROM {_STAGED}) AS hashes) AS parts GROUP BY part"
)
_UNSEEN = (
    f"SELECT k.sale_id FROM {TICKET_SALES.name} k WHERE NOT EXISTS (SELECT FROM (SELECT unnest(hashes) AS hash"
    f" FROM {SWEPT.name} WHERE sweep = :sweep) s WHERE s.hash = hashtextextended(k.sale_id, 0))"
)
_COUNT_UNSEEN = sa.text(
    f"WITH unseen AS MATERIALIZED ({_UNSEEN}) SELECT (SELECT count(*) FROM unseen) AS number,"
    " ARRAY(SELECT sale_id FROM unseen ORDER BY sale_id LIMIT :limit) AS ids"
)
_STAGE_MISSES = sa.text(
    f"CREATE TEMPORARY TABLE {_STAGED_MISSES} ON COMMIT DROP AS SELECT u.sale_id, coalesce(m.misses, 0) + :misses"
    f" AS misses FROM ({_UNSEEN}) u LEFT JOIN {MISSED.name} m ON m.sale_id = u.sale_id"
)
_COUNT_MISSED = sa.text(f"SELECT count(*) FROM {MISSED.name} WHERE misses > 1")
_DELETE = f"""
WITH gone AS (
  DELETE FROM {TICKET_SALES.name} WHERE {{condition}} RETURNING *
), forgotten AS (DELETE FROM {MISSED.name} m USING gone WHERE m.sale_id = gone.sale_id
), regrouped AS (SELECT DISTINCT event_id, sale_date FROM gone WHERE reason IS NULL
), pending AS ({_PENDING_OF.format(groups="regrouped")}
), old AS (SELECT {_sums("")} FROM gone)
SELECT {", ".join(f"-{name} AS {name}" for name in _COUNT_NAMES)} FROM old"""
_KEEP_EVENTS = sa.text(f"""
WITH compared AS (
  SELECT coalesce(s.event_id, e.event_id) AS event_id, coalesce(s.event_name, e.event_name) AS event_name,
    s.event_id IS NULL AS is_gone, e.event_id IS NULL AS is_new, e.event_name AS old_name
  FROM {_STAGED_EVENTS} s FULL JOIN {EVENTS.name} e ON e.event_id = s.event_id
), changed AS (
  SELECT *, date '-infinity' AS sale_date FROM compared
  WHERE is_gone OR is_new OR event_name IS DISTINCT FROM old_name
), written AS (
  INSERT INTO {EVENTS.name} (event_id, event_name) SELECT event_id, event_name FROM changed WHERE NOT is_gone
  ORDER BY event_id ON CONFLICT (event_id) DO UPDATE SET event_name = excluded.event_name
), gone AS (
  DELETE FROM {EVENTS.name} e USING changed c WHERE c.is_gone AND e.event_id = c.event_id
)
{_PENDING_OF.format(groups="changed")}""")
_ALL_EVENTS = sa.text(f"""
WITH RECURSIVE sold AS (
  SELECT min(event_id) AS event_id FROM {TICKET_SALES.name} WHERE reason IS NULL
  UNION ALL
  SELECT (SELECT min(k.event_id) FROM {TICKET_SALES.name} k WHERE k.reason IS NULL AND k.event_id > sold.event_id)
  FROM sold WHERE sold.event_id IS NOT NULL
)
SELECT event_id FROM sold WHERE event_id IS NOT NULL UNION SELECT event_id FROM {EVENTS.name} ORDER BY event_id""")
_GROUPS = sa.text(
    f"SELECT event_id, sale_date, sum(quantity) AS tickets, sum(amount) AS revenue FROM {TICKET_SALES.name}"
    " WHERE reason IS NULL GROUP BY event_id, sale_date ORDER BY event_id, sale_date"
)
_REASONS = sa.text(
    f"SELECT reason, count(*) AS sales FROM {TICKET_SALES.name} WHERE reason IS NOT NULL GROUP BY reason"
)
_RECOUNT = sa.text(f"SELECT {_sums('')} FROM {TICKET_SALES.name}")
_PUBLISHED = sa.text(f"DELETE FROM {PENDING.name} WHERE store = :store")
_PUBLISHED_ROWS = sa.text(
    f"SELECT (SELECT count(*) FROM {EVENT_SALES_SUMMARY.name}), (SELECT count(*) FROM {DAILY_TICKET_SALES.name})"
)
_SAVE = sa.text(
    f"INSERT INTO {STATE.name} (name, state) VALUES (:name, :state)"
    " ON CONFLICT (name) DO UPDATE SET state = excluded.state"
)
