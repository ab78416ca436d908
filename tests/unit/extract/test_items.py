"""What a batch of items says of itself, whatever its items are; how pages are cut into batches: test_page."""

from collections.abc import Callable
from contextlib import suppress

from etl.extract.body import read_page
from etl.extract.items import CUT, BodyError, ItemDecoder
from etl.records.fields import EventItem, SaleItem


def test_texts_of_what_is_nested_deeply() -> None:
    """Asked for deeper in the stack than where the batch was decoded: the texts up to there, and no error."""

    def deeper(frames: int, call: Callable[[], list[str]]) -> list[str]:
        return deeper(frames - 1, call) if frames else call()

    for depth in range(2_000, 0, -5):
        deep = b'{"id":2,"x":' + b"[" * depth + b"]" * depth + b"}"
        with suppress(BodyError):
            (batch,) = read_page(iter([b'[{"id":1},' + deep + b"]"]), ItemDecoder(SaleItem)).batches
            break
    first, second = deeper(40, batch.texts)
    assert first == '{"id":1}'
    assert second in (CUT, deep.decode())  # from Python 3.12 on frames don't count
    assert deeper(40, batch.first_keys) == ["id"]


def test_texts_of_what_is_large() -> None:
    """Of an item that is larger than what the lenient parser takes, its beginning, as far as it would be kept."""
    large = b'{"id":1,"note":"%b"}' % (b"x" * 5_000_000)
    body = b"[ " + large + b",{}]"
    chunks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    first, second = (text for batch in read_page(chunks, ItemDecoder(SaleItem)).batches for text in batch.texts())
    assert first == large[:65_534].decode() + CUT
    assert second in ("{}", CUT)


def test_first_keys() -> None:
    """The keys of a batch's first object, as they were sent; none where there is no object."""
    decoder = ItemDecoder(EventItem)
    for body, keys in ((b'[1,{"b":1,"a":{"c":2}},{"d":1}]', ["b", "a"]), (b"[1]", []), (b"[{}]", [])):
        (batch,) = read_page(iter([body]), decoder).batches
        assert batch.first_keys() == keys
