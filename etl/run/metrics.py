"""Metrics in Prometheus' text format, made from the run ledger, so that they outlive the instance."""

from __future__ import annotations

from etl.run.ledger import Run, RunTotals

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


def format_metrics(totals: RunTotals) -> str:
    """`etl_jobs_total{status}`, the last success, and what the last run did."""
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
    return generate_latest(registry).decode()


def _last_values(run: Run) -> tuple[float | None, ...]:
    return (
        run.duration_seconds,
        run.event_summary_count,
        run.daily_sales_count,
        run.sales_count,
        run.rejected_count,
    )
