"""The page's first words: healthy or not, how fresh, what to do."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.errors import StoreUnavailableError
from etl.load.store import Published
from etl.run.ledger import Run
from etl.views.figures import Figures, judge

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
TOTALS = Published(10, 200, Decimal("1234.560000000"))
SILENT = StoreUnavailableError("it can't be reached.")


def run(minutes: float, status: str = "success", code: str | None = None) -> Run:
    """A run that began so many minutes ago, and took a second."""
    started = NOW - timedelta(minutes=minutes)
    ended = None if status == "running" else started + timedelta(seconds=1)
    return Run(f"r{minutes}", started, "scheduler", status, ended, 1.0, error_code=code)


def figures(*runs: Run, **fields: object) -> Figures:
    published = {"postgres": TOTALS, "bigquery": TOTALS}
    return replace(Figures(NOW, 90, date(2026, 8, 29), runs, published), **fields)  # type: ignore[arg-type]


EVERY_15 = (run(30), run(45), run(60), run(75))
CASES = [
    pytest.param(figures(), "idle", "Nothing has run yet.", "start a run", id="nothing has run"),
    pytest.param(figures(run(1, "running")), "idle", "The first run is under way.", "", id="the first run"),
    pytest.param(figures(run(5)), "good", "Healthy. The numbers are from 4 minutes ago.", "", id="healthy"),
    pytest.param(
        figures(run(0, "running"), run(15)), "good", "Healthy. The numbers are from 14 minutes", "", id="again"
    ),
    pytest.param(
        figures(run(1, "failed", "upstream_error"), run(16)),
        "bad",
        "The last run failed less than a minute ago with upstream_error. The numbers are from 15 minutes ago.",
        "look at the upstream",
        id="failed",
    ),
    pytest.param(
        figures(run(200, "failed", "load_failed"), published={"postgres": Published()}),
        "bad",
        "Nothing is published yet.",
        "a store failed",
        id="never",
    ),
    pytest.param(
        figures(run(200, "failed", "load_failed")),
        "bad",
        "older than any run that is known.",
        "a store failed",
        id="old",
    ),
    pytest.param(
        figures(run(3, "reading"), run(3000)),
        "idle",
        "still being read. The numbers are from 2 days ago.",
        "",
        id="reading",
    ),
    pytest.param(figures(*EVERY_15), "good", "from 29 minutes ago", "", id="one run late"),
    pytest.param(
        figures(
            *(
                replace(
                    each,
                    started_at=each.started_at - timedelta(hours=3),
                    finished_at=None if each.finished_at is None else each.finished_at - timedelta(hours=3),
                )
                for each in EVERY_15
            )
        ),
        "bad",
        "No run has succeeded since 3 hours ago; usually one does every 15 minutes.",
        "check the scheduler's job",
        id="no run for long",
    ),
    pytest.param(
        figures(published={}, failures={"postgres": SILENT, "bigquery": SILENT}),
        "bad",
        "PostgreSQL doesn't answer: it can't be reached.",
        "a store failed",
        id="nothing answers",
    ),
    pytest.param(
        figures(run(5), published={"postgres": TOTALS}, failures={"bigquery": SILENT}),
        "doubtful",
        "BigQuery doesn't answer: it can't be reached. The numbers are from 4 minutes ago.",
        "a store failed",
        id="one store is silent",
    ),
    pytest.param(
        figures(run(5), published={"postgres": TOTALS, "bigquery": replace(TOTALS, tickets=199)}),
        "doubtful",
        "The two stores hold different totals.",
        "`GET /compare`",
        id="stores differ",
    ),
]


@pytest.mark.parametrize(("known", "level", "sentence", "todo"), CASES)
def test_the_verdict(known: Figures, level: str, sentence: str, todo: str) -> None:
    """What is wrong comes first, then how old the numbers are."""
    verdict = judge(known)
    assert (verdict.level, sentence in verdict.sentence, todo in verdict.todo) == (level, True, True), verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "equal"),
    [
        pytest.param("10.000000000", "10.000000000", True, id="equal"),
        pytest.param("10.000000000", "10.000000001", False, id="the ninth decimal"),
        pytest.param("10.00", "10.049999999", True, id="rounded in ten events"),
        pytest.param("10.00", "10.060000000", False, id="more than rounding"),
    ],
)
def test_totals_are_compared_as_they_can_be_held(ours: str, theirs: str, equal: bool) -> None:
    """A table of the earlier version rounds each event's amount: that is no difference."""
    published = {"postgres": Published(10, 1, Decimal(ours)), "bigquery": Published(10, 1, Decimal(theirs))}
    assert figures(published=published).are_equal is equal
    assert figures(published={"postgres": Published()}).are_equal is None
