"""Metrics in Prometheus' text format, made from the run ledger, so that they outlive the instance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etl.run.ledger import Run, RunTotals

if TYPE_CHECKING:
    from etl.sales.status import SalesStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATUSES = ("success", "failed")
KEPT_STATUS = "reading"
"""How runs end besides where sales are kept."""
_GAUGES: tuple[tuple[str, str], ...] = (
    ("etl_last_run_duration_seconds", "How long the last run took."),
    ("etl_last_run_event_summary_rows", "Rows of event_sales_summary in the last run."),
    ("etl_last_run_daily_sales_rows", "Rows of daily_ticket_sales in the last run."),
    ("etl_last_run_sales", "Ticket sales that the last run read and used."),
    ("etl_last_run_rejected_records", "Records that the last run could not use."),
)


def format_metrics(totals: RunTotals, sales: SalesStatus | None = None) -> str:
    """`etl_jobs_total{status}`, the last success, what the last run did, and how the kept sales stand."""
    from prometheus_client import CollectorRegistry, Gauge
    from prometheus_client.exposition import generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily

    class Jobs:
        def collect(self) -> list[CounterMetricFamily]:
            jobs = CounterMetricFamily("etl_jobs", "Runs by how they ended.", labels=["status"])
            kept = [KEPT_STATUS] if KEPT_STATUS in totals.by_status else []
            for status in (*STATUSES, *kept):
                jobs.add_metric([status], totals.by_status.get(status, 0))
            return [jobs]

    registry = CollectorRegistry()
    registry.register(Jobs())
    if totals.last_success is not None and totals.last_success.finished_at is not None:
        last = Gauge("etl_last_success_timestamp_seconds", "When the last success ended.", registry=registry)
        last.set(totals.last_success.finished_at.timestamp())
    if totals.last is not None:
        for (name, text), value in zip(_GAUGES, _last_values(totals.last), strict=True):
            if value is not None:
                Gauge(name, text, registry=registry).set(value)
    if sales is not None:
        state = sales.state
        Gauge("etl_kept_sales", "Ticket sales that are kept.", registry=registry).set(state.counts.kept)
        if state.swept_at is not None:
            swept = Gauge("etl_last_sweep_timestamp_seconds", "When the last sweep ended.", registry=registry)
            swept.set(state.swept_at.timestamp())
        if state.proof is not None:
            proved = Gauge("etl_last_count_proof_timestamp_seconds", "When sales were last counted.", registry=registry)
            proved.set(state.proof.at.timestamp())
            off = Gauge("etl_sales_off", "Kept sales that the upstream doesn't declare.", registry=registry)
            off.set(state.proof.off)
        pending = Gauge("etl_pending_groups", "What a store may not hold yet.", ["store"], registry=registry)
        for store, groups in sales.pending.items():
            pending.labels(store).set(math.inf if groups is None else groups)
    return generate_latest(registry).decode()


def _last_values(run: Run) -> tuple[float | None, ...]:
    return (
        run.duration_seconds,
        run.event_summary_count,
        run.daily_sales_count,
        run.sales_count,
        run.rejected_count,
    )
