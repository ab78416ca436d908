"""A JSON body is read to the same items and envelope however it is cut, or it is an error; never half of it."""

import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.extract import body as page
from etl.extract.body import Page, read_page
from etl.extract.items import BodyError, ItemDecoder
from etl.records.fields import SaleItem
from tests.support.strategies import NESTED_VALUES

Knobs = tuple[int, int]
"""WHOLE_PAGE_BYTES and BATCH_BYTES."""
KNOBS: dict[str, Knobs | None] = {"whole": None, "streamed": (16, 8), "streamed in larger batches": (40, 64)}
CHUNK_SIZES = (1, 2, 3, 5, 7, 16, 64, 1_000_000)


class Read(NamedTuple):
    """All that a page says once it has been read."""

    items: list[str]
    texts: list[bytes]
    envelope: dict[str, Any]
    item_count: int


def chunks_of(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def read_all(taken: Page[SaleItem]) -> Read:
    batches = list(taken.batches)
    texts = [text.encode(errors="surrogateescape") for batch in batches for text in batch.texts()]
    return Read([repr(item) for batch in batches for item in batch.items], texts, taken.envelope, taken.item_count)


def read(body: bytes, size: int = 1_000_000, knobs: Knobs | None = None) -> Read:
    with pytest.MonkeyPatch.context() as patch:
        if knobs is not None:
            patch.setattr(page, "WHOLE_PAGE_BYTES", knobs[0])
            patch.setattr(page, "BATCH_BYTES", knobs[1])
        return read_all(read_page(chunks_of(body, size), ItemDecoder(SaleItem)))


@pytest.fixture(params=KNOBS)
def knobs(request: pytest.FixtureRequest) -> Knobs | None:
    return KNOBS[request.param]


ONE, TWO = b'{"id":1}', b'{ "id" : "2", "name":"\xc3\xa9" }'
SHAPES: list[tuple[str, bytes, bytes, dict[str, Any]]] = [
    ("bare array", b"[", b"]", {}),
    ("blanks", b" \r\n\t[ ", b" ]\n", {}),
    ("byte order mark", b"\xef\xbb\xbf[", b"]", {}),
    ("data", b'{"data":[', b"]}", {}),
    ("results", b'{"results": [', b"] }", {}),
    ("items", b'{"items" :[', b"]}", {}),
    ("docs", b'{"totalDocs":2,"docs":[', b"]}", {"totalDocs": 2}),
    ("keys before", b'{"page":1,"meta":{"a":[1,{"b":[]}]},"data":[', b"]}", {"page": 1, "meta": {"a": [1, {"b": []}]}}),
    (
        "keys after",
        b'{"data":[',
        b'],"meta":{"page":1,"list":[{"x":[]},{"y":2}]},"b":[1]}',
        {
            "meta": {"page": 1, "list": [{"x": []}, {"y": 2}]},
            "b": [1],
        },
    ),
    (
        "many lists after",
        b'{"data":[',
        b"]," + b",".join(b'"k%d":[{"id":9},{"id":9}]' % n for n in range(12)) + b"}",
        {f"k{n}": [{"id": 9}, {"id": 9}] for n in range(12)},
    ),
    ("another list before", b'{"columns":["data"],"data":[', b"]}", {"columns": ["data"]}),
    ("list of lists before", b'{"rows":[[{"data":[1]}]],"data":[', b"]}", {"rows": [[{"data": [1]}]]}),
    ("item key elsewhere", b'{"meta":{"data":[{"id":9}]},"items":[', b"]}", {"meta": {"data": [{"id": 9}]}}),
    ("item key as a value", b'{"kind":"data","items":[', b"]}", {"kind": "data"}),
    ("null before", b'{"data":null,"results":false,"items":[', b"]}", {}),
    ("object without a list before", b'{"data":{"x":1},"items":[', b"]}", {}),
    (
        "inner data",
        b'{"success":true,"data":{"data":[',
        b'],"total":2,"page":1},"timestamp":"t"}',
        {
            "success": True,
            "total": 2,
            "page": 1,
            "timestamp": "t",
        },
    ),
    ("inner items, keys before", b'{"results":{"total":2,"items":[', b"]}}", {"total": 2}),
    ("inner wins over before", b'{"total":9,"data":{"results":[', b'],"total":2}}', {"total": 2}),
    ("inner wins over after", b'{"data":{"results":[', b'],"total":2},"total":9,"page":1}', {"total": 2, "page": 1}),
    (
        "numbers in the envelope",
        b'{"a":1.50,"b":"1.50","c":-0,"d":1e999,"data":[',
        b"]}",
        {
            "a": "1.50",
            "b": "1.50",
            "c": 0,
            "d": "1e999",
        },
    ),
    ("broken text in the envelope", b'{"a":"\\ud800","b":"\xff","data":[', b"]}", {"a": "\ud800", "b": "\udcff"}),
    (
        "brackets in the envelope's text",
        b'{"a":"[{\\"data\\":[","data":[',
        b'],"b":"]}],{"}',
        {
            "a": '[{"data":[',
            "b": "]}],{",
        },
    ),
]


@pytest.mark.parametrize(("prefix", "suffix", "envelope"), [pytest.param(*case, id=name) for name, *case in SHAPES])
def test_shapes(prefix: bytes, suffix: bytes, envelope: dict[str, Any], knobs: Knobs | None) -> None:
    """The items are found in every shape of body, and the envelope is all the rest, in chunks of any size."""
    for sources in ([], [ONE], [ONE, TWO], [ONE, TWO] * 8):
        body = prefix + b" ,\n".join(sources) + suffix
        items = [repr(SaleItem(id=json.loads(source)["id"])) for source in sources]
        for size in CHUNK_SIZES:
            assert read(body, size, knobs) == Read(items, sources, envelope, len(sources))


# The JSON of an item, and what is read of it: its id, or None in the place of an item that is no object.
ITEMS: list[tuple[str, bytes, SaleItem | None]] = [
    ("cuts in text", b'{"id":1,"note":"},{\\"id\\":9},{ ] } [ \\\\"}', SaleItem(id=1)),
    ("cuts in a key", b'{"},{":1,"]":{"id":9},"id":1}', SaleItem(id=1)),
    ("cuts in nested lists", b'{"id":1,"lines":[{"id":9},{"id":8},[{}, {}]],"x":{"data":[1]}}', SaleItem(id=1)),
    ("escaped key", b'{"\\u0069d":1}', SaleItem(id=1)),
    ("the same key twice", b'{"id":9,"id":1}', SaleItem(id=1)),
    ("empty object", b"{}", SaleItem()),
    ("null", b"null", None),
    ("number", b"-1.5e3", None),
    ("text", b'"},{"', None),
    ("boolean", b"true", None),
    ("list", b'[{"id":9},{"id":8}]', None),
    ("empty list", b"[]", None),
    ("wrong type", b'{"id":[1],"price":"1"}', SaleItem(price="1")),
    ("wrong event", b'{"id":1,"event":[{"id":9}]}', SaleItem(id=1)),
    ("lone surrogate", b'{"id":1,"price":"\\ud800"}', SaleItem(id=1, price="\ud800")),
    ("invalid UTF-8", b'{"id":1,"price":"\xff\xc3"}', SaleItem(id=1, price="\udcff\udcc3")),
    ("encoded surrogate", b'{"id":1,"price":"\xed\xa0\x80"}', SaleItem(id=1, price="\udced\udca0\udc80")),
    ("invalid UTF-8 in a key that isn't read", b'{"\xff":"\xff","id":1}', SaleItem(id=1)),
    ("NaN", b'{"id":NaN,"event_id":"e","price":-Infinity}', SaleItem(event_id="e", price=float("-inf"))),
    ("wide integer", b'{"id":%s}' % (b"9" * 300), SaleItem(id=int("9" * 300))),
    ("long text", b'{"id":1,"note":"%s"}' % (b"},{" * 100), SaleItem(id=1)),
]


@pytest.mark.parametrize(("source", "item"), [pytest.param(*case, id=name) for name, *case in ITEMS])
def test_items(source: bytes, item: SaleItem | None, knobs: Knobs | None) -> None:
    """Whatever an item holds, it and its neighbours are read, and its text is kept byte for byte."""
    sources = [ONE, source, ONE, source, source, ONE]
    expected = [repr(SaleItem(id=1)) if text is ONE else repr(item) for text in sources]
    for size in CHUNK_SIZES:
        for joint in (b",", b"\n, "):
            body = b'{"data":[' + joint.join(sources) + b'],"total":6}'
            assert read(body, size, knobs) == Read(expected, sources, {"total": 6}, 6)


TEXTS = st.text(alphabet='{}[],:"\\ dat\n\0é🎫\ud800', max_size=10)
VALUES = st.one_of(
    st.dictionaries(st.sampled_from(["id", "event", "quantity", "note", "data"]), TEXTS | NESTED_VALUES, max_size=4),
    NESTED_VALUES,
)


@given(
    values=st.lists(VALUES, max_size=6),
    ascii_only=st.booleans(),
    joint=st.sampled_from([b",", b" , ", b",\n\n"]),
    wrapper=st.sampled_from([(b"[", b"]"), (b'{"data":[', b'],"total":1,"x":[{"y":1},{"z":[]}]}')]),
    sizes=st.tuples(st.integers(1, 60), st.integers(8, 60), st.integers(1, 60)),
)
def test_chunking_changes_nothing(
    values: list[Any], ascii_only: bool, joint: bytes, wrapper: tuple[bytes, bytes], sizes: tuple[int, int, int]
) -> None:
    """For any items, in chunks of any size, streamed or not: the same items, texts and envelope."""
    sources = [json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass") for value in values]
    body = wrapper[0] + joint.join(sources) + wrapper[1]
    whole = read(body)
    assert whole.texts == sources
    assert [item == "None" for item in whole.items] == [not isinstance(value, dict) for value in values]
    assert read(body, sizes[0], sizes[1:]) == whole


TRUNCATED = [
    pytest.param(b'[{"id":1},{"id":2,"x":"]"},{"id":3}]', 3, id="bare array"),
    pytest.param(b'{"data":[{"id":1},{"id":2}],"meta":{"a":[{"b":1},{"c":2}]},"n":12}', 2, id="envelope"),
    pytest.param(b'{"ok":true,"data":{"items":[{"id":1},[],{"id":NaN}],"total":2}}', 3, id="inner"),
    pytest.param(b'{"data":[]}', 0, id="empty"),
]


@pytest.mark.parametrize(("body", "item_count"), TRUNCATED)
def test_truncated_anywhere(body: bytes, item_count: int, knobs: Knobs | None) -> None:
    """A body that breaks off at any byte is an error, never a shorter page."""
    assert read(body, 3, knobs).item_count == item_count
    for length in range(len(body)):
        with pytest.raises(BodyError):
            read(body[:length], 3, knobs)


DEEP = 100_000
BROKEN = [
    pytest.param(b"", "isn't valid JSON, or is cut short", id="empty"),
    pytest.param(b" \n", "isn't valid JSON, or is cut short", id="blank"),
    pytest.param(b"null", "neither a JSON object nor an array", id="null"),
    pytest.param(b"42", "neither a JSON object nor an array", id="number"),
    pytest.param(b'"s3cret"', "neither a JSON object nor an array", id="text"),
    pytest.param(b"<!DOCTYPE html><html><body>s3cret [{}]</body>", "neither a JSON object nor an array", id="HTML"),
    pytest.param(b"\x1f\x8b\x08\x00\x00", "neither a JSON object nor an array", id="binary"),
    pytest.param(b"{}", "no list under data, results, items, docs; its keys are none", id="empty object"),
    pytest.param(b'{"message":"s3cret","code":[1]}', "its keys are message, code", id="no item key"),
    pytest.param(b'{"data":"s3cret","page":{"data":1}}', "its keys are data, page", id="no list"),
    pytest.param(b'{"data":{"x":[]}}', "its keys are data", id="no list inside"),
    pytest.param(b'{"data":{"data":{"data":[]}}}', "its keys are data", id="too far inside"),
    pytest.param(b'{"data":[{"id":1}]} s3cret', "valid JSON", id="garbage after an object"),
    pytest.param(b'[{"id":1}] []', "valid JSON", id="another array after"),
    pytest.param(b'[{"id":1}]]', "valid JSON", id="a bracket too many"),
    pytest.param(b'{"data":[{"id":1}]}}', "valid JSON", id="a brace too many"),
    pytest.param(b'{"data":[{"id":1}],}', "valid JSON", id="comma after the list"),
    pytest.param(b'{"data":[{"id":1}]"page":1}', "valid JSON", id="no comma after the list"),
    pytest.param(b'{"data":[{"id":1},{"id":2},]}', "valid JSON", id="comma at the end of the list"),
    pytest.param(b'[{"id":1},{"id":2},\n]', "valid JSON", id="comma and blank at the end of the list"),
    pytest.param(b'[,{"id":1}]', "valid JSON", id="comma first"),
    pytest.param(b'[{"id":1},,{"id":2}]', "valid JSON", id="two commas"),
    pytest.param(b'[{"id":1}{"id":2}]', "valid JSON", id="no comma"),
    pytest.param(b'[{"id":1},{"id":2]}', "valid JSON", id="crossed brackets"),
    pytest.param(b"[{'id':1}]", "valid JSON", id="single quotes"),
    pytest.param(b"[{id:1}]", "valid JSON", id="bare key"),
    pytest.param(b'[{"id":01}]', "valid JSON", id="leading zero"),
    pytest.param(b'[{"id":"a\nb"}]', "valid JSON", id="line break in text"),
    pytest.param(b'[{"id":"\\x41"}]', "valid JSON", id="unknown escape"),
    pytest.param(b'[{"id":1}/*s3cret*/]', "valid JSON", id="comment"),
    pytest.param(b'{"id":1}\n{"id":2}\n', "its keys are id", id="JSON lines"),
    pytest.param(b"[" * DEEP, "nested too deeply|valid JSON", id="deep lists, cut short"),
    pytest.param(b"[" * DEEP + b"]" * DEEP, "nested too deeply", id="deep lists"),
    pytest.param(b'[{"id":1,"x":' + b'{"x":' * DEEP + b"1" + b"}" * DEEP + b"}]", "nested too deeply", id="deep item"),
    pytest.param(b'{"data":[],"x":' + b"[" * DEEP + b"]" * DEEP + b"}", "around its items", id="deep envelope"),
]


@pytest.mark.parametrize(("body", "message"), BROKEN)
def test_broken_bodies(body: bytes, message: str, knobs: Knobs | None) -> None:
    """Invalid JSON, and JSON without a list of items, is an error that says what is wrong and shows no content."""
    for size in (7, 65_536) if len(body) < DEEP else (65_536,):
        with pytest.raises(BodyError, match=message) as caught:
            read(body, size, knobs)
        assert "s3cret" not in str(caught.value)


TWO_LISTS = [
    pytest.param(b'{"items":[],"data":[{"id":1}]}', id="second choice first"),
    pytest.param(b'{"results":[{"id":2}],"data":[{"id":1}]}', id="both with items"),
    pytest.param(b'{"ok":1,"data":{"items":[{"id":2}],"results":[{"id":1}]}}', id="inside"),
]


@pytest.mark.parametrize("body", TWO_LISTS)
def test_two_lists(body: bytes, knobs: Knobs | None) -> None:
    """Where lists stand under two item keys, the first choice is read or the body refused, not another one read."""
    try:
        found = read(body, 5, knobs)
    except BodyError:
        return
    assert found.items == [repr(SaleItem(id=1))]


LIMITS = [
    pytest.param("MAX_ITEM_BYTES", b'[{"id":1,"x":"%s"},{"id":2}]' % (b"x" * 900), "item of more than 50 b", id="item"),
    pytest.param("MAX_ITEM_BYTES", b"[" + b"1" * 900 + b"]", "item of more than 50 bytes", id="endless number"),
    pytest.param("MAX_ENVELOPE_BYTES", b'{"x":"%s","data":[]}' % (b"x" * 900), "in its first 50 bytes", id="before"),
    pytest.param("MAX_ENVELOPE_BYTES", b'{"data":[],"x":"%s"}' % (b"x" * 900), "more than 50 bytes after", id="after"),
]


@pytest.mark.parametrize(("knob", "body", "message"), LIMITS)
def test_limits(knob: str, body: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless item or envelope is an error once it is larger than its limit: it isn't read to its end."""
    monkeypatch.setattr(page, knob, 50)
    left = chunks_of(body, 10)
    monkeypatch.setattr(page, "WHOLE_PAGE_BYTES", 16)
    monkeypatch.setattr(page, "BATCH_BYTES", 8)
    with pytest.raises(BodyError, match=message):
        read_all(read_page(left, ItemDecoder(SaleItem)))
    assert sum(map(len, left)) > 300


def test_large_page_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page over the limit is handed out while it comes: what is held of it doesn't grow with its size."""
    monkeypatch.setattr(page, "WHOLE_PAGE_BYTES", 4_000)
    monkeypatch.setattr(page, "BATCH_BYTES", 1_000)
    sources = [b'{"id":%d,"note":"},{"}' % number for number in range(20_000)]
    body = b'{"data":[' + b",".join(sources) + b'],"total":20000}'
    consumed = 0

    def chunks() -> Iterator[bytes]:
        nonlocal consumed
        for chunk in chunks_of(body, 300):
            consumed += len(chunk)
            yield chunk

    taken = read_page(chunks(), ItemDecoder(SaleItem))
    assert (taken.is_whole, taken.envelope) == (False, {})
    handed_out, ids = 0, []
    for batch in taken.batches:
        handed_out += len(batch.source)
        ids += [item.id for item in batch.items if item is not None]
        assert consumed - handed_out < 6_000
        assert taken.item_count == len(ids)
    assert ids == list(range(20_000))
    assert taken.envelope == {"total": 20_000}
    assert consumed == len(body)


def test_page_up_to_the_limit_is_whole() -> None:
    """A body of up to 4 MiB is read to its end, and known to be sound, before its first item counts."""
    filler = b'{"id":1,"x":"%s"}' % (b"x" * (page.WHOLE_PAGE_BYTES - 60))
    for surplus, is_whole in ((0, True), (100, False)):
        body = b"[" + filler + b"]" + b" " * (page.WHOLE_PAGE_BYTES - len(filler) - 2 + surplus)
        taken = read_page(chunks_of(body, 1 << 18), ItemDecoder(SaleItem))
        assert (taken.is_whole, taken.item_count) == (is_whole, 1 if is_whole else 0)
        assert read_all(taken).item_count == 1


def test_broken_end_of_a_large_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large page that breaks off hands out what was complete, and then raises."""
    monkeypatch.setattr(page, "WHOLE_PAGE_BYTES", 40)
    monkeypatch.setattr(page, "BATCH_BYTES", 10)
    taken = read_page(chunks_of(b"[" + b",".join([ONE] * 20), 9), ItemDecoder(SaleItem))
    with pytest.raises(BodyError, match="cut short"):
        list(taken.batches)
    assert 0 < taken.item_count < 20


MEBIBYTE = 1 << 20
COSTLY = [
    pytest.param(b'{"x":' + b"[" * 60_000, "valid JSON", id="brackets before the items"),
    pytest.param(b'{"x":"' + b"\\n" * 400_000 + b'","data":[{"id":1}]}', None, id="escapes before the items"),
    pytest.param(
        b'{"data":[{"id":1}],"x":[' + b"{}," * 500_000 + b"1]}", "after its list", id="objects after the items"
    ),
    pytest.param(
        b'{"x":[' + b"{}," * 500_000 + b'1],"data":[{"id":1}]}', "in its first", id="objects before the items"
    ),
    pytest.param('[{"id":1,"x":"🎫'.encode() + b"x" * 20_000_000, "item of more than", id="an endless text"),
    pytest.param(b'[{"id":1,"x":[' + b"{}," * 1_000_000 + b"1]}]", "300000 values", id="a million objects in an item"),
    pytest.param(b'[{"id":1,"qty":[' + b"1," * 500_000 + b"1]}]", "300000 values", id="half a million numbers"),
    pytest.param(b'[{"id":1,"x":"' + b'{,[\\"' * 800_000 + b'"}]', None, id="a text that looks like values"),
]


@pytest.mark.parametrize(("body", "message"), COSTLY)
def test_costly_bodies(body: bytes, message: str | None) -> None:
    """A small body that is made to cost much time or memory costs little: 2 s would be a hundred times too long."""

    def read_it() -> None:
        with nullcontext() if message is None else pytest.raises(BodyError, match=message):
            assert read(body).item_count == 1

    started = time.process_time()
    read_it()
    assert time.process_time() - started < 2
    tracemalloc.start()  # apart from the time, which it would multiply
    try:
        read_it()
        assert tracemalloc.get_traced_memory()[1] < max(40 * MEBIBYTE, 3.5 * len(body))
    finally:
        tracemalloc.stop()


PLAIN = b'{"id":%d,"event_id":"e","quantity":1,"price":%b,"sale_date":"2026-11-20T10:00:00Z"}'
SMALL = [
    pytest.param([b"{}"] * 250_000, id="empty objects"),
    pytest.param([b'{"id":NaN}', *[b"{}"] * 150_000], id="read one by one"),
    pytest.param([PLAIN % (n, b"[" + b"[]," * 1_000 + b"9]") for n in range(200)], id="amounts that are lists"),
    pytest.param([b'{"id":%d,"qty":[%b9]}' % (n, b"0.5," * 1_000) for n in range(200)], id="quantities that are lists"),
]


@pytest.mark.parametrize("items", SMALL)
def test_small_values(items: list[bytes]) -> None:
    """Values that take many times their text in memory are there a batch at a time, also on a page that is whole."""
    body = b"[" + b",".join(items) + b"]"
    decoder = ItemDecoder(SaleItem)
    list(read_page(iter([b"[" + PLAIN % (0, b"1") + b"]"]), decoder).batches)
    tracemalloc.start()
    try:
        taken = read_page(chunks_of(body, 1 << 18), decoder)
        assert taken.is_whole
        assert tracemalloc.get_traced_memory()[0] < 2 * len(body) + 8 * MEBIBYTE
        assert sum(len(batch.items) for batch in taken.batches) == len(items)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body) + 36 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_items_that_are_read_one_by_one_come_in_batches() -> None:
    """However many there are on a page: a list of what is no object takes no more memory than a list of objects."""
    body = b"[0" + b",0" * 120_000 + b"]"
    calls: list[None] = []
    taken = read_page(iter([body]), ItemDecoder(SaleItem), lambda: calls.append(None))
    assert [len(batch.items) for batch in taken.batches] == [50_000, 50_000, 20_001]
    assert len(calls) == 6  # the run's deadline is looked at before each is read, and before it is used


def test_huge_text() -> None:
    """A text of 10 MB in an item is read past."""
    body = b'[{"id":1,"note":"%s"},{"id":2}]' % (b"},{ab" * 2_000_000)
    found = read(body, 1 << 18)
    assert (found.items, found.item_count) == ([repr(SaleItem(id=1)), repr(SaleItem(id=2))], 2)
