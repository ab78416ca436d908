"""What came of a history: was what the run published right, or did it publish nothing?

Two judges look at the tables, and neither knows the other's way. `check_promise` reads the tables alone: every sale has
a digit of its own in the sums, so that they tell which sales were counted, how often, and in which version. The oracle
is SQL over what the server has logged: the versions served first in the reading that was published.

What is promised: every sale that was there from the run's start to its end counts once, in a version that it had; any
other at most once. Pages are no snapshot, so two kinds of runs are counted apart, neither right nor wrong, in which
sales were skipped and nobody could know:

- `missed`: no total is declared, and the pages could skip a row.
- `masked`: a total is declared, but while it was read the order changed, something was deleted, or a cursor skipped
  what shares its key, and at least as many new sales were read as old ones were skipped, so that the numbers agree; or
  as many that were deleted between the first page's rows and its total, as that total doesn't know them any more.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any

from etl.errors import EtlError
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.envelopes import Envelope, Page, render
from tests.doubles.ticketing.request_log import RequestSeen
from tests.support.oracle import wanted_tables
from tests.support.store import Store, Stored

DATASETS = ("events", "ticket_sales")
NANO = 10**9
VERDICTS = ("wrong", "masked", "missed", "refused", "published")
"""Worst first."""
REFUSALS = ("incomplete_extract", "suspicious_extract")
"""The codes with which a run may end that published nothing."""

Item = dict[str, Any]


@dataclass(frozen=True)
class Played:
    """A history's run, seen from outside. For `can_skip` see History, for `versions` to `slipped` Upstream.

    `used` are the numbers of the requests whose answers the last reading of each dataset used, in their order.
    """

    envelope: Envelope
    can_skip: bool
    versions: Mapping[str, Mapping[Any, Sequence[Item]]]
    lasting: Mapping[str, Collection[Any]]
    came: Mapping[str, Mapping[Any, int]]
    disturbed: Mapping[str, Collection[int]]
    slipped: Mapping[str, Mapping[Any, int]]
    requests: Sequence[RequestSeen]
    used: Mapping[str, Sequence[int]]
    before: Stored
    error: EtlError | None


@dataclass(frozen=True)
class Outcome:
    """`verdict` is one of VERDICTS, `code` the error's; `faults` says what is wrong, or was missed."""

    verdict: str
    faults: Sequence[str] = ()
    code: str | None = None


def judge(played: Played, store: Store) -> Outcome:
    """Look at the tables after a run."""
    after = store.rows()
    if played.error is not None:
        return _judge_refusal(played, played.error, after)
    readings = {name: pages_read(played, name) for name in DATASETS}
    events, sales = ([item for page in readings[name] for item in page.items or ()] for name in DATASETS)
    faults = _compare(after, _expected(events, sales, played.before, store.server))
    scope = {str(event["id"]) for event in events} | {sale["event_id"] for sale in sales}
    broken, missed = check_promise(_rows_of(scope, after), played.versions, played.lasting)
    faults += broken
    verdicts = {name: _judge_missed(played, name, len(ids), readings[name]) for name, ids in missed.items() if ids}
    verdict = "wrong" if faults else min(verdicts.values(), key=VERDICTS.index, default="published")
    faults += [f"{verdicts[name]}: {identifier} of {name}" for name, ids in missed.items() for identifier in ids]
    return Outcome(verdict, faults)


def _judge_refusal(played: Played, error: EtlError, after: Stored) -> Outcome:
    faults = [] if error.code in REFUSALS else [f"it failed with {error.code}: {error}"]
    if after != played.before:
        faults.append(f"it failed, and the tables changed from {played.before} to {after}")
    return Outcome("wrong" if faults else "refused", faults, error.code)


def _expected(events: Sequence[Item], sales: Sequence[Item], before: Stored, server: EmbeddedPostgres) -> Stored:
    """What both tables hold after these were served, in this order, by SQL; without times."""
    listed = {event["id"]: event for event in events}  # the last name counts
    counted = {sale["id"]: sale for sale in reversed(sales)}  # the first version counts
    wanted = wanted_tables(server, [*listed.values()], [*counted.values()])
    scope = {row[0] for row in wanted.events}
    names = {row[0]: row[1] for row in before.events}
    return Stored(
        [(key, name or names.get(key), *sums) for key, name, *sums in wanted.events]
        + [row[:4] for row in before.events if row[0] not in scope],
        [*wanted.daily, *(row[:4] for row in before.daily if row[0] not in scope)],
    )


def _compare(after: Stored, expected: Stored) -> list[str]:
    faults = []
    for name in ("events", "daily"):
        stands, wanted = {row[:4] for row in getattr(after, name)}, set(getattr(expected, name))
        faults += [f"{name}: {row} stands there, and shouldn't" for row in sorted(stands - wanted, key=str)]
        faults += [f"{name}: {row} should stand there" for row in sorted(wanted - stands, key=str)]
    return faults


def _rows_of(scope: Collection[str], rows: Stored) -> Stored:
    return Stored([row for row in rows.events if row[0] in scope], [row for row in rows.daily if row[0] in scope])


def _judge_missed(played: Played, dataset: str, missed: int, reading: Sequence[RequestSeen]) -> str:
    """Whether `missed` rows that were there all the time could be skipped unnoticed."""
    if not played.can_skip:
        return "wrong"
    if not declares_total(played.envelope):
        return "missed"
    first, last = min(page.number for page in reading), max(page.number for page in reading)
    read = {item["id"] for page in reading for item in page.items or ()}
    begins = _begins(played, dataset)
    new = [key for key, request in played.came[dataset].items() if key in read and request >= begins]
    gone = [key for key, request in played.slipped[dataset].items() if key in read and request == first]
    is_disturbed = any(first <= request < last for request in played.disturbed[dataset]) or bool(gone)
    return "masked" if is_disturbed and len(new) + len(gone) >= missed else "wrong"


def declares_total(envelope: Envelope) -> bool:
    """Whether its pages tell how many items there are in all."""
    told = 987_654_321
    page = Page((), 1, 0, 1, told, 1, True, 2, "", origin="", path="", ask="", unit="token", answered_at="")

    body, headers = render(envelope, page)
    return str(told) in body.decode() or str(told) in headers.values()


def pages_read(played: Played, dataset: str) -> list[RequestSeen]:
    """The pages of the last reading of a dataset, in the order in which they were used."""
    seen = {request.number: request for request in played.requests}
    return [seen[number] for number in played.used[dataset]]


def _begins(played: Played, dataset: str) -> int:
    """The request that tells the published reading how many records there were before it."""
    number = played.used[dataset][0]
    before = [seen for seen in played.requests if seen.dataset == dataset and seen.number < number]
    ask = played.envelope.ask
    return before[-1].number if before and ask and ask not in before[-1].query else number


def check_promise(
    rows: Stored,
    versions: Mapping[str, Mapping[Any, Sequence[Item]]],
    lasting: Mapping[str, Collection[Any]],
) -> tuple[list[str], dict[str, list[Any]]]:
    """(what is wrong in the rows of the two tables, the ids of lasting events and sales that aren't in them)."""
    faults: list[str] = []
    days: dict[str, list[tuple[int, int]]] = {}
    counted: Counter[Any] = Counter()
    by_number = {sale_number(sales[0]): (key, sales) for key, sales in versions["ticket_sales"].items()}
    for event_id, day, tickets, revenue, *_ in rows.daily:
        nano = _nano(revenue)
        days.setdefault(event_id, []).append((tickets, nano))
        for number, times, version in _digits(tickets, nano):
            key, sales = by_number.get(number, (None, ()))
            counted[key] += times
            if times == 1 and not (0 < version <= len(sales) and _group(sales[version - 1]) == (event_id, day)):
                faults.append(f"sale {key} never was in version {version} in the group {event_id}, {day}")
    faults += [f"sale {key} counts {times} times" for key, times in counted.items() if times > 1]
    for event_id, _, tickets, revenue, *_ in rows.events:
        sums = days.pop(event_id, [])
        if (tickets, _nano(revenue)) != (sum(t for t, _ in sums), sum(r for _, r in sums)):
            faults.append(f"event {event_id} has {tickets} tickets for {revenue}, and its days {sums}")
    faults += [f"event {event_id} has days, and no summary" for event_id in days]
    named = {row[:2] for row in rows.events}
    unnamed = [
        key for key in lasting["events"] if named.isdisjoint((key, event["name"]) for event in versions["events"][key])
    ]
    return faults, {"events": unnamed, "ticket_sales": [key for key in lasting["ticket_sales"] if not counted[key]]}


def sale_number(sale: Item) -> int:
    """Which sale it is: its place in the sums."""
    return (int(sale["quantity"]).bit_length() - 1) // 2


def _digits(tickets: int, nano: int) -> Iterator[tuple[int, int, int]]:
    """(number, how often it is in the sum, in which version) of each sale in a sum."""
    number = 0
    while tickets > 0 or nano > 0:
        if tickets % 4 or nano % 16:
            yield number, tickets % 4, nano % 16
        tickets, nano, number = tickets // 4, nano // 16, number + 1


def _nano(amount: Decimal) -> int:
    return int(amount.scaleb(9, Context(prec=60)))


def _group(sale: Item) -> tuple[str, date]:
    return sale["event_id"], datetime.fromisoformat(sale["sale_date"]).date()
