"""Whether ids are unique: the same id twice on one page is one record that was sent twice, or it is two records. Pure.

A page is the answer to one statement, so nothing has moved between its items. What two items differ in may well be
nothing that is read here, such as a seat: so their whole texts are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etl.extract.items import Batch
from etl.extract.seen_ids import WINDOW, Id, Key, keys_of


class PageIds:
    """The ids of one page. A large page's texts are gone by the time an id repeats: of those a hash each is kept, over
    a window of `window` ids.
    """

    def __init__(self, *, is_large: bool, window: int = WINDOW) -> None:
        self._is_large = is_large
        self._window = window
        self._batches: list[tuple[Sequence[Id], Batch[Any]]] = []
        self._texts: dict[int, list[str]] = {}
        self._recent: dict[Key, int] = {}
        self._older: dict[Key, int] = {}

    def conflict(self, batch: Batch[Any], ids: Sequence[Id], is_new: Sequence[bool] | None) -> Id:
        """An id that the batch brings with another text than the page had for it, None if there is none.

        `is_new` says for each id whether the reading has met it for the first time; None where that goes for all.
        """
        if self._is_large:
            return self._conflict_by_hash(batch, ids)
        self._batches.append((ids, batch))
        return None if is_new is None else self._conflict_by_text(ids, is_new)

    def _conflict_by_text(self, ids: Sequence[Id], is_new: Sequence[bool]) -> Id:
        first: dict[Key, tuple[int, int]] = {}
        for number, (batch_ids, _) in enumerate(self._batches):
            for index, key in enumerate(keys_of(batch_ids)):
                first.setdefault(key, (number, index))
        last = len(self._batches) - 1
        for index, key in enumerate(keys_of(ids)):
            if key is not None and not is_new[index] and self._text(*first[key]) != self._text(last, index):
                return ids[index]
        return None

    def _text(self, number: int, index: int) -> str:
        if number not in self._texts:
            self._texts[number] = self._batches[number][1].texts()
        return self._texts[number][index]

    def _conflict_by_hash(self, batch: Batch[Any], ids: Sequence[Id]) -> Id:
        for key, digest, shown in zip(keys_of(ids), batch.digests(), ids, strict=True):
            known = self._recent.get(key, self._older.get(key, digest))
            if key is not None and known != digest:
                return shown
            self._recent[key] = digest
        if len(self._recent) >= self._window:
            self._older, self._recent = self._recent, {}
        return None
