"""Row 13: what the function needs where BigQuery keeps the sales, among a million and among five."""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from tests import ROOT
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.http_server import Answer, Request
from tests.doubles.processes import STATE
from tests.evidence.benchmarks.findings import Finding
from tests.evidence.benchmarks.kept_sales import ChangingSales
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.whole_run import WholeRun, served_function

SALES = 1_000_000
CHANGES = 10_000
PAGE_SIZE = 1_000
_MIB = 2**20


class CountingFront(BigQueryFront):
    """Counts the bytes that come and go, and what is begun; it keeps no bodies, which are large here."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.keeps_log = False
        self.sent = self.received = self.jobs = 0

    def respond(self, request: Request) -> Answer:
        answer = super().respond(request)
        assert isinstance(answer.body, bytes)
        self.sent += len(request.body)
        self.received += len(answer.body)
        self.jobs += request.method == "POST" and request.path.endswith("/jobs")
        return answer

    def counted(self) -> dict[str, int]:
        """What there was since the last time."""
        counts = {"sent": self.sent, "received": self.received, "jobs": self.jobs}
        self.sent = self.received = self.jobs = 0
        return counts


def five_times_the_sales_in_bigquery(session: Session) -> Finding:
    """Memory with some of them changed, and while all of them are read the first time; what goes to and fro."""
    few = max(PAGE_SIZE, round(SALES * session.scale))
    found = {count: _three_runs(session, count) for count in (few, 5 * few)}
    peaks = [[run.peak_bytes for run, _ in runs] for runs in found.values()]
    times = max(many / few for few, many in zip(*peaks, strict=True))
    (first, _), (run, counts), (_, unchanged) = found[5 * few]
    value = (
        f"{times:.2f} times the memory ({run.peak_bytes / _MIB:.0f} MiB, first sweep {first.peak_bytes / _MIB:.0f}),"
        f" {counts['sent'] / CHANGES:.0f} bytes sent a changed sale, {counts['jobs']} jobs, {unchanged['jobs']} if none"
    )
    holds = times <= 1.1 and first.peak_bytes <= 160 * _MIB and counts["jobs"] <= 10 and unchanged["jobs"] <= 4
    detail = {str(count): [{**_plain(run), **counts} for run, counts in runs] for count, runs in found.items()}
    return Finding(value, times, holds, detail)


def deployed_python() -> str:
    """An environment with what is deployed and nothing else: BigQuery's client imports whatever it finds."""
    directory = STATE / "deployed"
    if not (directory / "bin" / "python").exists():
        subprocess.run(
            [sys.executable, "tests/sandbox/install.py", directory, "requirements.txt"], cwd=ROOT, check=True
        )
    return str(directory / "bin" / "python")


def _three_runs(session: Session, sales: int) -> list[tuple[WholeRun, dict[str, int]]]:
    """The first sweep, then some sales changed, then nothing; each in a process of its own.

    The first sweep may take several runs: its counts are those of all of them, the memory is that of its process.
    """
    session.tell(f"{sales} sales kept in BigQuery")
    with (
        ChangingSales(sales, 0.0) as upstream,
        BigQueryEmulator() as emulator,
        CountingFront(emulator.url) as front,
    ):
        settings = _settings(upstream, front)
        runs = []
        for number in range(3):
            if number == 1:
                upstream.change(CHANGES)
            with served_function(settings, deployed_python()) as function:
                run = function.run(may_read_on=True)
                while run.report["status"] == "reading":
                    run = function.run(may_read_on=True)
            runs.append((run, front.counted()))
            session.tell(f"{sales} sales: {run.seconds:.1f} s, {run.peak_bytes / _MIB:.0f} MiB, {runs[-1][1]}")
        _check(emulator, sales)
    return runs


def _settings(upstream: ChangingSales, front: BigQueryFront) -> Mapping[str, str]:
    return {
        "NEST_API_BASE_URL": upstream.url,
        "NEST_API_PAGE_SIZE": str(PAGE_SIZE),
        "ETL_SALES_STORE": "bigquery",
        "NEST_API_CHANGED_QUERY": "updated_after={since}",
        "BQ_ENABLED": "true",
        "BQ_PROJECT_ID": "veritix-test",
        "BQ_DATASET": "benchmark",
        "BIGQUERY_EMULATOR_HOST": front.url,
    }


def _check(emulator: BigQueryEmulator, sales: int) -> None:
    """All tickets are there: each sale has one to three, a changed one one more."""
    wanted = sum(1 + number % 3 for number in range(sales)) + CHANGES
    with closing(emulator.client("veritix-test")) as client:
        (row,) = client.query("SELECT SUM(tickets_sold) AS tickets FROM benchmark.daily_ticket_sales").result(
            timeout=60
        )
    if row["tickets"] != wanted:
        raise AssertionError(f"{row['tickets']} tickets are published, and {wanted} were sold")


def _plain(run: WholeRun) -> dict[str, Any]:
    return {"seconds": run.seconds, "peak_bytes": run.peak_bytes, "stages": run.stages}
