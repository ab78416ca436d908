"""Which ids have been read before: exactly over the last ones, by a 64-bit hash over all of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

WINDOW = 100_000
"""Ids that are compared as they are. Drift between pages moves a record by a few places only."""
_BUCKETS = 64


class SeenIds:
    """The ids of one reading of a dataset. Takes 8 bytes an id, and the window's strings.

    The hash is Python's own, which is keyed anew in each process: nobody can make ids that collide.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._recent: set[str] = set()
        self._older: set[str] = set()
        self._hashes = [array("q") for _ in range(_BUCKETS)]

    def add(self, ids: Sequence[str | None]) -> list[bool] | None:
        """Note the ids of one batch. None if all are new, else for each whether it is; None as an id always is."""
        named = {identifier for identifier in ids if identifier is not None}
        known = self._recent, self._older
        if len(named) + ids.count(None) == len(ids) and all(map(named.isdisjoint, known)):
            self._note(named)
            return None
        return [identifier is None or self._add_one(identifier) for identifier in ids]

    def _add_one(self, identifier: str) -> bool:
        if identifier in self._recent or identifier in self._older:
            return False
        self._note({identifier})
        return True

    def _note(self, ids: set[str]) -> None:
        append = [bucket.append for bucket in self._hashes]
        for digest in map(hash, ids):
            append[digest % _BUCKETS](digest)
        self._recent.update(ids)
        if len(self._recent) >= self._window:
            self._older, self._recent = self._recent, set()

    def count(self) -> tuple[int, int]:
        """(distinct ids, ids that came again from further back than the window reaches)."""
        noted = sum(map(len, self._hashes))
        distinct = sum(len(set(bucket)) for bucket in self._hashes)
        return distinct, noted - distinct
