"""Which ids have been read before: exactly over the last ones, by a 64-bit hash over all of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from typing import cast

WINDOW = 100_000
"""Ids that are compared as they are. Drift between pages moves a record by a few places only."""
_CHUNK = 4096
_CHUNKS_AT_ONCE = 32
_BUCKET_IDS = 50_000
_INT_DIGITS = 18
"""Ids of up to so many digits are kept as int: smaller, quicker, and each its own hash."""

Id = str | int | None
"""A record's id as the upstream sent it. 5 and "5" are the same one."""


class SeenIds:
    """The ids of one reading of a dataset. Takes 8 bytes an id, and the window's strings with their places.

    A place is a record's row number less the total that its page declared. New records in front of a record push it
    back by as many rows as the total grows, so a record that comes again has at most the place that it had. One with a
    higher place (`jumps`) has been moved by something else, which may have moved another one out of sight.

    The hash is Python's own. That of a text is keyed anew in each process, that of an int below 2^61 is the int: nobody
    can make ids that collide.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.jumps = 0
        self._window = window
        self._recent: dict[Id, int | None] = {}
        self._older: dict[Id, int | None] = {}
        self._open = array("q")
        self._chunks: list[array[int]] = []

    def add(self, ids: Sequence[Id], place: int | None = None) -> list[bool] | None:
        """Note the ids of one batch, whose first one stands at `place` (None: places tell nothing here).

        None if all are new, else for each whether it is. An item without an id always is.
        """
        keys = _keys(ids)
        places: Sequence[int | None] = [None] * len(keys) if place is None else range(place, place + len(keys))
        named = set(keys)
        named.discard(None)
        is_new = len(named) + keys.count(None) == len(keys)
        if is_new and all(known.keys().isdisjoint(named) for known in (self._recent, self._older)):
            self._note(keys, places)
            return None
        return [key is None or self._add_one(key, at) for key, at in zip(keys, places, strict=True)]

    def _add_one(self, key: Id, place: int | None) -> bool:
        for known in (self._recent, self._older):
            if key in known:
                before = known[key]
                self.jumps += place is not None and before is not None and place > before
                return False
        self._note([key], [place])
        return True

    def _note(self, keys: Sequence[Id], places: Sequence[int | None]) -> None:
        self._open.extend(map(hash, [key for key in keys if key is not None]))
        if len(self._open) >= _CHUNK:
            self._close_chunk()
        self._recent.update(zip(keys, places, strict=True))
        self._recent.pop(None, None)
        if len(self._recent) >= self._window:
            self._older, self._recent = self._recent, {}

    def _close_chunk(self) -> None:
        """Keep what has come at its exact size: one array that grew with all ids would be moved about in memory."""
        self._chunks.append(array("q", self._open))
        del self._open[:]

    def count(self) -> tuple[int, int]:
        """(distinct ids, ids that came again from further back than the window reaches). Ends the reading."""
        self._older, self._recent = {}, {}
        self._close_chunk()
        noted = sum(map(len, self._chunks))
        distinct = sum(len(set(chain.from_iterable(bucket))) for bucket in self._distribute(noted // _BUCKET_IDS + 1))
        return distinct, noted - distinct

    def _distribute(self, size: int) -> list[list[array[int]]]:
        """The hashes in `size` buckets, equal ones in the same. Uses the chunks up, so that memory stays as it is."""
        buckets: list[list[array[int]]] = [[] for _ in range(size)]
        while self._chunks:
            parts: list[list[int]] = [[] for _ in range(size)]
            for chunk in self._chunks[-_CHUNKS_AT_ONCE:]:
                for digest in chunk:
                    parts[digest % size].append(digest)
            del self._chunks[-_CHUNKS_AT_ONCE:]
            for bucket, part in zip(buckets, parts, strict=True):
                bucket.append(array("q", part))
        return buckets


def _keys(ids: Sequence[Id]) -> Sequence[Id]:
    """The ids such that equal ones are equal: as ints where they can be."""
    kinds = set(map(type, ids))
    if kinds == {int}:
        numbers = cast("Sequence[int]", ids)
        is_plain = min(numbers) > 0 and max(numbers) < 10**_INT_DIGITS
    else:
        is_plain = int not in kinds and not any(str.isdigit(text) for text in cast("Sequence[str]", ids) if text)
    return ids if is_plain else [identifier if identifier is None else _key(str(identifier)) for identifier in ids]


def _key(text: str) -> str | int:
    is_number = text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= _INT_DIGITS
    return int(text) if is_number else text
