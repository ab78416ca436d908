"""The tables of kept sales in BigQuery, as data. Those of one deployment begin with the name of its ticket sales."""

from __future__ import annotations

from dataclasses import dataclass

from etl.load.bigquery.tables import StoredTable
from etl.transform.tables import Column, ColumnType

_SALE = (
    Column("sale_id", ColumnType.TEXT),
    Column("event_id", ColumnType.TEXT, nullable=True),
    Column("sale_date", ColumnType.DATE, nullable=True),
    Column("quantity", ColumnType.INTEGER, nullable=True),
    Column("amount", ColumnType.AMOUNT, nullable=True),
    Column("is_undated", ColumnType.FLAG),
    Column("changed_at", ColumnType.TIME, nullable=True),
    Column("reason", ColumnType.TEXT, nullable=True),
)
_ASKED_AT = Column("asked_at", ColumnType.TIME)
_CREATED_AT = Column("created_at", ColumnType.TIME, nullable=True)
_NUMBER = Column("number", ColumnType.INTEGER)
_GROUP = (Column("event_id", ColumnType.TEXT), Column("sale_date", ColumnType.DATE))
_SUMS = (Column("tickets", ColumnType.INTEGER), Column("revenue", ColumnType.AMOUNT))
_HELD = (
    Column("held_rows", ColumnType.INTEGER),
    Column("held_tickets", ColumnType.INTEGER, nullable=True),
    Column("held_revenue", ColumnType.AMOUNT, nullable=True),
)


def _as_nullable(columns: tuple[Column, ...], prefix: str = "") -> tuple[Column, ...]:
    return tuple(Column(prefix + column.name, column.type, nullable=True) for column in columns)


TICKET_SALES = StoredTable(
    (*_SALE, _ASKED_AT, Column("generation", ColumnType.INTEGER)),
    partition="sale_date",
    clustering=("event_id",),
    needs_partition=True,
)
"""Every sale of the upstream's list. One with a `reason` can't be used, has no day, and is in no sum. `asked_at` is
when the answer it came in was asked for, by this function's clock."""
EVENTS = StoredTable(
    (
        Column("event_id", ColumnType.TEXT),
        Column("event_name", ColumnType.TEXT, nullable=True),
        Column("is_listed", ColumnType.FLAG),
    )
)
"""The events that the upstream lists, and those that it sells or has sold without listing them."""
PENDING = StoredTable(
    (
        Column("store", ColumnType.TEXT),
        Column("event_id", ColumnType.TEXT),
        Column("sale_date", ColumnType.DATE, nullable=True),
    )
)
"""What a store may not hold yet: an event's day or, without a day, its name and totals alone."""
STATE = StoredTable(
    (
        Column("name", ColumnType.TEXT),
        Column("version", ColumnType.INTEGER),
        Column("state", ColumnType.TEXT),
    )
)
"""One row: what is remembered from run to run. Each transaction checks its version and moves it on: the fence."""
SWEPT = StoredTable((_NUMBER, *_SALE, _CREATED_AT, _ASKED_AT))
"""All that the sweep under way has read, and the increments since it began."""
MISSED = StoredTable((Column("sale_id", ColumnType.TEXT), Column("misses", ColumnType.INTEGER)))
"""The sales that the last sweeps haven't seen, and by how many in a row."""

STAGED = StoredTable((_NUMBER, *_SALE, _CREATED_AT))
"""A slice, as it was read; `number` is its order."""
CHANGES = StoredTable(
    (
        *_as_nullable(_SALE),
        *_as_nullable((_ASKED_AT, _CREATED_AT)),
        *_as_nullable(_SALE, "old_"),
        Column("is_gone", ColumnType.FLAG),
        Column("is_recounted", ColumnType.FLAG),
    )
)
"""Kept sales that are to be written, each beside what it was; one that `is_gone` is to be deleted."""
GROUPS = StoredTable((*_GROUP, *_SUMS, Column("sales", ColumnType.INTEGER), *_HELD))
"""Groups with their sums, beside what is published of them; a group without sales is to go."""
TOTALS = StoredTable(
    (
        Column("event_id", ColumnType.TEXT),
        Column("event_name", ColumnType.TEXT, nullable=True),
        *_SUMS,
        *_HELD,
        Column("held_name", ColumnType.TEXT, nullable=True),
    )
)
"""Events with the sums of their days, beside what is published of them."""

_SUFFIXES: dict[str, StoredTable] = {
    "": TICKET_SALES,
    "_events": EVENTS,
    "_pending": PENDING,
    "_state": STATE,
    "_swept": SWEPT,
    "_missed": MISSED,
}


def table_names(ticket_sales: str) -> dict[str, StoredTable]:
    """The tables that stay, by their names in the dataset."""
    return {ticket_sales + suffix: table for suffix, table in _SUFFIXES.items()}


@dataclass(frozen=True)
class Names:
    """Where the tables stand: quoted, ready for a statement."""

    sales: str
    events: str
    pending: str
    state: str
    swept: str
    missed: str
    summary: str
    daily: str

    @classmethod
    def of(cls, dataset: str, ticket_sales: str, summary: str, daily: str) -> Names:
        """Those of a dataset, by the names that the settings give."""
        names = (*table_names(ticket_sales), summary, daily)
        return cls(*(f"`{dataset}.{name}`" for name in names))
