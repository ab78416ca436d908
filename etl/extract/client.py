"""The upstream API: one session, one function that judges an attempt, retries, and one page at a time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, count
from typing import Any, Generic
from urllib.parse import urlencode

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from etl.deadline import Deadline
from etl.errors import UpstreamError
from etl.extract.body import Page, read_page
from etl.extract.bounded_answers import BoundedAdapter
from etl.extract.envelope import failure_in
from etl.extract.items import Batch, BodyError, ItemDecoder, ItemT
from etl.extract.next_page import PageRequest
from etl.extract.origins import Origins
from etl.extract.paging_signals import Counters, counters_in
from etl.extract.paging_words import paging_headers
from etl.extract.retries import (
    NETWORK_ERRORS,
    AttemptError,
    Tries,
    Verdict,
    classify,
    in_brackets,
    message_for,
    reason_of,
    retry_after,
)
from etl.extract.token import Token
from etl.logs import log_info
from etl.records.fields import EventItem, SaleItem
from etl.settings import Settings

MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 18
_CODINGS = ("", "identity", "gzip", "x-gzip")
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_CONTENT = 204


@dataclass(frozen=True)
class Dataset(Generic[ItemT]):
    """One of the upstream's two lists, the part of it that `query` asks for, or one record of it by itself."""

    name: str
    path: str
    item_type: type[ItemT]
    query: tuple[tuple[str, str], ...] = ()
    is_record: bool = False


EVENTS = Dataset("events", "/events", EventItem)
TICKET_SALES = Dataset("ticket_sales", "/ticket-sales", SaleItem)


class BrokenPageError(UpstreamError):
    """A large page broke off after some of its items had been taken: the dataset has to be read again."""


class NoSuchPageError(UpstreamError):
    """The upstream has no such page."""


class NoSuchParameterError(NoSuchPageError):
    """Nor any parameter that asks for it, as far as it says."""


_REFUSALS: dict[int | None, type[UpstreamError]] = {
    **dict.fromkeys((404, 410, 416), NoSuchPageError),
    **dict.fromkeys((400, 422), NoSuchParameterError),
}


@dataclass
class FetchedPage(Generic[ItemT]):
    """A page with those of its answer's headers that may be about paging.

    `began` and `ended` place its request among the others of the run: they count what begins and ends, in the order of
    time. The upstream has taken rows and total between the two, in whichever order. A page that isn't whole ends after
    its last batch. `row` is the row number of its first item, None where it has none: behind a cursor, or on a page
    that isn't whole. `is_again` marks a page that was read before.
    `asked_size` is how many items were asked for at most, None if that was left to the upstream. `date` is the
    answer's header of that name: the upstream's clock.
    """

    request: PageRequest
    page: Page[ItemT]
    url: str
    headers: Mapping[str, str]
    began: int = 0
    ended: int = 0
    row: int | None = None
    is_again: bool = False
    asked_size: int | None = None
    date: str | None = None

    @cached_property
    def counters(self) -> Counters:
        """What the page counts; known once its envelope is complete."""
        return counters_in(self.page.envelope, self.headers)

    @cached_property
    def total(self) -> int | None:
        """How many records there are in all, where the page declares it; known once its envelope is complete."""
        return self.counters.total


class Api:
    """The upstream API for one run. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        token: Token,
        deadline: Deadline,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.origins = Origins(settings.nest_api_base_url, settings.nest_api_link_origins)
        self.concurrency = settings.nest_api_concurrency
        self.page_size = settings.nest_api_page_size
        self._settings = settings
        self._timeout = settings.nest_api_timeout_seconds
        self._token = token
        self._deadline = deadline
        self._jitter = jitter
        self._now = now
        self._session = _session(settings, deadline)
        # Proxies, CA and client certificate as the environment has them: looked up once, not at each request.
        base = settings.nest_api_base_url
        self._transport: dict[str, Any] = {**self._session.merge_environment_settings(base, {}, None, None, None)}
        self._session.trust_env = False  # a netrc file would put another login in the place of the token
        self._waits: dict[int, float] = {}
        self._moments = count(1)
        self._blank = self._session.prepare_request(requests.Request("GET", base))
        # One for all pages: it refers to itself, and the garbage collector is off during a run.
        self._retrying = Retrying(
            retry=retry_if_exception_type(AttemptError),
            stop=lambda state: _tries_of(state).is_over(state),
            wait=lambda state: _tries_of(state).wait(state),
            before_sleep=self._before_sleep,
            sleep=deadline.sleep,
            reraise=True,
        )

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def waited(self) -> float:
        """Seconds that the calling thread has waited for the upstream so far."""
        return self._waits.get(threading.get_ident(), 0.0)

    def fetch_page(
        self, dataset: Dataset[ItemT], request: PageRequest, decoder: ItemDecoder[ItemT]
    ) -> FetchedPage[ItemT]:
        """One page, tried again as long as that makes sense.

        Raises UpstreamError (NoSuchPageError where there is no such page) or DeadlineExceededError; of a page over
        4 MiB, `page.batches` raises BrokenPageError.
        """
        tries = Tries(self._jitter)
        try:
            return self._retrying(self._attempt, dataset, request, decoder, tries)
        except AttemptError as error:
            times = f" (tried {tries.number} times)" if tries.number > 1 else ""
            kind = _REFUSALS.get(error.status_code, UpstreamError)
            raise kind(f"{dataset.name}, {request.describe()}: {error}{times}") from None

    def _attempt(
        self, dataset: Dataset[ItemT], request: PageRequest, decoder: ItemDecoder[ItemT], tries: Tries
    ) -> FetchedPage[ItemT]:
        tries.number += 1
        response: requests.Response | None = None
        began = next(self._moments)
        try:
            response = self._get(dataset, request, tries.number)
            self._check_status(response)
            page = self._read_page(dataset, response, decoder)
        except (AttemptError, BodyError, *NETWORK_ERRORS) as error:
            status_code = getattr(error, "status_code", None) if response is None else response.status_code
            if response is not None:
                response.close()
            _log_attempt(dataset, tries.number, status_code, 0)
            raise tries.count(error, self._timeout, status_code) from None
        asked_size = self._settings.nest_api_page_size
        headers = paging_headers(response.headers)
        date = response.headers.get("Date")
        fetched = FetchedPage(request, page, str(response.url), headers, began, asked_size=asked_size, date=date)
        if page.is_whole:
            fetched.ended = next(self._moments)
            _log_attempt(dataset, tries.number, response.status_code, page.item_count)
        else:
            page.batches = self._stream(fetched, page.batches, response, dataset, tries.number)
        return fetched

    def _read_page(
        self, dataset: Dataset[ItemT], response: requests.Response, decoder: ItemDecoder[ItemT]
    ) -> Page[ItemT]:
        chunks = self._chunks(response)
        if dataset.is_record:
            chunks = chain((b"[",), chunks, (b"]",))
        if response.status_code == _NO_CONTENT:
            next(chunks, None)  # there is none, and the connection is free again
            return Page(iter(()), is_whole=True)
        page = read_page(chunks, decoder, self._deadline.check)
        if page.is_whole and (failure := self._failure_in(page)):
            raise AttemptError(failure, Verdict.RETRIABLE, response.status_code, None)
        return page

    def _failure_in(self, page: Page[Any]) -> str | None:
        """What to tell of a page that comes with a good status, and says that it failed."""
        said = failure_in(page.envelope, page.item_count)
        return None if said is None else f"the upstream says that it failed{in_brackets(said, self._token.value())}"

    def _check_status(self, response: requests.Response) -> None:
        verdict = classify(response.status_code)
        if verdict is not Verdict.SUCCESS:
            wait = retry_after(response.headers, self._now())
            said = message_for(response.status_code, self._chunks(response), wait, self._token.value())
            raise AttemptError(said, verdict, response.status_code, wait)

    def _stream(
        self,
        fetched: FetchedPage[ItemT],
        batches: Iterator[Batch[ItemT]],
        response: requests.Response,
        dataset: Dataset[ItemT],
        attempt: int,
    ) -> Iterator[Batch[ItemT]]:
        """The batches of a page that is too large to wait for its end."""
        try:
            yield from batches
            if failure := self._failure_in(fetched.page):
                raise BrokenPageError(f"{dataset.name}, {fetched.request.describe()}: {failure}")
        except (BodyError, *NETWORK_ERRORS) as error:
            reason = reason_of(error, self._timeout)
            raise BrokenPageError(f"{dataset.name}, {fetched.request.describe()}: {reason}") from None
        finally:
            response.close()
            fetched.ended = next(self._moments)
            _log_attempt(dataset, attempt, response.status_code, fetched.page.item_count)

    def _get(self, dataset: Dataset[Any], request: PageRequest, attempt: int) -> requests.Response:
        """Send the request: with a renewed token after a 401, and along redirects within the origin."""
        url = request.url or self._settings.nest_api_base_url + dataset.path
        params = {} if request.url else {**dict(dataset.query), **self._params(request)}
        for redirects in range(MAX_REDIRECTS + 1):
            token = self._token.value()
            response = self._send(url, params, token)
            if classify(response.status_code) is Verdict.UNAUTHORISED and self._token.renew(token):
                self._set_aside(response, dataset, attempt)
                response = self._send(url, params, self._token.value())
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            try:
                url, params = self.origins.resolve(location, str(response.url)), {}
            except UpstreamError as error:
                raise AttemptError(str(error), Verdict.FATAL, response.status_code, None) from None
            if redirects < MAX_REDIRECTS:
                self._set_aside(response, dataset, attempt)
        response.close()
        message = f"more than {MAX_REDIRECTS} redirects in a row"
        raise AttemptError(message, Verdict.FATAL, response.status_code, None)

    @staticmethod
    def _set_aside(response: requests.Response, dataset: Dataset[Any], attempt: int) -> None:
        """An answer that another request follows within the same attempt."""
        response.close()
        _log_attempt(dataset, attempt, response.status_code, 0)

    def _params(self, request: PageRequest) -> dict[str, str]:
        size = request.limit or self.page_size
        params = {"limit": str(size)} if size else {}
        if request.parameter and request.value is not None:
            params[request.parameter] = request.value
        return params

    def _send(self, url: str, params: dict[str, str], token: str | None) -> requests.Response:
        """One request. Past the session's own `send`: that reads redirects, which may lead anywhere."""
        prepared = self._blank.copy()  # to prepare each one from the start takes twice as long
        prepared.prepare_url(url, urlencode(params))
        if token:
            prepared.headers["Authorization"] = f"Bearer {token}"
        started = time.perf_counter()
        try:
            return self._session.get_adapter(url).send(
                prepared,
                timeout=self._deadline.bound(self._timeout),
                **{**self._transport, "stream": True},
            )
        finally:
            self._add_wait(time.perf_counter() - started)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it comes, one `recv` at a time: a slow drip can't hold the run past its deadline."""
        if response.headers.get("Content-Encoding", "").strip().lower() not in _CODINGS:
            # What urllib3 keeps of a deflate that unpacks to nothing has no bound, and codings may be nested.
            raise BodyError("is compressed in a way that wasn't asked for: only gzip was")
        while True:
            self._deadline.check()
            started = time.perf_counter()
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
            self._add_wait(time.perf_counter() - started)
            if not chunk:
                return
            yield chunk

    def _add_wait(self, seconds: float) -> None:
        thread = threading.get_ident()
        self._waits[thread] = self._waits.get(thread, 0.0) + seconds

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, AttemptError) and error.status_code in (429, 503):
            self.concurrency = max(1, self.concurrency // 2)


def _tries_of(state: RetryCallState) -> Tries:
    """The last argument of `Api._attempt`."""
    tries: Tries = state.args[-1]
    return tries


def _log_attempt(dataset: Dataset[Any], attempt: int, status_code: int | None, record_count: int) -> None:
    log_info(
        "ETL extract attempt",
        dataset=dataset.name,
        attempt=attempt,
        status_code=status_code,
        record_count=record_count,
    )


def _session(settings: Settings, deadline: Deadline) -> requests.Session:
    """One session, a pool as big as the concurrency."""
    session = requests.Session()
    session.headers.update(
        {"Accept": "application/json", "Accept-Encoding": "gzip, identity", "User-Agent": "veritix-etl"}
    )
    for scheme in ("http://", "https://"):
        adapter = BoundedAdapter(deadline, pool_connections=1, pool_maxsize=settings.nest_api_concurrency + 1)
        session.mount(scheme, adapter)
    return session
