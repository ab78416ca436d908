"""A history: an upstream's data, and the changes that come to it while its pages are being read. Made from a seed."""

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from tests.doubles.ticketing.api import Statements
from tests.doubles.ticketing.cursors import Order
from tests.doubles.ticketing.envelope_table import ENVELOPES, TOTAL_PLACES
from tests.doubles.ticketing.envelopes import Envelope
from tests.doubles.ticketing.request_log import PageServed
from tests.evidence.histories.judge import DATASETS, NANO, Item, sale_number

MAX_SALES = 31
"""As many as have a digit of their own in a sum of tickets: sale k has 4**k tickets, and 4**31 is under 2**63."""
MAX_VERSIONS = 15
"""Sale k in version v costs v * 16**k * 10**-9: a sum of amounts tells which version of each sale is in it."""
BEGINNING = datetime(2026, 1, 1, 9, tzinfo=UTC)

MIXES: Mapping[str, tuple[str, ...]] = {
    "nothing changes": (),
    "inserts": ("insert",),
    "inserts and edits": ("insert", "insert", "edit"),
    "inserts and moves": ("insert", "insert", "move"),
    "deletions": ("delete",),
    "everything": ("insert", "insert", "edit", "move", "delete", "add event", "rename event", "drop event"),
}
"""What may change in a history, as often as it stands here."""
MIX_WEIGHTS = (1, 4, 2, 2, 1, 4)
INTENSITIES: Mapping[str, tuple[int, ...]] = {
    "rare": (0, 0, 0, 0, 0, 0, 0, 1),
    "light": (0, 0, 0, 1),
    "medium": (0, 1),
    "heavy": (1, 2, 3),
    "burst": (0, 0, 0, 0, 0, 0, 0, 0, 0, 6),
}
"""How many changes come after a page: any of these numbers."""


@dataclass(frozen=True)
class Change:
    """`kind` is one of MIXES'; `pick` (0 to 1) chooses among the items of that moment. It comes after a
    page or, where `splits`, between the two statements for one.
    """

    kind: str
    pick: float
    splits: bool = False


@dataclass(frozen=True)
class History:
    """All that makes a run come out as it does, but for the timing of threads (`concurrency` above 1).

    `total_at` is a place of TOTAL_PLACES where the envelope declares a total beside what it has itself. `order=None`:
    as listed. Where the order isn't `stable`, ties (as listed: all) come in another order on every page. `ties` sales
    share a time. `script` says what changes with the n-th page that is served, whatever the dataset and the reading.
    `statements` is how a page's rows and its total are taken.
    """

    seed: int
    envelope: str
    total_at: str | None
    page_size: int
    order: Order | None
    stable: bool
    ids: str
    concurrency: int
    sends_limit: bool
    has_run_before: bool
    events: int
    sales: int
    ties: int
    mix: str
    script: Mapping[int, tuple[Change, ...]]
    statements: Statements = "snapshot"

    @property
    def shape(self) -> Envelope:
        envelope = ENVELOPES[self.envelope]
        return (envelope if self.total_at is None else envelope.declaring(self.total_at)).sized(self.page_size)

    @property
    def only_adds(self) -> bool:
        """Whether rows come, or change where they stand, and nothing else: the usual case."""
        return self.stable and {"insert", "edit"}.issuperset(MIXES[self.mix])

    @property
    def can_skip(self) -> bool:
        """Whether somebody who reads page by page may miss a sale that is there all the time.

        Not where one page holds all, nor where rows are only added, nor where a cursor continues after a row's own,
        unchanging place.
        """
        shape, key = self.shape, self.order and self.order.key
        if not shape.ask:
            return False
        if shape.is_counted or key is None:
            return not self.only_adds
        return key == "sale_date" or self.skips_ties

    @property
    def skips_ties(self) -> bool:
        """Whether a cursor continues after a row's sort key, and skips the rows that share it, whatever happens."""
        is_keyset = self.shape.unit == "token" and self.order is not None and self.order.key != "id"
        return is_keyset and self.shape.cursor_rule == "key"


def make_history(seed: int) -> History:
    """The same one for the same seed."""
    dice = random.Random(f"history {seed}")
    envelope = list(ENVELOPES)[seed % len(ENVELOPES)]
    key = dice.choice(("createdAt", "createdAt", "createdAt", "id", "id", "sale_date", None))
    mix = dice.choices(list(MIXES), MIX_WEIGHTS)[0]
    counts = INTENSITIES[dice.choice(list(INTENSITIES))] if MIXES[mix] else (0,)
    places = TOTAL_PLACES[-1:] if callable(ENVELOPES[envelope].body) else TOTAL_PLACES
    statements = dice.choice(get_args(Statements))
    return History(
        seed=seed,
        envelope=envelope,
        total_at=dice.choice(places) if dice.random() < 0.7 else None,
        page_size=dice.choice((1, 2, 2, 3, 3, 4, 5, 7)),
        order=None if key is None else Order(key, descending=dice.random() < 0.5),
        stable=key == "id" or dice.random() < 0.7,
        ids=dice.choice(("number", "number", "uuid")),
        concurrency=dice.choice((1, 1, 2, 4)),
        # The size tells a page that is full; real ones that isn't asked for is a round number.
        sends_limit=dice.random() < 0.5 or statements != "snapshot",
        has_run_before=dice.random() < 0.25,
        events=dice.choice((1, 2, 3, 5)),
        sales=dice.choice((1, 3, 5, 8, 8, 10, 12, 12, 16, 20)) if dice.random() < 0.98 else 0,
        ties=dice.choice((1, 1, 2, 5)),
        mix=mix,
        script={
            page: tuple(
                Change(dice.choice(MIXES[mix]), dice.random(), statements != "snapshot" and dice.random() < 0.5)
                for _ in range(dice.choice(counts))
            )
            for page in range(1, 80)
        },
        statements=statements,
    )


class Upstream:
    """The upstream's data while a history is played, and all that it has ever been.

    `versions` holds each item as it was and is, by dataset and id; `lasting` the ids of those that are there from the
    beginning and haven't gone. `came` says the request since whose beginning an item has been there, `disturbed`
    the requests after whose rows something was deleted, has changed places, or may be skipped by a cursor. `slipped`
    says between which one's rows and total an item was deleted.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.items: dict[str, list[Item]] = {name: [] for name in DATASETS}
        self.versions: dict[str, dict[Any, list[Item]]] = {name: {} for name in DATASETS}
        self.came: dict[str, dict[Any, int]] = {name: {} for name in DATASETS}
        self.disturbed: dict[str, set[int]] = {name: set() for name in DATASETS}
        self.slipped: dict[str, dict[Any, int]] = {name: {} for name in DATASETS}
        self.trace: list[str] = []
        self._served = 0
        self._split = 0
        self._request = 0
        self._rows_taken = 0
        self._is_split = False
        for number in range(history.events):
            self._add("events", {"id": f"e{number}", "name": f"Event {number}"})
        for number in range(history.sales):
            created = BEGINNING + timedelta(hours=number // history.ties)
            self._add("ticket_sales", self._sale(created, BEGINNING + timedelta(days=number * 7 % 3)))
        self.lasting = {name: {item["id"] for item in items} for name, items in self.items.items()}

    def split(self, request: int) -> None:
        """What comes between the two statements for the page that is the answer to a request."""
        self._split += 1
        self._request = request
        if self.history.statements == "rows, total":
            self._rows_taken = request
        self._is_split = self._rows_taken == request
        self._change_all(self.history.script.get(self._split, ()), splits=True)
        self._is_split = False

    def turn(self, page: PageServed) -> None:
        """A page has been served: what comes between it and the next one."""
        self._served += 1
        self._request = self._rows_taken = page.request
        ids = ", ".join(str(item["id"]) for item in page.items)
        self.trace.append(f"{page.dataset}, page {page.page} of {page.total}: {ids}")
        self._change_all(self.history.script.get(self._served, ()), splits=False)
        for name, items in self.items.items():
            if not self.history.stable:
                random.Random(f"{self.history.seed} {self._served}").shuffle(items)
            if not self.history.stable or self.history.skips_ties:
                self.disturbed[name].add(self._rows_taken)

    def _change_all(self, changes: Sequence[Change], *, splits: bool) -> None:
        for change in changes:
            if change.splits is splits:
                CHANGES[change.kind](self, change.pick)

    def insert(self, pick: float) -> None:
        """Most new sales are made now; one in five is put in afterwards, with a time between the others'."""
        if len(self.versions["ticket_sales"]) == MAX_SALES:
            return
        if pick < 0.2:
            created = BEGINNING + timedelta(hours=pick * 5 * self.history.sales / self.history.ties)
            place = int(pick * 5 * len(self.items["ticket_sales"]))
            self._add("ticket_sales", self._sale(created, created), place)
        else:
            now = datetime.now(UTC)
            self._add("ticket_sales", self._sale(now, now))

    def edit(self, pick: float) -> None:
        self._change("ticket_sales", pick, lambda sale: sale)

    def move(self, pick: float) -> None:
        """To another event and day."""
        event = f"e{int(pick * 1000) % (self.history.events + 1)}"
        day = BEGINNING + timedelta(days=int(pick * 10_000) % 4)
        self._change("ticket_sales", pick, lambda sale: {**sale, "event_id": event, "sale_date": day.isoformat()})
        if self.history.order and self.history.order.key == "sale_date":
            self.disturbed["ticket_sales"].add(self._rows_taken)

    def delete(self, pick: float) -> None:
        self._drop("ticket_sales", pick)

    def add_event(self, pick: float) -> None:
        number = len(self.versions["events"])
        self._add("events", {"id": f"e{number}", "name": f"Event {number}"}, int(pick * len(self.items["events"])))

    def rename_event(self, pick: float) -> None:
        self._change("events", pick, lambda event: {**event, "name": event["name"] + "+"})

    def drop_event(self, pick: float) -> None:
        self._drop("events", pick)

    def _sale(self, created: datetime, sold: datetime) -> Item:
        number = len(self.versions["ticket_sales"])
        dice = random.Random(f"{self.history.seed} sale {number}")
        return {
            "id": number + 1 if self.history.ids == "number" else str(uuid.UUID(int=dice.getrandbits(128))),
            "event_id": f"e{dice.randrange(self.history.events + 1)}",  # one of them isn't listed
            "quantity": 4**number,
            "totalAmount": _amount(number, 1),
            "sale_date": sold.isoformat(),
            "createdAt": created.isoformat(),
        }

    def _add(self, dataset: str, item: Item, place: int | None = None) -> None:
        items = self.items[dataset]
        items.insert(len(items) if place is None else place, item)
        self.versions[dataset][item["id"]] = [item]
        self.came[dataset][item["id"]] = self._request
        self.trace.append(f"  added {item}")

    def _change(self, dataset: str, pick: float, to: Callable[[Item], Item]) -> None:
        items = self.items[dataset]
        if not items:
            return
        place = int(pick * len(items))
        versions = self.versions[dataset][items[place]["id"]]
        if len(versions) == MAX_VERSIONS:
            return
        item = to(items[place])
        if dataset == "ticket_sales":
            item = {**item, "totalAmount": _amount(sale_number(item), len(versions) + 1)}
        items[place] = item
        versions.append(item)
        self.trace.append(f"  changed to {item}")

    def _drop(self, dataset: str, pick: float) -> None:
        items = self.items[dataset]
        if items:
            item = items.pop(int(pick * len(items)))
            self.lasting[dataset].discard(item["id"])
            self.disturbed[dataset].add(self._rows_taken)
            if self._is_split:
                self.slipped[dataset][item["id"]] = self._rows_taken
            self.trace.append(f"  deleted {item['id']}")


def _amount(number: int, version: int) -> str:
    nano = version * 16**number
    return f"{nano // NANO}.{nano % NANO:09d}"


CHANGES: dict[str, Callable[[Upstream, float], None]] = {
    "insert": Upstream.insert,
    "edit": Upstream.edit,
    "move": Upstream.move,
    "delete": Upstream.delete,
    "add event": Upstream.add_event,
    "rename event": Upstream.rename_event,
    "drop event": Upstream.drop_event,
}
