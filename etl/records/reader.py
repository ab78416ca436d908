"""One JSON item -> EventRecord | TicketSaleRecord | Rejected. Pure: today and zone come in as arguments.

`fields.CANDIDATES` lists the keys of each field, and `fields.first_of` says which of them counts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, tzinfo
from typing import Any

from etl.records.fields import (
    CANDIDATES,
    MISSING,
    SENT,
    UNREADABLE,
    EventItem,
    EventRecord,
    NumberText,
    Rejected,
    SaleItem,
    TicketSaleRecord,
    first_of,
)
from etl.records.values import AMOUNT_LIMIT, INT64_LIMIT, is_storable, read_amount, read_day, read_quantity

MAX_ID_BYTES = 1000
"""What fits into an index entry of PostgreSQL with room to spare (its limit is 2,704 bytes)."""
MAX_NAME_CHARACTERS = 10_000
"""All names stay in memory to a run's end."""
_CACHE_LIMIT = 4096
"""More amounts than this are read quicker than looked up: a larger dict doesn't stay in the processor's cache."""


def read_event(item: EventItem) -> EventRecord | Rejected:
    """One event item, read."""
    identifier = first_of(item, "event_id")
    if identifier is None:
        return Rejected("event_id_missing")
    event_id = str(identifier)
    if problem := id_problem(event_id):
        return Rejected(problem, event_id)
    names = (getattr(item, name) for name in CANDIDATES[EventItem]["event_name"])
    name = next((n for n in names if isinstance(n, str) and not isinstance(n, NumberText) and n), None)
    if name is not None and not is_storable(name):
        return Rejected("event_name_not_text", event_id)
    if name is not None and len(name) > MAX_NAME_CHARACTERS:
        return Rejected("event_name_too_long", event_id)
    return EventRecord(event_id, name, item)


def id_problem(event_id: str) -> str | None:
    """Why an event id can't be used, if so."""
    if not is_storable(event_id):
        return "event_id_not_text"
    return "event_id_too_long" if len(event_id.encode()) > MAX_ID_BYTES else None


def sale_reader(today: date, zone: tzinfo) -> Callable[[SaleItem], TicketSaleRecord | Rejected]:
    """The function that reads one sale item. `today` (in `zone`) is the day of a sale without a readable date.

    It remembers the ids and amounts it has read: they repeat, and reading them is most of the work.
    """
    event_ids: dict[str | int, str] = {}
    amounts: dict[str, int] = {}

    def event_id_of(key: str | int) -> str | Rejected:
        event_id = str(key)
        if problem := id_problem(event_id):
            return Rejected(problem)  # not remembered: it may be as long as a page
        event_ids[key] = event_id
        return event_id

    def amount_of(value: object) -> int | None:
        if type(value) is not str:
            return read_amount(value)
        nano = amounts.get(value)
        if nano is None and (nano := read_amount(value)) is not None and len(amounts) < _CACHE_LIMIT:
            amounts[value] = nano
        return nano

    def total_of(item: SaleItem, quantity: int) -> int | str:
        """The sale's amount, or why it can't be had."""
        total = item.total_amount
        if total is None:
            total = item.totalAmount
        if total is not None:
            nano = amount_of(total)
            return "total_amount_not_a_number" if nano is None else nano
        price = item.price
        if price is None:
            price = first_of(item, "price")
        nano = 0 if price is None else amount_of(price)
        if nano is None:
            return "price_not_a_number"
        nano *= quantity
        return nano if -AMOUNT_LIMIT < nano < AMOUNT_LIMIT else "total_amount_too_large"

    def day_of(item: SaleItem) -> tuple[date, str]:
        text = item.sale_date
        if text is None or text == "":
            text = first_of(item, "sale_date")
            if text is None:
                return today, MISSING
        day = read_day(text, zone)
        return (today, UNREADABLE) if day is None else (day, SENT)

    def read(item: SaleItem) -> TicketSaleRecord | Rejected:
        sale_id: Any = item.id
        if sale_id is None or sale_id == "":
            sale_id = first_of(item, "sale_id")
        if type(sale_id) is int:
            sale_id = str(sale_id)
        key: Any = item.eventId if item.event_id is None else item.event_id
        if key is None or key == "":
            key = first_of(item, "event_id")
            if key is None:
                return Rejected("event_id_missing", sale_id)
        event_id = event_ids.get(key) or event_id_of(key)
        if isinstance(event_id, Rejected):
            return Rejected(event_id.reason, sale_id)
        quantity = item.quantity
        if quantity is None:
            quantity = item.qty
            if quantity is None:
                quantity = 1
        if type(quantity) is not int or not -INT64_LIMIT <= quantity < INT64_LIMIT:
            quantity = read_quantity(quantity)
            if quantity is None:
                return Rejected("quantity_not_a_whole_number", sale_id)
        total = total_of(item, quantity)
        if isinstance(total, str):
            return Rejected(total, sale_id)
        day, date_source = day_of(item)
        return TicketSaleRecord(sale_id, event_id, quantity, total, day, date_source, item)

    return read
