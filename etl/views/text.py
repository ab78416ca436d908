"""The shell's answers as text for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from etl.load.store import STORE_NAMES
from etl.run.ledger import Run
from etl.run.report import RunReport
from etl.sales.report import SalesReport
from etl.views.comparison import Comparison
from etl.views.rejects import RejectedRecord, RejectReason

_COLOURS = {"success": "32", "reading": "36", "running": "36", "dry_run": "36", "failed": "31"}


@dataclass(frozen=True)
class Style:
    """How a status is shown: in colour on a terminal, plain elsewhere."""

    has_colours: bool = False

    def status(self, status: str) -> str:
        colour = _COLOURS.get(status)
        return f"\x1b[{colour}m{status}\x1b[0m" if self.has_colours and colour else status


def format_report(report: RunReport, style: Style = Style()) -> str:
    """What a run did."""
    read = (
        f"{report.events_count} events, {report.sales_count} ticket sales ({report.duplicates_count} read twice,"
        f" {report.rejected_count} rejected, {report.undated_count} undated)"
    )
    totals = (
        f"{report.total_tickets} tickets, {report.total_revenue} revenue,"
        f" {report.event_summary_count} events, {report.daily_sales_count} daily rows"
    )
    lines = [
        f"run {report.run_id}: {style.status(report.status)} in {report.duration_seconds:.1f} s",
        f"  read    {read}",
        f"  totals  {totals}",
    ]
    if report.kept_sales is not None:
        lines += _kept_lines(report.kept_sales)
    for name, result in report.stores.items():
        for table, changes in result.changes.items():
            lines.append(
                f"  {name:8}  {table}: {changes.inserted} inserted, {changes.updated} updated,"
                f" {changes.deleted} deleted, {changes.unchanged} unchanged"
            )
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.stages.items())
    return "\n".join([*lines, f"  stages  {stages}"])


def _kept_lines(kept: SalesReport) -> Iterator[str]:
    """What is kept, and how far the sweep is that nothing can be published without."""
    off = f", {abs(kept.off)} too {'many' if kept.off > 0 else 'few'}" if kept.off else ""
    yield f"  kept    {kept.kept} ticket sales: {kept.completeness or 'not yet counted'}{off}"
    if kept.progress is not None:
        far = kept.progress
        total = far["declared_total"] or "an unknown total"
        yield (
            f"  sweep   {far['records']} records of {total} on {far['pages']} pages since {far['since']}: "
            "nothing is published yet, run again to read on"
        )


def format_runs(runs: Sequence[Run], style: Style = Style()) -> str:
    """The last runs, newest first; of one that failed the reason beneath it."""
    if not runs:
        return "no run yet"
    lines = []
    for run in runs:
        seconds = f"{run.duration_seconds:7.1f} s" if run.duration_seconds is not None else " " * 9
        sales = f"{run.sales_count:,} sales" if run.sales_count is not None else ""
        status = style.status(run.status) + " " * (7 - len(run.status))
        lines.append(f"{moment_text(run.started_at)}  {status}  {seconds}  {run.trigger:9}  {sales}".rstrip())
        if run.error_code is not None:
            lines.append(f"    {run.error_code}: {run.error_text}")
    return "\n".join(lines)


def format_reasons(reasons: Sequence[RejectReason]) -> str:
    """Why records are rejected: how many, since when, and the keys that one of them has."""
    if not reasons:
        return "no rejected records"
    lines = []
    for reason in reasons:
        since = "" if reason.since is None else f" since {moment_text(reason.since)}"
        lines.append(f"{reason.dataset}: {reason.reason}: {reason.records} records, seen {reason.times} times{since}")
        lines.append(f"    e.g. id {reason.example_id}, keys: {', '.join(reason.example_keys) or 'none'}")
    return "\n".join([*lines, "`python -m etl rejects --show ID` prints one whole."])


def format_record(record: RejectedRecord) -> str:
    """One rejected record, as the upstream sent it."""
    return f"{record.dataset}: {record.reason} (last seen by run {record.run_id})\n{record.text}"


def format_comparison(comparison: Comparison, healed: str | None = None) -> str:
    """What differs between the stores, a line a group."""
    lines = [f"{len(STORE_NAMES)} stores, {comparison.groups} groups: {_verdict(comparison)}"]
    for pair in comparison.differences:
        where = pair.event_id if pair.day is None else f"{pair.event_id} on {pair.day}"
        sides = (
            f"{name} " + (f"{held.tickets} tickets, {held.revenue:f}" if held is not None else "has none")
            for name, held in ((STORE_NAMES["postgres"], pair.postgres), (STORE_NAMES["bigquery"], pair.bigquery))
        )
        lines.append(f"  {where}: {'; '.join(sides)}")
    if comparison.differing > len(comparison.differences):
        lines.append(f"  and {comparison.differing - len(comparison.differences)} more")
    if comparison.run_meanwhile is not None:
        lines.append(f"run {comparison.run_meanwhile} was under way: compare again when it has ended")
    return "\n".join([*lines, *filter(None, [healed])])


def _verdict(comparison: Comparison) -> str:
    return "equal" if comparison.is_equal else f"{comparison.differing} differ"


def moment_text(moment: datetime) -> str:
    """To the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def shown_amount(value: Decimal) -> str:
    """With two decimals, and more where it has more."""
    whole, _, decimals = f"{value:,f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def sentence(text: str) -> str:
    """With a full stop, so that another one may follow."""
    return text if text.endswith(".") else f"{text}."
