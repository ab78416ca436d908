"""What the report page shows: read from the stores and the ledger, as far as they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import EtlError, as_etl_error, remedies
from etl.load.store import STORE_NAMES, Published
from etl.run.ledger import Run, ledger_for, runs_and_last_success
from etl.run.ledger_tables import REJECTED_RECORDS, RUNS
from etl.sales.status import SalesStatus, read_sales_status
from etl.settings import Settings
from etl.transform.tables import AMOUNT_DECIMALS, TABLES
from etl.views.rejects import RejectReason, reasons_in

RUNS_SHOWN = 50
BEST_EVENTS = 20
RANGES = (7, 30, 90, 365)
"""Days that the page can go back."""
_LATE_RUNS = 3
"""So many usual intervals without a success are too many."""


@dataclass(frozen=True)
class Figures:
    """What is known at a moment. `runs` are newest first, and end with the last success, however old that is.

    `published` is by store, `failures` why a store is silent. A store that is `appended` to holds copies of rows, which
    no sum may be made of. Of the published days the last `days` are shown, those from `since` on.
    """

    now: datetime
    days: int
    since: date
    runs: Sequence[Run] = ()
    published: dict[str, Published] = field(default_factory=dict)
    failures: dict[str, EtlError] = field(default_factory=dict)
    reasons: Sequence[RejectReason] = ()
    sales: SalesStatus | None = None
    appended: str | None = None

    @property
    def shown(self) -> Published | None:
        """What the store has published whose days and events are shown."""
        return next(iter(self.published.values()), None)

    @property
    def last_runs(self) -> Sequence[Run]:
        """Those that are shown: without a success of long ago."""
        return self.runs[:RUNS_SHOWN]

    @property
    def are_equal(self) -> bool | None:
        """Whether both stores hold the same totals; None where there aren't two that answered.

        PostgreSQL's amounts may have fewer than 9 decimals: then each event may be off by half of the last one.
        """
        if len(self.published) < 2:
            return None
        ours, theirs = self.published["postgres"], self.published["bigquery"]
        exponent = int(ours.revenue.as_tuple().exponent)
        off = ours.events * Decimal(5).scaleb(exponent - 1) if exponent > -AMOUNT_DECIMALS and ours.events else 0
        is_close = abs(ours.revenue - theirs.revenue) <= off
        return (ours.events, ours.tickets) == (theirs.events, theirs.tickets) and is_close

    @property
    def last_success(self) -> Run | None:
        return next((run for run in self.runs if run.status == "success"), None)


@dataclass(frozen=True)
class Verdict:
    """The page's first words. `level` is `good`, `idle`, `doubtful` or `bad`; `todo` has code in backticks."""

    level: str
    sentence: str
    todo: str = ""


def read_figures(settings: Settings, now: datetime, days: int, deadline: Deadline) -> Figures:
    """Whatever can be read; a store that doesn't answer is among the failures."""
    figures = Figures(now, days, now.astimezone(settings.etl_timezone).date() - timedelta(days=days - 1))
    if settings.uses_postgres:
        # The other one is to be asked all the same.
        figures = _try("postgres", figures, lambda: _read_postgres(settings, figures, _share(settings, deadline)))
    else:
        figures = replace(figures, runs=ledger_for(None).last_runs(RUNS_SHOWN, deadline))
    if settings.uses_bigquery and settings.bq_write_mode == "stream":
        figures = replace(figures, appended="bigquery")
    elif settings.uses_bigquery:
        figures = _try("bigquery", figures, lambda: _read_bigquery(settings, figures, deadline))
    return figures


def _share(settings: Settings, deadline: Deadline) -> Deadline:
    return Deadline(deadline.remaining_or_raise() / len(settings.stores))


def _try(store: str, figures: Figures, read: Callable[[], Figures]) -> Figures:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - whatever it is, the page shows the rest
        return replace(figures, failures={**figures.failures, store: as_etl_error(error)})


def _read_postgres(settings: Settings, figures: Figures, deadline: Deadline) -> Figures:
    from etl.load.postgres.database import engine_for, transaction
    from etl.load.postgres.read import published_in
    from etl.sales.postgres.store import status_in

    with transaction(engine_for(settings), deadline) as connection:
        (there,) = connection.execute(_THERE, {"names": json.dumps(_LOOKED_FOR)}).one()
        names = set(there)
        published = published_in(connection, figures.since, BEST_EVENTS) if names >= _PUBLISHED else Published()
        return replace(
            figures,
            published={"postgres": published},
            runs=runs_and_last_success(connection, RUNS_SHOWN) if RUNS.name in names else (),
            reasons=reasons_in(connection) if REJECTED_RECORDS.name in names else (),
            sales=status_in(connection, settings) if settings.etl_sales_store == "postgres" else None,
        )


_PUBLISHED = {table.name for table in TABLES}
_LOOKED_FOR = sorted({*_PUBLISHED, RUNS.name, REJECTED_RECORDS.name})
_THERE = sa.text(
    "SELECT coalesce(array_agg(name), '{}') FROM json_array_elements_text(CAST(:names AS json)) AS t(name)"
    " WHERE to_regclass(name) IS NOT NULL"
)


def _read_bigquery(settings: Settings, figures: Figures, deadline: Deadline) -> Figures:
    from etl.load.bigquery.load import read_published

    since = None if "postgres" in figures.published else figures.since
    published = read_published(settings, since, BEST_EVENTS, deadline)
    sales = read_sales_status(settings, deadline) if settings.etl_sales_store == "bigquery" else figures.sales
    return replace(figures, published={**figures.published, "bigquery": published}, sales=sales)


def judge(figures: Figures) -> Verdict:
    """Healthy or not, how fresh, what to do."""
    for store, error in figures.failures.items():
        if store == "postgres" or not figures.published:
            return Verdict("bad", f"{STORE_NAMES[store]} doesn't answer: {error}", error.remedy)
    ended = [run for run in figures.runs if run.finished_at is not None]
    success = figures.last_success
    if not ended:
        if figures.runs:
            return Verdict("idle", "The first run is under way.")
        return Verdict("idle", "Nothing has run yet.", "start a run: `curl -X POST` this function's address")
    published = _freshness(success, figures)
    last = ended[0]
    if last.status == "failed":
        sentence = f"The last run failed {_ago(last, figures)} with {last.error_code}. {published}"
        return Verdict("bad", sentence, remedies().get(last.error_code or "", ""))
    if last.status == "reading":
        return Verdict("idle", f"The sales are still being read. {published}")
    interval = _usual_interval(figures.last_runs)
    if success is not None and interval is not None and _age(success, figures) > _LATE_RUNS * interval:
        usual = f"usually one does every {_words(interval)}"
        sentence = f"No run has succeeded since {_ago(success, figures)}; {usual}."
        return Verdict("bad", sentence, "check the scheduler's job, and whether the function starts")
    for store, error in figures.failures.items():
        return Verdict("doubtful", f"{STORE_NAMES[store]} doesn't answer: {error} {published}", error.remedy)
    if figures.are_equal is False:
        sentence = f"The two stores hold different totals. {published}"
        return Verdict("doubtful", sentence, "`GET /compare` lists what differs; the next run repairs it")
    return Verdict("good", f"Healthy. {published}")


def _freshness(success: Run | None, figures: Figures) -> str:
    if success is not None:
        return f"The numbers are from {_ago(success, figures)}."
    if any(published.events for published in figures.published.values()):
        return "The numbers are older than any run that is known."
    return "Nothing is published yet."


def _usual_interval(runs: Sequence[Run]) -> timedelta | None:
    """The median time between the starts of runs; None where too few are known to tell."""
    starts = [run.started_at for run in runs]
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(starts)]
    return timedelta(seconds=max(median(gaps), 60)) if len(gaps) >= 3 else None


def _age(run: Run, figures: Figures) -> timedelta:
    return figures.now - (run.finished_at or run.started_at)


def _ago(run: Run, figures: Figures) -> str:
    return f"{_words(_age(run, figures))} ago"


def _words(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0)
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (size == 60 and seconds >= size):
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a minute"
