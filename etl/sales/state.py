"""What the kept sales remember from run to run, beside the sales themselves. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal

import msgspec

from etl.extract.pages import Bookmark
from etl.settings import Settings

_READING = 1
"""Raised with each change of how a record is read: then all of them are read again."""


MAX_FRESH_DAYS = 400


class Increment(msgspec.Struct, frozen=True):
    """An increment that a run has begun and not ended: it goes on at `bookmark`.

    It asked for what changed from `since` on; `as_of` is the upstream's clock at its first page, the next watermark.
    """

    since: datetime
    as_of: datetime
    bookmark: Bookmark


class Sweep(msgspec.Struct, frozen=True):
    """A sweep under way. `bookmark` is None before its first page; `total` is what that declared.

    `read` counts the records that it has brought so far, those that came twice too. `has_ended`: it has come to the
    list's end, and an increment has to follow. `is_applied`: all that it has brought is among the kept sales.
    `fields_had` is how many of its records had each field.
    """

    number: int
    began_at: datetime
    bookmark: Bookmark | None = None
    total: int | None = None
    pages: int = 0
    read: int = 0
    has_ended: bool = False
    is_applied: bool = False
    fields_had: dict[str, int] = {}


class Counts(msgspec.Struct, frozen=True):
    """What is kept: rows in all, those that can't be used, those without a readable date, without a time of change."""

    kept: int = 0
    rejected: int = 0
    undated: int = 0
    untimed: int = 0
    tickets: int = 0
    revenue: Decimal = Decimal()

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class Proof(msgspec.Struct, frozen=True):
    """What a count proof came to: `kept` sales against the declared totals from `low` to `high`."""

    at: datetime
    completeness: str
    kept: int
    low: int | None = None
    high: int | None = None

    @property
    def off(self) -> int:
        """By how many sales too many are kept; below 0: too few."""
        if self.low is None or self.high is None:
            return 0
        return max(0, self.kept - self.high) + min(0, self.kept - self.low)


class SalesState(msgspec.Struct, frozen=True):
    """The one row of state.

    `watermark` is the moment up to which increments have read; `swept_at` is when the last sweep of this generation
    ended, None before the first one has. `unsettled` counts the sweeps in a row after which the counts didn't fit.
    `recent` are the last changes that were read: an increment that brings none of them isn't one. `published` is, by
    store, the generation that it holds; a store of another one has everything pending.

    BigQuery looks for nothing by an index, and so remembers days: `pending_days` are those on which something is
    pending, by store (None: of an event as a whole); `fresh_days` those on which sales are kept that were created from
    `fresh_since` on, with the newest such creation; `events_digest` what the upstream listed when its events were kept
    last, None since a sweep has ended: then they are compared one by one.
    """

    fingerprint: str
    generation: int = 1
    counts: Counts = Counts()
    watermark: datetime | None = None
    increment: Increment | None = None
    sweep: Sweep | None = None
    sweeps: int = 0
    swept_at: datetime | None = None
    unsettled: int = 0
    proof: Proof | None = None
    recent: tuple[tuple[str, datetime], ...] = ()
    published: dict[str, int] = {}
    published_at: datetime | None = None
    pending_days: dict[str, tuple[date | None, ...]] = {}
    fresh_days: dict[date, datetime] = {}
    fresh_since: datetime | None = None
    events_digest: str | None = None

    def next_generation(self, fingerprint: str) -> SalesState:
        """The state of a new generation: all of it is read anew, and what is kept remains until then."""
        return SalesState(
            fingerprint,
            self.generation + 1,
            self.counts,
            sweeps=self.sweeps,
            published=self.published,
            pending_days=self.pending_days,
            fresh_days=self.fresh_days,
            fresh_since=self.fresh_since,
        )

    @property
    def marked_stores(self) -> list[str]:
        """The stores for which it is noted what is pending; in the others everything is."""
        return [store for store in self.published if self.holds(store)]

    def with_pending(self, days: Iterable[date | None]) -> SalesState:
        """The state once something is pending on further days in the marked stores; None: of an event as a whole."""
        further = set(days)
        more = {
            store: tuple(sorted({*self.pending_days.get(store, ()), *further}, key=lambda day: day or date.min))
            for store in self.marked_stores
        }
        return msgspec.structs.replace(self, pending_days={**self.pending_days, **more})

    def with_fresh(self, days: Mapping[date, datetime], since: datetime) -> SalesState:
        """The state once sales created from `since` on have been put on further days."""
        newest = dict(self.fresh_days)
        for day, created_at in days.items():
            newest[day] = max(created_at, newest.get(day, created_at))
        kept = {day: created_at for day, created_at in newest.items() if created_at >= since}
        if len(kept) > MAX_FRESH_DAYS:
            since, kept = max(kept.values()) + timedelta(microseconds=1), {}
        return msgspec.structs.replace(self, fresh_days=kept, fresh_since=since)

    def holds(self, store: str) -> bool:
        """Whether a store holds this generation, so that only what is pending needs to be published."""
        return self.published.get(store) == self.generation

    def published_in(self, store: str, now: datetime) -> SalesState:
        """The state once a store has been brought to this generation."""
        return msgspec.structs.replace(
            self,
            published={**self.published, store: self.generation},
            published_at=now,
            pending_days={name: days for name, days in self.pending_days.items() if name != store},
        )

    def is_sweep_due(self, now: datetime, hours: float) -> bool:
        """Whether it is time for the next sweep; one that was needed for a deletion comes in a quarter of the time."""
        if self.swept_at is None:
            return True
        is_off = self.proof is not None and self.proof.off > 0
        return now - self.swept_at >= timedelta(hours=hours / 4 if is_off else hours)


def fingerprint(settings: Settings) -> str:
    """Whatever makes kept sales outdated once it changes."""
    parts = (
        str(_READING),
        settings.nest_api_base_url,
        settings.nest_api_changed_query or "",
        settings.nest_api_changed_field or "",
        settings.etl_timezone.key,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def to_json(state: SalesState) -> str:
    """The state as text."""
    return msgspec.json.encode(state).decode()


def from_json(text: str) -> SalesState:
    """The state from its text. Raises msgspec.ValidationError for one of another version."""
    return msgspec.json.decode(text, type=SalesState)
