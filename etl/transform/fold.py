"""Fold records into a Summary. Pure.

All sums are sums of whole numbers (amounts in 10^-9): exact, and the same in any order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import msgspec

from etl.errors import UpstreamError
from etl.records.fields import EventRecord, TicketSaleRecord
from etl.records.plain_sales import SaleRow, row_of
from etl.records.values import AMOUNT_LIMIT, INT64_LIMIT, from_nano
from etl.transform.groups import Groups

Names = dict[str, str | None]
"""Event id -> its last name that isn't empty, or None."""
Days = list[tuple[date, int, int]]
"""An event's (day, tickets, revenue in 10^-9), in the order of days."""


class EventSummary(msgspec.Struct, frozen=True, gc=False):
    """A row of `event_sales_summary`; `revenue_nano` is in 10^-9."""

    event_id: str
    event_name: str | None
    total_tickets: int
    revenue_nano: int

    @property
    def total_revenue(self) -> Decimal:
        """The event's revenue, exact to 9 decimals."""
        return from_nano(self.revenue_nano)


class DailySales(msgspec.Struct, frozen=True, gc=False):
    """A row of `daily_ticket_sales`; `revenue_nano` is in 10^-9."""

    event_id: str
    sale_date: date
    tickets_sold: int
    revenue_nano: int

    @property
    def revenue(self) -> Decimal:
        """The day's revenue, exact to 9 decimals."""
        return from_nano(self.revenue_nano)


@dataclass(frozen=True)
class Summary:
    """What both stores are to hold for the events in its scope, and all that the loaders know.

    `events` are in the order of their ids. `last_updated` is the run's time, in UTC.
    """

    events: tuple[EventSummary, ...]
    last_updated: datetime
    _days: dict[str, Days]

    @property
    def scope(self) -> tuple[str, ...]:
        """The ids of the events it speaks of; all others are left as they are."""
        return tuple(event.event_id for event in self.events)

    @property
    def daily_count(self) -> int:
        """How many daily rows there are."""
        return sum(map(len, self._days.values()))

    @property
    def total_tickets(self) -> int:
        """Tickets of all events."""
        return sum(event.total_tickets for event in self.events)

    @property
    def total_revenue(self) -> Decimal:
        """Revenue of all events, exact to 9 decimals."""
        return from_nano(sum(event.revenue_nano for event in self.events))

    def daily(self) -> Iterator[DailySales]:
        """The daily rows, in the order of event id and day."""
        for event_id, days in self.groups():
            for day, tickets, revenue in days:
                yield DailySales(event_id, day, tickets, revenue)

    def groups(self) -> Iterator[tuple[str, Days]]:
        """The same, event by event: its id, and its days."""
        for event in self.events:
            yield event.event_id, self._days.get(event.event_id, [])


def fold_events(records: Iterable[EventRecord]) -> Names:
    """The events that are listed, with their names."""
    names: Names = {}
    for record in records:
        names[record.event_id] = record.event_name or names.get(record.event_id)
    return names


def fold_sales(rows: Iterable[SaleRow]) -> Groups:
    """Tickets and revenue by day and event."""
    groups = Groups()
    groups.add(rows)
    return groups


def summarise(names: Names, groups: Groups, last_updated: datetime) -> Summary:
    """A row for every event that is listed or sold, and its days. Uses the groups up.

    Raises UpstreamError where a sum is beyond what the stores can hold: int64 tickets, 29 digits of revenue.
    """
    by_event: defaultdict[str, Days] = defaultdict(list)
    for day, totals in groups.take():
        for event_id, tickets, revenue in totals:
            by_event[event_id].append((day, tickets, revenue))
    events = tuple(
        _total(event_id, names.get(event_id), by_event.get(event_id, []))
        for event_id in sorted(names.keys() | by_event)
    )
    return Summary(events, last_updated, by_event)


def _total(event_id: str, name: str | None, days: Days) -> EventSummary:
    _, tickets, revenues = zip(*days, strict=True) if days else ((), (), ())
    total_tickets, total_revenue = sum(tickets), sum(revenues)
    if not (
        min(*tickets, total_tickets, 0) >= -INT64_LIMIT
        and max(*tickets, total_tickets, 0) < INT64_LIMIT
        and min(*revenues, total_revenue, 0) > -AMOUNT_LIMIT
        and max(*revenues, total_revenue, 0) < AMOUNT_LIMIT
    ):
        raise UpstreamError(
            f"the sales of event {event_id!r} add up to more than the stores can hold (64 bits of tickets, 29 "
            "digits of revenue before the point): some of them can't be right"
        )
    return EventSummary(event_id, name, total_tickets, total_revenue)


def transform_summary(
    events: Iterable[EventRecord], sales: Iterable[TicketSaleRecord], last_updated: datetime
) -> Summary:
    """Events and sales -> the two summaries. One pass; any iterables will do. `last_updated` is the run's UTC time."""
    return summarise(fold_events(events), fold_sales(map(row_of, sales)), last_updated)
