"""Streams of records out of pages, and what there is to say of them: counts, rejects, completeness."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, tzinfo
from operator import attrgetter
from typing import Any

from etl.api import EVENTS, TICKET_SALES, Api, Dataset
from etl.errors import IncompleteExtractError
from etl.page import Batch, ItemT
from etl.page_stream import PageStream
from etl.pagination import declared_total
from etl.records import (
    CANDIDATES,
    MISSING,
    UNREADABLE,
    EventRecord,
    Rejected,
    TicketSaleRecord,
    read_event,
    sale_reader,
)
from etl.seen_ids import SeenIds

MAX_REJECTS_KEPT = 1000
_STANDSTILL_PAGES = 3
_NOT_AN_OBJECT = Rejected("not_an_object")


@dataclass(frozen=True)
class RejectedItem:
    """An item that can't be used; `text` is its JSON exactly as it was sent."""

    dataset: str
    reason: str
    item_id: str | None
    text: str


@dataclass
class Tally:
    """What one reading of a dataset came to.

    `read` counts items as they came, `accepted` the records that can be used, each id once. `distinct` are the
    distinct ids, rejected items' too, and the `unnamed` items, which have none. `first_total` and `last_total` are what
    the first and last page declared. `total_fell` is whether a page declared less than an earlier one: then records
    were deleted under the reader, and another one may have been skipped. `waited` is seconds spent waiting for the
    upstream, `folded` seconds that whoever takes the records spent on them.
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
    reasons: Counter[str] = field(default_factory=Counter)
    rejects: list[RejectedItem] = field(default_factory=list)
    dates: Counter[str] = field(default_factory=Counter)
    fields_found: dict[str, str] = field(default_factory=dict)
    keys_seen: list[str] = field(default_factory=list)
    waited: float = 0.0
    folded: float = 0.0

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    @property
    def undated(self) -> int:
        return self.dates[MISSING] + self.dates[UNREADABLE]

    @property
    def completeness(self) -> str:
        """`proved` or `unproved` against the declared total, `undeclared` where there is none."""
        if self.first_total is None or self.last_total is None:
            return "undeclared"
        is_proved = self.first_total <= self.distinct <= max(self.first_total, self.last_total)
        return "proved" if is_proved and not self.total_fell and not self.far_repeats else "unproved"


Progress = Callable[[Tally], None]


class Extraction:
    """The two streams of one run. Each call of `events` or `sales` is a reading of its own, from the first page on.

    `tallies` holds the last reading of each dataset, by name.
    """

    def __init__(
        self,
        api: Api,
        today: date,
        zone: tzinfo,
        max_pages: int,
        *,
        force: bool = False,
        progress: Progress = lambda _: None,
    ) -> None:
        self.tallies: dict[str, Tally] = {}
        self._api = api
        self._max_pages = max_pages
        self._force = force
        self._progress = progress
        self._read_sale = sale_reader(today, zone)

    def events(self) -> Iterator[EventRecord]:
        """Every event, as often as it is listed. Raises what `_records` raises."""
        return self._records(EVENTS, read_event, attrgetter("event_id"))

    def sales(self) -> Iterator[TicketSaleRecord]:
        """Every ticket sale that can be used, each id once. Raises what `_records` raises."""
        return self._records(TICKET_SALES, self._read_sale, attrgetter("sale_id"))

    def _records(
        self,
        dataset: Dataset[ItemT],
        read: Callable[[ItemT], Any],
        id_of: Callable[[Any], str | None],
    ) -> Iterator[Any]:
        """Raises UpstreamError, and IncompleteExtractError once the pages don't advance or don't add up."""
        tally = self.tallies[dataset.name] = Tally(dataset.name)
        seen = SeenIds()
        pages = PageStream(self._api, dataset, self._max_pages)
        totals = _Totals()
        standstill = 0
        for fetched in pages:
            accepted = 0
            for batch in fetched.page.batches:
                records = _take_batch(batch, read, id_of, seen, tally)
                accepted += len(records)
                started = time.perf_counter()
                yield from records
                tally.folded += time.perf_counter() - started
            tally.pages += 1
            tally.waited = pages.waited
            totals.note(
                declared_total(fetched.page.envelope, fetched.total_header), fetched.sent_at, fetched.received_at
            )
            tally.first_total, tally.last_total, tally.total_fell = totals.first, totals.last, totals.fell
            self._progress(tally)
            standstill = 0 if accepted or not fetched.page.item_count else standstill + 1
            if standstill == _STANDSTILL_PAGES:
                raise IncompleteExtractError(
                    f"{dataset.name}, {fetched.request.describe()}: {standstill} pages in a row brought only records "
                    "that had been read before: the upstream doesn't advance"
                )
        self._check_completeness(tally, seen)

    def _check_completeness(self, tally: Tally, seen: SeenIds) -> None:
        ids, tally.far_repeats = seen.count()
        tally.distinct = ids + tally.unnamed
        if self._force or (tally.completeness != "unproved" and not tally.far_repeats):
            return
        raise IncompleteExtractError(
            f"{tally.dataset}: {tally.distinct} distinct records were read on {tally.pages} pages, and the upstream "
            f"declared {_number(tally.first_total)} on the first page and {_number(tally.last_total)} on the last; "
            f"{tally.duplicates + tally.far_repeats} came twice. Its data changed while it was being read, or its "
            "order isn't stable: sort by a unique column there, and set a larger NEST_API_PAGE_SIZE.",
            dataset=tally.dataset,
            distinct=tally.distinct,
            first_total=tally.first_total,
            last_total=tally.last_total,
        )


def extract_events_and_sales(
    api: Api, today: date, zone: tzinfo, max_pages: int, *, force: bool = False, progress: Progress = lambda _: None
) -> Extraction:
    """The upstream's events and ticket sales as two streams of records; nothing is fetched before they are read.

    `today` is the day of sales without a readable date, in `zone`, in which the days of all sales are told. With
    `force`, what is read counts even where it is not what the upstream declares.
    """
    return Extraction(api, today, zone, max_pages, force=force, progress=progress)


class _Totals:
    """The totals that the pages declare, and whether one fell.

    Pages that were asked for ahead may answer in any order: a total counts as lower than another only if its page was
    asked for after the other one's answer had come.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.fell = False
        self._pages = 0
        self._settled = 0
        self._recent: list[tuple[float, int]] = []

    def note(self, total: int | None, sent_at: float, received_at: float) -> None:
        """Pages come in their order. Times are monotonic seconds."""
        self._pages += 1
        self.first = total if self._pages == 1 else self.first
        self.last = total
        if total is None:
            return
        settled = [known for received, known in self._recent if received <= sent_at]
        self._recent = [(received, known) for received, known in self._recent if received > sent_at]
        self._settled = max(self._settled, *settled, 0)
        self.fell = self.fell or total < self._settled
        self._recent.append((received_at, total))


def _number(total: int | None) -> str:
    return "no total" if total is None else str(total)


def _take_batch(
    batch: Batch[ItemT],
    read: Callable[[ItemT], Any],
    id_of: Callable[[Any], str | None],
    seen: SeenIds,
    tally: Tally,
) -> list[Any]:
    """The records of a batch that are new and can be used; what becomes of the others is noted in the tally."""
    records: list[Any] = [_NOT_AN_OBJECT if item is None else read(item) for item in batch.items]
    _note_fields(batch, tally)
    has_rejects = Rejected in set(map(type, records))
    ids = (
        [r.item_id if isinstance(r, Rejected) else id_of(r) for r in records] if has_rejects else [*map(id_of, records)]
    )
    is_new = seen.add(ids)
    tally.read += len(records)
    tally.unnamed += ids.count(None)
    tally.duplicates += is_new.count(False) if is_new else 0
    if has_rejects:
        _note_rejects(batch, records, is_new, tally)
    if has_rejects or is_new:
        flags = is_new or [True] * len(records)
        records = [r for r, new in zip(records, flags, strict=True) if new and not isinstance(r, Rejected)]
    tally.accepted += len(records)
    if records and isinstance(records[0], TicketSaleRecord):
        tally.dates.update(map(attrgetter("date_source"), records))
    return records


def _reject_or(id_of: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda record: record.item_id if isinstance(record, Rejected) else id_of(record)


def _note_rejects(batch: Batch[Any], records: list[Any], is_new: list[bool] | None, tally: Tally) -> None:
    texts = batch.texts() if len(tally.rejects) < MAX_REJECTS_KEPT else []
    for index, record in enumerate(records):
        if isinstance(record, Rejected) and (is_new is None or is_new[index]):
            tally.reasons[record.reason] += 1
            if len(tally.rejects) < MAX_REJECTS_KEPT:
                tally.rejects.append(RejectedItem(tally.dataset, record.reason, record.item_id, texts[index]))


def _note_fields(batch: Batch[Any], tally: Tally) -> None:
    """Under which key each field was found first; only what hasn't been found yet is looked for."""
    items = [item for item in batch.items if item is not None]
    if not items:
        return
    if not tally.keys_seen:
        tally.keys_seen = batch.first_keys()
    for name, candidates in CANDIDATES[type(items[0])].items():
        if name not in tally.fields_found:
            found = (key for key in candidates if [*map(attrgetter(key), items)].count(None) < len(items))
            if (key := next(found, None)) is not None:
                tally.fields_found[name] = key
