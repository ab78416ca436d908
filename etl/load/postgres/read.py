"""What PostgreSQL's published tables hold, for whoever looks."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.load.postgres.database import transaction
from etl.load.postgres.load import amount_scales
from etl.load.store import Group
from etl.transform.tables import AMOUNT_DECIMALS, DAILY_TICKET_SALES, EVENT_SALES_SUMMARY, Table

_FETCHED = 5_000
_CURSOR = "etl_groups"


def read_groups(engine: sa.Engine, deadline: Deadline) -> Iterator[Group]:
    """Every event, then every event's day, in the order of `Group.key`. Few of them are held at a time.

    Raises StoreUnavailableError where the database refuses.
    """
    with transaction(engine, deadline) as connection:
        there = amount_scales(connection)
        for table, day in (
            (EVENT_SALES_SUMMARY, "CAST(NULL AS date)"),
            (DAILY_TICKET_SALES, "CAST(sale_date AS date)"),
        ):
            if table.name in there:
                yield from _read_table(connection, table, day)


def read_scale(engine: sa.Engine, deadline: Deadline) -> int:
    """How many decimals the amounts are kept with: 9, or fewer in tables of the earlier Veritix ETL."""
    with transaction(engine, deadline) as connection:
        return min(amount_scales(connection).values(), default=AMOUNT_DECIMALS)


def _read_table(connection: sa.Connection, table: Table, day: str) -> Iterator[Group]:
    connection.exec_driver_sql(
        f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR SELECT CAST(event_id AS text), {day}, {table.tickets}, {table.revenue}"
        f' FROM {table.name} ORDER BY CAST(event_id AS text) COLLATE "C", 2'
    )
    while rows := connection.exec_driver_sql(f"FETCH {_FETCHED} FROM {_CURSOR}").all():
        for event_id, on, tickets, revenue in rows:
            yield Group(event_id, on, int(tickets), revenue)
    connection.exec_driver_sql(f"CLOSE {_CURSOR}")
