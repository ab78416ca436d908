"""A list of items in JSON -> typed items, in batches. Pure.

Batches are decoded straight into typed structs. Whatever msgspec refuses (a record of the wrong shape, a lone
surrogate, NaN) is read again by the standard library's lenient parser, item by item.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from etl.records.fields import EventItem, EventReference, FieldCount, NumberText, SaleItem, fields_in
from etl.records.plain_sales import has_plain_amounts, keys_of, plain_sale_type

LENIENT_BYTES = 4 << 20
"""What the lenient parser reads can become thirty times as large in memory: so this is small."""
KEYS_SHOWN = 50
KEY_CHARACTERS = 100
MAX_RECORD_CHARACTERS = 65_536
CUT = "..."
_LENIENT_ITEMS = 50_000
_KINDS_KEPT = 64
_BLANK = re.compile(r"[ \t\r\n]*")
LENIENT = json.JSONDecoder(
    parse_float=NumberText,
    parse_int=lambda text: int(text) if len(text) < 400 else NumberText(text),
    parse_constant=float,
)

_RAW = msgspec.json.Decoder(list[msgspec.Raw])

ItemT = TypeVar("ItemT", EventItem, SaleItem)


class BodyError(ValueError):
    """The body isn't valid JSON, is cut short, or has no list of items. The message says which, without its content."""


def shown_keys(item: dict[str, Any]) -> list[str]:
    """An item's keys, or as many as a message shows."""
    return [key[:KEY_CHARACTERS] for key in islice(item, KEYS_SHOWN)]


class Batch(Generic[ItemT]):
    """Items in the order they stand in; `source` is their JSON.

    `plain` is the same items as values of a plain type (see `columns`), where all of them are plain, as far as the
    decoder could tell; `plain_keys` are then the keys of the fields that each of them has.
    """

    def __init__(
        self,
        source: bytes | memoryview,
        decoder: ItemDecoder[ItemT],
        items: list[ItemT | None] | None = None,
        plain: list[Any] | None = None,
        plain_keys: dict[str, str] | None = None,
    ) -> None:
        self.source = source
        self.plain = plain
        self.plain_keys: dict[str, str] = plain_keys or {}
        self.found = None if items is None else fields_in(items)
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

    def fields(self, items: list[ItemT | None]) -> dict[str, FieldCount]:
        """The fields that its items have (`items`: just these, so that they needn't be decoded once more)."""
        if self.found is None and self.plain is not None and has_plain_amounts(self.plain):
            return self.plain_fields()
        return fields_in(items) if self.found is None else self.found

    def plain_fields(self) -> dict[str, FieldCount]:
        """The same of sales that are plain: all of them have what one has."""
        return {name: FieldCount(key, len(self)) for name, key in self.plain_keys.items()}

    def texts(self) -> list[str]:
        """The JSON text of each item, exactly as it was sent.

        Of an item that is too large for the lenient parser its beginning and `CUT`, from one on that is nested too
        deeply for here only that.
        """
        text = decode_text(self.source[:LENIENT_BYTES])
        texts: list[str] = []
        with suppress(RecursionError):  # whoever asks may stand deeper in the stack than whoever decoded
            texts.extend(text[start:end] for _, start, end in _scan(text, 1))
        if not texts and len(self.source) > LENIENT_BYTES:
            texts.append(text[1:MAX_RECORD_CHARACTERS].lstrip() + CUT)
        return texts + [CUT] * (len(self) - len(texts))

    def digests(self) -> list[int]:
        """A hash of each item's JSON text."""
        try:
            return [hash(bytes(item)) for item in _RAW.decode(self.source)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [hash(text.encode(errors="surrogateescape")) for text in self.texts()]

    def first_keys(self) -> list[str]:
        """The keys of the first item that is an object, for messages."""
        values = (value for value, _, _ in _scan(decode_text(self.source[:LENIENT_BYTES]), 1))
        with suppress(RecursionError):
            return next((shown_keys(value) for value in values if isinstance(value, dict)), [])
        return []


class _Plain(NamedTuple):
    """How plain sales are decoded, and where they have their fields."""

    decoder: msgspec.json.Decoder[list[Any]]
    keys: dict[str, str]


# Made once a process: to make one takes as long as to decode some hundred sales, and many a page has one.
@lru_cache(maxsize=_KINDS_KEPT)
def _decoder_of(item_type: type[msgspec.Struct]) -> msgspec.json.Decoder[list[Any]]:
    # Floats as their text, exact. A sale's ids are typed, so that a float can't be taken for a string there; an
    # event's name isn't.
    float_hook: Callable[[str], Any] = NumberText if item_type is EventItem else str
    return msgspec.json.Decoder(list[item_type], float_hook=float_hook)  # type: ignore[valid-type]


_fields_of = lru_cache(maxsize=_KINDS_KEPT)(msgspec.structs.fields)


@lru_cache(maxsize=_KINDS_KEPT)
def _plain_of(kind: frozenset[tuple[str, str]]) -> _Plain | None:
    """Of sales that have each field under the key that is given."""
    plain_type = plain_sale_type(dict(kind))
    return None if plain_type is None else _Plain(_decoder_of(plain_type), keys_of(plain_type))


class ItemDecoder(Generic[ItemT]):
    """Decodes lists of items of one type. It learns under which keys sales have their fields: plain ones go quicker."""

    def __init__(self, item_type: type[ItemT]) -> None:
        self._item_type: type[ItemT] = item_type
        self._decoder = _decoder_of(item_type)
        self._plain: _Plain | None = None

    def decode(self, array: bytes | memoryview) -> Batch[ItemT]:
        """A JSON array of objects; raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""
        if (plain := self._plain) is not None:
            with suppress(msgspec.ValidationError):
                return Batch(array, self, plain=plain.decoder.decode(array), plain_keys=plain.keys)
        return self.learn(Batch(array, self, self._decoder.decode(array)))

    def decode_completely(self, array: bytes | memoryview) -> list[ItemT | None]:
        """The items of a list that has been found to be JSON, whatever they are."""
        try:
            items: list[ItemT | None] = self._decoder.decode(array)
            return items
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [self.convert(value) for value, _, _ in _scan(decode_text(array), 1)]

    def learn(self, batch: Batch[ItemT]) -> Batch[ItemT]:
        """Take the next batch for a plain one if its sales have their fields where this one's do."""
        if self._item_type is SaleItem:
            self._plain = _plain_of(frozenset((name, field.key) for name, field in (batch.found or {}).items()))
        return batch

    def convert(self, value: object) -> ItemT | None:
        """One item that the lenient parser read; a candidate of a type that it can't have counts as missing."""
        if not isinstance(value, dict):
            return None
        item: ItemT = self._item_type()
        for struct_field in _fields_of(self._item_type):
            candidate = value.get(struct_field.name)
            if struct_field.type is not Any:
                candidate = _identifier(candidate)
            setattr(item, struct_field.name, candidate)
        if isinstance(item, SaleItem) and isinstance(event := value.get("event"), dict):
            item.event = EventReference(_identifier(event.get("id")), _identifier(event.get("event_id")))
        return item


def _identifier(value: object) -> str | int | None:
    return value if type(value) is str or type(value) is int else None


def scan_batch(data: bytes, complete: bool, decoder: ItemDecoder[ItemT]) -> tuple[Batch[ItemT], int, bool] | None:
    """The complete way: one item after the other, as far as they go. None where not even one is there."""
    text = decode_text(data)
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


def items_in(beginning: bytes) -> list[tuple[Any, str]]:
    """The items in the beginning of a list, each with its text; the last one may be cut off, and is left out then."""
    text = decode_text(beginning)
    with suppress(RecursionError):
        return [(value, text[start:end]) for value, start, end in _scan(text, 1)]
    return []


def _scan(text: str, position: int) -> Iterator[tuple[Any, int, int]]:
    """(value, start, end) of each item from `position` on that a comma or the end of the list follows."""
    while True:
        start = _skip_blank(text, position)
        try:
            value, end = LENIENT.raw_decode(text, start)
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


def decode_text(data: bytes | memoryview) -> str:
    # Bytes that are no UTF-8 become lone surrogates, which no id or name may hold: only such a record is rejected.
    return str(data, errors="surrogateescape")
