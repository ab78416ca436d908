"""Many sales at once, column by column: the quick way for plain sales, as most are. Pure.

What is plain is said by a type, so that the JSON decoder sees to it. Nothing is decided here: what isn't plain goes the
complete way of `records.sale_reader`, and what is reads as it would there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, tzinfo
from itertools import compress, repeat
from operator import attrgetter, itemgetter, mul
from typing import Annotated, Any, NamedTuple, cast

import msgspec

from etl.records.fields import CANDIDATES, SaleItem, TicketSaleRecord
from etl.records.reader import id_problem
from etl.records.values import AMOUNT_LIMIT, DECIMALS, INT64_LIMIT, NANO, POWERS

SaleRow = tuple[str, date, int, int]
"""Of a sale: event id, day, quantity, amount in 10^-9."""

_Id = int | Annotated[str, msgspec.Meta(min_length=1)]
_PLAIN_TYPES: dict[str, Any] = {
    "sale_id": _Id,
    "event_id": _Id,
    "quantity": Annotated[int, msgspec.Meta(ge=-INT64_LIMIT, le=INT64_LIMIT - 1)],
    "total_amount": Any,
    "price": Any,
    "sale_date": Annotated[str, msgspec.Meta(min_length=len("2026-01-31T00"))],
}
_NUMBERS = re.compile(rf"(?:-?(?:0|[1-9][0-9]{{0,18}}+)(?:\.[0-9]{{1,{DECIMALS}}}+)?+,)*+")
_HOURS_KEPT = 20_000
_HOUR = itemgetter(slice(len("2026-01-31T00")))
_EVENT_ID, _TZINFO = attrgetter("event_id"), attrgetter("tzinfo")


class SaleColumns(NamedTuple):
    """Sales that can be used, as columns of the same length."""

    event_ids: list[str]
    days: list[date]
    quantities: list[int]
    nanos: list[int]

    def rows(self) -> Iterator[SaleRow]:
        return zip(*self, strict=True)

    def only(self, chosen: list[bool]) -> SaleColumns:
        """The sales that are chosen."""
        return columns_of(compress(self.rows(), chosen))


def columns_of(rows: Iterable[SaleRow]) -> SaleColumns:
    """Rows as columns."""
    columns = list(map(list, zip(*rows, strict=True)))
    return SaleColumns(*cast("Any", columns or ([], [], [], [])))


row_of: Callable[[TicketSaleRecord], SaleRow] = attrgetter("event_id", "sale_date", "quantity", "total_nano")
"""A record as a row."""


def plain_sale_type(keys: Mapping[str, str]) -> type[msgspec.Struct] | None:
    """The type of sales that have each field under the key that is given, and under no candidate before that one.

    Its attributes are the fields' names, with one of `total_amount` and `price`. None where sales with these keys are
    never plain.
    """
    amount = "total_amount" if "total_amount" in keys else "price"
    columns = ("sale_id", "event_id", "quantity", amount, "sale_date")
    if not keys.keys() >= set(columns):
        return None
    attributes: list[Any] = [(name, _PLAIN_TYPES[name]) for name in columns]
    rename = {name: keys[name] for name in columns}
    for name, candidates in CANDIDATES[SaleItem].items():
        for candidate in candidates[: candidates.index(keys[name])] if name in keys else candidates:
            attributes.append((f"no_{candidate}", None, None))
            rename[f"no_{candidate}"] = candidate
    return msgspec.defstruct("PlainSale", attributes, rename=rename, gc=False)


def keys_of(plain_type: type[msgspec.Struct]) -> dict[str, str]:
    """The keys of the fields that each sale of a plain type has."""
    return {found.name: found.encode_name for found in msgspec.structs.fields(plain_type) if found.name in _PLAIN_TYPES}


class ColumnReader:
    """Reads plain sales. It remembers the event ids and the hours that it has seen: they repeat."""

    def __init__(self, zone: tzinfo) -> None:
        self._event_ids = _EventIds()
        self._hours = _Hours(zone)

    def read(self, sales: list[Any]) -> SaleColumns | None:
        """The columns of sales of one plain type; None where one of them isn't plain after all."""
        if not sales:
            return SaleColumns([], [], [], [])
        try:
            return self._read(sales)
        except ValueError:
            return None

    def _read(self, sales: list[Any]) -> SaleColumns:
        quantities = [sale.quantity for sale in sales]
        nanos = _nanos(_amounts(sales))
        if hasattr(sales[0], "price"):
            nanos = _in_range(map(mul, nanos, quantities))
        return SaleColumns(
            list(map(self._event_ids.__getitem__, map(_EVENT_ID, sales))),
            self._days([sale.sale_date for sale in sales]),
            quantities,
            nanos,
        )

    def _days(self, texts: list[str]) -> list[date]:
        zones = set(map(_TZINFO, map(datetime.fromisoformat, texts)))
        if not zones <= {UTC, None}:
            raise ValueError
        return list(map(self._hours.__getitem__, map(_HOUR, texts)))


def has_plain_amounts(sales: list[Any]) -> bool:
    """Whether the amounts of sales of one plain type are numbers or texts, as far as the decoder could tell."""
    return not sales or set(map(type, _amounts(sales))) <= {int, str}


def _amounts(sales: list[Any]) -> list[Any]:
    return [sale.price for sale in sales] if hasattr(sales[0], "price") else [sale.total_amount for sale in sales]


def _nanos(amounts: list[Any]) -> list[int]:
    """Amounts as whole numbers of 10^-9. Raises ValueError unless all are plain: such as 12, -3.50, "12.5"."""
    kinds = set(map(type, amounts))
    if kinds == {int}:
        return _in_range(amount * NANO for amount in amounts)
    if not kinds <= {int, str}:
        raise ValueError
    texts = list(map(str, amounts)) if int in kinds else amounts
    if not _NUMBERS.fullmatch(",".join(texts) + ","):
        raise ValueError
    # A text with a comma of its own would pass for two numbers there, but not for one here.
    parts = map(str.partition, texts, repeat("."))
    return [int(whole + fraction) * POWERS[len(fraction)] for whole, _, fraction in parts]


def _in_range(amounts: Iterable[int]) -> list[int]:
    """The amounts, or ValueError where the stores can't hold one of them."""
    nanos = list(amounts)
    if max(nanos) >= AMOUNT_LIMIT or min(nanos) <= -AMOUNT_LIMIT:
        raise ValueError
    return nanos


class _EventIds(dict[str | int, str]):
    """Event id as sent -> as text, always the same object."""

    def __missing__(self, key: str | int) -> str:
        event_id = str(key)
        if id_problem(event_id):
            raise ValueError
        self[key] = event_id
        return event_id


class _Hours(dict[str, date]):
    """The first 13 characters of a time in UTC (2026-01-31T09) -> its day in a zone."""

    def __init__(self, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone
        self._known: dict[date, date] = {}

    def __missing__(self, hour: str) -> date:
        try:
            first, last = (
                datetime.fromisoformat(f"{hour}:{rest}Z").astimezone(self._zone) for rest in ("00:00", "59:59.999999")
            )
        except OverflowError as error:
            raise ValueError from error
        day = first.date()
        # Clocks that go back at 00:01, as St John's did, are on the day before for a second time.
        if day != last.date() or first.utcoffset() != last.utcoffset():
            raise ValueError
        if len(self) >= _HOURS_KEPT:
            self.clear()
        # One object a day: as a key it is found without a comparison.
        self[hour] = day = self._known.setdefault(day, day)
        return day
