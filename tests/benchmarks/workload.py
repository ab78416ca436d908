"""Workload W1, made from a seed: pages and events as an upstream would send them, and what they come to."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

from tests.sandbox.processes import STATE

HOME = STATE / "benchmarks"
"""Where the workloads stand: nginx serves this directory."""

SALES = 1_000_000
PAGE_SIZE = 1_000
EVENTS = 5_000
DAYS = 45
SEED = 7
FIRST_ID = 100_000_000
"""The ids' first three digits are the same in all of W1: a copy of it gets others, and no id twice."""

_FORM = 1
"""Counts up whenever the data changes its form, so that stored data of an older form isn't used."""
_CHANNELS = ("web", "app", "box", "reseller")


@dataclass(frozen=True)
class Workload:
    """`name` is its directory in HOME, and its path on the server. `copies` is how often W1's sales stand in it."""

    name: str
    sales: int
    pages: int
    events: int
    copies: int = 1

    @property
    def directory(self) -> Path:
        return HOME / self.name

    @property
    def results(self) -> Path:
        """The daily rows that W1 comes to: event id, day, tickets and revenue, between tabs."""
        return self.directory / "results.tsv"

    def page(self, number: int) -> Path:
        return self.directory / "sales" / f"{number}.json"

    @property
    def page_bytes(self) -> int:
        """The size of all pages of sales."""
        return sum(self.page(number).stat().st_size for number in range(1, self.pages + 1))


def make_w1(scale: float) -> Workload:
    """W1, or the part of it that `scale` says: as many pages, events and groups less. Made once, and kept."""
    pages = max(1, round(SALES / PAGE_SIZE * scale))
    w1 = Workload(f"w1-{pages}", pages * PAGE_SIZE, pages, max(1, round(EVENTS * scale)))
    complete = w1.directory / "complete.json"
    made_as = json.dumps({**asdict(w1), "seed": SEED, "days": DAYS, "form": _FORM})
    if complete.exists() and complete.read_text() == made_as:
        return w1
    _clear(w1)
    sums = _write_pages(w1)
    _write_events(w1)
    with w1.results.open("w") as results:
        for (event, day), (tickets, cents) in sorted(sums.items()):
            results.write(f"{_event_id(event)}\t{day}\t{tickets}\t{cents // 100}.{cents % 100:02d}\n")
    complete.write_text(made_as)
    return w1


@contextmanager
def tenfold(w1: Workload) -> Iterator[Workload]:
    """Ten times W1: the same sales under ids of their own, in the same groups. Takes 2.6 GB for as long as it lasts."""
    copies = 10
    large = Workload(f"{w1.name}-tenfold", w1.sales * copies, w1.pages * copies, w1.events, copies)
    with _deleted_afterwards(large):
        _write_events(large)
        for number in range(1, large.pages + 1):
            copy, source = divmod(number - 1, w1.pages)
            items = _items(w1, source + 1).replace(b'{"id":100', b'{"id":%d' % (100 + copy))
            large.page(number).write_bytes(_envelope(large, number, items))
        yield large


@contextmanager
def single_page(w1: Workload) -> Iterator[Workload]:
    """W1's sales on one page, without a word about further pages."""
    single = Workload(f"{w1.name}-single", w1.sales, 1, w1.events)
    with _deleted_afterwards(single):
        _write_events(single)
        with single.page(1).open("wb") as page:
            page.write(b'{"data":[')
            for number in range(1, w1.pages + 1):
                page.write(b"," if number > 1 else b"")
                page.write(_items(w1, number))
            page.write(b"]}")
        yield single


@contextmanager
def _deleted_afterwards(workload: Workload) -> Iterator[None]:
    _clear(workload)
    try:
        yield
    finally:
        shutil.rmtree(workload.directory)


def _clear(workload: Workload) -> None:
    shutil.rmtree(workload.directory, ignore_errors=True)
    workload.page(1).parent.mkdir(parents=True)


def _write_events(workload: Workload) -> None:
    events = [{"id": _event_id(event), "name": event_name(event)} for event in range(workload.events)]
    envelope = {"data": events, "pagination": {"next_page": None, "total_pages": 1}, "total": len(events)}
    (workload.directory / "events.json").write_text(json.dumps(envelope))


def _write_pages(w1: Workload) -> dict[tuple[int, str], tuple[int, int]]:
    """Writes all pages; returns tickets and revenue in cents by event and day."""
    dice = random.Random(SEED)
    days = [str(date(2026, 1, 1) + timedelta(days=day)) for day in range(DAYS)]
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for number in range(1, w1.pages + 1):
        items = []
        for identifier in range(FIRST_ID + (number - 1) * PAGE_SIZE, FIRST_ID + number * PAGE_SIZE):
            event, day = dice.randrange(w1.events), dice.choice(days)
            quantity, cents = dice.randrange(1, 6), dice.randrange(500, 90_000)
            items.append(_sale(identifier, event, day, quantity, cents, dice))
            tickets, revenue = sums.get((event, day), (0, 0))
            sums[event, day] = (tickets + quantity, revenue + cents)
        w1.page(number).write_bytes(_envelope(w1, number, ",".join(items).encode()))
    return sums


def _sale(identifier: int, event: int, day: str, quantity: int, cents: int, dice: random.Random) -> str:
    """A sale of about 260 bytes. Its id comes first: `tenfold` counts on it."""
    second = dice.randrange(86_400)
    time = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000Z"
    return (
        f'{{"id":{identifier},"event_id":"{_event_id(event)}","quantity":{quantity},'
        f'"price":{dice.randrange(500, 20_000) / 100},"total_amount":{cents / 100},"sale_date":"{day}T{time}",'
        f'"channel":"{dice.choice(_CHANNELS)}","currency":"EUR","seat":"{dice.choice("ABCDEF")}{second % 40}",'
        f'"buyer_id":{dice.randrange(1_000_000)},"reference":"{dice.getrandbits(128):032x}",'
        f'"is_resale":false}}'
    )


def _envelope(workload: Workload, number: int, items: bytes) -> bytes:
    pagination = {"next_page": number + 1 if number < workload.pages else None, "total_pages": workload.pages}
    rest = json.dumps({"pagination": pagination, "total": workload.sales}, separators=(",", ":"))
    return b'{"data":[' + items + b"]," + rest[1:].encode()


def _items(workload: Workload, number: int) -> bytes:
    """The sales of a page, without what stands around them."""
    body = workload.page(number).read_bytes()
    return body[body.index(b"[") + 1 : body.rindex(b"]")]


def _event_id(event: int) -> str:
    return f"evt-{event:04d}"


def event_name(event: int) -> str:
    """Its name, in the upstream and in the tables."""
    return f"Event number {event}"
