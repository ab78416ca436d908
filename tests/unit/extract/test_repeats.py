"""Whether a page is an earlier one once more, though records came meanwhile."""

import json
from typing import Any

import pytest

from etl.extract.items import ItemDecoder
from etl.extract.repeats import Repeat, repeat_of
from etl.records.fields import EventItem, SaleItem

ENDLESS = 70_000


def page(*ids: object, **fields: object) -> bytes:
    """A page of records with these ids."""
    return json.dumps([{"id": identifier, "event_id": "e", **fields} for identifier in ids]).encode()


def unnamed(*prices: int) -> bytes:
    return json.dumps([{"event": {"id": "e"}, "price": price} for price in prices]).encode()


CASES: list[Any] = [
    pytest.param(page(1, 2, 3), page(1, 2, 3), Repeat.WHOLE, id="the same"),
    pytest.param(page(1, 2, 3, quantity=2), page(1, 2, 3), Repeat.WHOLE, id="changed meanwhile"),
    pytest.param(page(9, 1, 2), page(1, 2, 3), Repeat.WHOLE, id="a new one in front"),
    pytest.param(page(1, 2, 3, 9), page(1, 2, 3), Repeat.WHOLE, id="a new one at the end of the only page"),
    pytest.param(page("1", "2"), page(1, 2), Repeat.WHOLE, id="5 and '5' are one id"),
    pytest.param(page(3, 4, 5), page(1, 2, 3), Repeat.PART, id="the next page, pushed on by a new one"),
    pytest.param(page(2, 3, 4), page(1, 2, 3), Repeat.PART, id="the first page, after a deletion"),
    pytest.param(page(4, 5, 6), page(1, 2, 3), Repeat.NONE, id="the next page"),
    pytest.param(unnamed(1, 2, 3), unnamed(1, 2, 3), Repeat.WHOLE, id="the same, without ids"),
    pytest.param(unnamed(9, 1, 2), unnamed(1, 2, 3), Repeat.WHOLE, id="a new one in front, without ids"),
    pytest.param(unnamed(3, 4, 5), unnamed(1, 2, 3), Repeat.PART, id="another page with a like record, without ids"),
    pytest.param(unnamed(4, 5, 6), unnamed(1, 2, 3), Repeat.NONE, id="another page, without ids"),
    pytest.param(page(1, 2)[:-9], page(1, 2, 3)[:-9], Repeat.WHOLE, id="cut off in mid-record"),
    pytest.param(page(3, 4)[:-9], page(1, 2)[:-9], Repeat.NONE, id="cut off, another page"),
    pytest.param(b'[{"note":"aaa', b'[{"note":"bbb', Repeat.NONE, id="not one whole record, another page"),
    pytest.param(b'[{"note":"aaa', b'[{"note":"aaa', Repeat.WHOLE, id="not one whole record"),
    pytest.param(b"[1,null]", b"[2,null]", Repeat.PART, id="no objects"),
    pytest.param(b'[{"a":' * ENDLESS, b"[1]", Repeat.NONE, id="nested"),
]


@pytest.mark.parametrize(("beginning", "earlier", "repeat"), CASES)
def test_repeats(beginning: bytes, earlier: bytes, repeat: Repeat) -> None:
    """A page comes again if all that isn't new stood on the earlier one; ids tell, else the text."""
    assert repeat_of(beginning, earlier, ItemDecoder(SaleItem)) is repeat
    assert repeat_of(beginning, earlier, ItemDecoder(EventItem)) is repeat
