"""What a run has to say for itself: the object that `run_etl_once` returns, and the JSON that the function answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from etl.extract.tally import Tally
from etl.load.store import LoadResult
from etl.run.guards import fields_not_found
from etl.sales.report import SalesReport
from etl.sales.state import SalesState
from etl.transform.fold import Summary


def plain(value: Any) -> str:
    """For `json.dumps`, what JSON has no type for: Decimals without an exponent, times in ISO 8601."""
    if isinstance(value, Decimal):
        return f"{value:f}"  # and not 0E-9
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@dataclass
class RunReport:
    """A run. Counts are of distinct records; times are in seconds; `status` is `success`, `dry_run`, `reading` or
    `failed`: with kept sales a run that could publish nothing yet is `reading`.
    """

    run_id: str
    trigger: str
    status: str = "running"
    dry_run: bool = False
    force: bool = False
    events_count: int = 0
    sales_count: int = 0
    duplicates_count: int = 0
    rejected_count: int = 0
    undated_count: int = 0
    event_summary_count: int = 0
    daily_sales_count: int = 0
    total_tickets: int = 0
    total_revenue: str = "0"
    duration_seconds: float = 0.0
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    completeness: dict[str, str] = field(default_factory=dict)
    fields_not_found: dict[str, list[str]] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    stores: dict[str, LoadResult] = field(default_factory=dict)
    kept_sales: SalesReport | None = None

    def add_tallies(self, tallies: dict[str, Tally]) -> None:
        """What was read."""
        events, sales = tallies.get("events"), tallies.get("ticket_sales")
        self.events_count = events.accepted if events else 0
        self.sales_count = sales.accepted if sales else 0
        self.undated_count = sales.undated if sales else 0
        self.duplicates_count = sum(tally.duplicates for tally in tallies.values())
        self.rejected_count = sum(tally.rejected for tally in tallies.values())
        self.rejected = {name: dict(tally.reasons) for name, tally in tallies.items() if tally.reasons}
        self.completeness = {name: tally.completeness for name, tally in tallies.items()}
        self.fields_not_found = {name: fields_not_found(tally) for name, tally in tallies.items()}

    def add_summary(self, summary: Summary) -> None:
        """What it came to."""
        self.event_summary_count = len(summary.events)
        self.daily_sales_count = summary.daily_count
        self.total_tickets = summary.total_tickets
        self.total_revenue = f"{summary.total_revenue:f}"

    def add_kept(self, state: SalesState, kept: SalesReport) -> None:
        """The counts of all kept sales, in the place of those that were read."""
        counts = state.counts
        self.sales_count = counts.kept - counts.rejected
        self.undated_count = counts.undated
        self.rejected_count += counts.rejected - sum(self.rejected.get("ticket_sales", {}).values())
        self.total_tickets, self.total_revenue = counts.tickets, f"{counts.revenue:f}"
        self.completeness["ticket_sales"] = kept.completeness or "reading"

    def to_json(self) -> dict[str, Any]:
        """As JSON values, but for Decimals, which go as text. Without `kept_sales` where none are kept."""
        values = asdict(self)
        if self.kept_sales is None:
            del values["kept_sales"]
        return values
