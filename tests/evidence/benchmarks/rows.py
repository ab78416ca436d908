"""The rows of the table: what each measures, and its target."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.evidence.benchmarks.cold_start import cold_start
from tests.evidence.benchmarks.dlt_comparison import against_dlt
from tests.evidence.benchmarks.findings import MIB, Finding, spread
from tests.evidence.benchmarks.kept_sales import bytes_a_kept_sale, one_percent_changed, ten_times_the_kept_sales
from tests.evidence.benchmarks.kept_sales_in_bigquery import five_times_the_sales_in_bigquery
from tests.evidence.benchmarks.merge import merge
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.trial import Measured
from tests.evidence.benchmarks.whole_run import WholeRun, run_once, served_function
from tests.evidence.benchmarks.workload import single_page, tenfold


@dataclass(frozen=True)
class Row:
    """`measure` raises LeftOutError where a part of it isn't installed."""

    name: str
    what: str
    target: str
    measure: Callable[[Session], Finding]


_MAX_PEAK = 160 * MIB
_PAGES, _PAGE_SIZE, _LATENCY_SECONDS = 200, 50, 0.05


def against_floor(measured: Measured) -> Finding:
    """Rows 1a to 1d."""
    return Finding(
        f"{measured.times:.1f} times ({measured.seconds:.1f} s against {measured.floor_seconds:.1f} s)",
        measured.times,
        measured.times <= 2.5,
        {
            "runs": [_plain(run) for run in measured.runs],
            "floors": [floor.parts for floor in measured.floors],
        },
    )


def peak_memory(session: Session) -> Finding:
    """Row 2: the largest peak of all those runs."""
    measured = {
        "w1": session.w1.into_empty,
        "w1 changed": session.w1.second,
        "w2": session.w2.into_empty,
        "w2 changed": session.w2.second,
    }
    peaks = {name: one.peak_bytes for name, one in measured.items()}
    peak = max(peaks.values())
    return Finding(f"{peak / MIB:.0f} MiB", peak, peak <= _MAX_PEAK, peaks)


def ten_times_the_sales(session: Session) -> Finding:
    """Row 3."""
    measured, w1 = session.w1.into_empty, session.w1.workloads.first
    session.tell("making ten times W1")
    with tenfold(w1) as workload:
        run = session.w1.run_into_empty(workload)
    times = run.seconds / measured.seconds
    bytes_a_sale = (run.peak_bytes - measured.peak_bytes) / (workload.sales - w1.sales)
    return Finding(
        f"{bytes_a_sale:.1f} bytes a further sale, {times:.1f} times the time",
        times,
        bytes_a_sale <= 10 and times <= 10.5,
        {"bytes_a_sale": bytes_a_sale, **_plain(run)},
    )


def one_page(session: Session) -> Finding:
    """Row 4."""
    measured = session.w1.into_empty
    with single_page(session.w1.workloads.first) as workload:
        runs = [session.w1.run_into_empty(workload) for _ in range(session.pairs)]
    peak = max(run.peak_bytes for run in runs)
    times = median(run.seconds for run in runs) / measured.seconds
    return Finding(
        f"{peak / MIB:.0f} MiB, {times:.2f} times the time",
        times,
        peak <= _MAX_PEAK and times <= 2,
        {"runs": [_plain(run) for run in runs]},
    )


def fetched_ahead(session: Session) -> Finding:
    """Row 5, with the sample API: its pages take their time."""
    pages = max(_PAGES // 5, round(_PAGES * min(session.scale, 1)))
    runs: dict[int, list[WholeRun]] = {1: [], 4: []}
    database = session.postgres.create_database()
    sales = plain_sales(pages * _PAGE_SIZE)
    with TicketingApi(plain_events(50), sales, envelope="veritix", page_size=_PAGE_SIZE) as api:
        api.keep_items = False
        api.latency_seconds = _LATENCY_SECONDS
        settings = {"NEST_API_BASE_URL": api.base_url, "DATABASE_URL": session.postgres.url(database)}
        for _ in range(session.pairs):
            for concurrency, done in runs.items():
                done.append(run_once({**settings, "NEST_API_CONCURRENCY": str(concurrency)}))
                session.tell(f"{pages} pages of 50 ms, concurrency {concurrency}: {done[-1].seconds:.2f} s")
    alone, together = ([run.seconds for run in done] for done in runs.values())
    times = median(slow / quick for slow, quick in zip(alone, together, strict=True))
    return Finding(
        f"{times:.2f} times faster ({median(together):.1f} s against {median(alone):.1f} s)",
        times,
        times >= 3.5,
        {"pages": pages, "concurrency_1": spread(alone), "concurrency_4": spread(together)},
    )


def nothing_changed(session: Session) -> Finding:
    """Row 6: a load into empty tables, and the same again."""
    rounds = [_same_again(session) for _ in range(session.pairs)]
    written = sum(one["daily_rows_written"] for one in rounds)
    wal, load = (median(one[name] for one in rounds) for name in ("wal", "load"))
    return Finding(
        f"{written or 'no'} daily rows written, {wal:.1%} of the WAL, {load:.2f} of the load time",
        load,
        written == 0 and wal <= 0.02 and load <= 0.6,
        {"rounds": rounds},
    )


def _same_again(session: Session) -> dict[str, Any]:
    tables, w1 = session.w1.tables, session.w1.workloads.first
    with served_function(session.w1.settings(w1)) as function:
        tables.empty()
        before = tables.wal_bytes()
        first = function.run(w1)
        first_wal = tables.wal_bytes() - before
        tables.settle()
        writers, before = tables.daily_writers(), tables.wal_bytes()
        again = function.run(w1)
        again_wal = tables.wal_bytes() - before
    tables.check(w1)
    loads = [run.stages["load_postgres"] for run in (first, again)]
    result = {
        "daily_rows_written": tables.daily_rows_not_by(writers),
        "wal": again_wal / first_wal,
        "load": loads[1] / loads[0],
        "wal_bytes": [first_wal, again_wal],
        "load_seconds": loads,
        "peak_bytes": [first.peak_bytes, again.peak_bytes],
    }
    session.tell(f"the same again: {result}")
    return result


def _plain(run: WholeRun) -> dict[str, Any]:
    return {"seconds": run.seconds, "cpu_seconds": run.cpu_seconds, "peak_bytes": run.peak_bytes, "stages": run.stages}


ROWS = (
    Row(
        "1a",
        "W1: the whole run over HTTP into empty tables, against the floor",
        "<= 2.5 times",
        lambda session: against_floor(session.w1.into_empty),
    ),
    Row(
        "1b",
        "W1: the second run, 1% of the sales changed, against the floor",
        "<= 2.5 times",
        lambda session: against_floor(session.w1.second),
    ),
    Row(
        "1c",
        "W2: the whole run over HTTP into empty tables, against the floor",
        "<= 2.5 times",
        lambda session: against_floor(session.w2.into_empty),
    ),
    Row(
        "1d",
        "W2: the second run, 1% of the sales changed, against the floor",
        "<= 2.5 times",
        lambda session: against_floor(session.w2.second),
    ),
    Row("2", "peak memory of the function's process, of all these runs", "<= 160 MiB", peak_memory),
    Row("3", "W1 with ten times the sales in the same groups", "<= 10 bytes a sale, 10.5 times", ten_times_the_sales),
    Row("4", "W1 on one page of 260 MB", "<= 160 MiB, 2 times", one_page),
    Row("5", "200 pages that take 50 ms each, 4 at once against 1", ">= 3.5 times faster", fetched_ahead),
    Row("6", "W1: the same run again, nothing changed", "no row, <= 2% of WAL, 0.6 of load", nothing_changed),
    Row("7", "cold start, against the import of its libraries alone", "<= 1.3 times", cold_start),
    Row("8", "BigQuery: the same again, then with one sale more", "no row; one day's partition", merge),
    Row("9", "kept sales: 1% changed, against the whole run without", "<= 0.1 of the time", one_percent_changed),
    Row("10", "kept sales: 1,000 changes among ten times the sales", "<= 1.3 times", ten_times_the_kept_sales),
    Row("11", "kept sales: what they take", "<= 300, 400 bytes; 24 of WAL", bytes_a_kept_sale),
    Row(
        "12",
        "kept sales: W2's first sweep, against a floor that also writes the kept rows",
        "<= 2.5 times",
        lambda session: against_floor(session.w2.first_sweep),
    ),
    Row(
        "13",
        "kept sales in BigQuery: five million, against one",
        "<= 1.1 times, 160 MiB; 10 jobs, 4",
        five_times_the_sales_in_bigquery,
    ),
    Row("dlt", "W1: the same job done by dlt", ">= 15 times slower", against_dlt),
)
