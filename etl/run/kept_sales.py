"""A run with kept sales: read what there is time for, let the guards speak, publish what is pending in each store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
from msgspec.structs import replace

from etl.extract.tally import Tally
from etl.load.store import LoadResult
from etl.sales.postgres import PostgresSales
from etl.sales.publication import mark_published, pending_summary, publish_postgres
from etl.sales.state import SalesState
from etl.transform.fold import Days, Summary

OWN_STORE = "postgres"


@dataclass(frozen=True)
class KeptTotals:
    """The sums of all kept sales, in the form that the guards judge a Summary in."""

    total_tickets: int
    total_revenue: Decimal
    groups: Callable[[], Iterator[tuple[str, Days]]]


def kept_totals(state: SalesState, store: PostgresSales) -> KeptTotals:
    """The sums; by event and day only where a guard asks for them."""
    return KeptTotals(state.counts.tickets, state.counts.revenue, store.groups)


def kept_tally(state: SalesState, store: PostgresSales, read: Tally, max_ratio: float) -> Tally:
    """The kept sales as if all of them had been read now: twelve records of an increment prove no ratio."""
    counts = state.counts
    tally = Tally(read.dataset, read=counts.kept, accepted=counts.kept - counts.rejected)
    tally.keys_seen, tally.rejects = read.keys_seen, read.rejects
    if counts.rejected > max_ratio * counts.kept:
        tally.reasons = Counter(store.reasons())
    return tally


class Publication:
    """Brings each store to what the kept sales say. `seal` writes the run's row, last in PostgreSQL's transaction."""

    def __init__(
        self,
        store: PostgresSales,
        state: SalesState,
        now: datetime,
        seal: Callable[[sa.Connection], None],
        *,
        dry_run: bool,
    ) -> None:
        self.state = state
        self._store = store
        self._now = now
        self._seal = seal
        self._dry_run = dry_run

    def publish_own(self) -> LoadResult:
        """PostgreSQL, where the sales are: sums and state in one transaction."""
        with self._store.transaction() as connection:
            everything = not self.state.holds(OWN_STORE)
            result = publish_postgres(connection, self._now, everything=everything, dry_run=self._dry_run)
            state = self._published(OWN_STORE)
            self._store.save_in(connection, state)
            self._seal(connection)
        self.state = state
        return result

    def publish_other(self, name: str, load: Callable[[Summary], LoadResult]) -> LoadResult:
        """Another store: its events of which something is pending, whole. Nothing is asked of it where nothing is."""
        with self._store.transaction() as connection:
            summary = pending_summary(connection, name, self._now, everything=not self.state.holds(name))
        result = load(summary) if summary.events or not self.state.holds(name) else LoadResult(name)
        if result.status == "success":
            with self._store.transaction() as connection:
                mark_published(connection, name)
                state = self._published(name)
                self._store.save_in(connection, state)
            self.state = state
        return result

    def _published(self, name: str) -> SalesState:
        published = {**self.state.published, name: self.state.generation}
        return replace(self.state, published=published, published_at=self._now)
