"""The metrics say what the ledger says, in the text format that Prometheus parses."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from etl.run.ledger import Run, RunTotals
from etl.run.metrics import CONTENT_TYPE, format_metrics
from etl.sales.state import Counts, Proof, SalesState
from etl.sales.status import SalesStatus

STARTED = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SUCCESS = Run(
    "run-1",
    STARTED,
    "scheduler",
    status="success",
    finished_at=STARTED + timedelta(seconds=12.5),
    duration_seconds=12.5,
    sales_count=20_000,
    rejected_count=3,
    event_summary_count=300,
    daily_sales_count=9_000,
)
FAILED = Run(
    "run-2", STARTED, "http", status="failed", finished_at=STARTED, duration_seconds=0.25, error_code="upstream_error"
)
NO_JOBS = {"etl_jobs_total{status=success}": 0.0, "etl_jobs_total{status=failed}": 0.0}
LAST_SUCCESS = {"etl_last_success_timestamp_seconds": 1_795_413_612.5}
CASES = [
    pytest.param(RunTotals({}, None, None), NO_JOBS, id="no run yet"),
    pytest.param(
        RunTotals({"success": 7, "failed": 2, "running": 1}, SUCCESS, SUCCESS),
        {
            "etl_jobs_total{status=success}": 7.0,
            "etl_jobs_total{status=failed}": 2.0,
            "etl_last_run_duration_seconds": 12.5,
            "etl_last_run_event_summary_rows": 300.0,
            "etl_last_run_daily_sales_rows": 9_000.0,
            "etl_last_run_sales": 20_000.0,
            "etl_last_run_rejected_records": 3.0,
        }
        | LAST_SUCCESS,
        id="success",
    ),
    pytest.param(
        RunTotals({"success": 1, "failed": 1}, FAILED, SUCCESS),
        {
            "etl_jobs_total{status=success}": 1.0,
            "etl_jobs_total{status=failed}": 1.0,
            "etl_last_run_duration_seconds": 0.25,
        }
        | LAST_SUCCESS,
        id="failed before it had read anything",
    ),
    pytest.param(
        RunTotals({"failed": 1}, replace(FAILED, sales_count=0, rejected_count=0), None),
        {
            "etl_jobs_total{status=success}": 0.0,
            "etl_jobs_total{status=failed}": 1.0,
            "etl_last_run_duration_seconds": 0.25,
            "etl_last_run_sales": 0.0,
            "etl_last_run_rejected_records": 0.0,
        },
        id="no success yet",
    ),
]


@pytest.mark.parametrize(("totals", "expected"), CASES)
def test_metrics(totals: RunTotals, expected: dict[str, float]) -> None:
    """Jobs by status, the last success, and what is known of the last run: nothing that isn't known is a 0."""
    text = format_metrics(totals)
    families = list(text_string_to_metric_families(text))
    found = {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
    }
    assert found == expected
    assert all(family.documentation for family in families)
    assert {f.name: f.type for f in families if f.name.startswith("etl_jobs")} == {"etl_jobs": "counter"}
    assert format_metrics(totals) == text


def test_kept_sales() -> None:
    """How many are kept, when they were swept and counted, and what each store lacks: what isn't known is no 0."""
    swept = STARTED - timedelta(hours=2)
    state = SalesState("a", counts=Counts(kept=200), swept_at=swept, proof=Proof(STARTED, "unproved", 200, 198, 198))
    assert kept_metrics(SalesStatus(state, {"postgres": 0, "bigquery": None})) == {
        "etl_kept_sales": 200.0,
        "etl_last_sweep_timestamp_seconds": swept.timestamp(),
        "etl_last_count_proof_timestamp_seconds": STARTED.timestamp(),
        "etl_sales_off": 2.0,
        'etl_pending_groups{store="postgres"}': 0.0,
        'etl_pending_groups{store="bigquery"}': math.inf,
    }
    assert kept_metrics(SalesStatus(SalesState("a"), {})) == {"etl_kept_sales": 0.0}


def kept_metrics(status: SalesStatus) -> dict[str, float]:
    """What is said of the kept sales besides that no run has ended."""
    lines = format_metrics(RunTotals({}, None, None), status).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if not name.startswith("etl_jobs")}


def test_text_format() -> None:
    """The format is the one that its content type names."""
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    lines = format_metrics(RunTotals({"success": 7}, SUCCESS, SUCCESS)).splitlines()
    assert "# TYPE etl_jobs_total counter" in lines
    assert 'etl_jobs_total{status="success"} 7.0' in lines
    assert "# EOF" not in lines
