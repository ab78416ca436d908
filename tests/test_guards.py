"""A guard lets through what it is set to allow, to the last record, and says with numbers why it stopped a run."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from etl.errors import SchemaDriftError, SuspiciousExtractError, TooManyRejectsError
from etl.extract import RejectedItem, Tally
from etl.guards import check_rejects, check_schema, check_shrink, fields_not_found
from etl.records import MISSING, SENT, UNREADABLE
from etl.stores import StoredTickets
from etl.transform import Summary, fold_sales, summarise

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def tally(dataset: str = "ticket_sales", read: int = 100, **fields: Any) -> Tally:
    return Tally(dataset, read=read, **fields)


def test_a_message_shows_so_many_keys() -> None:
    """However many keys the records have, and however long they are."""
    text = json.dumps({f"{number:04}" + "x" * 500: 1 for number in range(1000)})
    rejects = [RejectedItem("ticket_sales", "event_id_missing", None, text)]
    with pytest.raises(TooManyRejectsError) as caught:
        check_rejects(tally(read=1, reasons=Counter(event_id_missing=1), rejects=rejects), 0)
    assert caught.value.details["keys_seen"] == [f"{number:04}" + "x" * 96 for number in range(50)]


REJECTS = [
    pytest.param(100, {}, 0, 0.0, False, id="none"),
    pytest.param(0, {}, 0, 0.0, False, id="nothing read"),
    pytest.param(100, {"not_an_object": 5}, 0, 0.05, False, id="as many as allowed"),
    pytest.param(100, {"not_an_object": 6}, 0, 0.05, True, id="one too many"),
    pytest.param(100, {"not_an_object": 2, "price_not_a_number": 3}, 0, 0.05, False, id="two reasons, allowed"),
    pytest.param(100, {"not_an_object": 3, "price_not_a_number": 3}, 0, 0.05, True, id="two reasons, too many"),
    pytest.param(100, {}, 5, 0.05, False, id="unreadable dates, allowed"),
    pytest.param(100, {}, 6, 0.05, True, id="unreadable dates, too many"),
    pytest.param(100, {"not_an_object": 3}, 3, 0.05, True, id="rejects and dates together"),
    pytest.param(1, {"not_an_object": 1}, 0, 0.0, True, id="none allowed"),
    pytest.param(3, {"not_an_object": 3}, 0, 1.0, False, id="all allowed"),
    pytest.param(1_000_000, {"not_an_object": 50_001}, 0, 0.05, True, id="one in a million too many"),
    *(
        pytest.param(1000, {"not_an_object": n}, 0, n / 1000, False, id=f"{n} of 1000 allowed")
        for n in (1, 7, 29, 333, 999)
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
    found = tally(read=5, reasons=Counter(event_id_missing=5), rejects=rejects, keys_seen=["other"])
    with pytest.raises(TooManyRejectsError, match="keys Menge, buyer, id") as caught:
        check_rejects(found, 0.5)
    assert "Ada" not in f"{caught.value}{caught.value.details}"


FOUND = {"sale_id": "id", "event_id": "eventId", "quantity": "qty", "price": "unitPrice", "sale_date": "createdAt"}
SCHEMAS = [
    pytest.param(FOUND, FOUND, {}, id="the same"),
    pytest.param({}, FOUND, {}, id="first run"),
    pytest.param(FOUND, FOUND | {"quantity": "quantity", "price": "amount"}, {}, id="under another candidate"),
    pytest.param(FOUND, FOUND | {"total_amount": "totalAmount"}, {}, id="one more"),
    *(
        pytest.param(FOUND, {k: v for k, v in FOUND.items() if k != name}, {name: FOUND[name]}, id=f"{name} renamed")
        for name in FOUND
    ),
    pytest.param(FOUND, {"sale_id": "id"}, {k: v for k, v in FOUND.items() if k != "sale_id"}, id="many"),
]


@pytest.mark.parametrize(("before", "now", "lost"), SCHEMAS)
def test_schema(before: dict[str, str], now: dict[str, str], lost: dict[str, str]) -> None:
    """A field that the last success found, and that no record has now, stops the run, with the key that it had."""
    found = tally(accepted=9, fields_found=now, keys_seen=["id", "Menge"])
    if not lost:
        check_schema(found, before)
        return
    with pytest.raises(SchemaDriftError) as caught:
        check_schema(found, before)
    assert caught.value.details == {"dataset": "ticket_sales", "fields_lost": lost, "keys_seen": ["id", "Menge"]}
    assert all(f"{name} (it was under {key!r})" in str(caught.value) for name, key in lost.items())
    assert "the records now have id, Menge" in str(caught.value)


def test_schema_of_no_records() -> None:
    """Where nothing at all was read there is no key to miss: another guard speaks of that."""
    check_schema(tally(read=0), FOUND)
    with pytest.raises(SchemaDriftError):
        check_schema(tally(read=9, reasons=Counter(event_id_missing=9)), FOUND)


def test_fields_not_found() -> None:
    """The fields of a dataset that no record has, in the contract's order."""
    assert fields_not_found(tally("events")) == ["event_id", "event_name"]
    assert fields_not_found(tally("events", fields_found={"event_id": "id", "event_name": "title"})) == []
    assert fields_not_found(tally(fields_found=FOUND)) == ["total_amount"]


def summary(tickets: int) -> Summary:
    return summarise({"e": None}, fold_sales([("e", NOW.date(), tickets, 0)] if tickets else []), NOW)


SHRINKS = [
    pytest.param((9, 9), 10, StoredTickets(10, 10), 0.5, None, id="the same"),
    pytest.param((9, 9), 99, StoredTickets(10, 10), 0.0, None, id="more"),
    pytest.param((9, 9), 5, StoredTickets(10, 10), 0.5, None, id="fallen by half"),
    pytest.param((9, 9), 4, StoredTickets(10, 10), 0.5, "fall from 10 to 4, by more than", id="by more than half"),
    pytest.param((9, 9), 9, StoredTickets(10, 10), 0.0, "fall from 10 to 9", id="by one, none allowed"),
    pytest.param((9, 9), 3, StoredTickets(10, 10), 0.7, None, id="fallen by seven tenths"),
    pytest.param((9, 9), 2, StoredTickets(10, 10), 0.7, "fall from 10 to 2", id="by more than seven tenths"),
    pytest.param((9, 9), 1, StoredTickets(10, 10), 0.9, None, id="fallen by nine tenths"),
    pytest.param((9, 9), 0, StoredTickets(10, 10), 1.0, None, id="fallen to nothing, all allowed"),
    pytest.param((9, 9), -1, StoredTickets(10, 10), 1.0, "fall from 10 to -1", id="below nothing"),
    pytest.param((9, 9), 5, StoredTickets(1000, 10), 0.5, None, id="only what is in scope counts"),
    pytest.param((9, 9), 0, StoredTickets(1000, 0), 0.5, None, id="nothing in scope"),
    pytest.param((9, 9), -9, StoredTickets(-5, -5), 0.5, None, id="more refunds than sales before"),
    pytest.param((9, 9), 100, StoredTickets(-5, -5), 0.5, None, id="more sales than refunds"),
    pytest.param((0, 0), 0, StoredTickets(0, 0), 0.5, None, id="first run, nothing there yet"),
    pytest.param((0, 9), 9, StoredTickets(0, 0), 0.5, None, id="first run, no events"),
    pytest.param((9, 0), 0, StoredTickets(7, 7), 1.0, "no ticket_sales, and the store has 7 tickets", id="no sales"),
    pytest.param((0, 9), 9, StoredTickets(7, 0), 1.0, "sent no events, and the store has 7 tickets", id="no events"),
    pytest.param((0, 0), 0, StoredTickets(7, 0), 1.0, "sent no events and no ticket_sales", id="nothing at all"),
    pytest.param((9, 0), 0, StoredTickets(0, 0), 0.5, None, id="no sales, and none in the store"),
]  # fmt: skip


@pytest.mark.parametrize(("accepted", "tickets", "stored", "ratio", "message"), SHRINKS)
def test_shrink(
    accepted: tuple[int, int], tickets: int, stored: StoredTickets, ratio: float, message: str | None
) -> None:
    """An answer that is empty, or far less than what the store has in scope, stops the run and tells both numbers."""
    tallies = {name: tally(name, accepted=n) for name, n in zip(("events", "ticket_sales"), accepted, strict=True)}
    if message is None:
        check_shrink(summary(tickets), tallies, stored, ratio)
        return
    with pytest.raises(SuspiciousExtractError, match=message) as caught:
        check_shrink(summary(tickets), tallies, stored, ratio)
    assert caught.value.details["new_tickets"] == tickets
    assert caught.value.details["stored_tickets"] in (stored.in_scope, stored.total)
    assert "force=true" in str(caught.value)
