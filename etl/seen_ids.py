"""Which ids have been read before: exactly over the last ones, by a 64-bit hash over all of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

WINDOW = 100_000
"""Ids that are compared as they are. Drift between pages moves a record by a few places only."""
PASS_IDS = 600_000
"""About 40 MiB of a set."""


class SeenIds:
    """The ids of one reading of a dataset. Takes 8 bytes an id, and the window's strings with their places.

    A place is a record's row number less the total that its page declared. New records in front of a record push it
    back by as many rows as the total grows, so a record that comes again has at most the place that it had. One with a
    higher place (`jumps`) has been moved by something else, which may have moved another one out of sight.

    The hash is Python's own, which is keyed anew in each process: nobody can make ids that collide.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.jumps = 0
        self._window = window
        self._recent: dict[str | None, int | None] = {}
        self._older: dict[str | None, int | None] = {}
        self._hashes = array("q")

    def add(self, ids: Sequence[str | None], place: int | None = None) -> list[bool] | None:
        """Note the ids of one batch, whose first one stands at `place` (None: places tell nothing here).

        None if all are new, else for each whether it is. An item without an id always is.
        """
        places: Sequence[int | None] = [None] * len(ids) if place is None else range(place, place + len(ids))
        named = set(ids)
        named.discard(None)
        is_new = len(named) + ids.count(None) == len(ids)
        if is_new and all(known.keys().isdisjoint(named) for known in (self._recent, self._older)):
            self._note(ids, places)
            return None
        return [identifier is None or self._add_one(identifier, at) for identifier, at in zip(ids, places, strict=True)]

    def _add_one(self, identifier: str, place: int | None) -> bool:
        for known in (self._recent, self._older):
            if identifier in known:
                before = known[identifier]
                self.jumps += place is not None and before is not None and place > before
                return False
        self._note([identifier], [place])
        return True

    def _note(self, ids: Sequence[str | None], places: Sequence[int | None]) -> None:
        self._hashes.extend(hash(identifier) for identifier in ids if identifier is not None)
        self._recent.update(zip(ids, places, strict=True))
        self._recent.pop(None, None)
        if len(self._recent) >= self._window:
            self._older, self._recent = self._recent, {}

    def count(self) -> tuple[int, int]:
        """(distinct ids, ids that came again from further back than the window reaches). Ends the reading.

        In as many passes as keep the set that is made in each of them small.
        """
        self._older, self._recent = {}, {}
        passes = len(self._hashes) // PASS_IDS + 1
        if passes == 1:
            distinct = len(set(self._hashes))
        else:
            distinct = sum(len({h for h in self._hashes if h % passes == turn}) for turn in range(passes))
        return distinct, len(self._hashes) - distinct
