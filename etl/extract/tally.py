"""What one reading of a dataset came to: counts, rejects, and whether they are all there is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from etl.records.fields import MISSING, UNREADABLE

MAX_REJECTS_KEPT = 1000
REJECTS_CHARACTERS = 2_000_000
"""How much of a dataset's rejected records is kept in all; then the first 256 characters of each."""


@dataclass(frozen=True)
class RejectedItem:
    """An item that can't be used; `text` is its JSON exactly as it was sent, or what is kept of it and `CUT`."""

    dataset: str
    reason: str
    item_id: str | None
    text: str


@dataclass
class Tally:
    """What one reading of a dataset came to.

    `read` counts items as they came, `accepted` the records that can be used, each id once. `distinct` are the
    distinct ids, rejected items' too, and the `unnamed` items, which have none. `first_total` is what the first page
    declared or, in a second reading, what it declared just before; `last_total` is what the last page declared.
    `total_fell` is whether a page declared less than one before: then records were deleted under the reader. `jumps`
    counts records that came again from further off than new records can have pushed them. Either way another record
    may have been skipped. `fields_found` are the fields with the key under which each was found first, `fields_had`
    counts the records that had it where it was looked for. `waited` is seconds spent waiting for the upstream, `folded`
    seconds that whoever takes the records spent on them.
    """

    dataset: str
    pages: int = 0
    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    unnamed: int = 0
    distinct: int = 0
    far_repeats: int = 0
    first_total: int | None = None
    last_total: int | None = None
    total_fell: bool = False
    jumps: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejects: list[RejectedItem] = field(default_factory=list)
    rejects_room: int = field(default_factory=lambda: REJECTS_CHARACTERS)
    dates: Counter[str] = field(default_factory=Counter)
    fields_found: dict[str, str] = field(default_factory=dict)
    fields_had: Counter[str] = field(default_factory=Counter)
    keys_seen: list[str] = field(default_factory=list)
    waited: float = 0.0
    folded: float = 0.0

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    @property
    def undated(self) -> int:
        return self.dates[MISSING] + self.dates[UNREADABLE]

    def looked_for(self, name: str) -> int:
        """In how many records a field was looked for: a price only where there is no total."""
        return self.read - (self.fields_had["total_amount"] if name == "price" else 0)

    @property
    def completeness(self) -> str:
        """`proved` or `unproved` against the declared total, `undeclared` where there is none."""
        if self.first_total is None or self.last_total is None:
            return "undeclared"
        is_proved = self.first_total <= self.distinct <= max(self.first_total, self.last_total)
        return "proved" if is_proved and not (self.total_fell or self.jumps or self.far_repeats) else "unproved"


class Progress(NamedTuple):
    """How far a reading is: records and pages read, and the total that was declared last.

    `what` is read: `events` or `ticket_sales`; where sales are kept, `increment` or `sweep`. `before` are the records
    that earlier runs have read of the same sweep.
    """

    what: str
    read: int
    total: int | None
    pages: int
    before: int = 0


ShowProgress = Callable[[Progress], None]


def progress_of(tally: Tally, what: str | None = None, before: int = 0) -> Progress:
    """How far the reading is that this tally counts."""
    return Progress(what or tally.dataset, tally.read, tally.last_total, tally.pages, before)
