"""python -m etl: one run from a shell, with a progress line on a terminal."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from etl.errors import EtlError
from etl.extract.tally import Progress
from etl.logs import configure_logs
from etl.run.pipeline import RunOptions, run_etl_once
from etl.run.report import RunReport
from etl.sales.report import SalesReport
from etl.settings import Settings

STOP_SECONDS = 3.0
"""How long a run may take to end after a signal: it records that within a second."""
_NAMES = {"events": "events", "ticket_sales": "ticket sales", "increment": "changed sales", "sweep": "sweep"}


def main(arguments: list[str] | None = None) -> int:
    """Run once against what the environment names. 0 if that succeeded, else 1."""
    parser = argparse.ArgumentParser(prog="python -m etl", description="Run the ETL once, as the environment says.")
    parser.add_argument("--dry-run", action="store_true", help="tell what would change, and write nothing")
    parser.add_argument("--force", action="store_true", help="load, and override the guards")
    parser.add_argument("--sweep", action="store_true", help="with kept sales: begin a sweep of the whole list")
    chosen = parser.parse_args(arguments)
    stopped = _stop_on_signals()
    bars = _bars()
    try:
        configure_logs("INFO", None if bars is None else _PlainFormatter())
        settings = Settings.from_env(os.environ)
        configure_logs(settings.log_level if bars is None else "WARNING", None if bars is None else _PlainFormatter())
        options = RunOptions(
            dry_run=chosen.dry_run,
            force=chosen.force,
            sweep=chosen.sweep,
            trigger="cli",
            is_terminating=stopped.is_set,
            progress=bars.show if bars is not None else lambda _: None,
        )
        report = run_etl_once(settings, options)
    except EtlError as error:
        _close(bars)
        print(f"failed: {error.code}: {error}", file=sys.stderr)
        return 1
    _close(bars)
    print(format_report(report))
    return 0


def _stop_on_signals() -> threading.Event:
    """Set by Ctrl-C or SIGTERM: the lease is then given back. What waits for an answer isn't waited for; a second
    signal ends the process at once.
    """
    stopped = threading.Event()

    def give_up() -> None:
        print("failed: terminated: stopped by a signal", file=sys.stderr, flush=True)
        os._exit(1)

    def stop(*_: object) -> None:
        if stopped.is_set():
            give_up()
        stopped.set()
        patience = threading.Timer(STOP_SECONDS, give_up)
        patience.daemon = True
        patience.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


class _PlainFormatter(logging.Formatter):
    """A log record for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        return f"{record.levelname.lower()}: {record.getMessage()}" + (f" {fields}" if fields else "")


class _Bars:
    """A progress line a reading: records, the share of the declared total, the time that is left, pages."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._bars: dict[str, Any] = {}

    def show(self, progress: Progress) -> None:
        """Called after each page. A sweep goes on where an earlier run has stopped."""
        name, before = progress.what, progress.before
        if name not in self._bars:
            self._bars[name] = self._make(desc=_NAMES[name], unit=" records", initial=before, leave=True)
        bar = self._bars[name]
        bar.total = progress.total
        bar.set_postfix(pages=progress.pages, refresh=False)
        bar.update(before + progress.read - bar.n)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def _bars() -> _Bars | None:
    """None without a terminal, or without tqdm, which is a development dependency: then the log lines tell."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return _Bars(tqdm) if sys.stderr.isatty() else None


def _close(bars: _Bars | None) -> None:
    if bars is not None:
        bars.close()


def format_report(report: RunReport) -> str:
    """A report for people."""
    read = (
        f"{report.events_count} events, {report.sales_count} ticket sales ({report.duplicates_count} read twice,"
        f" {report.rejected_count} rejected, {report.undated_count} undated)"
    )
    totals = (
        f"{report.total_tickets} tickets, {report.total_revenue} revenue,"
        f" {report.event_summary_count} events, {report.daily_sales_count} daily rows"
    )
    lines = [
        f"run {report.run_id}: {report.status} in {report.duration_seconds:.1f} s",
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


if __name__ == "__main__":
    sys.exit(main())
