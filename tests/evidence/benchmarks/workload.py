"""Workloads, made once and kept: pages and events as an upstream would send them, and what they come to."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

from tests.doubles.processes import STATE
from tests.evidence.benchmarks.kinds import SEED, Kind, Sale

HOME = STATE / "benchmarks"
"""Where the workloads stand: nginx serves this directory."""

SALES = 1_000_000
PAGE_SIZE = 1_000
EVENTS = 5_000
CHANGED_SHARE = 0.01

_FORM = 2
"""Counts up whenever the data changes its form, so that stored data of an older form isn't used."""


@dataclass(frozen=True)
class Workload:
    """The directory's name is the workload's path on the server.

    `results` are the daily rows that it comes to (event id, day, tickets and revenue, between tabs), `copies` times.
    """

    directory: Path
    results: Path
    sales: int
    pages: int
    events: int
    copies: int = 1

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def events_page(self) -> Path:
        return self.directory / "events.json"

    def page(self, number: int) -> Path:
        return self.directory / "sales" / f"{number}.json"

    def event_names(self) -> dict[str, str]:
        """The events, by id."""
        return {event["id"]: event["name"] for event in json.loads(self.events_page.read_bytes())["data"]}


@dataclass(frozen=True)
class Workloads:
    """One of a kind as it is at first, and as it is once 1% of its sales have changed."""

    first: Workload
    changed: Workload


def make_workloads(kind: Kind, scale: float, home: Path = HOME) -> Workloads:
    """A million sales, or the part of them that `scale` says: as many pages, events and groups less."""
    pages, events = max(1, round(SALES / PAGE_SIZE * scale)), max(1, round(EVENTS * scale))
    first, changed = (
        Workload(directory, directory / "results.tsv", pages * PAGE_SIZE, pages, events)
        for directory in (home / f"{kind.name}-{pages}", home / f"{kind.name}-{pages}-changed")
    )
    made = Workloads(first, changed)
    complete = made.changed.directory / "complete.json"
    made_as = json.dumps({"form": _FORM, "sales": first.sales, "events": events, "changed": CHANGED_SHARE})
    if not complete.exists() or complete.read_text() != made_as:
        _make(kind, made)
        complete.write_text(made_as)
    return made


def _make(kind: Kind, made: Workloads) -> None:
    sales, changes = kind.sales(made.first.events), Random(SEED)
    results = {workload: _Results() for workload in (made.first, made.changed)}
    for workload in results:
        _clear(workload)
        _write_events(workload, {kind.event_id(event): f"Event number {event}" for event in range(workload.events)})
    for number in range(1, made.first.pages + 1):
        page = list(islice(sales, PAGE_SIZE))
        changed = [sale.with_one_ticket_more() if changes.random() < CHANGED_SHARE else sale for sale in page]
        for workload, items in ((made.first, page), (made.changed, changed)):
            results[workload].add(items)
            workload.page(number).write_bytes(_envelope(workload, number, ",".join(map(kind.json, items)).encode()))
    for workload, sums in results.items():
        sums.write(kind, workload.results)


class _Results:
    """Tickets and revenue of events and days."""

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])

    def add(self, sales: Sequence[Sale]) -> None:
        for sale in sales:
            sums = self._sums[sale.event, str(sale.day)]
            sums[0] += sale.quantity
            sums[1] += sale.total_cents

    def write(self, kind: Kind, path: Path) -> None:
        with path.open("w") as lines:
            for (event, day), (tickets, cents) in sorted(self._sums.items()):
                lines.write(f"{kind.event_id(event)}\t{day}\t{tickets}\t{cents // 100}.{cents % 100:02d}\n")


@contextmanager
def tenfold(w1: Workload) -> Iterator[Workload]:
    """Ten times W1: the same sales under ids of their own, in the same groups. Takes 2.6 GB for as long as it lasts."""
    copies = 10
    directory = w1.directory.with_name(f"{w1.name}-tenfold")
    large = replace(w1, directory=directory, sales=w1.sales * copies, pages=w1.pages * copies, copies=copies)
    with _deleted_afterwards(large, w1):
        for number in range(1, large.pages + 1):
            copy, source = divmod(number - 1, w1.pages)
            items = _items(w1, source + 1).replace(b'{"id":100', b'{"id":%d' % (100 + copy))
            large.page(number).write_bytes(_envelope(large, number, items))
        yield large


@contextmanager
def single_page(w1: Workload) -> Iterator[Workload]:
    """W1's sales on one page, without a word about further pages."""
    single = replace(w1, directory=w1.directory.with_name(f"{w1.name}-single"), pages=1)
    with _deleted_afterwards(single, w1):
        with single.page(1).open("wb") as page:
            page.write(b'{"data":[')
            for number in range(1, w1.pages + 1):
                page.write(b"," if number > 1 else b"")
                page.write(_items(w1, number))
            page.write(b"]}")
        yield single


@contextmanager
def _deleted_afterwards(workload: Workload, source: Workload) -> Iterator[None]:
    """With the events of the workload that it is made from."""
    _clear(workload)
    try:
        shutil.copy(source.events_page, workload.events_page)
        yield
    finally:
        shutil.rmtree(workload.directory)


def _clear(workload: Workload) -> None:
    shutil.rmtree(workload.directory, ignore_errors=True)
    workload.page(1).parent.mkdir(parents=True)


def _write_events(workload: Workload, names: dict[str, str]) -> None:
    events = [{"id": identifier, "name": name} for identifier, name in names.items()]
    envelope = {"data": events, "pagination": {"next_page": None, "total_pages": 1}, "total": len(events)}
    workload.events_page.write_text(json.dumps(envelope))


def _envelope(workload: Workload, number: int, items: bytes) -> bytes:
    pagination = {"next_page": number + 1 if number < workload.pages else None, "total_pages": workload.pages}
    rest = json.dumps({"pagination": pagination, "total": workload.sales}, separators=(",", ":"))
    return b'{"data":[' + items + b"]," + rest[1:].encode()


def _items(workload: Workload, number: int) -> bytes:
    """The sales of a page, without what stands around them."""
    body = workload.page(number).read_bytes()
    return body[body.index(b"[") + 1 : body.rindex(b"]")]
