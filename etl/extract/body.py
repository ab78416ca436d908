"""One JSON body -> its items, in batches, and its envelope (all that is not items). Pure.

A body is never parsed as a whole: where the items begin is found by its tokens, then its items are decoded
batch by batch. A cut between two items is tried, not searched for: a wrong cut leaves a bracket or a string
open, so that the batch isn't valid JSON.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic

import msgspec

from etl.extract.envelope import items_start, read_envelope
from etl.extract.items import LENIENT_BYTES, Batch, BodyError, ItemDecoder, ItemT, scan_batch
from etl.records.plain_sales import has_plain_amounts

BATCH_BYTES = 1 << 18
"""As little as this becomes 16 MiB in memory where it is made of the smallest items."""
WHOLE_PAGE_BYTES = 4 << 20
"""A body up to this size is read to its end before its first item counts."""
MAX_ITEM_BYTES = 16 << 20
MAX_ENVELOPE_BYTES = 1 << 20
MAX_ITEM_VALUES = 300_000
"""Of an item that is larger than a batch: each value may take a hundred bytes."""
KEPT_VALUES = 50_000
"""Of a page's items that wait to be used; those of smaller pages than the next are kept uncounted."""
KEPT_BYTES = 1 << 17
BEGINNING_BYTES = 1 << 16
"""Of a page's items, to tell whether another page begins with the same ones."""
_CUT_ATTEMPTS = 8
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BETWEEN = re.compile(rb"\}\s*,")


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

    def skip(self) -> None:
        """Read to the end without using the items: for what stands around them."""
        for _ in self.batches:
            pass

    def beginning(self) -> bytes:
        """The JSON of the first items, cut off somewhere. They can still be read afterwards."""
        first = next(self.batches, None)
        if first is None:
            return b""
        self.batches = chain((first,), self.batches)
        return bytes(first.source[:BEGINNING_BYTES])

    def discard(self) -> None:
        """Read no further: a page that is read as a stream ends here."""
        self.batches = iter(())


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
            raise BodyError("isn't valid JSON: its list of items ends with a comma")
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
    page.envelope = read_envelope(prefix + b"]" + body.data)


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
            found = scan_batch(data, complete, decoder)
        if found is not None:
            batch, end, ended = found
            return batch, body.data[end:], ended
        if complete and len(data) > LENIENT_BYTES:
            raise BodyError(f"has an item of more than {LENIENT_BYTES} bytes that isn't plain JSON")
        if complete:
            raise BodyError("isn't valid JSON, or is cut short")
        if len(data) > MAX_ITEM_BYTES:
            raise BodyError(f"has an item of more than {MAX_ITEM_BYTES} bytes, or isn't valid JSON")
        size += max(BATCH_BYTES, size >> 2)
        body.fill(min(size, MAX_ITEM_BYTES))


def _cut(data: bytes, complete: bool, decoder: ItemDecoder[ItemT]) -> tuple[Batch[ItemT], int, bool] | None:
    """The quick way: decode up to a likely cut, from the right; None where msgspec takes none of them."""
    for offset, ends in _likely_cuts(data, complete):
        array = memoryview(data)[: offset + 1] if ends else data[:offset] + b"]"
        try:
            batch = decoder.decode(array)
        except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            return None
        except msgspec.DecodeError:
            continue
        return batch, offset + 1, ends
    return None


def _likely_cuts(data: bytes, complete: bool) -> Iterator[tuple[int, bool]]:
    """(where the items end, whether the list ends there too)."""
    if complete:
        offset = len(data)
        for _ in range(_CUT_ATTEMPTS):
            offset = data.rfind(b"]", 1, offset)
            if offset < 0:
                return
            yield offset, True
    else:
        tail = max(0, len(data) - (BATCH_BYTES >> 3))
        last = deque(_BETWEEN.finditer(data, tail), _CUT_ATTEMPTS) or deque(_BETWEEN.finditer(data), _CUT_ATTEMPTS)
        for match in reversed(last):
            yield match.end() - 1, False


def _find_items(body: _Body) -> int:
    """Where the first item begins. Raises BodyError where there is no list of items."""
    body.data = body.data.removeprefix(b"\xef\xbb\xbf")
    while (start := items_start(body.data[:MAX_ENVELOPE_BYTES])) is None:
        if len(body.data) > MAX_ENVELOPE_BYTES:
            raise BodyError(f"has no list of items in its first {MAX_ENVELOPE_BYTES} bytes")
        if body.is_complete:
            raise BodyError("isn't valid JSON, or is cut short")
        body.fill(2 * len(body.data))
    return start
