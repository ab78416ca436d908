"""The same id twice on one page is the same record sent twice, or ids aren't unique, and the run says so."""

import json
from typing import Any

import pytest

from etl.errors import AmbiguousIdsError
from etl.extract import body as page
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_sales
from tests.support.upstream import read_all

ONE = plain_sales(1)[0]
OTHER = {**ONE, "quantity": 9}
SEAT = {**ONE, "seat": "A7"}
SPACED = json.dumps(ONE).replace(", ", " ,  ").encode()


def far_apart(*repeats: Any) -> list[Any]:
    """They stand first and last of 60 others, some batches apart."""
    return [repeats[0], *plain_sales(60, first_id=100), *repeats[1:]]


ITEMS: list[Any] = [
    pytest.param([ONE, ONE], None, id="the same"),
    pytest.param([ONE, OTHER], "1", id="another quantity"),
    pytest.param([ONE, SEAT], "1", id="something that isn't read"),
    pytest.param([ONE, {**ONE, "id": "1"}], "1", id="a number and its text"),
    pytest.param([ONE, {**ONE, "quantity": "x"}], "1", id="one can't be used"),
    pytest.param([{"eventId": "e"}, {"eventId": "f"}], None, id="no ids"),
    pytest.param(far_apart(ONE, ONE), None, id="the same, far apart"),
    pytest.param(far_apart(ONE, OTHER), "1", id="another quantity, far apart"),
    pytest.param(far_apart(ONE, ONE, OTHER), "1", id="the third one differs"),
    pytest.param([b'{"id": "\\ud800", "eventId": "e"}', ONE, OTHER], "1", id="where only the lenient parser reads"),
    pytest.param(far_apart(ONE, SPACED), "1", id="another way to write it"),
]
SIZES = [pytest.param(1 << 20, id="a page in one piece"), pytest.param(2_000, id="a page too large to wait for")]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Batches of about 700 bytes."""
    monkeypatch.setattr(page, "BATCH_BYTES", 700)
    return monkeypatch


@pytest.mark.parametrize("whole_bytes", SIZES)
@pytest.mark.parametrize(("items", "conflict"), ITEMS)
def test_an_id_twice_on_a_page(
    items: list[Any], conflict: str | None, whole_bytes: int, small_batches: pytest.MonkeyPatch
) -> None:
    """Different content is an error that names the id; with force, and where it is the same, each id counts once."""
    small_batches.setattr(page, "WHOLE_PAGE_BYTES", whole_bytes)
    with TicketingApi(sales=items, envelope="array") as upstream:
        if conflict is not None:
            with pytest.raises(AmbiguousIdsError, match=rf"ticket_sales, page 1: two different .* id '{conflict}'"):
                read_all(upstream.base_url)
        tally = read_all(upstream.base_url, force=conflict is not None).tally
    repeats = len(items) - len({str(item["id"]) for item in items if isinstance(item, dict) and "id" in item})
    if all(isinstance(item, dict) and "id" in item for item in items):
        assert (tally.duplicates, tally.distinct) == (repeats, len(items) - repeats)


def test_an_id_on_two_pages() -> None:
    """On two pages it is a record that has moved, and may have changed: its first reading counts."""
    with TicketingApi(sales=[ONE, *plain_sales(2, first_id=5), OTHER], envelope="next_page", page_size=2) as upstream:
        reading = read_all(upstream.base_url)
    assert (reading.ids, reading.tally.duplicates, reading.records[0].quantity) == (["1", "5", "6"], 1, ONE["quantity"])


def test_events_are_listed_twice() -> None:
    """An event may stand twice on a page, with another name: it is one event."""
    with TicketingApi([{"id": 1, "name": "A"}, {"id": 1, "name": "B"}], envelope="data") as upstream:
        assert read_all(upstream.base_url, "events").tally.distinct == 1
