"""Plain sales are read as columns, and come out as they do one by one; whatever isn't plain goes the complete way."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.extract.body import read_page
from etl.extract.items import Batch, ItemDecoder
from etl.records.fields import CANDIDATES, Rejected, SaleItem, fields_in
from etl.records.plain_sales import ColumnReader, SaleColumns, SaleRow, columns_of, plain_sale_type, row_of
from etl.records.reader import sale_reader
from tests.support.strategies import DATE_TEXTS, JSON_VALUES, NUMBER_TEXTS, items

TODAY = date(2026, 1, 31)
BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
PLAIN = {
    "id": 7,
    "event_id": "e",
    "quantity": 2,
    "price": 1.5,
    "total_amount": 3.0,
    "sale_date": "2026-01-30T23:30:00.000Z",
}


def second_batch(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Batch[SaleItem]:
    """The second page's only batch, as it is read after the first page."""
    decoder = ItemDecoder(SaleItem)
    for sales in (first, second):
        batches = list(read_page(iter([json.dumps(sales).encode()]), decoder).batches)
    return batches[0]


def one_by_one(batch: Batch[SaleItem], zone: tzinfo) -> list[SaleRow] | None:
    """The rows of the complete way; None where it rejects one."""
    read = sale_reader(TODAY, zone)
    records = [Rejected("not_an_object") if item is None else read(item) for item in batch.items]
    usable = [record for record in records if not isinstance(record, Rejected)]
    return list(map(row_of, usable)) if len(usable) == len(records) else None


def as_columns(batch: Batch[SaleItem], zone: tzinfo = UTC) -> list[SaleRow] | None:
    """The rows of the quick way; None where it doesn't take the batch."""
    columns = None if batch.plain is None else ColumnReader(zone).read(batch.plain)
    return None if columns is None else list(columns.rows())


TAKEN = [
    pytest.param({}, ("e", date(2026, 1, 30), 2, 3 * 10**9), id="as most are"),
    pytest.param({"total_amount": 12}, ("e", date(2026, 1, 30), 2, 12 * 10**9), id="a whole amount"),
    pytest.param({"total_amount": "-0.10"}, ("e", date(2026, 1, 30), 2, -(10**8)), id="a refund, as text"),
    pytest.param({"total_amount": "0.000000001"}, ("e", date(2026, 1, 30), 2, 1), id="nine decimals"),
    pytest.param({"event_id": 5, "id": "x"}, ("5", date(2026, 1, 30), 2, 3 * 10**9), id="other types of ids"),
    pytest.param({"quantity": -2}, ("e", date(2026, 1, 30), -2, 3 * 10**9), id="a negative quantity"),
    pytest.param({"sale_date": "2026-01-30 23:30"}, ("e", date(2026, 1, 30), 2, 3 * 10**9), id="no zone is UTC"),
    pytest.param({"price": None}, ("e", date(2026, 1, 30), 2, 3 * 10**9), id="a price that isn't looked at"),
]


@pytest.mark.parametrize(("change", "row"), TAKEN)
def test_plain_sales(change: dict[str, Any], row: SaleRow) -> None:
    """A plain sale is taken, and its row is the complete way's."""
    batch = second_batch([PLAIN], [{**PLAIN, **change}, PLAIN])
    found = as_columns(batch)
    assert found == one_by_one(batch, UTC)
    assert found is not None
    assert found[0] == row


REFUSED = [
    pytest.param({"id": None}, id="no id"),
    pytest.param({"id": ""}, id="an empty id"),
    pytest.param({"event_id": "\0"}, id="an event id that no store holds"),
    pytest.param({"event_id": "e" * 1001}, id="an event id that is too long"),
    pytest.param({"event_id": None, "eventId": "e"}, id="an event under another key"),
    pytest.param({"quantity": 2.5}, id="half a ticket"),
    pytest.param({"quantity": 2**63}, id="more tickets than int64"),
    pytest.param({"quantity": True}, id="a boolean"),
    pytest.param({"total_amount": None}, id="no total"),
    pytest.param({"total_amount": 1e30}, id="an exponent"),
    pytest.param({"total_amount": 10**29}, id="30 digits"),
    pytest.param({"total_amount": "1,2"}, id="a comma, which is what parts the amounts"),
    pytest.param({"total_amount": "05"}, id="a leading zero"),
    pytest.param({"total_amount": "1.2.3"}, id="two points"),
    pytest.param({"total_amount": "1_000"}, id="what only Python takes for a number"),
    pytest.param({"total_amount": "0.0000000001"}, id="ten decimals"),
    pytest.param({"total_amount": ""}, id="an empty amount"),
    pytest.param({"sale_date": "2026-01-30"}, id="a bare date"),
    pytest.param({"sale_date": "2026-01-30T23:30:00+01:00"}, id="another offset"),
    pytest.param({"sale_date": "2026-01-30T23:61:00.000Z"}, id="no time"),
    pytest.param({"sale_date": "1712010612345"}, id="a Unix time as text"),
    pytest.param({"sale_date": 1712010612345}, id="a Unix time"),
]


@pytest.mark.parametrize("change", REFUSED)
def test_other_sales(change: dict[str, Any]) -> None:
    """One sale that isn't plain sends its whole batch the complete way, which finds every item."""
    batch = second_batch([PLAIN], [PLAIN, {**PLAIN, **change}])
    assert as_columns(batch) is None
    assert len(batch.items) == len(batch) == 2


PRICED = {name: value for name, value in PLAIN.items() if name != "total_amount"}


def test_price_times_quantity() -> None:
    """Where no sale has a total, it is quantity x price; a total that turns up then isn't overlooked."""
    batch = second_batch([PRICED], [PRICED])
    assert as_columns(batch) == [("e", date(2026, 1, 30), 2, 3 * 10**9)] == one_by_one(batch, UTC)
    assert as_columns(second_batch([PRICED], [PLAIN])) is None
    assert as_columns(second_batch([PRICED], [{**PRICED, "price": 10**28, "quantity": 10}])) is None


ZONES = [
    pytest.param(UTC, "2026-01-30T23:30:00Z", date(2026, 1, 30), id="UTC"),
    pytest.param(BERLIN, "2026-01-30T23:30:00Z", date(2026, 1, 31), id="Berlin"),
    pytest.param(KOLKATA, "2026-01-30T18:29:59Z", None, id="Kolkata, in the hour in which the day changes"),
    pytest.param(KOLKATA, "2026-01-30T19:00:00Z", date(2026, 1, 31), id="Kolkata, after it"),
]


@pytest.mark.parametrize(("zone", "text", "day"), ZONES)
def test_days(zone: tzinfo, text: str, day: date | None) -> None:
    """The hour in UTC gives the day; where the day changes within that hour, the complete way gives it."""
    rows = as_columns(second_batch([PLAIN], [{**PLAIN, "sale_date": text}]), zone)
    assert (rows[0][1] if rows else None) == day


KEYS = {name: name for name in ("event_id", "quantity", "total_amount", "sale_date")} | {"sale_id": "id"}


def turns(zone: tzinfo, year: int) -> Iterator[datetime]:
    """The hours, in UTC, in which the zone's clocks are put forward or back in a year."""
    january = datetime(year, 1, 1, tzinfo=UTC)
    days = [january + timedelta(days=day) for day in range(367)]
    for day, next_day in pairwise(zip(days, [day.astimezone(zone).utcoffset() for day in days], strict=True)):
        if day[1] != next_day[1]:
            offsets = [(day[0] + timedelta(hours=hour)).astimezone(zone).utcoffset() for hour in range(25)]
            yield day[0] + timedelta(hours=next(hour for hour in range(24) if offsets[hour] != offsets[hour + 1]))


def wrong_minutes(zone: tzinfo, turn: datetime) -> list[str]:
    """The minutes around a turn whose day the quick way tells, and tells wrongly."""
    reader, wrong, plain = ColumnReader(zone), [], plain_sale_type(KEYS)
    assert plain is not None
    for minute in (turn + timedelta(minutes=minute) for minute in range(-60, 120)):
        columns = reader.read([plain(7, "e", 1, 1, minute.strftime("%Y-%m-%dT%H:%M:00Z"))])
        if columns is not None and columns.days != [minute.astimezone(zone).date()]:
            wrong.append(minute.isoformat())
    return wrong


def test_clocks_that_go_back_over_midnight() -> None:
    """St John's put its clocks back at 00:01 until 2011: one minute of the new day, and the old one came again."""
    st_johns = ZoneInfo("America/St_Johns")
    hours = [turn for year in range(1987, 2012) for turn in turns(st_johns, year)]
    assert len(hours) == 50
    assert [wrong for hour in hours for wrong in wrong_minutes(st_johns, hour)] == []


def test_days_around_turns_of_the_clock() -> None:
    """In every zone of the database, in years at random: each minute's day is the zone's, or the complete way's."""
    dice, met = random.Random(13), 0
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for turn in turns(zone, dice.randrange(1900, 2038)):
            met += 1
            assert wrong_minutes(zone, turn) == [], name
    assert met > 100


SALE = st.fixed_dictionaries(
    {
        "id": st.integers() | st.text(max_size=3),
        "event_id": st.sampled_from(["a", "b", 1, "1", ""]),
        "quantity": st.integers(-3, 9) | JSON_VALUES,
        "total_amount": st.integers(-50, 50) | st.floats() | NUMBER_TEXTS,
        "sale_date": st.datetimes().map(lambda moment: moment.isoformat() + "Z") | DATE_TEXTS,
    },
    optional={"price": JSON_VALUES, "eventId": JSON_VALUES, "sale_id": JSON_VALUES},
)
ANY_SALES = st.lists(
    SALE | items(*(key for keys in CANDIDATES[SaleItem].values() for key in keys)), min_size=1, max_size=3
)


@given(first=ANY_SALES, second=ANY_SALES, zone=st.sampled_from([UTC, BERLIN, KOLKATA]))
def test_any_sales(first: list[dict[str, Any]], second: list[dict[str, Any]], zone: tzinfo) -> None:
    """For any sales: what the quick way takes is what the complete way makes of it, and finds in it."""
    batch = second_batch(first, second)
    rows = as_columns(batch, zone)
    assert rows is None or rows == one_by_one(batch, zone)
    found = {name: count for name, count in batch.fields(batch.items).items() if count.had}
    assert found == {name: count for name, count in fields_in(batch.items).items() if count.had}
    assert rows is None or batch.plain_fields() == found


def test_chosen_rows() -> None:
    """Columns can be narrowed, down to none, and made of rows."""
    rows = [("a", TODAY, 1, 2), ("b", TODAY, 3, 4)]
    assert list(columns_of(rows).rows()) == rows
    assert columns_of(rows).only([False, True]) == SaleColumns(["b"], [TODAY], [3], [4])
    assert columns_of(rows).only([False, False]) == columns_of([]) == SaleColumns([], [], [], [])


def test_keys_that_come_again() -> None:
    """A change of keys and back makes no type anew: pages that take turns cost no memory each."""
    renamed = {("eventId" if name == "event_id" else name): value for name, value in PLAIN.items()}
    decoder, types = ItemDecoder(SaleItem), []
    for sale in (PLAIN, PLAIN, renamed, renamed, PLAIN, PLAIN):
        (batch,) = read_page(iter([json.dumps([sale]).encode()]), decoder).batches
        types.append(None if batch.plain is None else type(batch.plain[0]))
    assert types[::2] == [None] * 3
    assert types[1] is types[5] is not None
    assert types[3] is not types[1]
