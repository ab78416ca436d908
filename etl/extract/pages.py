"""The pages of one dataset, in order; fetched ahead in threads for as long as the upstream is the slower side."""

from __future__ import annotations

import contextvars
import math
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date
from typing import Any, Generic, NamedTuple

from etl.errors import IncompleteExtractError, UpstreamError
from etl.extract.body import Page
from etl.extract.client import Api, Dataset, FetchedPage, NoSuchPageError, NoSuchParameterError
from etl.extract.items import ItemDecoder, ItemT
from etl.extract.next_page import Next, PageRequest, Reply, full_page, next_page, refusal, tells_place, unresolved
from etl.extract.repeats import Repeat, repeat_of
from etl.records.fields import SaleItem, TicketSaleRecord
from etl.records.reader import sale_reader
from etl.records.values import NANO

_CALM_PAGES = 8
"""So many pages in a row declare the same total before several are fetched at once again."""
_OFFSET = re.compile(r"[?&](page|offset|skip)=[0-9]")
_STALE_PAGES = 3
"""So many pages in a row may bring an earlier one again, because records arrive all the time."""
_SMOOTHING = 0.3
_QUICK_SECONDS = sys.getswitchinterval()
"""So long a thread waits for the interpreter's lock after each word from the upstream, 5 ms."""


@dataclass(frozen=True)
class _Nothing:
    """What a guessed page brings that isn't there.

    `items` are those of an earlier page that comes in its place, and `following` is what to ask for then.
    `is_refused`: the upstream takes no page numbers.
    """

    items: int = 0
    is_refused: bool = False
    following: PageRequest | None = None


class _Unproved(NamedTuple):
    """A page that may have been served before those in front of it, which had all come at `since`.

    `total` is what was declared before any of them was asked for.
    """

    since: int
    total: int | None
    request: PageRequest
    row: int


@dataclass(frozen=True)
class Bookmark:
    """A page to go on from: the request for it, the items before it, and whether what looks like a total is one."""

    request: PageRequest
    rows: int = 0
    has_totals: bool = True


class PageStream(Generic[ItemT]):
    """Iterate once. Whoever iterates consumes a page's batches before asking for the next page.

    `bookmark` is the page that was given last. `waited` is how long the iterating thread has waited for the upstream,
    in seconds. `refusal` is why the pages can't be taken for all there is, once that is so. Whoever iterates says by
    `has_news` whether the last page had a record that none before it had. `in_order` asks for a page only once the one
    before has come. `is_doubtful` looks at the last page, once it has been read: then it is asked for once more, and
    followed. `start` is an earlier stream's `bookmark`: it goes on with that page.

    Pages that are under way at once may be served out of their order, and a record that is inserted meanwhile then
    moves another one from a page that hasn't been served to one that has. So what was read that way counts only while
    the declared total stands still; where it moves, the pages that aren't proved yet are read again, in order.
    """

    def __init__(
        self,
        api: Api,
        dataset: Dataset[ItemT],
        max_pages: int,
        clock: Callable[[], float] = time.perf_counter,
        *,
        in_order: bool = False,
        is_doubtful: Callable[[FetchedPage[ItemT]], bool] = lambda _: False,
        start: Bookmark | None = None,
    ) -> None:
        self.waited = 0.0
        self.refusal: str | None = None
        self.has_news = True
        self._api = api
        self._dataset: Dataset[ItemT] = dataset
        self._decoder: ItemDecoder[ItemT] = ItemDecoder(dataset.item_type)
        self._max_pages = max_pages
        self._in_order = in_order
        self._is_doubtful: Callable[[FetchedPage[ItemT]], bool] = is_doubtful
        self.bookmark = start or Bookmark(PageRequest())
        self._clock = clock
        self._ahead: deque[tuple[PageRequest, Future[tuple[FetchedPage[ItemT], float]]]] = deque()
        self._links: set[int] = set()
        self._fetch_seconds = 0.0
        self._work_seconds = 0.0
        self._ended = 0
        self._totals: deque[tuple[int, int | None]] = deque(maxlen=2 * api.concurrency + 1)
        """When the pages up to each of the last ones had come, and what that one declared."""
        self._unproved: deque[_Unproved] = deque()
        self._calm_from = 0
        self._rows = self.bookmark.rows
        self._has_totals = self.bookmark.has_totals
        self._takes_numbers = False
        self._beginnings: list[bytes] = []  # of the first page, and of the last one, where a guess may bring them again

    def fetch_total(self, request: PageRequest) -> FetchedPage[ItemT]:
        """A page once more, or beforehand, for the total that it declares; its items are left out."""
        fetched, seconds = self._fetch(request, ItemDecoder(self._dataset.item_type))
        self.waited += seconds
        fetched.page.skip()
        return fetched

    def __iter__(self) -> Iterator[FetchedPage[ItemT]]:
        executor = ThreadPoolExecutor(self._api.concurrency, thread_name_prefix="fetch")
        try:
            request: PageRequest | None = self.bookmark.request
            pages_read = 0
            while request is not None and (fetched := self._next(request)) is not None:
                if (unproved := self._unproved_since(fetched)) is not None:
                    request, self._rows = unproved
                    continue
                started, waited = self._clock(), self._api.waited()
                following = self._follow(fetched) if fetched.page.is_whole else None
                self._remember(fetched, following)
                if following is not None and following.request is not None:
                    self._fetch_ahead(following.request, fetched, executor)
                fetched.row = self._rows if _has_row(fetched) else None
                fetched.is_again = fetched.request.ordinal <= pages_read
                self.bookmark = Bookmark(fetched.request, self._rows, self._has_totals)
                yield fetched
                following = following or self._follow(fetched)
                begins, self._rows = self._rows, self._rows + fetched.page.item_count
                streamed = self._api.waited() - waited
                self.waited += streamed
                self._work_seconds += _SMOOTHING * (self._clock() - started - streamed - self._work_seconds)
                self._ended = max(self._ended, fetched.ended)
                pages_read = max(pages_read, fetched.request.ordinal)
                request = self._go_on(fetched, following)
                if request is None and not _is_guess(fetched.request) and self._is_doubtful(fetched):
                    request, self._rows = fetched.request, begins
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _unproved_since(self, fetched: FetchedPage[ItemT]) -> tuple[PageRequest, int] | None:
        """The first page that may have been served before the page in front of it while a record arrived, and its row.

        It is proved once a page that was asked for after both had come declares the same total as one that had come
        before either was asked for. Their own totals prove nothing: they may be newer than their rows.
        """
        total = fetched.total if fetched.page.is_whole else None
        if fetched.began < self._ended:
            before = next((known for ended, known in reversed(self._totals) if ended < fetched.began), None)
            self._unproved.append(_Unproved(self._ended, before, fetched.request, self._rows))
        stands_still = total is not None and bool(self._totals) and total == self._totals[-1][1]
        is_first = not self._totals
        self._ended = max(self._ended, fetched.ended)
        self._totals.append((self._ended, total))
        if stands_still:
            while self._unproved and self._unproved[0].since < fetched.began and self._unproved[0].total == total:
                self._unproved.popleft()
            if not self._unproved or self._unproved[0].since >= fetched.began:
                return None
        self._calm_from = 0 if is_first else fetched.request.ordinal + _CALM_PAGES
        if not self._unproved:
            return None
        unproved = self._unproved[0]
        self._unproved.clear()
        self._drop_ahead()
        return unproved.request, unproved.row

    def _take(self, request: PageRequest) -> FetchedPage[ItemT]:
        if self._ahead and self._ahead[0][0].same_page(request):
            started = self._clock()
            fetched, seconds = self._ahead.popleft()[1].result()
            self.waited += self._clock() - started
        else:
            self._drop_ahead()
            fetched, seconds = self._fetch(request, self._decoder)
            self.waited += seconds
        fetched.request = request  # of one that was fetched ahead more may be known by now
        if not self._has_totals:
            fetched.total = None
        self._fetch_seconds += _SMOOTHING * (seconds - self._fetch_seconds)
        return fetched

    def _fetch(self, request: PageRequest, decoder: ItemDecoder[ItemT]) -> tuple[FetchedPage[ItemT], float]:
        before = self._api.waited()
        fetched = self._api.fetch_page(self._dataset, request, decoder)
        return fetched, self._api.waited() - before

    def _drop_ahead(self) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def _fetch_ahead(self, following: PageRequest, fetched: FetchedPage[ItemT], executor: ThreadPoolExecutor) -> None:
        """Keep as many pages under way as it takes for the next one to be there when this one is folded."""
        # Without a total nothing tells that a record has arrived while several pages were under way.
        last_number = None if self._in_order or fetched.total is None else following.last_number
        last = self._ahead[-1][0] if self._ahead else None
        for _ in range(self._depth(following) - len(self._ahead)):
            request = following if last is None else _after(last, last_number)
            if request is None or _is_guess(request):
                return
            if self._ahead and request.page_number == last_number:
                return  # the last page proves those before it, if it is asked for after them
            self._ahead.append(
                (request, executor.submit(contextvars.copy_context().run, self._fetch, request, self._decoder))
            )
            last = request

    def _depth(self, following: PageRequest) -> int:
        """0 while a page comes quickly, or in less than half the time it is folded in: threads would only cost then."""
        ratio = self._fetch_seconds / max(self._work_seconds, 1e-6)
        if ratio < 0.5 or self._fetch_seconds < _QUICK_SECONDS:
            return 0
        return min(math.ceil(ratio), self._api.concurrency if following.ordinal > self._calm_from else 1)

    def _follow(self, fetched: FetchedPage[ItemT]) -> Next:
        """What a page says of those after it."""
        try:
            following = self._read_signals(fetched)
            if self._counts_money(fetched, following):
                self._has_totals, fetched.total = False, None
                following = self._read_signals(fetched)
        except IncompleteExtractError as error:
            raise IncompleteExtractError(f"{self._dataset.name}: {error}") from None
        except UpstreamError as error:
            raise UpstreamError(f"{self._dataset.name}, {fetched.request.describe()}: {error}") from None
        if following.request is not None:
            self._check_bounds(following.request)
        return following

    def _read_signals(self, fetched: FetchedPage[ItemT]) -> Next:
        return next_page(self._reply(fetched), fetched.request, self._api.origins)

    def _reply(self, fetched: FetchedPage[ItemT]) -> Reply:
        page = fetched.page
        rows = self._rows + page.item_count
        return Reply(
            page.envelope, fetched.headers, page.item_count, rows, fetched.url, fetched.counters, self._has_totals
        )

    def _counts_money(self, fetched: FetchedPage[ItemT], following: Next) -> bool:
        """Whether a total that isn't the number of the only page's sales is what they cost.

        Of a page that is read as a stream nobody knows any more.
        """
        page, total = fetched.page, fetched.total
        if total in (None, page.item_count) or not fetched.request.is_first or not page.is_whole:
            return False
        is_only = following.request is None or _is_guess(following.request)
        return is_only and self._dataset.item_type is SaleItem and _cost_of(page) == (total or 0) * NANO

    def _check_bounds(self, request: PageRequest) -> None:
        if request.ordinal > self._max_pages:
            raise IncompleteExtractError(
                f"{self._dataset.name}: the upstream has more than {self._max_pages} pages. "
                "Raise NEST_API_MAX_PAGES if that is right."
            )
        if request.page_number is None:
            key = hash((request.value, request.url))
            if key in self._links:
                raise IncompleteExtractError(
                    f"{self._dataset.name}, {request.describe()}: the upstream's pages go round in a circle "
                    f"(`{request.led_by}` leads to a page that has been read, or names its parameter otherwise)"
                )
            self._links.add(key)

    # Pages that no page speaks of. They may be missing, and an upstream that doesn't take page numbers sends the first
    # page again.

    def _go_on(self, fetched: FetchedPage[ItemT], following: Next) -> PageRequest | None:
        """What to ask for after a page that has been read."""
        asked = fetched.request
        if following.unknown:
            self.refusal = refusal(following.unknown, self._rows)
        elif _is_guess(asked) and (not fetched.page.item_count or not (self.has_news or self._is_sure(fetched))):
            self._give_up(asked, _Nothing())
            return None
        return following.request

    def _is_sure(self, fetched: FetchedPage[ItemT]) -> bool:
        """Whether a guessed page that brings nothing new isn't the end for that: others may have been pushed on."""
        doubts = fetched.request.doubts or ()
        return any(sign.more for sign in doubts) or tells_place(self._reply(fetched), fetched.request)

    def _remember(self, fetched: FetchedPage[ItemT], following: Next | None) -> None:
        """How a page begins, where a page that is guessed may turn out to be that one again."""
        if _is_guess(fetched.request):
            self._beginnings[1:] = [fetched.page.beginning()]
            self._takes_numbers = True
        elif fetched.request.is_first and (following is None or _is_guess(following.request)):
            self._beginnings = [fetched.page.beginning()]

    def _next(self, request: PageRequest) -> FetchedPage[ItemT] | None:
        """The page that is asked for; None where it is a guess that brings nothing new."""
        if not _is_guess(request):
            return self._take(request)
        if request.first_number is None and request.page_number is not None:
            return self._locate(request)
        found = self._guess_on(request)
        if isinstance(found, _Nothing):
            self._give_up(request, found)
            return None
        return found

    def _locate(self, request: PageRequest) -> FetchedPage[ItemT] | None:
        """The second page, where no page has told its number: is it page 2, or page 1 of pages from 0?

        Page 1 is asked for first where it is certain that there is a second page. None where there is none.
        """
        one, two = (replace(request, ordinal=2, value=value) for value in ("1", "2"))
        is_certain = request.value == one.value
        found = self._after_page_zero(one) if is_certain else None
        if found is None:
            page_two = self._guess_on(two)
            if isinstance(page_two, _Nothing):
                self._give_up(two, page_two)
                return None
            found = page_two if is_certain else self._after_page_zero(one)
            if found is None:
                found = page_two
            elif found is not page_two:
                page_two.page.discard()
        first_number = 1 if found.request.first_number is None else found.request.first_number
        doubts = None if is_certain else request.doubts
        found.request = replace(found.request, first_number=first_number, doubts=doubts)
        return found

    def _after_page_zero(self, one: PageRequest) -> FetchedPage[ItemT] | None:
        """Page 1, where it isn't the first page again."""
        found = self._guess(one)
        if isinstance(found, _Nothing) or not (beginning := found.page.beginning()):
            return None
        # A page that repeats some of the first one counts from 1, as far as the end is concerned: then page 2 follows
        # all the same, and a last page that isn't there is none.
        is_other = repeat_of(beginning, self._beginnings[0], self._decoder) is Repeat.NONE
        last = one.last_number
        found.request = replace(
            one, first_number=0 if is_other else 1, last_number=last - 1 if last and is_other else last
        )
        return found

    def _guess_on(self, request: PageRequest) -> FetchedPage[ItemT] | _Nothing:
        """The guessed page or, where records that arrive have pushed the earlier ones onto it, one of the next ones."""
        found = self._guess(request)
        for _ in range(_STALE_PAGES - 1):
            if not isinstance(found, _Nothing) or found.following is None:
                break
            found = self._guess(found.following)
        if isinstance(found, _Nothing) and found.following is not None:
            raise IncompleteExtractError(
                f"{self._dataset.name}, {request.describe()}: {_STALE_PAGES} pages in a row brought only records that "
                "had been read before: more records arrive than a page has. Set a larger NEST_API_PAGE_SIZE."
            )
        return found

    def _guess(self, request: PageRequest) -> FetchedPage[ItemT] | _Nothing:
        try:
            fetched = self._take(request)
        except NoSuchPageError as error:
            return _Nothing(is_refused=isinstance(error, NoSuchParameterError) and not self._takes_numbers)
        page = fetched.page
        beginning = page.beginning()
        if not any(repeat_of(beginning, earlier, self._decoder) is Repeat.WHOLE for earlier in self._beginnings):
            return fetched
        following = None
        if request.doubts or request.first_number is not None or request.is_by_start:
            for _ in page.batches:  # only behind its items it tells which page it is, and how many there are by now
                pass
            self._takes_numbers = self._takes_numbers or tells_place(self._reply(fetched), request)
            if self._takes_numbers and self._is_sure(fetched):
                step = page.item_count if request.is_by_start else 1
                value = str(int(request.value or 0) + step)
                following = replace(request, ordinal=request.ordinal + 1, value=value)
        page.discard()
        return _Nothing(page.item_count, not self._takes_numbers, following)

    def _give_up(self, request: PageRequest, nothing: _Nothing) -> None:
        """No guess has brought anything more: is there more all the same?"""
        rows = max(self._rows, nothing.items)
        if remaining := unresolved(request.doubts or (), rows, is_refused=nothing.is_refused):
            self.refusal = refusal(remaining, self._rows)
        elif nothing.is_refused and self._rows == self._api.page_size and self._has_more_than(rows):
            self.refusal = full_page(self._rows)

    def _has_more_than(self, rows: int) -> bool:
        """Whether more items come where one more is asked for."""
        try:
            page = self._take(PageRequest(limit=rows + 1)).page
        except NoSuchPageError:
            return True  # a limit beyond the upstream's own: it knows limits
        for _ in page.batches:
            pass
        return page.item_count > rows


def _is_guess(request: PageRequest | None) -> bool:
    return request is not None and request.doubts is not None


def _cost_of(page: Page[Any]) -> int:
    """What the sales of a whole page cost, in 10^-9. They can still be read afterwards."""
    read = sale_reader(date.min, UTC)
    batches = list(page.batches)
    page.batches = iter(batches)
    records = (read(item) for batch in batches for item in batch.items if item is not None)
    return sum(record.total_nano for record in records if isinstance(record, TicketSaleRecord))


def _has_row(fetched: FetchedPage[Any]) -> bool:
    """Whether its items have row numbers: not behind a cursor, and not before its envelope is known."""
    request = fetched.request
    is_numbered = request.is_first or request.page_number is not None or request.is_by_start
    return (is_numbered or bool(_OFFSET.search(request.url or ""))) and fetched.page.is_whole


def _after(request: PageRequest, last_number: int | None) -> PageRequest | None:
    number = request.page_number
    if number is None or last_number is None or number >= last_number:
        return None
    return replace(request, ordinal=request.ordinal + 1, value=str(number + 1))
