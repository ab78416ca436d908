"""Ticket sales with their times of change: the whole list, what changed since a moment, or one sale by its id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, tzinfo
from operator import attrgetter
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from etl.errors import IncompleteExtractError
from etl.extract.client import TICKET_SALES, Api, FetchedPage, NoSuchPageError, NoSuchParameterError
from etl.extract.items import Batch, ItemDecoder
from etl.extract.next_page import PageRequest
from etl.extract.pages import Bookmark, PageStream
from etl.extract.reading import Reading
from etl.extract.record_times import CHANGE_KEYS, CREATION_KEYS, RecordTimes
from etl.records.fields import Rejected, SaleItem, TicketSaleRecord, first_of
from etl.records.reader import sale_reader

Query = tuple[tuple[str, str], ...]
"""The names and values that are sent with each request."""


class ReadSale(NamedTuple):
    """An item of the list: as a record, or why it is none. `text` is its JSON, where it has no id."""

    record: TicketSaleRecord | Rejected
    changed_at: datetime | None
    text: str | None
    created_at: datetime | None = None

    @property
    def sale_id(self) -> str | None:
        """Its own id, None where it has none."""
        return self.record.item_id if isinstance(self.record, Rejected) else self.record.sale_id


class SaleBatch(NamedTuple):
    """Sales of one page, in their order; a large page comes in several batches. `date` is the answer's header."""

    sales: list[ReadSale]
    bookmark: Bookmark
    date: str | None


class Sample(NamedTuple):
    """The first few sales of a list, its declared total (None: none), and the answer's `Date` header."""

    sales: list[ReadSale]
    total: int | None
    date: str | None


class Lookup(NamedTuple):
    """What an upstream says of one sale's id: `sale` where it answers that very sale, `is_gone` where 404 or 410.

    An upstream without such a route says 404 of every id.
    """

    is_gone: bool
    sale: ReadSale | None = None


class _Wrapped(msgspec.Struct):
    """A record that an upstream wraps as it wraps its lists."""

    data: msgspec.Raw


_WRAPPED = msgspec.json.Decoder(list[_Wrapped])


def _unwrapped(batch: Batch[SaleItem]) -> Batch[SaleItem]:
    """The record itself, where it is the value of `data`."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if all(item is not None and first_of(item, "sale_id") is None for item in batch.items):
            records = (bytes(wrapped.data) for wrapped in _WRAPPED.decode(batch.source))
            return ItemDecoder(SaleItem).decode(b"[" + b",".join(records) + b"]")
    return batch


class SalePages:
    """Reads ticket sales. `today` is the day of a sale without a readable date, in `zone`.

    `change_key` is where a sale's time of change stands, None to look for the usual names. `reads_creation` is whether
    the time of creation is read, too.
    """

    def __init__(
        self,
        api: Api,
        today: date,
        zone: tzinfo,
        max_pages: int,
        *,
        change_key: str | None = None,
        reads_creation: bool = False,
        force: bool = False,
    ) -> None:
        self._api = api
        self._max_pages = max_pages
        self._force = force
        self._read_sale = sale_reader(today, zone)
        self._changes = RecordTimes(CHANGE_KEYS if change_key is None else (change_key,))
        self._creations = RecordTimes(CREATION_KEYS) if reads_creation else None

    def reading(self) -> Reading[SaleItem]:
        """What counts one reading, to be given to `read`. The store counts the sales, by their ids."""
        return Reading(
            TICKET_SALES.name,
            self._read_sale,
            attrgetter("sale_id"),
            needs_unique_ids=not self._force,
            is_counted=True,
        )

    def read(self, reading: Reading[SaleItem], query: Query = (), start: Bookmark | None = None) -> Iterator[SaleBatch]:
        """Every sale that the pages hold from `start` on, as often as it comes.

        Raises UpstreamError, NoSuchPageError where the page to go on from is gone, and IncompleteExtractError where
        the pages don't advance or go on in a form that isn't understood.
        """
        dataset = replace(TICKET_SALES, query=query)
        pages = PageStream(self._api, dataset, self._max_pages, is_doubtful=reading.is_doubtful, start=start)
        for fetched in pages:
            reading.begin_page(fetched)
            is_known = start is not None and fetched.request == start.request
            sales: list[ReadSale] = []
            for batch in fetched.page.batches:
                sales = self._sales_of(batch, reading, skip_unnamed=is_known)
                yield SaleBatch(sales, pages.bookmark, fetched.date)
            if not sales:  # an empty page tells the time, too
                yield SaleBatch([], pages.bookmark, fetched.date)
            pages.has_news = reading.end_page(fetched)
        if pages.refusal is not None:
            raise IncompleteExtractError(f"{TICKET_SALES.name}: {pages.refusal}", dataset=TICKET_SALES.name)

    def _sales_of(
        self, batch: Batch[SaleItem], reading: Reading[SaleItem], *, skip_unnamed: bool = False
    ) -> list[ReadSale]:
        records, is_new = reading.take_all(batch)
        nothing: list[Any] = [None] * len(records)
        created = nothing if self._creations is None else self._creations.read(batch)
        sales = list(map(ReadSale, records, self._changes.read(batch), nothing, created))
        if None in map(attrgetter("sale_id"), sales):
            flags = is_new or [True] * len(sales)
            sales = [
                sale if sale.sale_id is not None else sale._replace(text=text)
                for sale, text, new in zip(sales, batch.texts(), flags, strict=True)
                # Of a page that comes again nobody can tell those without an id apart.
                if sale.sale_id is not None or (new and not skip_unnamed)
            ]
        return sales

    def sample(self, query: Query = ()) -> Sample:
        """One sale of the list, or as many as a page has where the upstream takes no `limit`."""
        dataset = replace(TICKET_SALES, query=query)
        try:
            fetched = self._fetch(dataset, PageRequest(limit=1))
        except NoSuchParameterError:
            fetched = self._fetch(dataset, PageRequest())
        return Sample(self._whole(fetched), fetched.total, fetched.date)

    def find(self, sale_id: str) -> Lookup:
        """Ask for the sale with this id by itself."""
        dataset = replace(TICKET_SALES, path=f"{TICKET_SALES.path}/{quote(sale_id, safe='')}", is_record=True)
        try:
            fetched = self._fetch(dataset, PageRequest())
        except NoSuchParameterError:
            return Lookup(is_gone=False)
        except NoSuchPageError:
            return Lookup(is_gone=True)
        sales = [sale for batch in fetched.page.batches for sale in self._sales_of(_unwrapped(batch), self.reading())]
        return Lookup(is_gone=False, sale=next((sale for sale in sales if sale.sale_id == sale_id), None))

    def _fetch(self, dataset: Any, request: PageRequest) -> FetchedPage[SaleItem]:
        return self._api.fetch_page(dataset, request, ItemDecoder(SaleItem))

    def _whole(self, fetched: FetchedPage[SaleItem]) -> list[ReadSale]:
        reading = self.reading()
        return [sale for batch in fetched.page.batches for sale in self._sales_of(batch, reading)]
