"""Which ids have been read before: exactly over the last ones, by a 64-bit hash over all of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from mmap import mmap
from typing import cast

WINDOW = 100_000
"""Ids that are compared as they are. Drift between pages moves a record by a few places only."""
_BLOCK = 1 << 17
"""Hashes in a block of 1 MiB."""
_BUCKET_IDS = 50_000
_INT_DIGITS = 18
"""Ids of up to so many digits are kept as int: smaller, quicker, and each its own hash."""
_TEXT_CHARACTERS = 40
"""Of a longer text a digest of 16 bytes is kept: an id may be as long as a page."""

Id = str | int | None
"""A record's id as the upstream sent it. 5 and "5" are the same one."""
Key = Id | bytes


class SeenIds:
    """The ids of one reading of a dataset. Takes 8 bytes an id, and the window's strings with their places.

    With `is_counted` something else counts them: then the window is enough, and takes the same for any number of ids.

    A place is a record's row number less the number of records there were then, at least. New records in front of a
    record push it back by a row each. So for each record that comes again, `take_needed` tells how many records there
    must be by now if new ones alone have moved it.

    The hash is Python's own. That of a text is keyed anew in each process, that of an int below 2^61 is the int: nobody
    can make ids that collide.
    """

    def __init__(self, window: int = WINDOW, *, is_counted: bool = False) -> None:
        self._is_counted = is_counted
        self._needed: list[int] = []
        self._window = window
        self._recent: dict[Key, int | None] = {}
        self._older: dict[Key, int | None] = {}
        self._blocks: list[memoryview[int]] = []
        self._free = 0  # places left in the last block

    def add(self, ids: Sequence[Id], row: int | None = None, least: int = 0) -> list[bool] | None:
        """Note the ids of one batch, whose first one stands in `row` (None: rows tell nothing here) of `least` or more.

        None if all are new, else for each whether it is. An item without an id always is.
        """
        keys = keys_of(ids)
        rows: Sequence[int | None] = [None] * len(keys) if row is None else range(row, row + len(keys))
        places: Sequence[int | None] = rows if row is None else range(row - least, row - least + len(keys))
        named = set(keys)
        named.discard(None)
        is_new = len(named) + keys.count(None) == len(keys)
        if is_new and all(known.keys().isdisjoint(named) for known in (self._recent, self._older)):
            self._note(keys, places)
            return None
        return [
            key is None or self._add_one(key, here, place) for key, here, place in zip(keys, rows, places, strict=True)
        ]

    def _add_one(self, key: Key, row: int | None, place: int | None) -> bool:
        for known in (self._recent, self._older):
            if key in known:
                before = known[key]
                if row is not None and before is not None:
                    self._needed.append(row - before)
                return False
        self._note([key], [place])
        return True

    def take_needed(self) -> list[int]:
        """For each record that came again since the last call: how many there must be if new ones pushed it there."""
        needed, self._needed = self._needed, []
        return needed

    def _note(self, keys: Sequence[Key], places: Sequence[int | None]) -> None:
        if not self._is_counted:
            self._keep(array("q", map(hash, [key for key in keys if key is not None])))
        self._recent.update(zip(keys, places, strict=True))
        self._recent.pop(None, None)
        if len(self._recent) >= self._window:
            self._older, self._recent = self._recent, {}

    def _keep(self, hashes: array[int]) -> None:
        """Blocks of their own memory: arrays would lie between the bodies of pages, and keep their space apart."""
        while hashes:
            if not self._free:
                self._blocks.append(memoryview(mmap(-1, _BLOCK * hashes.itemsize)).cast("q"))
                self._free = _BLOCK
            part, hashes = hashes[: self._free], hashes[self._free :]
            start = _BLOCK - self._free
            self._blocks[-1][start : start + len(part)] = part
            self._free -= len(part)

    def count(self) -> tuple[int, int]:
        """(distinct ids, ids that came again from further back than the window reaches). Ends the reading."""
        self._older, self._recent = {}, {}
        noted = len(self._blocks) * _BLOCK - self._free
        distinct = sum(len(set(chain.from_iterable(bucket))) for bucket in self._distribute(noted // _BUCKET_IDS + 1))
        return distinct, noted - distinct

    def _distribute(self, size: int) -> list[list[array[int]]]:
        """The hashes in `size` buckets, equal ones in the same. Uses the blocks up, so that memory stays as it is."""
        buckets: list[list[array[int]]] = [[] for _ in range(size)]
        while self._blocks:
            parts: list[list[int]] = [[] for _ in range(size)]
            block = self._blocks.pop()
            for digest in block[: _BLOCK - self._free]:
                parts[digest % size].append(digest)
            self._free = 0
            for bucket, part in zip(buckets, parts, strict=True):
                bucket.append(array("q", part))
        return buckets


def keys_of(ids: Sequence[Id]) -> Sequence[Key]:
    """The ids such that equal ones are equal: as ints where they can be."""
    kinds = set(map(type, ids))
    if kinds == {int}:
        numbers = cast("Sequence[int]", ids)
        is_plain = min(numbers) > 0 and max(numbers) < 10**_INT_DIGITS
    elif int in kinds:
        is_plain = False
    else:
        texts = list(filter(None, cast("Sequence[str | None]", ids)))
        is_plain = not any(map(str.isdigit, texts)) and max(map(len, texts), default=0) <= _TEXT_CHARACTERS
    return ids if is_plain else [identifier if identifier is None else _key(str(identifier)) for identifier in ids]


def _key(text: str) -> Key:
    if len(text) > _TEXT_CHARACTERS:
        return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
    is_number = text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= _INT_DIGITS
    return int(text) if is_number else text
