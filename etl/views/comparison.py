"""Both stores side by side, group by group: what differs. Memory doesn't grow with the groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from itertools import chain, islice
from typing import Any

from etl.deadline import Deadline, within
from etl.errors import AlreadyRunningError, ConfigurationError
from etl.load.store import STORE_NAMES, Group
from etl.run.ledger import Ledger, Run
from etl.settings import Settings
from etl.transform.tables import AMOUNT_DECIMALS

MAX_LISTED = 1_000
STORES = tuple(STORE_NAMES)
_HEALED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Pair:
    """What both stores hold of a group (None: nothing): of an event's day or, where `day` is None, of the event."""

    event_id: str
    day: date | None
    postgres: Group | None
    bigquery: Group | None

    def differs(self, scale: int) -> bool:
        """Whether they hold other numbers. PostgreSQL's amounts may have fewer decimals: compared as rounded."""
        ours, theirs = self.postgres, self.bigquery
        if ours is None or theirs is None:
            return True
        revenue = theirs.revenue if scale >= AMOUNT_DECIMALS else _rounded(theirs.revenue, scale)
        return (ours.tickets, ours.revenue) != (theirs.tickets, revenue)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; amounts are Decimals. `missing_in` names the store that has no such group."""
        shown: dict[str, Any] = {"event_id": self.event_id, "sale_date": self.day}
        for name, group in (("postgres", self.postgres), ("bigquery", self.bigquery)):
            if group is None:
                shown["missing_in"] = name
            else:
                shown[name] = {"tickets": group.tickets, "revenue": group.revenue}
        return shown


@dataclass
class Comparison:
    """What differs: all of it counted, the first 1,000 differences listed.

    `run_meanwhile` is a run that was under way or ended while the stores were read: what differs may be its work.
    """

    groups: int = 0
    differing: int = 0
    differences: list[Pair] = field(default_factory=list)
    run_meanwhile: str | None = None

    @property
    def is_equal(self) -> bool:
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """As JSON values; amounts are Decimals. `sale_date` is null for an event's totals."""
        return {
            "equal": self.is_equal,
            "groups": self.groups,
            "differing": self.differing,
            "run_meanwhile": self.run_meanwhile,
            "differences": [pair.to_json() for pair in self.differences],
        }


def pair_groups(left: Iterable[Group], right: Iterable[Group]) -> Iterator[Pair]:
    """The groups of both, each once: merged in the order of `Group.key`, in which both must come."""
    ours, theirs = iter(left), iter(right)
    a, b = next(ours, None), next(theirs, None)
    while a is not None or b is not None:
        if a is not None and (b is None or a.key < b.key):
            yield Pair(a.event_id, a.day, a, None)
            a = next(ours, None)
        elif b is not None and (a is None or b.key < a.key):
            yield Pair(b.event_id, b.day, None, b)
            b = next(theirs, None)
        elif a is not None:
            yield Pair(a.event_id, a.day, a, b)
            a, b = next(ours, None), next(theirs, None)


def _rounded(amount: Decimal, scale: int) -> Decimal:
    """As PostgreSQL rounds: half away from zero."""
    return amount.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)


def compare_stores(
    settings: Settings, ledger: Ledger, deadline: Deadline, found: Callable[[Pair], None] = lambda _: None
) -> Comparison:
    """Compare both stores; each group that differs is also given to `found`.

    Raises ConfigurationError where there aren't two stores to compare, StoreUnavailableError where one refuses, and
    DeadlineExceededError.
    """
    from etl.load.bigquery.load import read_groups
    from etl.load.postgres.database import engine_for, transaction
    from etl.load.postgres.load import amount_scales
    from etl.load.postgres.read import groups_in

    _check(settings)
    comparison = Comparison()
    before = _last_run(ledger, deadline)
    theirs = read_groups(settings, deadline)
    with within(deadline):
        first = list(islice(theirs, 1))  # while a query is made ready there, a transaction here would grow too old
    with transaction(engine_for(settings), deadline) as connection:
        scales = amount_scales(connection)
        scale = min(scales.values(), default=AMOUNT_DECIMALS)
        for pair in pair_groups(groups_in(connection, scales), chain(first, theirs)):
            comparison.groups += 1
            if pair.differs(scale):
                comparison.differing += 1
                if comparison.differing <= MAX_LISTED:
                    comparison.differences.append(pair)
                found(pair)
    after = _last_run(ledger, deadline)
    if after is not None and (after != before or after.status == "running"):
        comparison.run_meanwhile = after.run_id
    return comparison


def heal_differences(settings: Settings, ledger: Ledger, deadline: Deadline) -> Comparison:
    """Compare, and have the next run publish what differs again, in both stores; only where sales are kept.

    Without kept sales nothing needs to be done: the next run compares all of it with what it reads. Raises as
    `compare_stores` does, and AlreadyRunningError while a run is under way, which would take the marks for its own.
    """
    if settings.etl_sales_store == "none":
        return compare_stores(settings, ledger, deadline)
    from etl.sales.status import mark_pending

    last = _last_run(ledger, deadline)
    if last is not None and last.status == "running":
        raise AlreadyRunningError(f"run {last.run_id} is under way: wait for it", holder=last.run_id)
    pairs: list[Pair] = []
    comparison = compare_stores(settings, ledger, deadline, pairs.append)
    marks = iter([(pair.event_id, pair.day) for pair in pairs])
    while batch := list(islice(marks, _HEALED_AT_ONCE)):
        mark_pending(settings, batch, deadline)
    return comparison


def _check(settings: Settings) -> None:
    missing = [STORE_NAMES[store] for store in STORES if store not in settings.stores]
    if missing:
        raise ConfigurationError(f"there is one store only, so nothing to compare it with: {missing[0]} isn't set up")
    if settings.bq_write_mode == "stream":
        raise ConfigurationError(
            "BQ_WRITE_MODE is stream: BigQuery's tables then hold copies of rows. Compare with the queries of "
            "docs/operations.md, or set it to merge"
        )


def _last_run(ledger: Ledger, deadline: Deadline) -> Run | None:
    return next(iter(ledger.last_runs(1, deadline)), None)
