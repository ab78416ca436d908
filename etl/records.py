"""One JSON item -> EventRecord | TicketSaleRecord | Rejected. Pure: today and zone come in as arguments.

The candidates for each field, and what counts as present, are DESIGN section 4's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

DECIMALS = 9
NANO = 10**DECIMALS
"""Amounts are whole numbers of 10^-9, the stores' scale: exact, and quick to add."""
AMOUNT_LIMIT = 10**29 * NANO
INT64_LIMIT = 2**63
MAX_ID_BYTES = 1000
"""What fits into an index entry of PostgreSQL with room to spare (its limit is 2,704 bytes)."""
MAX_NAME_CHARACTERS = 10_000
"""All names stay in memory to a run's end."""
_CACHE_LIMIT = 4096
"""More amounts than this are read quicker than looked up: a larger dict doesn't stay in the processor's cache."""
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?")
POWERS: tuple[int, ...] = tuple(10 ** (DECIMALS - decimals) for decimals in range(DECIMALS + 1))
"""By how many decimals an amount was written with: what its digits are to be multiplied by."""
_NUMBER_LENGTH = 400
_EXACT = Context(prec=_NUMBER_LENGTH + 50, rounding=ROUND_HALF_EVEN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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
"""The fields of which an empty text is a value, and no number; elsewhere it counts as missing."""


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
        if isinstance(value, EventReference):
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


def from_nano(nano: int) -> Decimal:
    """A whole number of 10^-9 as the exact Decimal it stands for."""
    return Decimal(nano).scaleb(-9, _EXACT)


def read_number(value: object) -> Decimal | None:
    """The exact number that a JSON number (int or text) or a numeric string stands for, else None.

    A numeric string is what JSON allows for a number, plus a leading `+`. Booleans are no numbers, and neither
    is a text of more than 400 characters.
    """
    if type(value) is int:
        return Decimal(value)
    if isinstance(value, str) and len(value) <= _NUMBER_LENGTH and _NUMBER.fullmatch(value):
        return Decimal(value)
    return None


def read_amount(value: object) -> int | None:
    """An amount as a whole number of 10^-9, rounded half-even; None where it isn't one, or is 10^29 or more."""
    if type(value) is str and (plain := _plain_amount(value)) is not None:
        return plain
    number = read_number(value)
    if not number:
        return None if number is None else 0
    if not -12 < number.adjusted() < 30:
        return 0 if number.adjusted() < 0 else None
    nano = int(number.scaleb(9, _EXACT).to_integral_value(ROUND_HALF_EVEN, _EXACT))
    return nano if abs(nano) < AMOUNT_LIMIT else None


def _plain_amount(text: str) -> int | None:
    """The usual amount, such as 12.50, a few times quicker than through Decimal; None for any other text."""
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isdigit() and digits.isascii()) or len(whole) > 20 or len(fraction) > DECIMALS:
        return None
    if not whole or (point and not fraction) or (whole[0] == "0" and whole != "0"):
        return None  # no number in JSON
    return int(digits) * POWERS[len(fraction)]


def read_quantity(value: object) -> int | None:
    """A whole number within int64 (`2.0` and `1e2` are whole), else None."""
    number = read_number(value)
    if not number:
        return None if number is None else 0
    if number.adjusted() > 19 or number != number.to_integral_value():
        return None
    quantity = int(number)
    return quantity if -INT64_LIMIT <= quantity < INT64_LIMIT else None


def read_day(value: object, zone: tzinfo) -> date | None:
    """The day in `zone` of an ISO 8601 date or time (naive: UTC), or of a Unix time; None where it is neither.

    A bare date is that day in any zone. A number, or its text, is a Unix time: in seconds, from 1e11 in
    milliseconds, from 1e14 in microseconds, from 1e17 in nanoseconds (absolute values). Only a text of exactly
    8 digits is a date (`20260131`): longer ones would pass for ISO 8601 too, centuries off.
    """
    try:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            return _iso_day(value, zone)
        if type(value) is str and len(value) == 8 and value.isdigit() and (day := _iso_day(value, zone)):
            return day
        return _unix_day(value, zone)
    except OverflowError:
        return None


def _iso_day(text: str, zone: tzinfo) -> date | None:
    if len(text) <= 10 and (day := _bare_day(text)):
        return day
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(zone).date()


def _bare_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _unix_day(value: object, zone: tzinfo) -> date | None:
    number = read_number(value)
    if number is None or number.adjusted() > 20:
        return None
    size = number.copy_abs()
    unit = 9 if size >= 10**17 else 6 if size >= 10**14 else 3 if size >= 10**11 else 0
    microseconds = int(number.scaleb(6 - unit, _EXACT).to_integral_value(ROUND_FLOOR, _EXACT))
    return (_EPOCH + timedelta(microseconds=microseconds)).astimezone(zone).date()


def is_storable(text: str) -> bool:
    """Whether both stores can hold a text: no NUL (PostgreSQL refuses it), no lone surrogate (not UTF-8)."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
