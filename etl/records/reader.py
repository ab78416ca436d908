"""One JSON item -> EventRecord | TicketSaleRecord | Rejected. Pure: today and zone come in as arguments.

`fields.CANDIDATES` lists the keys of each field, and `fields.first_of` says which of them counts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, tzinfo
from functools import partial

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
from etl.records.values import AMOUNT_LIMIT, is_storable, read_amount, read_day, read_quantity

MAX_ID_BYTES = 1000
"""What fits into an index entry of PostgreSQL with room to spare (its limit is 2,704 bytes)."""
MAX_NAME_CHARACTERS = 10_000
"""All names stay in memory to a run's end."""


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
    """The function that reads one sale item. `today` (in `zone`) is the day of a sale without a readable date."""
    return partial(_read_sale, today, zone)


def _read_sale(today: date, zone: tzinfo, item: SaleItem) -> TicketSaleRecord | Rejected:
    sale_id = first_of(item, "sale_id")
    if type(sale_id) is int:
        sale_id = str(sale_id)
    key = first_of(item, "event_id")
    if key is None:
        return Rejected("event_id_missing", sale_id)
    event_id = str(key)
    if problem := id_problem(event_id):
        return Rejected(problem, sale_id)
    quantity = _quantity(item)
    if quantity is None:
        return Rejected("quantity_not_a_whole_number", sale_id)
    total = _total(item, quantity)
    if isinstance(total, str):
        return Rejected(total, sale_id)
    day, date_source = _day(item, today, zone)
    return TicketSaleRecord(sale_id, event_id, quantity, total, day, date_source, item)


def _quantity(item: SaleItem) -> int | None:
    """How many tickets, 1 where nothing is said; None where it can't be had."""
    quantity = first_of(item, "quantity")
    return 1 if quantity is None else read_quantity(quantity)


def _total(item: SaleItem, quantity: int) -> int | str:
    """The sale's amount in 10^-9, or why it can't be had."""
    total = first_of(item, "total_amount")
    if total is not None:
        nano = read_amount(total)
        return "total_amount_not_a_number" if nano is None else nano
    price = first_of(item, "price")
    nano = 0 if price is None else read_amount(price)
    if nano is None:
        return "price_not_a_number"
    nano *= quantity
    return nano if -AMOUNT_LIMIT < nano < AMOUNT_LIMIT else "total_amount_too_large"


def _day(item: SaleItem, today: date, zone: tzinfo) -> tuple[date, str]:
    sent = first_of(item, "sale_date")
    if sent is None:
        return today, MISSING
    day = read_day(sent, zone)
    return (today, UNREADABLE) if day is None else (day, SENT)
