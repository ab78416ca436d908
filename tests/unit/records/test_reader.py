"""One JSON item becomes the record that its fields say, or is rejected with its reason; nothing is guessed."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.extract.body import read_page
from etl.extract.items import ItemDecoder
from etl.records import fields
from etl.records.fields import (
    MISSING,
    SENT,
    UNREADABLE,
    EventItem,
    EventRecord,
    FieldCount,
    Rejected,
    SaleItem,
    TicketSaleRecord,
    fields_in,
    first_of,
)
from etl.records.reader import read_event, sale_reader
from etl.records.values import from_nano, read_amount
from tests.support.strategies import NUMBER_TEXTS, items

TODAY = date(2026, 11, 23)
ZONES = {"UTC": ZoneInfo("UTC"), "Berlin": ZoneInfo("Europe/Berlin"), "LA": ZoneInfo("America/Los_Angeles")}
EVENT_KEYS = ("id", "event_id", "eventId", "name", "title")
SALE_KEYS = (
    *("id", "sale_id", "saleId", "event_id", "eventId", "event", "quantity", "qty", "price", "unit_price", "unitPrice"),
    *("amount", "total_amount", "totalAmount", "sale_date", "saleDate", "created_at", "createdAt", "timestamp"),
)
NEIGHBOURS = ("", ', {"x": NaN}')
"""The second one isn't valid JSON, so that the whole page goes through the lenient reader."""
HUGE = "9" * 29


def event_items(text: str) -> list[EventItem]:
    return [_first(f"[{text}{neighbour}]", ItemDecoder(EventItem)) for neighbour in NEIGHBOURS]


def sale_items(text: str) -> list[SaleItem]:
    return [_first(f"[{text}{neighbour}]", ItemDecoder(SaleItem)) for neighbour in NEIGHBOURS]


def _first(body: str, decoder: ItemDecoder[Any]) -> Any:
    return next(item for batch in read_page(iter([body.encode()]), decoder).batches for item in batch.items)


def read_sale(text: str, zone: tzinfo = ZONES["UTC"]) -> TicketSaleRecord | Rejected:
    """The record of one item, which must not depend on how the page was decoded."""
    quick, lenient = (sale_reader(TODAY, zone)(item) for item in sale_items(text))
    assert told(quick) == told(lenient)
    return quick


def told(record: object) -> tuple[object, ...]:
    """All that a record says but its raw item."""
    return tuple(getattr(record, name) for name in type(record).__annotations__ if name != "raw")


def sale(**fields: object) -> str:
    return json.dumps({"event_id": "e", **fields})


CANDIDATES: list[tuple[str, tuple[str, ...], list[Any], Callable[[str], object]]] = [
    ("event event_id", ("id", "event_id", "eventId"), ["a", "b", "c"], lambda text: event_of(text).event_id),
    ("event event_name", ("name", "title"), ["a", "b"], lambda text: event_of(text).event_name),
    ("sale_id", ("id", "sale_id", "saleId"), ["a", "b", "c"], lambda text: sale_of(text).sale_id),
    ("event_id", ("event_id", "eventId", "event"), ["a", "b", "c"], lambda text: sale_of(text).event_id),
    ("quantity", ("quantity", "qty"), [3, 4], lambda text: sale_of(text).quantity),
    ("price", ("price", "unit_price", "unitPrice", "amount"), [3, 4, 5, 6], lambda text: sale_of(text).total_amount),
    ("total_amount", ("total_amount", "totalAmount"), [3, 4], lambda text: sale_of(text).total_amount),
    (
        "sale_date",
        ("sale_date", "saleDate", "created_at", "createdAt", "timestamp"),
        [f"2026-01-0{day}" for day in range(1, 6)],
        lambda text: sale_of(text).sale_date.isoformat(),
    ),
]


def event_of(text: str) -> EventRecord:
    quick, lenient = map(read_event, event_items(text))
    assert told(quick) == told(lenient)
    assert isinstance(quick, EventRecord)
    return quick


def sale_of(text: str) -> TicketSaleRecord:
    record = read_sale(text)
    assert isinstance(record, TicketSaleRecord), record
    return record


@pytest.mark.parametrize(("keys", "values", "read"), [pytest.param(*case, id=name) for name, *case in CANDIDATES])
def test_first_candidate_wins(keys: tuple[str, ...], values: list[Any], read: Callable[[str], object]) -> None:
    """A field comes from the first candidate that is present, wherever it stands; null is not present."""
    needed = {} if "event" in keys or read is CANDIDATES[0][3] else {"event_id": "e", "id": "i"} | dict.fromkeys(keys)
    for index in range(len(keys)):
        for absent in ({}, dict.fromkeys(keys[:index])):
            present = dict(zip(keys[index:], values[index:], strict=True))
            item = needed | absent | dict(reversed(present.items()))
            assert read(json.dumps(item)) == values[index]


IDS = [
    pytest.param('{"event_id": 5}', "5", id="integer"),
    pytest.param('{"event_id": "5"}', "5", id="the same as text"),
    pytest.param('{"event_id": 0}', "0", id="zero is an id"),
    pytest.param('{"event_id": -7}', "-7", id="negative"),
    pytest.param('{"event_id": 18446744073709551616}', "18446744073709551616", id="beyond 64 bits"),
    pytest.param('{"event_id": " 5 "}', " 5 ", id="as it is sent"),
    pytest.param('{"event_id": "", "eventId": 6}', "6", id="empty is missing"),
    pytest.param('{"event_id": null, "eventId": "", "event": "z"}', "z", id="null and empty are missing"),
    pytest.param('{"event_id": true, "eventId": 6}', "6", id="boolean is missing"),
    pytest.param('{"event_id": 5.0, "eventId": 6}', "6", id="float is missing"),
    pytest.param('{"event_id": 1e2, "eventId": 6}', "6", id="exponent is missing"),
    pytest.param('{"event_id": [5], "eventId": {"id": 5}, "event": 6}', "6", id="list and object are missing"),
    pytest.param('{"event": 8}', "8", id="event as integer"),
    pytest.param('{"event": "e8"}', "e8", id="event as text"),
    pytest.param('{"event": {"id": 8, "event_id": 9, "name": "n"}}', "8", id="event's id"),
    pytest.param('{"event": {"event_id": 9}}', "9", id="event's event_id"),
    pytest.param('{"event": {"id": "", "event_id": 9}}', "9", id="event's empty id"),
    pytest.param('{"event": {"id": null, "event_id": 9}}', "9", id="event's null id"),
    pytest.param('{"event": {"id": 8.5, "event_id": 9}}', "9", id="event's float id"),
    pytest.param('{"event": {"id": {"id": 8}, "event_id": 9}}', "9", id="event's id is an object"),
    pytest.param('{"event_id": 5, "event": {"id": 8}}', "5", id="event_id before event"),
    pytest.param('{"event": {}}', None, id="event without id"),
    pytest.param('{"event": {"eventId": 9}}', None, id="event's eventId is no candidate"),
    pytest.param('{"event": ""}', None, id="event is empty"),
    pytest.param('{"event": [8]}', None, id="event is a list"),
    pytest.param('{"event": false}', None, id="event is a boolean"),
    pytest.param('{"event": 8.5}', None, id="event is a float"),
    pytest.param("{}", None, id="empty item"),
    pytest.param('{"Event_ID": 5, "event-id": 6}', None, id="other keys"),
]


@pytest.mark.parametrize(("item", "event_id"), IDS)
def test_ids(item: str, event_id: str | None) -> None:
    """Ids are strings or integers and come out as strings; any other type counts as missing."""
    expected = Rejected("event_id_missing") if event_id is None else event_id
    record = read_sale(item)
    assert expected == (record if isinstance(record, Rejected) else record.event_id)
    as_event = item.replace('"event_id"', '"id"', 1).replace('"eventId"', '"event_id"')
    if '"event"' not in item:
        events = [*map(read_event, event_items(as_event))]
        assert [e if isinstance(e, Rejected) else e.event_id for e in events] == [expected] * 2


NAMES = [
    pytest.param('{"name": "n", "title": "t"}', "n", id="name"),
    pytest.param('{"name": "", "title": "t"}', "t", id="empty is missing"),
    pytest.param('{"name": " "}', " ", id="a blank is a name"),
    pytest.param('{"name": null, "title": ""}', None, id="neither"),
    pytest.param("{}", None, id="absent"),
    pytest.param('{"name": 5, "title": "t"}', "t", id="integer"),
    pytest.param('{"name": 5.5, "title": "t"}', "t", id="float"),
    pytest.param('{"name": true, "title": ["t"]}', None, id="neither is text"),
    pytest.param('{"name": "\\u00e9\\ud83c\\udfab\\n"}', "é🎫\n", id="escapes"),
    pytest.param(f'{{"name": "{"x" * 10_000}"}}', "x" * 10_000, id="long"),
]


@pytest.mark.parametrize(("fields", "name"), NAMES)
def test_event_names(fields: str, name: str | None) -> None:
    """An event's name is the first candidate that is text and isn't empty."""
    event = event_of('{"id": 1, ' + fields[1:] if fields != "{}" else '{"id": 1}')
    assert (event.event_id, event.event_name) == ("1", name)
    assert event.raw.id == 1


# The text of a JSON number; the same text as a JSON string must give the same.
NUMBERS = [
    ("0", "0"),
    ("-0", "0"),
    ("0.0", "0"),
    ("-0.00", "0"),
    ("5", "5"),
    ("-5", "-5"),
    ("2.0", "2"),
    ("1e2", "100"),
    ("1E+2", "100"),
    ("1.5e1", "15"),
    ("25e-1", "2.5"),
    ("0.1", "0.1"),
    ("0.30000000000000004", "0.3"),
    ("12345678901234.123456789", "12345678901234.123456789"),
    ("9007199254740993", "9007199254740993"),
    ("1.0000000005", "1"),
    ("1.0000000015", "1.000000002"),
    ("1.0000000025", "1.000000002"),
    ("1.00000000050000000000000000000000000000001", "1.000000001"),
    ("-1.0000000005", "-1"),
    ("-1.0000000015", "-1.000000002"),
    ("0.0000000005", "0"),
    ("0.00000000050000000001", "0.000000001"),
    ("5e-10", "0"),
    ("6e-10", "0.000000001"),
    ("9.9e-11", "0"),
    ("1e-999999999", "0"),
    ("0e999999999", "0"),
    ("1e28", "1" + "0" * 28),
    (HUGE, HUGE),
    (f"-{HUGE}.999999999", f"-{HUGE}.999999999"),
    (f"{HUGE}.9999999994", f"{HUGE}.999999999"),
    (f"{HUGE}.9999999995", None),
    ("1e29", None),
    ("-1e29", None),
    ("9" * 30, None),
    ("1e400", None),
    ("1e999999999", None),
    ("-1E999999999", None),
    ("1." + "0" * 398, "1"),
]
# JSON of what is no number, or is one only as text.
OTHERS = [
    ('"+5"', "5"),
    ('"+0.5e1"', "5"),
    *((json.dumps(text), None) for text in ("", "+", "-", " 5", "5 ", "5\n", "007", "-01", ".5", "5.", "1e", "e5")),
    *((json.dumps(text), None) for text in ("--5", "+-5", "1,5", "1,000", "1 000", "1_000", "$5", "5 EUR", "0x10")),
    *((json.dumps(text), None) for text in ("NaN", "nan", "Infinity", "-inf", "five", "٣", "５", "true", "null")),
    *((token, None) for token in ("true", "false", "[]", "[5]", "{}", '{"amount": 5}', "NaN", "Infinity", "-Infinity")),
]


@pytest.mark.parametrize(
    ("token", "expected"),
    [pytest.param(token, value, id=token[:40]) for token, value in NUMBERS]
    + [pytest.param(json.dumps(token), value, id=f'"{token[:40]}"') for token, value in NUMBERS]
    + [pytest.param(token, value, id=token) for token, value in OTHERS],
)
def test_amounts(token: str, expected: str | None) -> None:
    """An amount is exact to 9 decimals, rounded half-even, wherever it stands; what is no number is rejected."""
    for key, reason in [("total_amount", "total_amount_not_a_number"), ("amount", "price_not_a_number")]:
        record = read_sale(f'{{"id": 1, "event_id": "e", "{key}": {token}}}')
        if expected is None:
            assert record == Rejected(reason, "1")
        else:
            assert isinstance(record, TicketSaleRecord)
            assert record.total_amount == Decimal(expected)


QUANTITIES = [
    ("2", 2),
    ("0", 0),
    ("-3", -3),
    ("2.0", 2),
    ("-0.0", 0),
    ("1e2", 100),
    ("1.5e1", 15),
    ("20e-1", 2),
    ("2." + "0" * 100, 2),
    ("9223372036854775807", 2**63 - 1),
    ("9223372036854775807.00", 2**63 - 1),
    ("9.223372036854775807e18", 2**63 - 1),
    ("-9223372036854775808", -(2**63)),
    ("0e999999999", 0),
    ("9223372036854775808", None),
    ("-9223372036854775809", None),
    ("1e19", None),
    ("1e400", None),
    ("1e999999999", None),
    ("1e-999999999", None),
    ("2.5", None),
    ("1e-1", None),
    ("2." + "0" * 100 + "1", None),
    ("9223372036854775807.5", None),
]


@pytest.mark.parametrize(
    ("token", "expected"),
    [pytest.param(token, value, id=token[:40]) for token, value in QUANTITIES]
    + [pytest.param(json.dumps(token), value, id=f'"{token[:40]}"') for token, value in QUANTITIES]
    + [pytest.param(token, None if value is None else 5, id=token) for token, value in OTHERS],
)
def test_quantities(token: str, expected: int | None) -> None:
    """A quantity is a whole number within int64, however it is written; anything else is rejected, a blank too."""
    for key in ("quantity", "qty"):
        record = read_sale(f'{{"id": 1, "event_id": "e", "{key}": {token}, "price": "0.5"}}')
        if expected is None:
            assert record == Rejected("quantity_not_a_whole_number", "1")
        else:
            assert isinstance(record, TicketSaleRecord)
            assert (record.quantity, record.total_amount) == (expected, expected * Decimal("0.5"))


TOTALS = [
    pytest.param(sale(), 1, "0", id="neither price nor quantity"),
    pytest.param(sale(quantity=3), 3, "0", id="no price"),
    pytest.param(sale(price="2.50"), 1, "2.5", id="no quantity"),
    pytest.param(sale(quantity=None, qty=None, price=2), 1, "2", id="null quantities"),
    pytest.param(sale(quantity=0, qty=9, price=2), 0, "0", id="a quantity of 0 is present"),
    pytest.param(sale(quantity=3, price=0, amount=9), 3, "0", id="a price of 0 is present"),
    pytest.param(sale(quantity=3, price=2, total_amount=0, totalAmount=9), 3, "0", id="a total of 0 is present"),
    pytest.param(sale(quantity=3, price=2, total_amount=None), 3, "6", id="a null total is missing"),
    pytest.param(sale(quantity=3, price="?", total_amount="5"), 3, "5", id="beside a total the price isn't looked at"),
    pytest.param(sale(quantity=-2, price="19.99"), -2, "-39.98", id="refund"),
    pytest.param(sale(quantity=-2, total_amount="-1"), -2, "-1", id="refund with a total"),
    pytest.param(sale(quantity=3, price="0.3333333335"), 3, "1.000000002", id="the price is rounded, not the product"),
    pytest.param(sale(quantity=10**18, price="99999999999.999999999"), 10**18, "9" * 20 + "0" * 9, id="large"),
]


@pytest.mark.parametrize(("item", "quantity", "total"), TOTALS)
def test_totals(item: str, quantity: int, total: str) -> None:
    """The amount is the total where one is given, else quantity times price; a missing quantity is 1, a price 0."""
    record = sale_of(item)
    assert (record.quantity, record.total_amount) == (quantity, Decimal(total))
    assert record.total_nano == int(Decimal(total) * 10**9)


REJECTS = [
    pytest.param("{}", "event_id_missing", None, id="empty"),
    pytest.param('{"id": 7}', "event_id_missing", "7", id="no event"),
    pytest.param('{"id": 7.5, "saleId": "s"}', "event_id_missing", "s", id="its own id, by its candidates"),
    pytest.param('{"id": "", "sale_id": 8}', "event_id_missing", "8", id="an empty id of its own"),
    pytest.param('{"event_id": "a\\u0000"}', "event_id_not_text", None, id="NUL"),
    pytest.param('{"event_id": "\\ud800"}', "event_id_not_text", None, id="lone surrogate"),
    pytest.param(sale(event_id="x" * 1001), "event_id_too_long", None, id="1001 bytes"),
    pytest.param(sale(event_id="é" * 501), "event_id_too_long", None, id="1002 bytes in 501 characters"),
    pytest.param(sale(id=7, quantity=1.5), "quantity_not_a_whole_number", "7", id="fraction"),
    pytest.param(sale(id=7, quantity=""), "quantity_not_a_whole_number", "7", id="an empty quantity is present"),
    pytest.param(sale(quantity=True), "quantity_not_a_whole_number", None, id="boolean"),
    pytest.param(sale(price=""), "price_not_a_number", None, id="an empty price is present"),
    pytest.param(sale(price=False, amount=3), "price_not_a_number", None, id="the next candidate isn't tried"),
    pytest.param(sale(total_amount="", price=3), "total_amount_not_a_number", None, id="an empty total is present"),
    pytest.param(sale(quantity=2, price="5e28"), "total_amount_too_large", None, id="product beyond 29 digits"),
    pytest.param(sale(quantity=-2, price="5e28"), "total_amount_too_large", None, id="product below -29 digits"),
]


@pytest.mark.parametrize(("item", "reason", "item_id"), REJECTS)
def test_rejects(item: str, reason: str, item_id: str | None) -> None:
    """What can't be used is rejected with its reason and its own id."""
    assert read_sale(item) == Rejected(reason, item_id)


EVENT_REJECTS = [
    pytest.param("{}", "event_id_missing", None, id="no id"),
    pytest.param('{"id": "", "name": "n"}', "event_id_missing", None, id="empty id"),
    pytest.param('{"id": 1.5}', "event_id_missing", None, id="float id"),
    pytest.param('{"id": "a\\u0000"}', "event_id_not_text", "a\0", id="id with NUL"),
    pytest.param(json.dumps({"id": "x" * 1001}), "event_id_too_long", "x" * 1001, id="long id"),
    pytest.param('{"id": 1, "name": "a\\u0000b"}', "event_name_not_text", "1", id="name with NUL"),
    pytest.param('{"id": 1, "name": "\\udfff"}', "event_name_not_text", "1", id="name with a lone surrogate"),
    pytest.param(json.dumps({"id": 1, "name": "é" * 10_001}), "event_name_too_long", "1", id="long name"),
]


@pytest.mark.parametrize(("item", "reason", "item_id"), EVENT_REJECTS)
def test_rejected_events(item: str, reason: str, item_id: str | None) -> None:
    """An event without an id, or with a text that the stores can't hold or nobody could read, is rejected."""
    assert [*map(read_event, event_items(item))] == [Rejected(reason, item_id)] * 2


def test_longest_id() -> None:
    """An id of 1000 bytes is taken."""
    assert sale_of(sale(event_id="é" * 500)).event_id == "é" * 500


SOME_SECONDS = 1_769_902_200
"""2026-01-31T23:30:00Z: the next day in Berlin."""
DATES: list[tuple[str, dict[str, str]]] = [
    ('"2026-01-31T23:30:00.000Z"', {"UTC": "2026-01-31", "Berlin": "2026-02-01", "LA": "2026-01-31"}),
    ('"2026-02-01T07:59:59Z"', {"UTC": "2026-02-01", "Berlin": "2026-02-01", "LA": "2026-01-31"}),
    ('"2026-01-31T23:30:00"', {"UTC": "2026-01-31", "Berlin": "2026-02-01", "LA": "2026-01-31"}),
    ('"2026-01-31 23:30"', {"UTC": "2026-01-31", "Berlin": "2026-02-01"}),
    ('"2026-01-31T23:30:00+02:00"', {"UTC": "2026-01-31", "Berlin": "2026-01-31"}),
    ('"2026-01-31T23:30:00-02:00"', {"UTC": "2026-02-01", "Berlin": "2026-02-01", "LA": "2026-01-31"}),
    ('"2026-02-01T00:30:00+0530"', {"UTC": "2026-01-31", "Berlin": "2026-01-31", "LA": "2026-01-31"}),
    ('"2026-01-31T23:59:59.999999999Z"', {"UTC": "2026-01-31", "Berlin": "2026-02-01"}),
    ('"20260131T233000Z"', {"UTC": "2026-01-31", "Berlin": "2026-02-01"}),
    ('"2026-W05-6T23:30Z"', {"UTC": "2026-01-31", "Berlin": "2026-02-01"}),
    ('"2026W05T23"', {"UTC": "2026-01-26", "Berlin": "2026-01-27"}),
    # A bare date is that day in any zone.
    ('"2026-01-31"', {"UTC": "2026-01-31", "Berlin": "2026-01-31", "LA": "2026-01-31"}),
    ('"20260131"', {"UTC": "2026-01-31", "Berlin": "2026-01-31", "LA": "2026-01-31"}),
    ('"2026-W05-6"', {"UTC": "2026-01-31", "Berlin": "2026-01-31", "LA": "2026-01-31"}),
    ('"2026W056"', {"UTC": "2026-01-31", "LA": "2026-01-31"}),
    ('"0001-01-01"', {"UTC": "0001-01-01", "LA": "0001-01-01"}),
    ('"9999-12-31"', {"UTC": "9999-12-31", "Berlin": "9999-12-31"}),
    # The hour that daylight saving time takes or gives.
    ('"2026-03-28T22:59:59Z"', {"Berlin": "2026-03-28"}),
    ('"2026-03-28T23:00:00Z"', {"Berlin": "2026-03-29"}),
    ('"2026-03-29T21:59:59Z"', {"Berlin": "2026-03-29"}),
    ('"2026-03-29T22:00:00Z"', {"Berlin": "2026-03-30"}),
    ('"2026-10-24T22:00:00Z"', {"Berlin": "2026-10-25"}),
    ('"2026-10-25T22:59:59Z"', {"Berlin": "2026-10-25"}),
    ('"2026-10-25T23:00:00Z"', {"Berlin": "2026-10-26"}),
    ('"2026-03-08T07:59:59Z"', {"LA": "2026-03-07"}),
    ('"2026-03-09T06:59:59Z"', {"LA": "2026-03-08"}),
    ('"2026-03-09T07:00:00Z"', {"LA": "2026-03-09"}),
    ('"2026-11-01T06:59:59Z"', {"LA": "2026-10-31"}),
    ('"2026-11-02T07:59:59Z"', {"LA": "2026-11-01"}),
    ('"2026-11-02T08:00:00Z"', {"LA": "2026-11-02"}),
    # Unix time.
    *(
        (f"{quote}{SOME_SECONDS}{zeros}{quote}", {"UTC": "2026-01-31", "Berlin": "2026-02-01", "LA": "2026-01-31"})
        for quote in ("", '"')
        for zeros in ("", "000", "000000", "000000000", ".0", ".999999999", "000.5")
    ),
    ("1.7699022e9", {"UTC": "2026-01-31", "Berlin": "2026-02-01"}),
    ('"+1.7699022e12"', {"UTC": "2026-01-31", "Berlin": "2026-02-01"}),
    ('"1700010100000"', {"UTC": "2023-11-15"}),  # not the year 1700
    ('"2026013123300"', {"UTC": "2034-03-15"}),  # not the year 2026
    ("20260131", {"UTC": "1970-08-23"}),
    ('"20261331"', {"UTC": "1970-08-23"}),
    ('"2026"', {"UTC": "1970-01-01"}),
    ("0", {"UTC": "1970-01-01", "Berlin": "1970-01-01", "LA": "1969-12-31"}),
    ("0.0", {"UTC": "1970-01-01"}),
    ('"0"', {"UTC": "1970-01-01"}),
    ("-1", {"UTC": "1969-12-31", "Berlin": "1970-01-01"}),
    ("-0.0000001", {"UTC": "1969-12-31"}),
    ("-86400", {"UTC": "1969-12-31"}),
    ('"-86401"', {"UTC": "1969-12-30"}),
    ('"123e-0000000"', {"UTC": "1970-01-01", "LA": "1969-12-31"}),
    # Where a unit ends and the next begins.
    ("99999999999", {"UTC": "5138-11-16"}),
    ("100000000000", {"UTC": "1973-03-03"}),
    ("99999999999999", {"UTC": "5138-11-16"}),
    ("100000000000000", {"UTC": "1973-03-03"}),
    ("99999999999999999", {"UTC": "5138-11-16"}),
    ("100000000000000000", {"UTC": "1973-03-03"}),
    ("-99999999999", {"UTC": "unreadable"}),
    ("-100000000000", {"UTC": "1966-10-31"}),
    ("-100000000000000", {"UTC": "1966-10-31"}),
    ("-100000000000000000", {"UTC": "1966-10-31"}),
    # Before the year 1, after the year 9999.
    ('"0001-01-01T00:00:00Z"', {"UTC": "0001-01-01", "LA": "unreadable"}),
    ('"0001-01-01T00:00:00+05:00"', {"UTC": "unreadable"}),
    ('"9999-12-31T23:30:00Z"', {"UTC": "9999-12-31", "Berlin": "unreadable", "LA": "9999-12-31"}),
    ("1e22", {"UTC": "unreadable"}),
    ("-1e22", {"UTC": "unreadable"}),
    ("1e999999999", {"UTC": "unreadable"}),
    *(
        (json.dumps(text), {"UTC": "unreadable", "LA": "unreadable"})
        for text in ("yesterday", "31.01.2026", "2026-02-30", "2026-02-30T00:00:00Z", "2026-13-01", "2026-01-31T25:00Z")
    ),
    *(
        (json.dumps(text), {"UTC": "unreadable", "LA": "unreadable"})
        for text in (" 2026-01-31", "2026-01-31 ", " 0", "1,769,902,200", "NaN", "2026-01-31T09:30:00 Europe/Berlin")
    ),
    *((token, {"UTC": "unreadable", "LA": "unreadable"}) for token in ("true", "[]", "{}", "NaN", "Infinity")),
    *((token, {"UTC": "missing", "LA": "missing"}) for token in ("null", '""')),
]


@pytest.mark.parametrize(
    ("token", "zone", "expected"),
    [
        pytest.param(token, ZONES[zone], day, id=f"{token[:40]} in {zone}")
        for token, days in DATES
        for zone, day in days.items()
    ],
)
def test_days(token: str, zone: tzinfo, expected: str) -> None:
    """A sale's day is its day in the run's zone; without a readable date it is today, and says why."""
    for key in ("sale_date", "timestamp"):
        record = read_sale(f'{{"event_id": "e", "{key}": {token}}}', zone)
        assert isinstance(record, TicketSaleRecord)
        known = {"missing": (TODAY, MISSING), "unreadable": (TODAY, UNREADABLE)}
        found = (record.sale_date, record.date_source)
        assert found == (known[expected] if expected in known else (date.fromisoformat(expected), SENT))


def test_unreadable_dates_hide_no_later_candidate() -> None:
    """The first date that is present is the sale's, readable or not; an empty one is not present."""
    assert sale_of(sale(sale_date="soon", createdAt="2026-01-31")).date_source == UNREADABLE
    assert sale_of(sale(sale_date="", saleDate="", createdAt="2026-01-31")).sale_date == date(2026, 1, 31)


def test_record_keeps_its_item() -> None:
    """`raw` is the item, and the price is the one that was sent, or None where it is no number."""
    item = sale_items(sale(id=7, price="1.10", total_amount=3))[0]
    record = sale_reader(TODAY, UTC)(item)
    assert isinstance(record, TicketSaleRecord)
    assert record.raw is item
    assert (record.sale_id, record.price, record.total_amount) == ("7", Decimal("1.1"), Decimal(3))
    assert [sale_of(sale(total_amount=3, price=price)).price for price in (None, "?", 0)] == [None, None, Decimal(0)]


@given(NUMBER_TEXTS)
def test_amounts_are_the_decimals_they_are_written_as(text: str) -> None:
    """For any number's text the amount is that Decimal, quantized half-even to 9 decimals, or None beyond the limit."""
    exact = Context(prec=2_000, rounding=ROUND_HALF_EVEN)
    expected = Decimal(text).quantize(Decimal("1e-9"), context=exact)
    nano = read_amount(text)
    if abs(expected) < 10**29:
        assert nano is not None
        assert from_nano(nano) == expected
    else:
        assert nano is None


@given(items(*SALE_KEYS))
def test_any_sale_is_read_or_rejected(item: dict[str, Any]) -> None:
    """No item makes the reader raise; how it was decoded, and the way of reading UTC times, change nothing."""
    text = json.dumps({"event_id": "e"} | item)
    quick = read_sale(text)
    assert told(quick) == told(read_sale(text, UTC))
    converted = ItemDecoder(SaleItem).convert(json.loads(text, parse_float=fields.NumberText))
    assert converted is not None
    assert told(sale_reader(TODAY, UTC)(converted)) == told(quick)
    for zone in ZONES.values():
        record = read_sale(text, zone)
        assert isinstance(record, Rejected) == isinstance(quick, Rejected)
        if isinstance(record, TicketSaleRecord):
            assert isinstance(record.total_nano, int)
            assert abs(record.total_amount) < 10**29
            assert -(2**63) <= record.quantity < 2**63
            assert datetime.combine(record.sale_date, datetime.min.time()).year >= 1


@settings(max_examples=300)
@given(items(*EVENT_KEYS))
def test_any_event_is_read_or_rejected(item: dict[str, Any]) -> None:
    """No item makes the reader of events raise, and how it was decoded changes nothing."""
    quick, lenient = map(read_event, event_items(json.dumps({"id": 1} | item)))
    assert told(quick) == told(lenient)


FIELDS: list[Any] = [
    pytest.param([{"id": 1, "sale_id": 2}], "sale_id", FieldCount("id", 1), id="the first key"),
    pytest.param([{"id": None, "saleId": 2}, {"sale_id": 1}], "sale_id", FieldCount("sale_id", 2), id="two keys"),
    pytest.param(
        [{"id": ""}, {"id": "", "saleId": 2}], "sale_id", FieldCount("saleId", 1), id="an empty one is missing"
    ),
    pytest.param([{"id": ""}, {}], "sale_id", None, id="none"),
    pytest.param([{"quantity": ""}, {"quantity": 0}, {}], "quantity", FieldCount("quantity", 2), id="empty and zero"),
    pytest.param(
        [{"event": {}}, {"event": {"id": "", "event_id": 5}}], "event_id", FieldCount("event", 1), id="objects"
    ),
    pytest.param([{"price": 1}, {"price": 1, "totalAmount": 2}, {}], "price", FieldCount("price", 1), id="a price"),
    pytest.param([{"price": 1, "totalAmount": 0}], "price", FieldCount("price", 0), id="a price beside a total only"),
    pytest.param(
        [{"totalAmount": 2}, {"total_amount": None}], "total_amount", FieldCount("totalAmount", 1), id="a total"
    ),
]


@pytest.mark.parametrize(("given_items", "field", "count"), FIELDS)
def test_fields_in_sales(given_items: list[dict[str, Any]], field: str, count: FieldCount | None) -> None:
    """A field's key is the first one under which it is found, and it is counted where it is looked for."""
    assert fields_in([None, *map(ItemDecoder(SaleItem).convert, given_items)]).get(field) == count


@given(st.lists(items(*SALE_KEYS), max_size=4))
def test_fields_in_any_sales(given_items: list[dict[str, Any]]) -> None:
    """As many have a field as `first_of` finds it in; a price is found where there is no total."""
    sales = [sale for sale in map(ItemDecoder(SaleItem).convert, given_items) if sale is not None]
    counted = {name: count.had for name, count in fields_in(sales).items() if count.had}
    unpriced = [sale for sale in sales if first_of(sale, "total_amount") is None]
    assert counted == {
        name: had
        for name in fields.CANDIDATES[SaleItem]
        if (had := sum(first_of(sale, name) is not None for sale in (unpriced if name == "price" else sales)))
    }
