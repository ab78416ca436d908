"""A run with kept sales: let the guards speak, and publish what is pending in each store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from etl.extract.tally import Tally
from etl.load.store import LoadResult
from etl.sales.run import NoteRows, SalesStore
from etl.sales.state import SalesState
from etl.transform.fold import Days


@dataclass(frozen=True)
class KeptTotals:
    """The sums of all kept sales, in the form that the guards judge a Summary in."""

    total_tickets: int
    total_revenue: Decimal
    groups: Callable[[], Iterator[tuple[str, Days]]]


def kept_totals(state: SalesState, store: SalesStore) -> KeptTotals:
    """The sums; by event and day only where a guard asks for them."""
    return KeptTotals(state.counts.tickets, state.counts.revenue, store.groups)


def kept_tally(state: SalesState, store: SalesStore, read: Tally, max_ratio: float) -> Tally:
    """The kept sales as if all of them had been read now: twelve records of an increment prove no ratio."""
    counts = state.counts
    tally = Tally(read.dataset, read=counts.kept, accepted=counts.kept - counts.rejected)
    tally.keys_seen, tally.rejects = read.keys_seen, read.rejects
    if counts.rejected > max_ratio * counts.kept:
        tally.reasons = Counter(store.reasons())
    return tally


class Publication:
    """Brings each store to what the kept sales say, the sales' own store first."""

    def __init__(self, store: SalesStore, state: SalesState, now: datetime) -> None:
        self._store = store
        self._state = state
        self._now = now

    def publish_own(self, note: NoteRows, seal: Callable[[sa.Connection], None]) -> LoadResult:
        """The store where the sales are. `note` and `seal` are told of it as SalesStore says."""
        self._state, result = self._store.publish(self._state, self._now, note, seal)
        return result

    def publish_other(self, name: str, load: Callable[[Any], LoadResult]) -> LoadResult:
        """Another store. Nothing is asked of it where nothing is pending."""
        pending = self._store.pending(name, self._state, self._now)
        if pending is None:
            return LoadResult(name)
        result = load(pending)
        if result.status == "success":
            self._state = self._store.mark_published(name, self._state, self._now)
        return result
