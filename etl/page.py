"""One JSON body -> its items, in batches, and its envelope (all that is not items). Pure.

A body is never parsed as a whole: the place where the items begin is found by its tokens, then batches of items are
decoded straight into typed structs. A cut between two items is tried, not searched for: a cut at a wrong place leaves a
bracket or a string open, so that the batch is no JSON. Whatever msgspec refuses (a record of the wrong shape, a lone
surrogate, NaN) is read again by the standard library's lenient parser, item by item.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from etl.columns import has_plain_amounts, plain_sale_type
from etl.records import EventItem, EventReference, NumberText, SaleItem, fields_in

ITEM_KEYS = ("data", "results", "items")
"""Where the items stand, first choice first; also inside an object under one of these."""
BATCH_BYTES = 1 << 18
"""As little as this becomes 16 MiB in memory where it is made of the smallest items."""
WHOLE_PAGE_BYTES = 4 << 20
"""A body up to this size is read to its end before its first item counts."""
MAX_ITEM_BYTES = 16 << 20
LENIENT_BYTES = 4 << 20
MAX_ENVELOPE_BYTES = 1 << 20
"""What the lenient parser reads can become thirty times as large in memory: so these two are small."""
MAX_ITEM_VALUES = 300_000
"""Of an item that is larger than a batch: each value may take a hundred bytes."""
KEPT_VALUES = 50_000
KEPT_BYTES = 1 << 17
_CUT_ATTEMPTS = 8
_LENIENT_ITEMS = 50_000
KEYS_SHOWN = 50
KEY_CHARACTERS = 100
MAX_RECORD_CHARACTERS = 65_536
CUT = "..."

# Possessive: to go back into a text of a million escapes would take a hundred bytes for each.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]+|"', re.DOTALL)
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BETWEEN = re.compile(rb"\}\s*,")
_BLANK = re.compile(r"[ \t\r\n]*")
_LENIENT = json.JSONDecoder(
    parse_float=NumberText,
    parse_int=lambda text: int(text) if len(text) < 400 else NumberText(text),
    parse_constant=float,
)

ItemT = TypeVar("ItemT", EventItem, SaleItem)


class BodyError(ValueError):
    """The body is no JSON, is cut short, or has no list of items. The message says which, without its content."""


def shown_keys(item: dict[str, Any]) -> list[str]:
    """An item's keys, or as many as a message shows."""
    return [key[:KEY_CHARACTERS] for key in islice(item, KEYS_SHOWN)]


class Batch(Generic[ItemT]):
    """Items in the order they stand in; `source` is their JSON.

    `plain` is the same items as values of a plain type (see `columns`), where all of them are plain. `fields` are the
    fields that were found, with their keys; of plain items they are known already.
    """

    def __init__(
        self,
        source: bytes | memoryview,
        decoder: ItemDecoder[ItemT],
        items: list[ItemT | None] | None = None,
        plain: list[Any] | None = None,
    ) -> None:
        self.source = source
        self.plain = plain
        self.fields = fields_in(items or ())
        self._decoder: ItemDecoder[ItemT] = decoder
        self._items: list[ItemT | None] | None = items
        self._length = len((items if plain is None else plain) or ())

    def __len__(self) -> int:
        return self._length

    def forget(self) -> None:
        """Give the memory back: the items are decoded again when they are asked for."""
        self.plain = self._items = None

    @property
    def items(self) -> list[ItemT | None]:
        """Each item, with None in the place of one that is no object."""
        items: list[ItemT | None] = self._decoder.decode_completely(self.source) if self._items is None else self._items
        return items

    def texts(self) -> list[str]:
        """The JSON text of each item, exactly as it was sent.

        Of an item that is too large for the lenient parser its beginning and `CUT`, from one on that is nested too
        deeply for here only that.
        """
        text = _decode_text(self.source[:LENIENT_BYTES])
        texts: list[str] = []
        with suppress(RecursionError):  # whoever asks may stand deeper in the stack than whoever decoded
            texts.extend(text[start:end] for _, start, end in _scan(text, 1))
        if not texts and len(self.source) > LENIENT_BYTES:
            texts.append(text[1:MAX_RECORD_CHARACTERS].lstrip() + CUT)
        return texts + [CUT] * (len(self) - len(texts))

    def first_keys(self) -> list[str]:
        """The keys of the first item that is an object, for messages."""
        values = (value for value, _, _ in _scan(_decode_text(self.source[:LENIENT_BYTES]), 1))
        with suppress(RecursionError):
            return next((shown_keys(value) for value in values if isinstance(value, dict)), [])
        return []


@dataclass
class Page(Generic[ItemT]):
    """One page of one dataset.

    `batches` can be read once; envelope and item count are complete after its last item (`is_whole`: already now).
    `envelope` is {} for a bare array; an inner object's keys stand beside the outer ones, and win.
    """

    batches: Iterator[Batch[ItemT]]
    envelope: dict[str, Any] = field(default_factory=dict)
    item_count: int = 0
    is_whole: bool = False


class ItemDecoder(Generic[ItemT]):
    """Decodes lists of items of one type. It learns under which keys sales have their fields: plain ones go quicker."""

    def __init__(self, item_type: type[ItemT]) -> None:
        self._item_type: type[ItemT] = item_type
        self._fields = msgspec.structs.fields(item_type)
        # Floats as their text, exact. A sale's ids are typed, so that a float can't be taken for a string there; an
        # event's name isn't.
        self._float_hook: Callable[[str], Any] = str if item_type is SaleItem else NumberText
        self._decoder = self._decoder_of(item_type)
        self._plain_decoders: dict[frozenset[tuple[str, str]], msgspec.json.Decoder[list[Any]] | None] = {}
        self._plain_decoder: msgspec.json.Decoder[list[Any]] | None = None

    def _decoder_of(self, item_type: type[msgspec.Struct]) -> msgspec.json.Decoder[list[Any]]:
        return msgspec.json.Decoder(list[item_type], float_hook=self._float_hook)  # type: ignore[valid-type]

    def decode(self, array: bytes | memoryview) -> Batch[ItemT]:
        """A JSON array of objects; raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""
        if self._plain_decoder is not None:
            with suppress(msgspec.ValidationError):
                return Batch(array, self, plain=self._plain_decoder.decode(array))
        return self.learn(Batch(array, self, self._decoder.decode(array)))

    def decode_completely(self, array: bytes | memoryview) -> list[ItemT | None]:
        """The items of a list that has been found to be JSON, whatever they are."""
        try:
            items: list[ItemT | None] = self._decoder.decode(array)
            return items
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [self.convert(value) for value, _, _ in _scan(_decode_text(array), 1)]

    def learn(self, batch: Batch[ItemT]) -> Batch[ItemT]:
        """Take the next batch for a plain one if its sales have their fields where this one's do."""
        if self._item_type is SaleItem:
            keys = frozenset(batch.fields.items())
            if keys not in self._plain_decoders:
                plain_type = plain_sale_type(batch.fields)
                self._plain_decoders[keys] = None if plain_type is None else self._decoder_of(plain_type)
            self._plain_decoder = self._plain_decoders[keys]
        return batch

    def convert(self, value: object) -> ItemT | None:
        """One item that the lenient parser read; a candidate of a type that it can't have counts as missing."""
        if not isinstance(value, dict):
            return None
        item: ItemT = self._item_type()
        for struct_field in self._fields:
            candidate = value.get(struct_field.name)
            if struct_field.type is not Any:
                candidate = _identifier(candidate)
            setattr(item, struct_field.name, candidate)
        if isinstance(item, SaleItem) and isinstance(event := value.get("event"), dict):
            item.event = EventReference(_identifier(event.get("id")), _identifier(event.get("event_id")))
        return item


def _identifier(value: object) -> str | int | None:
    return value if type(value) is str or type(value) is int else None


def read_page(
    chunks: Iterator[bytes], decoder: ItemDecoder[ItemT], check: Callable[[], None] = lambda: None
) -> Page[ItemT]:
    """A page out of the chunks of its body. Raises BodyError here or, for a large body, out of `batches`.

    `check` is called before each batch is read and before it is used, and may raise: a body of oddities can take
    seconds for each MiB.
    """
    body = _Body(chunks)
    body.fill(WHOLE_PAGE_BYTES)
    page: Page[ItemT] = Page(iter(()))
    page.batches = _batches(body, page, decoder, check)
    if body.is_complete:
        batches = list(_spare(page.batches) if len(body.data) > KEPT_BYTES else page.batches)
        page.batches = _each(batches, check)
        page.is_whole = True
    return page


def _each(batches: list[Batch[ItemT]], check: Callable[[], None]) -> Iterator[Batch[ItemT]]:
    for batch in batches:
        check()
        yield batch


def _spare(batches: Iterator[Batch[ItemT]]) -> Iterator[Batch[ItemT]]:
    """The batches, without the items of those that would take many times their text in memory until they are used."""
    room = KEPT_VALUES
    for batch in batches:
        if batch.plain is not None:
            is_heavy = not has_plain_amounts(batch.plain)
        else:
            room -= _count_values(batch.source)
            is_heavy = room < 0
        if is_heavy:
            batch.forget()
        yield batch


def _count_values(data: bytes | memoryview) -> int:
    """How many values some JSON has, at most."""
    return sum(map(bytes(data).count, (b"{", b"[", b",")))


def _has_too_many_values(data: bytes) -> bool:
    """Whether an item that isn't complete yet has more values than it may have; what stands in texts is no value."""
    count = _count_values(data)
    if count > MAX_ITEM_VALUES:
        for text in islice(_TEXT.finditer(data), MAX_ITEM_VALUES):
            count -= _count_values(text[0])
    return count > MAX_ITEM_VALUES


class _Body:
    """What has come of a body and not been consumed yet; from the list on it begins with the list's `[`."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.data = b""
        self.is_complete = False
        self.owes_item = False  # a comma has been consumed

    def fill(self, size: int) -> None:
        """Read until more than `size` bytes are there, or the body has ended."""
        parts, length = [self.data], len(self.data)
        while length <= size and not self.is_complete:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.is_complete = True
            else:
                parts.append(chunk)
                length += len(chunk)
        self.data = b"".join(parts) if len(parts) > 1 else self.data


def _batches(
    body: _Body, page: Page[ItemT], decoder: ItemDecoder[ItemT], check: Callable[[], None]
) -> Iterator[Batch[ItemT]]:
    start = _find_items(body)
    prefix = body.data[:start]
    body.data = body.data[start - 1 :]
    while True:
        check()
        batch, rest, ended = _next_batch(body, decoder)
        if body.owes_item and not len(batch):
            raise BodyError("is no JSON: its list of items ends with a comma")
        body.data = rest if ended else b"[" + rest
        body.owes_item = not ended
        if len(batch):
            page.item_count += len(batch)
            yield batch
        if ended:
            break
        body.fill(BATCH_BYTES)
    body.fill(MAX_ENVELOPE_BYTES)
    if len(body.data) > MAX_ENVELOPE_BYTES:
        raise BodyError(f"has more than {MAX_ENVELOPE_BYTES} bytes after its list of items")
    page.envelope = _envelope(prefix + b"]" + body.data)


def _next_batch(body: _Body, decoder: ItemDecoder[ItemT]) -> tuple[Batch[ItemT], bytes, bool]:
    """(items, what is left of the body after them, whether the list has ended)."""
    size = BATCH_BYTES
    while True:
        data = body.data if len(body.data) < size + BATCH_BYTES else body.data[:size]
        complete = body.is_complete and data is body.data
        if size > BATCH_BYTES and _has_too_many_values(data):
            raise BodyError(f"has an item of more than {MAX_ITEM_VALUES} values")
        found = _cut(data, complete, decoder)
        if found is None and len(data) <= LENIENT_BYTES:
            found = _scan_batch(data, complete, decoder)
        if found is not None:
            batch, end, ended = found
            return batch, body.data[end:], ended
        if complete and len(data) > LENIENT_BYTES:
            raise BodyError(f"has an item of more than {LENIENT_BYTES} bytes that isn't plain JSON")
        if complete:
            raise BodyError("is no JSON, or is cut short")
        if len(data) > MAX_ITEM_BYTES:
            raise BodyError(f"has an item of more than {MAX_ITEM_BYTES} bytes, or is no JSON")
        size += max(BATCH_BYTES, size >> 2)
        body.fill(min(size, MAX_ITEM_BYTES))


def _cut(data: bytes, complete: bool, decoder: ItemDecoder[ItemT]) -> tuple[Batch[ItemT], int, bool] | None:
    """The quick way: decode up to a likely place, from the right; None where msgspec takes none of them."""
    for place, ends in _likely_cuts(data, complete):
        array = memoryview(data)[: place + 1] if ends else data[:place] + b"]"
        try:
            batch = decoder.decode(array)
        except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            return None
        except msgspec.DecodeError:
            continue
        return batch, place + 1, ends
    return None


def _likely_cuts(data: bytes, complete: bool) -> Iterator[tuple[int, bool]]:
    """(where the items end, whether the list ends there too)."""
    if complete:
        place = len(data)
        for _ in range(_CUT_ATTEMPTS):
            place = data.rfind(b"]", 1, place)
            if place < 0:
                return
            yield place, True
    else:
        tail = max(0, len(data) - (BATCH_BYTES >> 3))
        last = deque(_BETWEEN.finditer(data, tail), _CUT_ATTEMPTS) or deque(_BETWEEN.finditer(data), _CUT_ATTEMPTS)
        for match in reversed(last):
            yield match.end() - 1, False


def _scan_batch(data: bytes, complete: bool, decoder: ItemDecoder[ItemT]) -> tuple[Batch[ItemT], int, bool] | None:
    """The complete way: one item after the other, as far as they go. None where not even one is there."""
    text = _decode_text(data)
    items: list[ItemT | None] = []
    end = 1
    try:
        for value, _, item_end in _scan(text, 1):
            items.append(decoder.convert(value))
            end = item_end
            if len(items) == _LENIENT_ITEMS:
                break
    except RecursionError:
        raise BodyError("is nested too deeply") from None
    end = _skip_blank(text, end)
    ended = text[end : end + 1] == "]"
    is_stuck = not items or (complete and len(items) < _LENIENT_ITEMS)
    if not ended and is_stuck:
        return None
    consumed = text[:end].encode(errors="surrogateescape")
    return decoder.learn(Batch(consumed + b"]", decoder, items)), len(consumed) + 1, ended


def _scan(text: str, position: int) -> Iterator[tuple[Any, int, int]]:
    """(value, start, end) of each item from `position` on that a comma or the end of the list follows."""
    while True:
        start = _skip_blank(text, position)
        try:
            value, end = _LENIENT.raw_decode(text, start)
        except json.JSONDecodeError:
            return
        position = _skip_blank(text, end)
        if text[position : position + 1] not in (",", "]"):
            return
        yield value, start, end
        if text[position] == "]":
            return
        position += 1


def _skip_blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _decode_text(data: bytes | memoryview) -> str:
    # Bytes that are no UTF-8 become lone surrogates, which no id or name may hold: only such a record is rejected.
    return str(data, errors="surrogateescape")


def _find_items(body: _Body) -> int:
    """Where the first item begins. Raises BodyError where there is no list of items."""
    body.data = body.data.removeprefix(b"\xef\xbb\xbf")
    while (start := _items_start(body.data[:MAX_ENVELOPE_BYTES])) is None:
        if len(body.data) > MAX_ENVELOPE_BYTES:
            raise BodyError(f"has no list of items in its first {MAX_ENVELOPE_BYTES} bytes")
        if body.is_complete:
            raise BodyError("is no JSON, or is cut short")
        body.fill(2 * len(body.data))
    return start


def _items_start(data: bytes) -> int | None:
    """The place after the `[` that opens the list of items; None where more of the body is needed to tell."""
    keys: list[bytes | None] = []  # under which key each open container stands
    top_level: list[str] = []
    last = key = None
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token == b'"':
            return None
        if token in (b"{", b"["):
            if token == b"[" and len(keys) <= 2 and _holds_items((*keys[1:], key) if keys else ()):
                return match.end()
            keys.append(key)
            key = None
        elif token in (b"}", b"]"):
            keys[-1:] = []
            key = None
            if not keys:
                raise BodyError(
                    f"has no list under {', '.join(ITEM_KEYS)}; its keys are {', '.join(top_level[:20]) or 'none'}"
                )
        elif token == b":":
            key = last
            if len(keys) == 1 and key is not None:
                top_level.append(key[1:-1].decode(errors="replace")[:50])
        elif token == b",":
            key = None
        else:
            last = token
        if not keys:
            raise BodyError("is neither a JSON object nor an array")
    return None


_ITEM_TOKENS = frozenset(f'"{key}"'.encode() for key in ITEM_KEYS)


def _holds_items(path: tuple[bytes | None, ...]) -> bool:
    """Whether a list under these keys, at most two, is the list of items: at the top, or under item keys only."""
    return all(key in _ITEM_TOKENS for key in path)


def _envelope(text: bytes) -> dict[str, Any]:
    """What stands around the (now empty) list of items; an inner object's keys beside the outer ones."""
    try:
        envelope = _LENIENT.decode(_decode_text(text))
    except (ValueError, RecursionError):
        raise BodyError("is no JSON: what stands around its items can't be read") from None
    if not isinstance(envelope, dict):
        return {}
    _check_one_list(envelope)
    inner = next((v for k in ITEM_KEYS if isinstance(v := envelope.get(k), dict) and _has_list(v)), {})
    _check_one_list(inner)
    merged = {**envelope, **inner}
    return {key: value for key, value in merged.items() if key not in ITEM_KEYS}


def _check_one_list(holder: dict[str, Any]) -> None:
    """The first list in the text was taken for the items: with another one beside it that is a guess."""
    lists = [key for key in ITEM_KEYS if isinstance(holder.get(key), list)]
    if len(lists) > 1:
        raise BodyError(f"has lists under {' and '.join(lists)}: which of them are the items?")


def _has_list(inner: dict[str, Any]) -> bool:
    return any(isinstance(inner.get(key), list) for key in ITEM_KEYS)
