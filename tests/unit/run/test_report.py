"""A report tells what was read and what it came to, as JSON."""

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from etl.extract.tally import Tally
from etl.load.store import LoadResult, ScopeTotals, TableChanges, expected_totals
from etl.records.fields import MISSING, SENT, UNREADABLE
from etl.run.report import RunReport
from etl.transform.fold import fold_sales, summarise

NOW = datetime(2026, 11, 23, tzinfo=UTC)
EVENTS = Tally(
    "events",
    read=12,
    accepted=9,
    duplicates=2,
    distinct=10,
    first_total=10,
    last_total=10,
    reasons=Counter(event_id_missing=1),
    fields_found={"event_id": "id"},
)
SALES = Tally(
    "ticket_sales",
    read=105,
    accepted=100,
    duplicates=3,
    distinct=102,
    reasons=Counter(not_an_object=2),
    dates=Counter({SENT: 90, MISSING: 6, UNREADABLE: 4}),
    fields_found={"sale_id": "id", "event_id": "event", "quantity": "qty", "price": "price", "sale_date": "saleDate"},
)


def test_counts() -> None:
    """Counts of both datasets are added up where they speak of both; the rest stands by dataset."""
    report = RunReport("run-1", "http")
    report.add_tallies({"events": EVENTS, "ticket_sales": SALES})
    assert (report.events_count, report.sales_count) == (9, 100)
    assert (report.duplicates_count, report.rejected_count, report.undated_count) == (5, 3, 10)
    assert report.rejected == {"events": {"event_id_missing": 1}, "ticket_sales": {"not_an_object": 2}}
    assert report.completeness == {"events": "proved", "ticket_sales": "undeclared"}
    assert report.fields_not_found == {"events": ["event_name"], "ticket_sales": ["total_amount"]}


def test_counts_of_half_a_run() -> None:
    """A run that failed while it read says what it had read."""
    report = RunReport("run-1", "http")
    report.add_tallies({"events": EVENTS})
    assert (report.events_count, report.sales_count, report.undated_count, report.rejected_count) == (9, 0, 0, 1)
    report.add_tallies({})
    assert (report.events_count, report.completeness) == (0, {})


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        pytest.param(0, "0.000000000", id="nothing"),
        pytest.param(100, "0.000000100", id="little"),
        pytest.param(-(10**30), "-1000000000000000000000.000000000", id="much, paid back"),
    ],
)
def test_amounts_are_plain_decimals(nano: int, shown: str) -> None:
    """Never 0E-9, in the report and where an error names what a table holds."""
    summary = summarise({"a": "A"}, fold_sales([("a", NOW.date(), 1, nano)]), NOW)
    report = RunReport("run-1", "http")
    report.add_summary(summary)
    assert report.total_revenue == shown
    assert [str(totals) for _, totals in expected_totals(summary)] == [f"rows=1, tickets=1, revenue={shown}"] * 2


def test_json() -> None:
    """The answer holds every field of the contract, and no amount as a float."""
    report = RunReport("run-1", "http")
    report.add_summary(
        summarise({"a": "A", "b": None}, fold_sales([("a", NOW.date(), 3, 12345678901234123456789)]), NOW)
    )
    report.stores["postgres"] = LoadResult(
        "postgres",
        changes={
            "daily_ticket_sales": TableChanges(inserted=1, examples=[{"old": None, "new": {"revenue": Decimal("0.1")}}])
        },
        reconciled={"daily_ticket_sales": ScopeTotals(1, 3, Decimal("12345678901234.123456789"))},
    )
    found = json.loads(json.dumps(report.to_json(), default=str))
    expected = {
        "run_id": "run-1",
        "status": "running",
        "events_count": 0,
        "sales_count": 0,
        "duplicates_count": 0,
        "rejected_count": 0,
        "undated_count": 0,
        "event_summary_count": 2,
        "daily_sales_count": 1,
        "total_tickets": 3,
        "total_revenue": "12345678901234.123456789",
        "duration_seconds": 0.0,
    }
    assert expected.items() <= found.items()
    store = found["stores"]["postgres"]
    assert store["reconciled"]["daily_ticket_sales"] == {"rows": 1, "tickets": 3, "revenue": "12345678901234.123456789"}
    changes = {"inserted": 1, "updated": 0, "deleted": 0, "unchanged": 0}
    assert changes.items() <= store["changes"]["daily_ticket_sales"].items()
