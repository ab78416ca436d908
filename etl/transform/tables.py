"""The two summaries as data: what they are called, their columns and keys, and their rows. Both loaders read this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etl.transform.fold import Summary

AMOUNT_DECIMALS = 9
_UNIT: int = 10**AMOUNT_DECIMALS
_AMOUNT = f"%d.%0{AMOUNT_DECIMALS}d"


class ColumnType(Enum):
    """The types that the columns have, by what they hold; each store has its own name for them."""

    TEXT = "text"
    INTEGER = "64-bit integer"
    AMOUNT = "38 digits, 9 of them after the point"
    DATE = "date"
    TIME = "point in time"
    FLAG = "true or false"


@dataclass(frozen=True)
class Column:
    """A column. `compared` columns tell whether a row has changed; `summed` ones are reconciled after a load."""

    name: str
    type: ColumnType
    nullable: bool = False
    compared: bool = False


@dataclass(frozen=True)
class Table:
    """A summary table. `rows` gives a Summary's rows as text per column (None: null), in the order of the key.

    `replaced` is whether an unchanged row is written again all the same (its `last_updated` is the run's).
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: Callable[[Summary], Iterator[tuple[str | None, ...]]]
    replaced: bool
    partition: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def clustering(self) -> tuple[str, ...]:
        """The rest of the key of a partitioned table."""
        return tuple(name for name in self.key if name != self.partition) if self.partition else ()

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that aren't the key."""
        return tuple(name for name in self.names if name not in self.key)

    @property
    def compared(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.compared)

    @property
    def tickets(self) -> str:
        return next(column.name for column in self.columns if column.type is ColumnType.INTEGER)

    @property
    def revenue(self) -> str:
        return next(column.name for column in self.columns if column.type is ColumnType.AMOUNT)


def amount_text(nano: int) -> str:
    """A whole number of 10^-9 as a decimal text."""
    if nano < 0:
        return "-" + amount_text(-nano)
    return _AMOUNT % divmod(nano, _UNIT)


def _event_rows(summary: Summary) -> Iterator[tuple[str | None, ...]]:
    updated = summary.last_updated.isoformat()
    for event in summary.events:
        yield event.event_id, event.event_name, str(event.total_tickets), amount_text(event.revenue_nano), updated


def _daily_rows(summary: Summary) -> Iterator[tuple[str | None, ...]]:
    # Without a DailySales a row, and each day written once: there are many of these rows, and few days.
    day_text = cache(date.isoformat)
    for event_id, days in summary.groups():
        if days:
            dates, tickets, nanos = zip(*days, strict=True)
            yield from zip(repeat(event_id), map(day_text, dates), map(str, tickets), map(amount_text, nanos))


def _stamped_daily_rows(summary: Summary) -> Iterator[tuple[str | None, ...]]:
    updated = summary.last_updated.isoformat()
    return ((*row, updated) for row in _daily_rows(summary))


EVENT_SALES_SUMMARY = Table(
    name="event_sales_summary",
    key=("event_id",),
    columns=(
        Column("event_id", ColumnType.TEXT),
        Column("event_name", ColumnType.TEXT, nullable=True, compared=True),
        Column("total_tickets", ColumnType.INTEGER, compared=True),
        Column("total_revenue", ColumnType.AMOUNT, compared=True),
        Column("last_updated", ColumnType.TIME),
    ),
    rows=_event_rows,
    replaced=True,
)
DAILY_TICKET_SALES = Table(
    name="daily_ticket_sales",
    key=("event_id", "sale_date"),
    columns=(
        Column("event_id", ColumnType.TEXT),
        Column("sale_date", ColumnType.DATE),
        Column("tickets_sold", ColumnType.INTEGER, compared=True),
        Column("revenue", ColumnType.AMOUNT, compared=True),
    ),
    rows=_daily_rows,
    replaced=False,
    partition="sale_date",
)
TABLES = (EVENT_SALES_SUMMARY, DAILY_TICKET_SALES)

STAMP = Column("last_updated", ColumnType.TIME, nullable=True)
"""What BigQuery's daily table has in the write mode `stream` besides, to tell copies apart by. Null in merged rows."""
STREAMED_TABLES = (
    replace(DAILY_TICKET_SALES, columns=(*DAILY_TICKET_SALES.columns, STAMP), rows=_stamped_daily_rows),
    EVENT_SALES_SUMMARY,
)
"""In the order in which they are appended to: an event's new summary row says that all of its days are there."""
