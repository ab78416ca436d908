"""A guard lets through what it is set to allow, to the last record, and says with numbers why it stopped a run."""

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from etl.errors import SchemaDriftError, SuspiciousExtractError, TooManyRejectsError
from etl.extract.tally import RejectedItem, Tally
from etl.load.store import StoredTickets
from etl.records.fields import MISSING, SENT, UNREADABLE
from etl.records.values import NANO
from etl.run.guards import FieldFound, check_rejects, check_schema, check_shrink, fields_not_found, fields_to_keep
from etl.transform.fold import Summary, fold_sales, summarise

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def tally(dataset: str = "ticket_sales", read: int = 100, **fields: Any) -> Tally:
    return Tally(dataset, read=read, **fields)


def test_a_message_shows_so_many_keys() -> None:
    """However many keys the records have, and however long they are."""
    text = json.dumps({f"{number:04}" + "x" * 500: 1 for number in range(1000)})
    rejects = [RejectedItem("ticket_sales", "event_id_missing", None, text)]
    with pytest.raises(TooManyRejectsError) as caught:
        check_rejects(tally(read=11, reasons=Counter(event_id_missing=11), rejects=rejects), 0)
    assert caught.value.details["keys_seen"] == [f"{number:04}" + "x" * 96 for number in range(50)]


REJECTS = [
    pytest.param(1000, {}, 0, 0.0, False, id="none"),
    pytest.param(0, {}, 0, 0.0, False, id="nothing read"),
    pytest.param(1000, {"not_an_object": 50}, 0, 0.05, False, id="as many as allowed"),
    pytest.param(1000, {"not_an_object": 51}, 0, 0.05, True, id="one too many"),
    pytest.param(1000, {"not_an_object": 20, "price_not_a_number": 30}, 0, 0.05, False, id="two reasons, allowed"),
    pytest.param(1000, {"not_an_object": 21, "price_not_a_number": 30}, 0, 0.05, True, id="two reasons, too many"),
    pytest.param(1000, {}, 50, 0.05, False, id="unreadable dates, allowed"),
    pytest.param(1000, {}, 51, 0.05, True, id="unreadable dates, too many"),
    pytest.param(1000, {"not_an_object": 30}, 21, 0.05, True, id="rejects and dates together"),
    pytest.param(15, {"event_id_missing": 1}, 0, 0.05, False, id="one of fifteen"),
    pytest.param(10, {"event_id_missing": 10}, 0, 0.0, False, id="ten prove nothing"),
    pytest.param(11, {"event_id_missing": 11}, 0, 0.05, True, id="eleven do"),
    pytest.param(11, {"event_id_missing": 6}, 5, 0.05, True, id="eleven, some of them for their dates"),
    pytest.param(30, {"not_an_object": 30}, 0, 1.0, False, id="all allowed"),
    pytest.param(1_000_000, {"not_an_object": 50_001}, 0, 0.05, True, id="one in a million too many"),
    *(
        pytest.param(1000, {"not_an_object": n}, 0, n / 1000, False, id=f"{n} of 1000 allowed")
        for n in (11, 29, 333, 999)
    ),
]


@pytest.mark.parametrize(("read", "reasons", "unreadable", "ratio", "stops"), REJECTS)
def test_rejects(read: int, reasons: dict[str, int], unreadable: int, ratio: float, stops: bool) -> None:
    """More than the allowed share of unusable records stops the run; dates that are missing don't count."""
    dates = Counter({SENT: read, MISSING: 40, UNREADABLE: unreadable})
    found = tally(read=read, reasons=Counter(reasons), dates=dates, keys_seen=["id", "when"])
    if not stops:
        check_rejects(found, ratio)
        return
    with pytest.raises(TooManyRejectsError) as caught:
        check_rejects(found, ratio)
    expected = reasons | ({"sale_date_unreadable": unreadable} if unreadable else {})
    assert caught.value.details == {"dataset": "ticket_sales", "reasons": expected, "keys_seen": ["id", "when"]}
    count = sum(expected.values())
    assert str(caught.value).startswith(f"ticket_sales: {count} of {read} records can't be used")
    assert all(f"{reason}: {number}" in str(caught.value) for reason, number in expected.items())
    assert "force=true" in str(caught.value)


def test_rejects_name_the_keys_but_no_values() -> None:
    """The error names the keys of the records that were rejected, and shows nothing of their values."""
    texts = ['{"id": 1, "buyer": "Ada"}', '{"Menge": 2, "id": "Ada"}', '["Ada"]', '{"broken', json.dumps([[]] * 9)]
    rejects = [RejectedItem("ticket_sales", "event_id_missing", None, text) for text in texts]
    found = tally(read=15, reasons=Counter(event_id_missing=15), rejects=rejects, keys_seen=["other"])
    with pytest.raises(TooManyRejectsError, match="keys Menge, buyer, id") as caught:
        check_rejects(found, 0.5)
    assert "Ada" not in f"{caught.value}{caught.value.details}"


KEYS = {"sale_id": "id", "event_id": "eventId", "quantity": "qty", "price": "unitPrice", "sale_date": "createdAt"}


def found_in(records: int, had: int | None = None) -> dict[str, FieldFound]:
    """What was found of KEYS, in so many records or only some of them."""
    return {name: FieldFound(key, records if had is None else had, records) for name, key in KEYS.items()}


def tally_of(read: int, *without: str, total: int = 0, priced: int | None = None, **others: str) -> Tally:
    """Sales with KEYS, some of them `others`; so many have a total, and a price counts only without one."""
    keys = {name: key for name, key in (KEYS | others).items() if name not in without}
    had = Counter(dict.fromkeys(keys, read)) | Counter(total_amount=total)
    if "price" in keys:
        had["price"] = read - total if priced is None else priced
    return tally(read=read, accepted=read, fields_found=keys, fields_had=had, keys_seen=["id", "Menge"])


SCHEMAS: list[Any] = [
    pytest.param(found_in(100), tally_of(100), [], id="the same"),
    pytest.param({}, tally_of(100), [], id="first run"),
    pytest.param(found_in(100), tally_of(100, quantity="quantity", price="amount"), [], id="under another candidate"),
    pytest.param(found_in(100), tally_of(100, total=50), [], id="a total beside some"),
    *(pytest.param(found_in(100), tally_of(100, name), [name], id=f"{name} renamed") for name in KEYS),
    pytest.param(found_in(100), tally_of(9, *KEYS), [*KEYS], id="all"),
    pytest.param(found_in(100), tally_of(0, *KEYS), [], id="no records"),
    pytest.param(found_in(1), tally_of(1, "quantity"), [], id="the only one"),
    pytest.param(found_in(6), tally_of(6, "quantity"), [], id="six of six, which may be chance"),
    pytest.param(found_in(7), tally_of(7, "quantity"), ["quantity"], id="seven of seven, which can't"),
    pytest.param(found_in(3), tally_of(8, "quantity"), [], id="three had it, eight have it not"),
    pytest.param(found_in(3), tally_of(9, "quantity"), ["quantity"], id="three had it, nine have it not"),
    pytest.param(found_in(1_000_000), tally_of(1, "quantity"), ["quantity"], id="a million had it, one has it not"),
    pytest.param(found_in(100, 50), tally_of(19, "quantity"), [], id="every other one, chance"),
    pytest.param(found_in(100, 50), tally_of(20, "quantity"), ["quantity"], id="every other one, no chance"),
    pytest.param(found_in(1000, 1), tally_of(6_000, "quantity"), [], id="one in a thousand, chance"),
    pytest.param(found_in(1000, 1), tally_of(7_000, "quantity"), ["quantity"], id="one in a thousand, no chance"),
    pytest.param(found_in(100), tally_of(100, "price", total=100), [], id="no price beside totals"),
    pytest.param(found_in(100), tally_of(100, total=96, priced=0), ["price"], id="prices beside totals only"),
    pytest.param(found_in(100), tally_of(100, total=98, priced=0), [], id="two have neither, which may be chance"),
    pytest.param(found_in(100), tally_of(100, "quantity", total=100), ["quantity"], id="no quantity beside totals"),
    pytest.param(
        found_in(100) | {"total_amount": FieldFound("total", 100, 100)},
        tally_of(100),
        ["total_amount"],
        id="a total, though there is a price",
    ),
]


@pytest.mark.parametrize(("before", "now", "lost"), SCHEMAS)
def test_schema(before: dict[str, FieldFound], now: Tally, lost: list[str]) -> None:
    """A field that no record has where it is looked for stops the run, with the key that it had, if it isn't chance."""
    assert not set(lost) & set(fields_to_keep(now, before))
    if not lost:
        check_schema(now, before)
        return
    with pytest.raises(SchemaDriftError) as caught:
        check_schema(now, before)
    keys = {name: before[name].key for name in lost}
    assert caught.value.details == {"dataset": "ticket_sales", "fields_lost": keys, "keys_seen": ["id", "Menge"]}
    assert all(f"{name} (it was under {key!r})" in str(caught.value) for name, key in keys.items())
    assert "the records now have id, Menge" in str(caught.value)


def test_what_is_kept_of_fields() -> None:
    """How many had each, where it was looked for; of what a few records don't have, what was known before."""
    assert fields_to_keep(tally_of(100, total=60), {}) == {
        **found_in(100),
        "price": FieldFound("unitPrice", 40, 40),
    }
    before = found_in(3)
    for records in range(1, 9):
        before = fields_to_keep(tally_of(records, "quantity"), before)
        assert before["quantity"] == FieldFound("qty", 3, 3)
        assert before["sale_id"] == FieldFound("id", records, records)
    with pytest.raises(SchemaDriftError):
        check_schema(tally_of(9, "quantity"), before)
    assert fields_to_keep(tally_of(0, *KEYS), before) == before
    beside_totals = tally_of(100, total=100)
    assert [name for name in KEYS if name not in fields_to_keep(beside_totals, found_in(9))] == ["price"]


def test_fields_in_the_ledger() -> None:
    """They come back as they were; rows of earlier versions, with a key alone, tell that some record had it."""
    found = FieldFound("qty", 7, 9)
    assert FieldFound.from_json(json.loads(json.dumps(asdict(found)))) == found
    earlier = FieldFound.from_json("qty")
    check_schema(tally_of(12, "quantity"), {"quantity": earlier})
    with pytest.raises(SchemaDriftError, match="it was under 'qty'"):
        check_schema(tally_of(13, "quantity"), {"quantity": earlier})


def test_fields_not_found() -> None:
    """The fields of a dataset that no record has, in the contract's order."""
    assert fields_not_found(tally("events")) == ["event_id", "event_name"]
    assert fields_not_found(tally("events", fields_found={"event_id": "id", "event_name": "title"})) == []
    assert fields_not_found(tally_of(9)) == ["total_amount"]


def summary(tickets: int, revenue: int = 0, *, refunded: int = 0) -> Summary:
    """One event's: what was sold, and so many tickets and their money back on the next day."""
    sales = [("e", NOW.date(), tickets + refunded, (revenue + refunded) * NANO)]
    refunds = [("e", NOW.date() + timedelta(1), -refunded, -refunded * NANO)]
    return summarise({"e": None}, fold_sales([*sales, *refunds] if refunded else sales), NOW)


def holding(tickets: int, revenue: float | str = 0, total: int | None = None) -> StoredTickets:
    """What a store holds of the events in scope; and in all, if that is another number."""
    return StoredTickets(tickets if total is None else total, tickets, Decimal(str(revenue)))


SHRINKS: list[Any] = [
    pytest.param((9, 9), summary(100), holding(100), 0.5, None, id="the same"),
    pytest.param((9, 9), summary(999), holding(100), 0.0, None, id="more"),
    pytest.param((9, 9), summary(50), holding(100), 0.5, None, id="fallen by half"),
    pytest.param((9, 9), summary(49), holding(100), 0.5, "tickets .* fall from 100 to 49, by", id="by more than half"),
    pytest.param((9, 9), summary(90), holding(100), 0.0, None, id="by ten, none allowed"),
    pytest.param((9, 9), summary(89), holding(100), 0.0, "fall from 100 to 89", id="by eleven, none allowed"),
    pytest.param((9, 9), summary(30), holding(100), 0.7, None, id="fallen by seven tenths"),
    pytest.param((9, 9), summary(29), holding(100), 0.7, "fall from 100 to 29", id="by more than seven tenths"),
    pytest.param((9, 9), summary(0), holding(100), 1.0, None, id="fallen to nothing, all allowed"),
    pytest.param((9, 9), summary(-1), holding(100), 1.0, "fall from 100 to -1", id="below nothing"),
    pytest.param((9, 9), summary(0), holding(10), 0.5, None, id="ten tickets prove nothing"),
    pytest.param((9, 9), summary(0), holding(11), 0.5, "fall from 11 to 0", id="eleven do"),
    pytest.param((9, 9), summary(50), holding(100, total=1000), 0.5, None, id="only what is in scope counts"),
    pytest.param((9, 9), summary(0), holding(0, total=1000), 0.5, None, id="nothing in scope"),
    pytest.param((9, 9), summary(-90), holding(-50), 0.5, None, id="more refunds than sales before"),
    pytest.param((9, 9), summary(100), holding(-50), 0.5, None, id="more sales than refunds"),
    pytest.param((9, 9), summary(20, refunded=930), holding(50), 0.5, None, id="few are left, and refunds go on"),
    pytest.param(
        (9, 9), summary(-460, refunded=930), holding(50), 0.5, "from 50 to -460", id="few are left, and half is lost"
    ),
    pytest.param((0, 0), summary(0), holding(0), 0.5, None, id="first run, nothing there yet"),
    pytest.param((0, 9), summary(9), holding(0), 0.5, None, id="first run, no events"),
    pytest.param((9, 0), summary(0), holding(11), 1.0, "sent no ticket_sales, and BigQuery has 11", id="no sales"),
    pytest.param((9, 0), summary(0), holding(10), 0.5, None, id="no sales, and ten tickets before"),
    pytest.param((0, 9), summary(9), holding(0, total=11), 1.0, "no events, and BigQuery has 11", id="no events"),
    pytest.param((0, 0), summary(0), holding(0, total=11), 1.0, "no events and no ticket_sales", id="nothing at all"),
    pytest.param((9, 0), summary(0), holding(0), 0.5, None, id="no sales, and none in the store"),
    pytest.param((9, 9), summary(100, 1000), holding(100, 1000), 0.0, None, id="as much money"),
    pytest.param((9, 9), summary(100, 1000), holding(100, "1000.004"), 0.0, None, id="as much, and rounded"),
    pytest.param((9, 9), summary(100, 500), holding(100, 1000), 0.5, None, id="half the money"),
    pytest.param((9, 9), summary(100, 499), holding(100, 1000), 0.5, "from 1000 to 499, by", id="less than half of it"),
    pytest.param((9, 9), summary(100, 0), holding(100, "0.5"), 0.5, "revenue .* from 0.5 to 0, by", id="all of little"),
    pytest.param((9, 9), summary(100, 0), holding(100, 1000), 1.0, None, id="no money any more, all allowed"),
    pytest.param((9, 9), summary(10, 0), holding(10, 1000), 0.5, None, id="ten tickets' money"),
    pytest.param((9, 9), summary(11, 0), holding(11, 1000), 0.5, "from 1000 to 0", id="eleven tickets' money"),
    pytest.param((9, 9), summary(10, -999), holding(10, 1), 0.5, None, id="ten tickets' money, and below nothing"),
    pytest.param((9, 9), summary(91, 89), holding(100, 1000), 0.95, None, id="nine tickets, and most of the money"),
    pytest.param((9, 9), summary(7, 45), holding(16, 960), 0.5, None, id="a small shop's nine dearest are refunded"),
    pytest.param((9, 9), summary(100, 5), holding(100, 0), 0.5, None, id="free tickets before"),
    pytest.param((9, 9), summary(100, -5), holding(100, -3), 0.0, None, id="more refunds than money before"),
    pytest.param((9, 9), summary(950, -20, refunded=900), holding(950, 5), 0.5, None, id="refunds eat up the money"),
    pytest.param(
        (9, 9), summary(100, -900, refunded=900), holding(100, 5), 0.5, "from 5 to -900", id="and the sales' is gone"
    ),
    pytest.param((9, 9), summary(100, 0), holding(100, "NaN"), 0.5, None, id="a damaged sum"),
]


def tallies_of(accepted: tuple[int, int]) -> dict[str, Tally]:
    return {name: tally(name, accepted=n) for name, n in zip(("events", "ticket_sales"), accepted, strict=True)}


@pytest.mark.parametrize(("accepted", "new", "stored", "ratio", "message"), SHRINKS)
def test_shrink(
    accepted: tuple[int, int], new: Summary, stored: StoredTickets, ratio: float, message: str | None
) -> None:
    """An answer that is empty, or far less than what a store has in scope, stops the run and tells both numbers."""
    held = {"postgres": holding(0), "bigquery": stored}
    if message is None:
        check_shrink(new, tallies_of(accepted), held, ratio)
        return
    with pytest.raises(SuspiciousExtractError, match=message) as caught:
        check_shrink(new, tallies_of(accepted), held, ratio)
    details = caught.value.details
    assert (details["store"], details["new_tickets"]) == ("bigquery", new.total_tickets)
    assert details["stored_tickets"] in (stored.in_scope, stored.total)
    assert Decimal(details["stored_revenue"]) == stored.revenue
    assert "BigQuery" in str(caught.value)
    assert "force=true" in str(caught.value)


@pytest.mark.parametrize("order", [("postgres", "bigquery"), ("bigquery", "postgres")])
def test_the_fuller_store_counts(order: tuple[str, str]) -> None:
    """Whichever it is, its numbers are told, also where the other one's would do."""
    held = dict(zip(order, (holding(60), holding(200)), strict=True))
    with pytest.raises(SuspiciousExtractError) as caught:
        check_shrink(summary(20), tallies_of((9, 9)), held, 0.5)
    assert (caught.value.details["store"], caught.value.details["stored_tickets"]) == (order[1], 200)
    check_shrink(summary(20), tallies_of((9, 9)), {}, 0.5)


def test_only_records_that_change_a_sum_are_evidence() -> None:
    """Of kept sales: as many as are recounted tell, and of what the others lack nothing is forgotten."""
    before, now = found_in(100), tally_of(1_000, "quantity")
    check_schema(now, before, recounted=2)
    assert fields_to_keep(now, before, recounted=2)["quantity"] == before["quantity"]
    with pytest.raises(SchemaDriftError):
        check_schema(now, before, recounted=3)
