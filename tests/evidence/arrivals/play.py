"""Plays upstreams on which nothing happens but that sales arrive, while the real client reads them over HTTP.

    python -m tests.evidence.arrivals.play --runs 200       plays so many runs of each kind, and prints how they ended
    python -m tests.evidence.arrivals.play --seed 17        plays one run of each kind

Each run has to succeed, and to count every sale that was there when it began.
"""

import argparse
import random
import sys
import time
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from itertools import product
from typing import Any

from etl.deadline import Deadline
from etl.errors import IncompleteExtractError
from etl.extract.client import Api
from etl.extract.reading import Extraction, extract_events_and_sales
from etl.extract.token import Token
from etl.logs import configure_logs
from etl.settings import Settings
from tests.doubles.ticketing.api import Statements, TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES

RATES = (0.02, 0.3, 2.0)
"""Sales that arrive with each page, on average."""
STATEMENTS: tuple[Statements, ...] = ("rows, total", "total, rows")
ORDERS = ("newest first", "oldest first", "by id")
SIGNALS = {"page count": ENVELOPES["veritix"], "next_page": ENVELOPES["next_page"].declaring("total")}
CONCURRENCIES = (1, 4)
PAGES = 100
READINGS = 2
"""As often as a run reads a list that doesn't add up."""


@dataclass(frozen=True)
class Kind:
    """One sort of upstream."""

    rate: float
    statements: Statements
    order: str
    signal: str
    concurrency: int

    def __str__(self) -> str:
        return f"{self.rate:4} a page, {self.statements}, {self.order:12}, {self.signal:10}, {self.concurrency} at once"


KINDS = tuple(
    Kind(rate, statements, order, signal, concurrency)
    for rate in RATES
    for statements in STATEMENTS
    for order in ORDERS
    for signal in SIGNALS
    for concurrency in CONCURRENCIES
)


class BusyUpstream:
    """A list to which sales are added, each between two statements; `add` is called between any two."""

    def __init__(self, kind: Kind, count: int, seed: int) -> None:
        self._kind = kind
        self._dice = random.Random(f"arrivals {seed}")
        self._next = 0
        self.sales: list[dict[str, Any]] = []
        for _ in range(count):
            self._add()

    def turn(self, *_seen: object) -> None:
        """What arrives between two statements: two of these come with each page."""
        if self._kind.concurrency > 1:
            time.sleep(self._dice.random() / 1000)  # other requests get their turn
        expected = self._kind.rate / 2
        whole = int(expected)
        for _ in range(whole + (self._dice.random() < expected - whole)):
            self._add()

    def _add(self) -> None:
        self._next += 1
        sale_id: Any = self._next if self._kind.order != "by id" else f"{self._dice.getrandbits(128):032x}"
        sale: dict[str, Any] = {
            "id": sale_id,
            "eventId": "e",
            "quantity": 1,
            "price": "1.00",
            "saleDate": "2026-11-20T10:00:00.000Z",
        }
        if self._kind.order == "newest first":
            self.sales.insert(0, sale)
        elif self._kind.order == "oldest first":
            self.sales.append(sale)
        else:
            insort(self.sales, sale, key=lambda s: s["id"])


@dataclass(frozen=True)
class Played:
    """What became of a run: `missing` sales were there when it began and weren't counted."""

    readings: int
    requests: int
    missing: int
    doubled: int
    error: str | None


def play(kind: Kind, seed: int, pages: int = PAGES, page_size: int = 30) -> Played:
    """One run: the list is read, and once more if it doesn't add up."""
    upstream = BusyUpstream(kind, pages * page_size + seed % page_size, seed)
    lasting = {str(sale["id"]) for sale in upstream.sales}
    with TicketingApi(sales=(), envelope=SIGNALS[kind.signal], page_size=page_size) as server:
        server.keep_items = False
        server.sales, server.statements = upstream.sales, kind.statements
        server.on_page, server.between_statements = upstream.turn, upstream.turn
        server.latency_seconds = 0.006 if kind.concurrency > 1 else 0.0
        settings = Settings(nest_api_base_url=server.base_url, nest_api_concurrency=kind.concurrency)
        api = Api(settings, Token(lambda: None), Deadline(300.0))
        try:
            source = extract_events_and_sales(api, date(2026, 11, 20), UTC, 100_000)
            readings, ids, error = _read(source)
        finally:
            api.close()
    counted = Counter(ids)
    missing = 0 if error else len(lasting - counted.keys())
    return Played(readings, len(server.requests), missing, sum(n > 1 for n in counted.values()), error)


def _read(source: Extraction) -> tuple[int, list[str | None], str | None]:
    for reading in range(1, READINGS + 1):
        try:
            return reading, [sale.sale_id for sale in source.sales()], None
        except IncompleteExtractError as failure:
            error = str(failure)
    return READINGS, [], error


@dataclass
class Score:
    """How the runs of each kind ended."""

    counts: dict[Kind, Counter[str]] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)

    def add(self, kind: Kind, seed: int, played: Played) -> None:
        """Count one."""
        counts = self.counts.setdefault(kind, Counter())
        counts.update(runs=1, succeeded=played.error is None, readings=played.readings, requests=played.requests)
        counts.update(missing=played.missing, doubled=played.doubled)
        if played.error or played.missing or played.doubled:
            self.failing.append(f"{kind}, seed {seed}: {played}")

    def lines(self) -> Iterator[str]:
        """A table."""
        columns = ("runs", "succeeded", "readings", "requests", "missing", "doubled")
        yield f"{'upstreams':70}" + "".join(f"{name:>10}" for name in columns)
        for kind, counts in self.counts.items():
            yield f"{kind!s:70}" + "".join(f"{counts[name]:10}" for name in columns)


def play_many(seeds: Sequence[int], kinds: Sequence[Kind] = KINDS, pages: int = PAGES) -> Score:
    """One run of each kind and seed."""
    score = Score()
    for kind, seed in product(kinds, seeds):
        score.add(kind, seed, play(kind, seed, pages))
    return score


def main(argv: Sequence[str]) -> int:
    """0 if every run succeeded and counted all that it had to."""
    parser = argparse.ArgumentParser(prog="arrivals", description="Plays upstreams on which sales arrive.")
    parser.add_argument("--runs", type=int, default=5, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play only this one")
    parser.add_argument("--only", default="", help="only kinds with this text in their names")
    asked = parser.parse_args(argv)
    configure_logs("CRITICAL")
    seeds = range(asked.first, asked.first + asked.runs) if asked.seed is None else [asked.seed]
    score = play_many(seeds, [kind for kind in KINDS if asked.only in str(kind)])
    print(*score.failing, *score.lines(), sep="\n")
    return int(bool(score.failing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
