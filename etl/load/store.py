"""What the pipeline and the loaders tell each other of a store: the same for PostgreSQL and BigQuery."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from etl.transform.fold import Summary
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY, Table

MAX_EXAMPLES = 20
STORE_NAMES = {"postgres": "PostgreSQL", "bigquery": "BigQuery"}


@dataclass(frozen=True)
class ScopeTotals:
    """What a table holds for the run's scope."""

    rows: int
    tickets: int
    revenue: Decimal

    def __str__(self) -> str:
        return f"rows={self.rows}, tickets={self.tickets}, revenue={self.revenue:f}"


def expected_totals(summary: Summary) -> list[tuple[Table, ScopeTotals]]:
    """What each table must hold for the scope once the Summary is loaded, whatever the store."""
    rows = {EVENT_SALES_SUMMARY: len(summary.events), DAILY_TICKET_SALES: summary.daily_count}
    return [(table, ScopeTotals(count, summary.total_tickets, summary.total_revenue)) for table, count in rows.items()]


@dataclass(frozen=True)
class StoredTickets:
    """Tickets that a store holds before a load: in all, and of the events in scope; and the revenue of those."""

    total: int
    in_scope: int
    revenue: Decimal


@dataclass(frozen=True)
class Group:
    """What a store has published of an event: on one day or, where `day` is None, in all."""

    event_id: str
    day: date | None
    tickets: int
    revenue: Decimal

    @property
    def key(self) -> tuple[bool, str, date]:
        """The order of groups in any store: events, then days, by the bytes of the event's id."""
        return self.day is not None, self.event_id, self.day or date.min


class PublishedDay(NamedTuple):
    """What was sold on a day, of all events."""

    day: date
    tickets: int
    revenue: Decimal


class PublishedEvent(NamedTuple):
    """What was sold of an event."""

    event_id: str
    name: str | None
    tickets: int
    revenue: Decimal


@dataclass(frozen=True)
class Published:
    """What a store has published: how many events, totals, some days in order, and the best-selling events."""

    events: int = 0
    tickets: int = 0
    revenue: Decimal = Decimal()
    days: tuple[PublishedDay, ...] = ()
    best: tuple[PublishedEvent, ...] = ()


@dataclass
class TableChanges:
    """What a load did to a table, or would do. `examples` are up to 20 changed rows, old and new (dry runs only)."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class LoadResult:
    """What became of a store. `status` is `success`, `dry_run` or `failed`; `seconds` is the time that it took."""

    database: str
    status: str = "success"
    changes: dict[str, TableChanges] = field(default_factory=dict)
    reconciled: dict[str, ScopeTotals] = field(default_factory=dict)
    seconds: float = 0.0
    reconcile_seconds: float = 0.0
    error: str | None = None


def example(
    columns: tuple[str, ...], table: Table, old: tuple[Any, ...] | None, new: tuple[Any, ...] | None
) -> dict[str, Any]:
    """A changed row for people: its key, and its compared columns before and after (None: not there)."""
    old = None if old is None or old[0] is None else old
    shown = new or old or ()
    width = len(table.key)
    return {
        **dict(zip(table.key, shown[:width], strict=True)),
        "old": None if old is None else dict(zip(columns[width:], old[width:], strict=True)),
        "new": None if new is None else dict(zip(columns[width:], new[width:], strict=True)),
    }
