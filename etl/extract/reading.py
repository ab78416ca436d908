"""Streams of records out of pages, and what there is to say of them: counts, rejects, completeness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, tzinfo
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, Generic, TypeVar

from etl.errors import AmbiguousIdsError, IncompleteExtractError
from etl.extract.arrivals import Arrivals
from etl.extract.client import EVENTS, TICKET_SALES, Api, Dataset, FetchedPage
from etl.extract.items import CUT, MAX_RECORD_CHARACTERS, Batch, ItemT
from etl.extract.next_page import PageRequest
from etl.extract.page_ids import PageIds
from etl.extract.pages import PageStream
from etl.extract.paging_signals import declared_size
from etl.extract.seen_ids import Id, SeenIds
from etl.extract.tally import MAX_REJECTS_KEPT, RejectedItem, ShowProgress, Tally, progress_of
from etl.records.fields import SENT, EventRecord, FieldCount, Rejected, SaleItem, TicketSaleRecord
from etl.records.plain_sales import ColumnReader, SaleColumns, SaleRow, columns_of, row_of
from etl.records.reader import read_event, sale_reader

T = TypeVar("T")
_STANDSTILL_PAGES = 3
_DOUBTED_TIMES = 10
_NOT_AN_OBJECT = Rejected("not_an_object")


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
        progress: ShowProgress = lambda _: None,
    ) -> None:
        self.tallies: dict[str, Tally] = {}
        self._api = api
        self._max_pages = max_pages
        self._force = force
        self._progress = progress
        self._read_sale = sale_reader(today, zone)
        self._columns = ColumnReader(zone)

    def events(self) -> Iterator[EventRecord]:
        """Every event, as often as it is listed. Raises what `_batches` raises."""
        # An event that is listed twice is one event: its last name counts.
        reading = Reading(EVENTS.name, read_event, attrgetter("event_id"), keep_repeats=True)
        return chain.from_iterable(self._batches(EVENTS, reading, reading.take))

    def sales(self) -> Iterator[TicketSaleRecord]:
        """Every ticket sale that can be used, each id once. Raises what `_batches` raises."""
        reading = self._reading_of_sales()
        return chain.from_iterable(self._batches(TICKET_SALES, reading, reading.take))

    def sale_rows(self) -> Iterator[SaleRow]:
        """The same sales as rows, several times quicker: most of them never become records."""
        reading = self._reading_of_sales()
        columns = self._batches(TICKET_SALES, reading, partial(reading.take_columns, self._columns.read))
        return chain.from_iterable(map(SaleColumns.rows, columns))

    def _reading_of_sales(self) -> Reading[SaleItem]:
        return Reading(TICKET_SALES.name, self._read_sale, attrgetter("sale_id"), needs_unique_ids=not self._force)

    def _batches(
        self, dataset: Dataset[ItemT], reading: Reading[ItemT], take: Callable[[Batch[ItemT]], T]
    ) -> Iterator[T]:
        """Raises UpstreamError, and IncompleteExtractError once the pages don't advance or don't add up."""
        before = self.tallies.get(dataset.name)
        tally = self.tallies[dataset.name] = reading.tally
        pages = PageStream(
            self._api, dataset, self._max_pages, in_order=before is not None, is_doubtful=reading.is_doubtful
        )
        if before is not None and before.first_total is not None:
            # The first reading's may have been counted after its rows were taken, and with a record that came between.
            reading.begin(pages.fetch_total(PageRequest()).total)
        for fetched in pages:
            reading.begin_page(fetched)
            for batch in fetched.page.batches:
                taken = take(batch)
                started = time.perf_counter()
                yield taken
                tally.folded += time.perf_counter() - started
            tally.waited = pages.waited
            pages.has_news = reading.end_page(fetched)
            self._progress(progress_of(tally))
        if reading.has_open_end():
            reading.close_end(pages.fetch_total(fetched.request))
        reading.check(pages.refusal, force=self._force)


class Reading(Generic[ItemT]):
    """One reading of a dataset: what is taken from its pages, and whether they add up.

    With `is_counted` something else counts the records, and `check` isn't asked.
    """

    def __init__(
        self,
        dataset: str,
        read: Callable[[ItemT], Any],
        id_of: Callable[[Any], str | None],
        *,
        keep_repeats: bool = False,
        needs_unique_ids: bool = False,
        is_counted: bool = False,
    ) -> None:
        self.tally = Tally(dataset)
        self._read: Callable[[ItemT], Any] = read
        self._id_of = id_of
        self._keep_repeats = keep_repeats
        self._needs_unique_ids = needs_unique_ids
        self._page_ids: PageIds | None = None
        self._request = PageRequest()
        self._seen = SeenIds(is_counted=is_counted)
        self._arrivals = Arrivals()
        self._standstill = 0
        self._page_start = (0, 0)
        self._row: int | None = None
        self._is_again = False
        self._least = 0
        self._page_size = 0
        self._doubted: tuple[int, int, int | None] = (0, 0, None)
        """The page that was doubted last, how often, and the total that it declared."""

    def take(self, batch: Batch[ItemT]) -> list[Any]:
        """The records of a batch that can be used, and are new (or kept all the same); the tally notes all of them."""
        records, is_new = self.take_all(batch)
        if is_new is not None:
            records = [record for record, new in zip(records, is_new, strict=True) if new or self._keep_repeats]
        if any(isinstance(record, Rejected) for record in records):
            records = [record for record in records if not isinstance(record, Rejected)]
        if records and isinstance(records[0], TicketSaleRecord):
            self.tally.dates.update(map(attrgetter("date_source"), records))
        return records

    def take_all(self, batch: Batch[ItemT]) -> tuple[list[Any], list[bool] | None]:
        """Every item of a batch as a record or Rejected, and whether it is new: None where all are."""
        tally, read = self.tally, self._read
        items = batch.items
        records: list[Any] = [_NOT_AN_OBJECT if item is None else read(item) for item in items]
        self._note_fields(batch, batch.fields(items))
        has_rejects = Rejected in set(map(type, records))
        is_new = self._note(batch, list(map(_reject_or(self._id_of) if has_rejects else self._id_of, records)))
        if has_rejects:
            _note_rejects(batch, records, is_new, tally)
        if has_rejects or is_new:
            flags = is_new or [True] * len(records)
            tally.accepted += sum(new and not isinstance(r, Rejected) for r, new in zip(records, flags, strict=True))
        else:
            tally.accepted += len(records)
        return records, is_new

    def take_columns(self, read: Callable[[list[Any]], SaleColumns | None], batch: Batch[ItemT]) -> SaleColumns:
        """The same sales as columns; `read` reads the plain ones."""
        columns = None if batch.plain is None else read(batch.plain)
        if columns is None:
            return columns_of(map(row_of, self.take(batch)))
        self._note_fields(batch, batch.plain_fields())
        is_new = self._note(batch, [sale.sale_id for sale in batch.plain or ()])
        if is_new:
            columns = columns.only(is_new)
        self.tally.accepted += len(columns.days)
        self.tally.dates[SENT] += len(columns.days)
        return columns

    def _note(self, batch: Batch[ItemT], ids: Sequence[Id]) -> list[bool] | None:
        """Note what a batch has brought; None if all of it is new, else for each id whether it is.

        Raises AmbiguousIdsError where an id stands on the page with other content.
        """
        is_new = self._seen.add(ids, self._row, self._least)
        if self._page_ids is not None and (conflict := self._page_ids.conflict(batch, ids, is_new)) is not None:
            raise AmbiguousIdsError(
                f"{self.tally.dataset}, {self._request.describe()}: two different records have the id "
                f"{str(conflict)[:100]!r}. Ids have to be unique: counted once each, one of them would be lost. Let "
                "the upstream send an id of its own with each record or, if the first one of each is right, run once "
                "with force=true.",
                dataset=self.tally.dataset,
            )
        if self._row is not None:
            self._row += len(ids)
        tally = self.tally
        if self._is_again:  # what has no id was counted when the page was read first, and can't be told apart
            flags = is_new or [True] * len(ids)
            is_new = [flag and key is not None for flag, key in zip(flags, ids, strict=True)]
            tally.read += is_new.count(True)
            return is_new
        tally.read += len(ids)
        tally.unnamed += ids.count(None)
        tally.duplicates += is_new.count(False) if is_new else 0
        return is_new

    def _note_fields(self, batch: Batch[ItemT], fields: Mapping[str, FieldCount]) -> None:
        """Under which key each field was found first, and how many records had it."""
        tally = self.tally
        if self._is_again:  # they have been counted
            return
        if not tally.keys_seen:
            tally.keys_seen = batch.first_keys()
        for name, (key, had) in fields.items():
            tally.fields_found.setdefault(name, key)
            tally.fields_had[name] += had

    def begin(self, total: int | None) -> None:
        """Hold what is read against a total that was declared before, rather than against the first page's own."""
        self.tally.first_total = total
        self._arrivals = Arrivals(total)

    def begin_page(self, fetched: FetchedPage[ItemT]) -> None:
        """What the ids of this page are noted with."""
        self._request, self._is_again = fetched.request, fetched.is_again
        self._page_ids = PageIds(is_large=not fetched.page.is_whole) if self._needs_unique_ids else None
        self._row = None
        if fetched.row is not None and fetched.total is not None and not fetched.is_again:
            least = self._arrivals.least(fetched.began)
            # Of the first page of all nothing else is known; where its total is too large, a second reading tells.
            self._row, self._least = fetched.row, fetched.total if least is None else least

    def end_page(self, fetched: FetchedPage[ItemT]) -> bool:
        """Note the total of a page, and say whether it brought anything new.

        Raises IncompleteExtractError where pages in a row don't.
        """
        tally = self.tally
        total = fetched.total
        if tally.pages == 0 and tally.first_total is None:
            tally.first_total = total
        tally.last_total = total
        tally.pages = max(tally.pages, fetched.request.ordinal)
        self._arrivals.add(fetched.began, fetched.ended, total, self._seen.take_needed())
        self._page_size = max(self._page_size, fetched.page.item_count)
        read, duplicates = self._page_start
        self._page_start = tally.read, tally.duplicates
        has_news = tally.duplicates - duplicates < tally.read - read
        if not fetched.is_again:
            self._standstill = 0 if has_news or tally.read == read else self._standstill + 1
        if self._standstill == _STANDSTILL_PAGES:
            raise IncompleteExtractError(
                f"{tally.dataset}, {fetched.request.describe()}: {self._standstill} pages in a row brought only "
                "records that had been read before: the upstream doesn't advance"
            )
        return has_news

    def is_doubtful(self, fetched: FetchedPage[ItemT]) -> bool:
        """Whether records may have been pushed from the last page to one that isn't declared: it is read once more.

        That is so where the page is full: what declares it the last one may have been counted before its rows were
        taken, and know nothing of records that came in between. Behind a cursor nothing else tells of them, so there
        the total has to stand still from one time to the next. Raises IncompleteExtractError where it never does.
        """
        if not fetched.page.is_whole or not self._is_full(fetched):
            return False
        ordinal, times, total = self._doubted
        if ordinal != fetched.request.ordinal:
            times, total = 0, None
        is_still = times > 0 and (fetched.row is not None or fetched.total == total)
        self._doubted = (fetched.request.ordinal, times + 1, fetched.total)
        if times == _DOUBTED_TIMES and not is_still:
            raise IncompleteExtractError(
                f"{self.tally.dataset}, {fetched.request.describe()}: the last page is full, and records arrive all "
                f"the time: {times} readings in a row didn't show whether another one follows. Run it at a quieter "
                "time, or set a larger NEST_API_PAGE_SIZE."
            )
        return not is_still

    def _is_full(self, fetched: FetchedPage[ItemT]) -> bool:
        count = fetched.page.item_count
        if fetched.request.ordinal > 1:
            return 0 < self._page_size <= count
        return count > 0 and count == (declared_size(fetched.page.envelope) or fetched.asked_size)

    def has_open_end(self) -> bool:
        """Whether a total that is declared after all rows were read can still explain them."""
        tally = self.tally
        if tally.first_total is None or tally.last_total is None:
            return False
        return self._arrivals.is_open or tally.read - tally.duplicates > max(tally.first_total, tally.last_total)

    def close_end(self, fetched: FetchedPage[ItemT]) -> None:
        """Note the total of a page that was asked for once all rows were read."""
        self.tally.last_total = fetched.total
        self._arrivals.add(fetched.began, fetched.ended, fetched.total)

    def check(self, refusal: str | None, *, force: bool) -> None:
        """Raise IncompleteExtractError unless what was read is what the upstream declares, or nobody knows.

        `refusal` is why the pages can't be taken for all.
        """
        tally = self.tally
        ids, tally.far_repeats = self._seen.count()
        tally.distinct = ids + tally.unnamed
        self._arrivals.close()
        tally.total_fell, tally.jumps = self._arrivals.has_fallen, self._arrivals.jumps
        if force or (refusal is None and tally.completeness != "unproved" and not tally.far_repeats):
            return
        if refusal is not None:
            raise IncompleteExtractError(f"{tally.dataset}: {refusal}", dataset=tally.dataset)
        raise IncompleteExtractError(
            f"{tally.dataset}: {tally.distinct} distinct records were read on {tally.pages} pages, and the upstream "
            f"declares {_number(tally.first_total)} on the first page and {_number(tally.last_total)} on the last; "
            f"{tally.duplicates + tally.far_repeats} came twice{_signs(tally)}. Its data changed while it was being "
            "read, or its order isn't stable: sort by a unique column there, and set a larger NEST_API_PAGE_SIZE.",
            dataset=tally.dataset,
            distinct=tally.distinct,
            first_total=tally.first_total,
            last_total=tally.last_total,
        )


def extract_events_and_sales(
    api: Api, today: date, zone: tzinfo, max_pages: int, *, force: bool = False, progress: ShowProgress = lambda _: None
) -> Extraction:
    """The upstream's events and ticket sales as two streams of records; nothing is fetched before they are read.

    `today` is the day of sales without a readable date, in `zone`, in which the days of all sales are told. With
    `force`, what is read counts even where it is not what the upstream declares.
    """
    return Extraction(api, today, zone, max_pages, force=force, progress=progress)


def _signs(tally: Tally) -> str:
    """What tells that records may have been skipped, though the numbers fit."""
    fell = ", the declared total fell on the way" if tally.total_fell else ""
    jumps = f", {tally.jumps} of them further down than insertions explain" if tally.jumps else ""
    return jumps + fell


def _number(total: int | None) -> str:
    return "no total" if total is None else str(total)


def _reject_or(id_of: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda record: record.item_id if isinstance(record, Rejected) else id_of(record)


def _note_rejects(batch: Batch[Any], records: list[Any], is_new: list[bool] | None, tally: Tally) -> None:
    texts = batch.texts() if len(tally.rejects) < MAX_REJECTS_KEPT else []
    for index, record in enumerate(records):
        if isinstance(record, Rejected) and (is_new is None or is_new[index]):
            tally.reasons[record.reason] += 1
            if len(tally.rejects) < MAX_REJECTS_KEPT:
                text = _kept(texts[index], tally.rejects_room)
                tally.rejects_room -= len(text)
                item_id = record.item_id and record.item_id[:100]
                tally.rejects.append(RejectedItem(tally.dataset, record.reason, item_id, text))


def _kept(text: str, room: int) -> str:
    """A record's text within the bounds of what a run keeps: an upstream may send a thousand of 4 MiB."""
    length = min(MAX_RECORD_CHARACTERS, max(room, 256))
    return text if len(text) <= length else text[:length] + CUT
