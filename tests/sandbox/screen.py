"""What the sandbox shows on a terminal."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from etl.views.text import shown_amount

Cell = str | int | Decimal

_REPORT = {
    "read": "{events_count:,} events, {sales_count:,} ticket sales",
    "of those": "{duplicates_count:,} read twice, {rejected_count:,} rejected, {undated_count:,} without a date",
    "summed up": "{event_summary_count:,} events, {daily_sales_count:,} rows of an event and a day",
    "took": "{duration_seconds:.1f} s",
}


def step(name: str, outcome: str, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"{seconds:.1f} s"
    print(f"  {name:<16}{outcome:<66}{took:>6}".rstrip(), flush=True)


def report(answer: Mapping[str, Any]) -> None:
    """A run report, as the function answers it."""
    print(f"\nRun {answer['run_id']}: {answer['status']}")
    for name, line in _REPORT.items():
        step(name, line.format_map(answer))
    for store, result in answer["stores"].items():
        for table_name, changes in result["changes"].items():
            counts = (f"{count:,} {kind}" for kind, count in changes.items() if isinstance(count, int))
            step(store, f"{table_name}: {', '.join(counts)}")


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Text to the left, numbers to the right, as wide as needed."""
    print(f"\n{title}")
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    to_the_right = [all(not isinstance(row[place], str) for row in rows) for place in range(len(head))]
    for line in (head, *texts):
        cells = zip(line, widths, to_the_right, strict=True)
        print("  " + "   ".join(f"{c:>{width}}" if right else f"{c:<{width}}" for c, width, right in cells).rstrip())


def _text(cell: Cell) -> str:
    """Amounts have two decimals, and more where they need more."""
    if not isinstance(cell, Decimal):
        return f"{cell:,}" if isinstance(cell, int) else cell
    return shown_amount(cell)
