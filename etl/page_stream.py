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
from dataclasses import replace
from typing import Generic

from etl.api import Api, Dataset, FetchedPage
from etl.errors import IncompleteExtractError, UpstreamError
from etl.items import ItemDecoder, ItemT
from etl.pagination import Next, PageRequest, next_page, understood_forms, unknown_paging

_CALM_PAGES = 8
"""So many pages in a row declare the same total before several are fetched at once again."""
_OFFSET = re.compile(r"[?&](page|offset|skip)=[0-9]")
_SMOOTHING = 0.3
_QUICK_SECONDS = sys.getswitchinterval()
"""So long a thread waits for the interpreter's lock after each word from the upstream, 5 ms."""


class PageStream(Generic[ItemT]):
    """Iterate once. Whoever iterates consumes a page's batches before asking for the next page.

    `waited` is how long the iterating thread has waited for the upstream, in seconds. `unknown_keys` are what looks
    like paging on a page that gave no signal, once there was one. `in_order` asks for a page only once the one before
    has come. `is_doubtful` looks at the last page, once it has been read: then it is asked for once more, and followed.

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
    ) -> None:
        self.waited = 0.0
        self.unknown_keys: list[str] = []
        self._api = api
        self._dataset: Dataset[ItemT] = dataset
        self._decoder: ItemDecoder[ItemT] = ItemDecoder(dataset.item_type)
        self._max_pages = max_pages
        self._in_order = in_order
        self._is_doubtful: Callable[[FetchedPage[ItemT]], bool] = is_doubtful
        self._clock = clock
        self._ahead: deque[tuple[PageRequest, Future[tuple[FetchedPage[ItemT], float]]]] = deque()
        self._links: set[int] = set()
        self._fetch_seconds = 0.0
        self._work_seconds = 0.0
        self._total: int | None = None
        self._ended = 0
        self._unproved: deque[tuple[int, PageRequest, int]] = deque()
        self._calm_from = 0

    def fetch_total(self, request: PageRequest) -> FetchedPage[ItemT]:
        """A page once more, or beforehand, for the total that it declares; its items are left out."""
        fetched, seconds = self._fetch(request, ItemDecoder(self._dataset.item_type))
        self.waited += seconds
        fetched.page.skip()
        return fetched

    def __iter__(self) -> Iterator[FetchedPage[ItemT]]:
        executor = ThreadPoolExecutor(self._api.concurrency, thread_name_prefix="fetch")
        try:
            request: PageRequest | None = PageRequest()
            row, pages_read = 0, 0
            while request is not None:
                fetched = self._take(request)
                if (unproved := self._unproved_since(fetched, row)) is not None:
                    request, row = unproved
                    continue
                following = self._follow(fetched) if fetched.page.is_whole else None
                if following is not None:
                    self._fetch_ahead(following, executor)
                fetched.row = row if _has_row(fetched) else None
                fetched.is_again = request.ordinal <= pages_read
                started, waited = self._clock(), self._api.waited()
                yield fetched
                streamed = self._api.waited() - waited
                self.waited += streamed
                self._work_seconds += _SMOOTHING * (self._clock() - started - streamed - self._work_seconds)
                self._ended = max(self._ended, fetched.ended)
                pages_read = max(pages_read, request.ordinal)
                following = following or self._follow(fetched)
                fetched.is_paged = following.is_understood
                if following.request is not None or not self._is_doubtful(fetched):
                    request, row = following.request, row + fetched.page.item_count
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _unproved_since(self, fetched: FetchedPage[ItemT], row: int) -> tuple[PageRequest, int] | None:
        """The first page that may have been served before the page in front of it while a record arrived, and its row.

        It is proved once a page that was asked for after both had come declares the same total as before.
        """
        if fetched.began < self._ended:
            self._unproved.append((self._ended, fetched.request, row))
        total = fetched.total if fetched.page.is_whole else None
        stands_still = total is not None and total == self._total
        is_first, self._total = not self._ended, total
        self._ended = max(self._ended, fetched.ended)
        if stands_still:
            while self._unproved and self._unproved[0][0] < fetched.began:
                self._unproved.popleft()
            return None
        self._calm_from = 0 if is_first else fetched.request.ordinal + _CALM_PAGES
        if not self._unproved:
            return None
        _, request, row = self._unproved[0]
        self._unproved.clear()
        self._drop_ahead()
        return request, row

    def _take(self, request: PageRequest) -> FetchedPage[ItemT]:
        if self._ahead and self._ahead[0][0] == request:
            started = self._clock()
            fetched, seconds = self._ahead.popleft()[1].result()
            self.waited += self._clock() - started
        else:
            self._drop_ahead()
            fetched, seconds = self._fetch(request, self._decoder)
            self.waited += seconds
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

    def _fetch_ahead(self, following: Next, executor: ThreadPoolExecutor) -> None:
        """Keep as many pages under way as it takes for the next one to be there when this one is folded."""
        request = self._ahead[-1][0] if self._ahead else None
        for _ in range(self._depth(following) - len(self._ahead)):
            request = following.request if request is None else _after(request, following.last_page)
            if request is None or (self._ahead and request.page_number == following.last_page):
                return  # the last page proves those before it, if it is asked for after them
            self._ahead.append(
                (request, executor.submit(contextvars.copy_context().run, self._fetch, request, self._decoder))
            )

    def _depth(self, following: Next) -> int:
        """0 while a page comes quickly, or in less than half the time it is folded in: threads would only cost then."""
        ratio = self._fetch_seconds / max(self._work_seconds, 1e-6)
        if ratio < 0.5 or self._fetch_seconds < _QUICK_SECONDS:
            return 0
        is_calm = following.request is not None and following.request.ordinal > self._calm_from
        return min(math.ceil(ratio), self._api.concurrency if is_calm else 1)

    def _follow(self, fetched: FetchedPage[ItemT]) -> Next:
        page = fetched.page
        try:
            following = next_page(
                page.envelope,
                fetched.headers.get("Link"),
                fetched.request,
                page.item_count,
                fetched.url,
                self._api.origins,
            )
        except IncompleteExtractError as error:
            raise IncompleteExtractError(f"{self._dataset.name}: {error}") from None
        except UpstreamError as error:
            raise UpstreamError(f"{self._dataset.name}, {fetched.request.describe()}: {error}") from None
        request = following.request
        if not following.is_understood:
            self.unknown_keys = unknown_paging(page.envelope, continuing=False)
            if keys := unknown_paging(page.envelope, continuing=True):
                raise not_understood(self._dataset.name, keys)
        if request is not None:
            self._check_bounds(request)
        # Without a total nothing tells that a record has arrived while several pages were under way.
        if self._in_order or fetched.total is None:
            return replace(following, last_page=None)
        return following

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
                    f"{self._dataset.name}, {request.describe()}: the upstream's pages go round in a circle"
                )
            self._links.add(key)


def not_understood(dataset: str, keys: list[str]) -> IncompleteExtractError:
    """The error for paging in a form that isn't known."""
    return IncompleteExtractError(
        f"{dataset}: {', '.join(keys)} says that there is more, in a form that isn't understood. Understood are "
        f"{understood_forms()}.",
        dataset=dataset,
    )


def _has_row(fetched: FetchedPage[ItemT]) -> bool:
    """Whether its items have row numbers: not behind a cursor, and not before its envelope is known."""
    request = fetched.request
    by_number = request.ordinal == 1 or request.page_number is not None or bool(_OFFSET.search(request.url or ""))
    return by_number and fetched.page.is_whole


def _after(request: PageRequest, last_page: int | None) -> PageRequest | None:
    number = request.page_number
    if number is None or last_page is None or number >= last_page:
        return None
    return replace(request, ordinal=request.ordinal + 1, value=str(number + 1))
