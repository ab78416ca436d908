"""Row 8: what BigQuery is asked to do, read from the requests on their way to the emulator."""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.http_server import Request
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.evidence.benchmarks.findings import Finding
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.whole_run import MeasuredFunction, served_function
from tests.support.oracle import Tables, bigquery_tables

_PROJECT, _DATASET = "veritix-test", "benchmark"
_TABLES = {"event_sales_summary", "daily_ticket_sales"}
_EVENTS, _DAYS = 50, 30
_CHANGED_DAY = "2026-01-12"
_MERGE = re.compile(r"MERGE\s+`[^`]*\.(?P<table>\w+)`.*?(?=MERGE|\Z)", re.DOTALL)
_CONDITION = re.compile(r"\)\s*s\s+ON\s+(?P<text>.*?)\sWHEN\s", re.DOTALL)
_BOUNDS = re.compile(r"t\.sale_date BETWEEN DATE '(?P<first>[\d-]{10})' AND DATE '(?P<last>[\d-]{10})'")


@dataclass(frozen=True)
class Asked:
    """What one run asked of BigQuery: load jobs by table, MERGE statements by table, days in the merge condition."""

    loads: Counter[str]
    merges: Counter[str]
    days: set[tuple[str, str]]


def merge(session: Session) -> Finding:
    """Three runs: the first load, the same again, and one with a sale more on one day."""
    session.tell("BigQuery: three runs on the emulator")
    runs, changed, changed_by_one_more = _three_runs()
    checks = {
        "one load job and at most one MERGE a table": all(
            set(run.loads) == _TABLES and max(*run.loads.values(), *run.merges.values()) == 1 for run in runs.values()
        ),
        "both tables merged where both change": all(
            set(runs[name].merges) == _TABLES for name in ("first", "one more")
        ),
        "no row changed on a re-run": changed == 0,
        "one row of each table changed by a sale more": changed_by_one_more == 2,
        "constant bounds, around the changed day alone": runs["one more"].days == {(_CHANGED_DAY, _CHANGED_DAY)},
    }
    failed = [check for check, held in checks.items() if not held]
    value = (
        f"not so: {'; '.join(failed)}" if failed else "no row changed; one row of each table and one day's partition"
    )
    return Finding(value, changed, not failed, {"checks": checks, **{name: _plain(run) for name, run in runs.items()}})


def _three_runs() -> tuple[dict[str, Asked], int, int]:
    """What each run asked, and how many rows the second one and the third one changed."""
    sales = plain_sales(_EVENTS * _DAYS, events=_EVENTS, days=_DAYS)
    with (
        BigQueryEmulator() as emulator,
        closing(emulator.client(_PROJECT)) as client,
        BigQueryFront(emulator.url) as front,
        TicketingApi(plain_events(_EVENTS), sales) as api,
    ):
        settings = {
            "NEST_API_BASE_URL": api.base_url,
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": _PROJECT,
            "BQ_DATASET": _DATASET,
            "BIGQUERY_EMULATOR_HOST": front.url,
        }
        with served_function(settings) as function:
            runs = {"first": _asked(front, function)}
            stored = bigquery_tables(client, _DATASET)
            runs["again"] = _asked(front, function)
            stored_again = bigquery_tables(client, _DATASET)
            api.sales = [*sales, {**sales[0], "id": "one more", "sale_date": f"{_CHANGED_DAY}T12:00:00Z"}]
            runs["one more"] = _asked(front, function)
            stored_last = bigquery_tables(client, _DATASET)
    return runs, _differing(stored, stored_again), _differing(stored_again, stored_last)


def _asked(front: BigQueryFront, function: MeasuredFunction) -> Asked:
    before = len(front.log)
    function.run()
    return read_requests(front.log[before:])


def read_requests(log: Sequence[Request]) -> Asked:
    """What the jobs among these requests are to do."""
    jobs = [request.json["configuration"] for request in log if request.method == "POST" and _is_job(request)]
    tables = [job["load"]["destinationTable"]["tableId"] for job in jobs if "load" in job]
    loads = Counter(table for name in tables for table in _TABLES if table in name)
    statements = [match for job in jobs if "query" in job for match in _MERGE.finditer(job["query"]["query"])]
    conditions = [
        found["text"]
        for statement in statements
        if statement["table"] == "daily_ticket_sales" and (found := _CONDITION.search(statement[0]))
    ]
    days = {(bounds["first"], bounds["last"]) for text in conditions for bounds in _BOUNDS.finditer(text)}
    return Asked(loads, Counter(statement["table"] for statement in statements), days)


def _is_job(request: Request) -> bool:
    return request.path.endswith("/jobs") and b'"configuration"' in request.body


def _differing(before: Tables, after: Tables) -> int:
    """How many rows of both tables aren't as they were, `last_updated` apart."""
    events = {row[:1] for row in set(before.events) ^ set(after.events)}
    days = {row[:2] for row in set(before.daily) ^ set(after.daily)}
    return len(events) + len(days)


def _plain(run: Asked) -> dict[str, Any]:
    return {"load_jobs": dict(run.loads), "merges": dict(run.merges), "days": sorted(run.days)}
