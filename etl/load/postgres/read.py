"""What PostgreSQL's published tables hold, for whoever looks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from decimal import Decimal
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from etl.load.store import Group, Published, PublishedDay, PublishedEvent
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY, Table

_FETCHED = 5_000
_CURSOR = "etl_groups"


def groups_in(connection: sa.Connection, tables: Collection[str]) -> Iterator[Group]:
    """Every event, then every event's day, in the order of `Group.key`; of those `tables` that exist.

    Few of them are held at a time.
    """
    for table, day in ((EVENT_SALES_SUMMARY, "CAST(NULL AS date)"), (DAILY_TICKET_SALES, "CAST(sale_date AS date)")):
        if table.name in tables:
            yield from _read_table(connection, table, day)


def published_in(connection: sa.Connection, since: date, best: int) -> Published:
    """Totals, the days from `since` on, and so many of the best-selling events; the tables must be there.

    One statement: what it sees is of one moment.
    """
    totals, days, events = connection.execute(_PUBLISHED, {"since": since, "best": best}).one()
    return Published(
        *msgspec.json.decode(totals, type=tuple[int, int, Decimal]),
        days=_rows(days, PublishedDay),
        best=_rows(events, PublishedEvent),
    )


Row = TypeVar("Row", PublishedDay, PublishedEvent)


def _rows(text: str, kind: type[Row]) -> tuple[Row, ...]:
    return msgspec.json.decode(text, type=tuple[kind, ...])  # type: ignore[valid-type]


_PUBLISHED = sa.text(
    "SELECT (SELECT CAST(json_build_array(count(*), coalesce(sum(total_tickets), 0), coalesce(sum(total_revenue), 0))"
    f" AS text) FROM {EVENT_SALES_SUMMARY.name}),"
    " (SELECT CAST(coalesce(json_agg(json_build_array(day, tickets, revenue) ORDER BY day), '[]') AS text) FROM ("
    "SELECT CAST(sale_date AS date) AS day, sum(tickets_sold) AS tickets, sum(revenue) AS revenue"
    f" FROM {DAILY_TICKET_SALES.name} WHERE CAST(sale_date AS date) >= CAST(:since AS date) GROUP BY 1) d),"
    " (SELECT CAST(coalesce(json_agg(json_build_array(event_id, event_name, total_tickets, total_revenue)"
    " ORDER BY total_tickets DESC, event_id), '[]') AS text) FROM (SELECT * FROM"
    f" {EVENT_SALES_SUMMARY.name} ORDER BY total_tickets DESC, event_id LIMIT :best) e)"
)


def _read_table(connection: sa.Connection, table: Table, day: str) -> Iterator[Group]:
    connection.exec_driver_sql(
        f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR SELECT CAST(event_id AS text), {day}, {table.tickets}, {table.revenue}"
        f' FROM {table.name} ORDER BY CAST(event_id AS text) COLLATE "C", 2'
    )
    while rows := connection.exec_driver_sql(f"FETCH {_FETCHED} FROM {_CURSOR}").all():
        for event_id, on, tickets, revenue in rows:
            yield Group(event_id, on, int(tickets), revenue)
    connection.exec_driver_sql(f"CLOSE {_CURSOR}")
