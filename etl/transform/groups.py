"""Tickets and revenue by day and event. Pure.

Kept small: what adding them up waits for is the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

from etl.records.plain_sales import SaleRow

Totals = dict[int, int] | list[int | None]
"""Of a day: an event's number -> tickets and revenue in one. A list, or a dict while few of the events have sales."""

_TICKET_BITS = 120
"""Room for the tickets of 2^56 sales of the largest quantity."""
_HALF = 1 << _TICKET_BITS - 1
_DENSE = 4
"""A list takes 8 bytes an entry: it is made where a fourth of the events has sales, for twice as many events."""


class Groups:
    """What was sold of each event on each day. All sums are exact, and the same in any order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._days: dict[date, Totals] = {}

    def add(self, rows: Iterable[SaleRow]) -> None:
        """Add sales."""
        numbers, days = self._numbers, self._days
        for event_id, day, quantity, nano in rows:
            # Both in one number: an object for each group instead of three.
            value = (nano << _TICKET_BITS) + quantity
            try:
                days[day][numbers[event_id]] += value  # type: ignore[operator] # see TypeError
            except (KeyError, IndexError, TypeError):  # a new day, event or group
                number = numbers.setdefault(event_id, len(numbers))
                days[day] = _with_group(days.get(day, {}), number, value, len(numbers))

    def take(self) -> Iterator[tuple[date, Iterator[tuple[str, int, int]]]]:
        """In the order of days: a day, and (event id, tickets, revenue in 10^-9) of its events. Uses the groups up."""
        ids = list(self._numbers)
        for day in sorted(self._days):
            yield day, _rows(ids, self._days.pop(day))


def _with_group(totals: Totals, number: int, value: int, events: int) -> Totals:
    """A day's totals with those of one more event, among so many events."""
    if isinstance(totals, list):
        if number < len(totals):
            totals[number] = value
            return totals
        totals = dict(_items(totals))
    totals[number] = value
    if len(totals) * _DENSE <= events:
        return totals
    entries: list[int | None] = [None] * (2 * events)
    for known, total in totals.items():
        entries[known] = total
    return entries


def _items(totals: Totals) -> Iterable[tuple[int, int]]:
    if isinstance(totals, dict):
        return totals.items()
    return ((number, total) for number, total in enumerate(totals) if total is not None)


def _rows(ids: list[str], totals: Totals) -> Iterator[tuple[str, int, int]]:
    for number, total in _items(totals):
        nano = total + _HALF >> _TICKET_BITS
        yield ids[number], total - (nano << _TICKET_BITS), nano
