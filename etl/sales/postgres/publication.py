"""Bring a store to what the kept sales say: by SQL where the sales are, elsewhere by a Summary of what is pending."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import chain, islice

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import StoreUnavailableError
from etl.load.postgres.database import transaction
from etl.load.postgres.load import prepare_tables
from etl.load.postgres.staging import copy_rows
from etl.load.store import LoadResult, TableChanges
from etl.records.values import DECIMALS
from etl.sales.pending import Pending, PendingRow
from etl.sales.postgres.tables import EVENTS, PENDING, TICKET_SALES
from etl.transform.fold import Days, EventSummary, Summary
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY

_DAILY, _SUMMARY = DAILY_TICKET_SALES.name, EVENT_SALES_SUMMARY.name
_GROUPS = "etl_publish_groups"
_SCOPE = "etl_publish_events"
_STAGED_DAILY = f"etl_staging_{_DAILY}"
_STAGED_SUMMARY = f"etl_staging_{_SUMMARY}"
_STAGED_PENDING = "etl_staging_pending"
_OF_STORE = f"FROM {PENDING.name} WHERE store = :store"


Fill = Callable[[sa.Connection], None]
"""Fills the temporary tables of a publication: its events with their names, and groups with their sums."""


def publish_postgres(connection: sa.Connection, now: datetime, fill: Fill, *, dry_run: bool = False) -> LoadResult:
    """Bring PostgreSQL to the sums that `fill` gives, within the caller's transaction.

    Raises StoreUnavailableError where the tables then don't hold what they should.
    """
    started = time.perf_counter()
    prepare_tables(connection, dry_run=dry_run)
    for statement in _MAKE:
        connection.exec_driver_sql(statement)
    fill(connection)
    for name in (_SCOPE, _GROUPS):
        connection.exec_driver_sql(f"ANALYZE {name}")
    daily = _replace_days(connection)
    summary = _replace_totals(connection, now)
    _check(connection)
    changes = {_SUMMARY: summary, _DAILY: daily}
    status = "dry_run" if dry_run else "success"
    return LoadResult("postgres", status, changes=changes, seconds=time.perf_counter() - started)


def fill_from_kept(connection: sa.Connection, *, everything: bool) -> None:
    """What is pending here, or everything, from the sales that are kept here."""
    for statement in _ALL if everything else _SOME:
        connection.execute(sa.text(statement), {"store": "postgres"} if ":store" in statement else {})


def fill_from_rows(connection: sa.Connection, pending: Pending, deadline: Deadline) -> None:
    """What another store hands over."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_STAGED_PENDING}")
    connection.exec_driver_sql(
        f'CREATE TEMPORARY TABLE {_STAGED_PENDING} (event_id text COLLATE "C", event_name text, sale_date date,'
        " tickets numeric, revenue numeric, sales bigint) ON COMMIT DROP"
    )
    texts = (tuple(None if value is None else str(value) for value in row) for row in pending.rows)
    copy_rows(connection, _STAGED_PENDING, PendingRow._fields, texts, deadline)
    for statement in _HANDED_OVER:
        connection.exec_driver_sql(statement)
    if pending.is_everything:
        connection.exec_driver_sql(_UNSOLD)


def load_pending(
    pending: Pending,
    engine: sa.Engine,
    deadline: Deadline,
    now: datetime,
    seal: Callable[[sa.Connection], None],
    *,
    dry_run: bool = False,
) -> LoadResult:
    """Bring PostgreSQL to what another store hands over, and whatever `seal` adds, in one transaction.

    A dry run rolls it back. Raises as `publish_postgres` does.
    """
    # While a query is made ready there, a transaction here would grow too old.
    rows = chain(list(islice(pending.rows, 1)), pending.rows)
    with transaction(engine, deadline) as connection:
        fill = partial(fill_from_rows, pending=replace(pending, rows=rows), deadline=deadline)
        result = publish_postgres(connection, now, fill, dry_run=dry_run)
        seal(connection)
        if dry_run:
            connection.rollback()
    return result


_MAKE = (
    f"DROP TABLE IF EXISTS {_SCOPE}, {_GROUPS}, {_STAGED_DAILY}, {_STAGED_SUMMARY}",
    f'CREATE TEMPORARY TABLE {_SCOPE} (event_id text COLLATE "C" PRIMARY KEY, event_name text) ON COMMIT DROP',
    (
        f'CREATE TEMPORARY TABLE {_GROUPS} (event_id text COLLATE "C", sale_date date, tickets numeric,'
        " revenue numeric, sales bigint, PRIMARY KEY (event_id, sale_date)) ON COMMIT DROP"
    ),
    f"CREATE TEMPORARY TABLE {_STAGED_DAILY} (LIKE {_DAILY}) ON COMMIT DROP",
    f"CREATE TEMPORARY TABLE {_STAGED_SUMMARY} (LIKE {_SUMMARY}) ON COMMIT DROP",
)
_SUMS = "coalesce(sum(k.quantity), 0), coalesce(sum(k.amount), 0), count(k.sale_id)"
_NAMED = f"SELECT s.event_id, e.event_name FROM ({{events}}) s LEFT JOIN {EVENTS.name} e ON e.event_id = s.event_id"
_UNSOLD = (
    f"INSERT INTO {_GROUPS} SELECT DISTINCT d.event_id, CAST(d.sale_date AS date), 0, 0, 0 FROM {_DAILY} d"
    f" JOIN {_SCOPE} s ON s.event_id = d.event_id ON CONFLICT DO NOTHING"
)
"""Days that are published, and sold no more."""
_ALL = (
    (
        f"INSERT INTO {_GROUPS} SELECT k.event_id, k.sale_date, {_SUMS} FROM {TICKET_SALES.name} k"
        " WHERE k.reason IS NULL GROUP BY k.event_id, k.sale_date"
    ),
    f"INSERT INTO {_SCOPE} "
    + _NAMED.format(
        events=f"SELECT event_id FROM {_GROUPS} UNION SELECT event_id FROM {EVENTS.name}"
        f" UNION SELECT event_id {_OF_STORE}"
    ),
    _UNSOLD,
)
_SOME = (
    f"INSERT INTO {_SCOPE} " + _NAMED.format(events=f"SELECT DISTINCT event_id {_OF_STORE}"),
    (
        f"INSERT INTO {_GROUPS} SELECT p.event_id, p.sale_date, {_SUMS} FROM {PENDING.name} p"
        f" LEFT JOIN {TICKET_SALES.name} k ON k.event_id = p.event_id AND k.sale_date = p.sale_date"
        " AND k.reason IS NULL WHERE p.store = :store AND p.sale_date <> '-infinity' GROUP BY p.event_id, p.sale_date"
    ),
)
_HANDED_OVER = (
    f"INSERT INTO {_SCOPE} SELECT event_id, event_name FROM {_STAGED_PENDING} WHERE sale_date IS NULL",
    (
        f"INSERT INTO {_GROUPS} SELECT event_id, sale_date, tickets, revenue, sales FROM {_STAGED_PENDING}"
        " WHERE sale_date IS NOT NULL"
    ),
)


def _replace_days(connection: sa.Connection) -> TableChanges:
    # Staged in the target's own types: what those round is rounded before it is compared.
    connection.exec_driver_sql(
        f"INSERT INTO {_STAGED_DAILY} (event_id, sale_date, tickets_sold, revenue)"
        f" SELECT event_id, sale_date, tickets, revenue FROM {_GROUPS} WHERE sales > 0"
    )
    connection.exec_driver_sql(f"ANALYZE {_STAGED_DAILY}")
    deleted = connection.exec_driver_sql(
        f"DELETE FROM {_DAILY} d USING {_GROUPS} g"
        " WHERE g.sales = 0 AND d.event_id = g.event_id AND d.sale_date = g.sale_date"
    ).rowcount
    inserted, updated, staged = connection.exec_driver_sql(
        f"WITH changed AS MATERIALIZED (SELECT s.*, t.event_id IS NULL AS is_new FROM {_STAGED_DAILY} s"
        f" LEFT JOIN {_DAILY} t ON t.event_id = s.event_id AND t.sale_date = s.sale_date"
        " WHERE t.event_id IS NULL OR (t.tickets_sold, t.revenue) IS DISTINCT FROM (s.tickets_sold, s.revenue)),"
        f" written AS (INSERT INTO {_DAILY} (event_id, sale_date, tickets_sold, revenue)"
        " SELECT event_id, sale_date, tickets_sold, revenue FROM changed ORDER BY event_id, sale_date"
        " ON CONFLICT (event_id, sale_date)"
        " DO UPDATE SET tickets_sold = excluded.tickets_sold, revenue = excluded.revenue)"
        f" SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new),"
        f" (SELECT count(*) FROM {_STAGED_DAILY}) FROM changed"
    ).one()
    return TableChanges(inserted, updated, deleted, staged - inserted - updated)


def _replace_totals(connection: sa.Connection, now: datetime) -> TableChanges:
    """The events' rows: the sums of their days. An event that came without a name keeps the one that it has."""
    connection.execute(
        sa.text(
            f"INSERT INTO {_STAGED_SUMMARY} (event_id, event_name, total_tickets, total_revenue, last_updated)"
            " SELECT s.event_id, coalesce(s.event_name, t.event_name), coalesce(d.tickets, 0), coalesce(d.revenue, 0),"
            f" CAST(:now AS timestamptz) FROM {_SCOPE} s LEFT JOIN {_SUMMARY} t ON t.event_id = s.event_id"
            f" LEFT JOIN (SELECT d.event_id, sum(d.tickets_sold) AS tickets, sum(d.revenue) AS revenue FROM {_DAILY} d"
            f" JOIN {_SCOPE} s ON s.event_id = d.event_id GROUP BY d.event_id) d ON d.event_id = s.event_id"
        ),
        {"now": now},
    )
    connection.exec_driver_sql(f"ANALYZE {_STAGED_SUMMARY}")
    compared = "event_name, {0}.total_tickets, {0}.total_revenue"
    inserted, updated, staged = connection.exec_driver_sql(
        f"WITH changed AS MATERIALIZED (SELECT s.*, t.event_id IS NULL AS is_new FROM {_STAGED_SUMMARY} s"
        f" LEFT JOIN {_SUMMARY} t ON t.event_id = s.event_id WHERE t.event_id IS NULL"
        f" OR (t.{compared.format('t')}) IS DISTINCT FROM (s.{compared.format('s')})),"
        f" written AS (INSERT INTO {_SUMMARY} (event_id, event_name, total_tickets, total_revenue, last_updated)"
        " SELECT event_id, event_name, total_tickets, total_revenue, last_updated FROM changed ORDER BY event_id"
        " ON CONFLICT (event_id) DO UPDATE SET event_name = excluded.event_name,"
        " total_tickets = excluded.total_tickets, total_revenue = excluded.total_revenue,"
        " last_updated = excluded.last_updated)"
        " SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new),"
        f" (SELECT count(*) FROM {_STAGED_SUMMARY}) FROM changed"
    ).one()
    return TableChanges(inserted, updated, 0, staged - inserted - updated)


def _check(connection: sa.Connection) -> None:
    """Read back what was published; raises where it isn't what it should be."""
    wrong_days, wrong_events = connection.exec_driver_sql(
        f"SELECT (SELECT count(*) FROM {_STAGED_DAILY} s LEFT JOIN {_DAILY} t ON t.event_id = s.event_id"
        " AND t.sale_date = s.sale_date"
        " WHERE (t.tickets_sold, t.revenue) IS DISTINCT FROM (s.tickets_sold, s.revenue)),"
        f" (SELECT count(*) FROM {_STAGED_SUMMARY} s LEFT JOIN {_SUMMARY} t ON t.event_id = s.event_id"
        " WHERE (t.total_tickets, t.total_revenue) IS DISTINCT FROM (s.total_tickets, s.total_revenue))"
    ).one()
    if wrong_days or wrong_events:
        raise StoreUnavailableError(
            f"PostgreSQL: after the publication {wrong_days} rows of {_DAILY} and {wrong_events} of {_SUMMARY} don't "
            "hold what was written; nothing was changed. Look for a trigger or a rule on the tables."
        )


def pending_summary(connection: sa.Connection, store: str, now: datetime, *, everything: bool) -> Summary:
    """What a store is to hold of the events with something pending there, or of all."""
    scope = (
        f"SELECT event_id FROM {EVENTS.name} UNION SELECT event_id FROM {TICKET_SALES.name} WHERE reason IS NULL"
        f" UNION SELECT event_id {_OF_STORE}"
        if everything
        else f"SELECT DISTINCT event_id {_OF_STORE}"
    )
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_SCOPE}")
    connection.exec_driver_sql(
        f'CREATE TEMPORARY TABLE {_SCOPE} (event_id text COLLATE "C" PRIMARY KEY) ON COMMIT DROP'
    )
    connection.execute(sa.text(f"INSERT INTO {_SCOPE} {scope}"), {"store": store})
    connection.exec_driver_sql(f"ANALYZE {_SCOPE}")
    days: defaultdict[str, Days] = defaultdict(list)
    for event_id, day, tickets, revenue in connection.exec_driver_sql(
        f"SELECT k.event_id, k.sale_date, sum(k.quantity), sum(k.amount) FROM {TICKET_SALES.name} k"
        f" JOIN {_SCOPE} s ON s.event_id = k.event_id WHERE k.reason IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
    ):
        days[event_id].append((day, int(tickets), int(Decimal(revenue).scaleb(DECIMALS))))
    names = connection.exec_driver_sql(
        f"SELECT s.event_id, e.event_name FROM {_SCOPE} s LEFT JOIN {EVENTS.name} e ON e.event_id = s.event_id"
        " ORDER BY 1"
    )
    events = tuple(
        EventSummary(
            event_id,
            name,
            sum(tickets for _, tickets, _ in days.get(event_id, ())),
            sum(revenue for _, _, revenue in days.get(event_id, ())),
        )
        for event_id, name in names
    )
    return Summary(events, now, days)


def mark_pending_in(
    engine: sa.Engine, groups: Iterable[tuple[str, date | None]], stores: Sequence[str], deadline: Deadline
) -> None:
    """Note that stores may not hold these events' days (None: their totals), so that the next run publishes them."""
    rows = [{"event_id": event_id, "sale_date": str(day or "-infinity")} for event_id, day in groups]
    with transaction(engine, deadline) as connection:
        connection.execute(_MARK_PENDING, {"groups": json.dumps(rows), "stores": json.dumps(list(stores))})


_MARK_PENDING = sa.text(
    f"INSERT INTO {PENDING.name} (store, event_id, sale_date) SELECT s.store, g.event_id, g.sale_date"
    " FROM json_to_recordset(CAST(:groups AS json)) AS g(event_id text, sale_date date)"
    " CROSS JOIN json_array_elements_text(CAST(:stores AS json)) AS s(store) ON CONFLICT DO NOTHING"
)
