"""What an event and a sale look like as they are sent, as they are used, and where each field is looked for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from etl.records.values import from_nano, read_amount

SENT, MISSING, UNREADABLE = "sent", "missing", "unreadable"
"""What a sale's date was: read from the item, not there (or empty), or there and not understood."""


class NumberText(str):
    """A JSON number kept as its text, where it must not be taken for a JSON string (an id)."""

    __slots__ = ()


class EventReference(msgspec.Struct, gc=False):
    """A sale's `event`, where it is an object."""

    id: str | int | None = None
    event_id: str | int | None = None


class EventItem(msgspec.Struct, gc=False):
    """An event as the upstream sends it: every candidate field."""

    id: str | int | None = None
    event_id: str | int | None = None
    eventId: str | int | None = None  # noqa: N815 - the upstream's name
    name: Any = None
    title: Any = None


class SaleItem(msgspec.Struct, gc=False):
    """A ticket sale as the upstream sends it: every candidate field. Numbers are int or their text."""

    id: str | int | None = None
    sale_id: str | int | None = None
    saleId: str | int | None = None  # noqa: N815
    event_id: str | int | None = None
    eventId: str | int | None = None  # noqa: N815
    event: str | int | EventReference | None = None
    quantity: Any = None
    qty: Any = None
    price: Any = None
    unit_price: Any = None
    unitPrice: Any = None  # noqa: N815
    amount: Any = None
    total_amount: Any = None
    totalAmount: Any = None  # noqa: N815
    sale_date: Any = None
    saleDate: Any = None  # noqa: N815
    created_at: Any = None
    createdAt: Any = None  # noqa: N815
    timestamp: Any = None


CANDIDATES: dict[type[EventItem] | type[SaleItem], dict[str, tuple[str, ...]]] = {
    EventItem: {
        "event_id": ("id", "event_id", "eventId"),
        "event_name": ("name", "title"),
    },
    SaleItem: {
        "sale_id": ("id", "sale_id", "saleId"),
        "event_id": ("event_id", "eventId", "event"),
        "quantity": ("quantity", "qty"),
        "price": ("price", "unit_price", "unitPrice", "amount"),
        "total_amount": ("total_amount", "totalAmount"),
        "sale_date": ("sale_date", "saleDate", "created_at", "createdAt", "timestamp"),
    },
}
"""Where each field of a record is looked for, in this order."""
_NUMBERS = ("quantity", "price", "total_amount")
"""The fields whose empty text is a value, and no number; elsewhere it counts as missing."""


class EventRecord(msgspec.Struct, frozen=True, gc=False):
    """An event. `event_name` is None where the upstream gives none."""

    event_id: str
    event_name: str | None
    raw: EventItem


class TicketSaleRecord(msgspec.Struct, frozen=True, gc=False):
    """A ticket sale. `total_nano` is its amount in 10^-9; `sale_date` is the day in the run's time zone.

    `date_source` is one of SENT, MISSING, UNREADABLE; for the last two `sale_date` is today.
    """

    sale_id: str | None
    event_id: str
    quantity: int
    total_nano: int
    sale_date: date
    date_source: str
    raw: SaleItem

    @property
    def total_amount(self) -> Decimal:
        """The sale's amount, exact to 9 decimals."""
        return from_nano(self.total_nano)

    @property
    def price(self) -> Decimal | None:
        """The price of one ticket as sent, None where it is missing or no number (beside a total)."""
        nano = read_amount(first_of(self.raw, "price"))
        return None if nano is None else from_nano(nano)


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An item that can't be used. `item_id` is its own id where it has one, else None."""

    reason: str
    item_id: str | None = None


def first_of(item: EventItem | SaleItem, field: str) -> Any:
    """The first candidate of a field that is present and not null (for ids, names and dates: nor empty)."""
    for name in CANDIDATES[type(item)][field]:
        value = getattr(item, name)
        if type(value) is EventReference:
            value = _referred(value)
        if value is not None and (value != "" or field in _NUMBERS):
            return value
    return None


def _referred(event: EventReference) -> str | int | None:
    return event.event_id if event.id is None or event.id == "" else event.id


class FieldCount(NamedTuple):
    """Under which key items have a field, the first one that is found, and how many have it where it is looked for."""

    key: str
    had: int


def fields_in(items: Sequence[EventItem | SaleItem | None]) -> dict[str, FieldCount]:
    """The fields that some item has. Beside a total no price is looked for: there it counts as found, but for nothing.

    Each item has a field if `first_of` gives one.
    """
    present: Sequence[Any] = [item for item in items if item is not None]
    if not present:
        return {}
    lacking = {name: _lacking(name, present) for name in CANDIDATES[type(present[0])]}
    found = {name: FieldCount(key, len(present) - len(rest)) for name, (key, rest) in lacking.items() if key}
    if "price" in found and "total_amount" in found:
        _, without_total = lacking["total_amount"]
        _, without_both = _lacking("price", without_total)
        found["price"] = FieldCount(found["price"].key, len(without_total) - len(without_both))
    return found


def _lacking(field: str, items: Sequence[Any]) -> tuple[str | None, Sequence[Any]]:
    """The first key under which one of the items has a field, and those that have it under none."""
    key = None
    blank = None if field in _NUMBERS else ""
    for candidate in CANDIDATES[type(items[0])][field] if items else ():
        values = list(map(attrgetter(candidate), items))
        if candidate == "event":
            values = [_referred(value) if isinstance(value, EventReference) else value for value in values]
        if all(values):  # as most are; the next line is for those that no item has
            return key or candidate, ()
        if values.count(None) < len(values):
            rest = [item for item, value in zip(items, values, strict=True) if value is None or value == blank]
            key, items = key if len(rest) == len(items) else key or candidate, rest
    return key, items
