"""A NestJS ticketing backend as the ETL meets it, over real HTTP: any envelope, any order, any fault.

In a test: `with TicketingApi(events=[...], sales=[...]) as api:`, and then `api.base_url`.
As a process: `python -m tests.doubles.ticketing.api --seed 1`, which prints its URL once it serves.
"""

import argparse
import gzip
import json
import random
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Literal, NoReturn, Self
from urllib.parse import unquote, urlencode

from tests.doubles.http_server import Answer, HttpServer, Reply, Request, Sending, json_answer
from tests.doubles.ticketing.changes import Changes, changed_order, changed_rows, without_changes
from tests.doubles.ticketing.cursors import Order, QueryError, cursor_after
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.envelopes import Envelope, Page, render
from tests.doubles.ticketing.faults import (
    INSTEAD,
    Fault,
    Throttle,
    nest_error,
    position_with,
    send_with,
    show_with,
)
from tests.doubles.ticketing.paging import Dataset, Pager
from tests.doubles.ticketing.request_log import PageServed, RequestSeen
from tests.doubles.ticketing.sample_data import sample_events, sample_sales

PATHS = {"/events": "events", "/ticket-sales": "ticket_sales"}
REQUEST_ID = "X-Request-Id"
IDLE_SECONDS = 5.0
"""Node closes a connection that was idle for this long."""
Statements = Literal["snapshot", "rows, total", "total, rows"]
"""How a page's rows and its total are taken: at once, or by two statements without a transaction, as TypeORM's
`findAndCount` and nearly all others do."""


class TicketingApi:
    """The sample API. Every public attribute may change while it serves; hold `lock` to change several at once.

    `envelope`, `page_size` and `order` hold for both datasets; those in `datasets` can be changed one by one.
    `on_page` runs after each page was taken, and no other page is taken meanwhile: it may change the data. So may
    `between_statements`, which is given a request's number and runs between the two `statements` for its page, while
    other pages are taken, and `before_statements`, which runs before the first of them. An error in any of them, or in
    the API itself, ends that connection and is raised at the end of the `with`. Each answer has its request's number in
    a header, REQUEST_ID.
    """

    def __init__(
        self,
        events: Iterable[Any] = (),
        sales: Iterable[Any] = (),
        *,
        envelope: Envelope | str = "veritix",
        page_size: int | None = None,
        order: Order | None = None,
        token: str | None = None,
        prefix: str = "",
        faults: Iterable[Fault] = (),
        on_page: Callable[[PageServed], None] | None = None,
        seed: int = 0,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        shape = ENVELOPES[envelope] if isinstance(envelope, str) else envelope
        shape = shape if page_size is None else shape.sized(page_size)
        self.datasets = {
            "events": Dataset(list(events), shape, order),
            "ticket_sales": Dataset(list(sales), shape, order),
        }
        self.token = token
        self.prefix = prefix.rstrip("/")
        self.faults = [replace(fault) for fault in faults]  # they are used up: a shared one must not be
        self.on_page = on_page
        self.statements: Statements = "snapshot"
        self.between_statements: Callable[[int], object] = lambda _: None
        self.before_statements: Callable[[int], object] = lambda _: None
        self.changes: Changes | None = None
        """How questions for changes and for one sale are answered, and the clock; None: there are no such questions."""
        self.throttle: Throttle | None = None
        self.latency_seconds = 0.0
        self.gzip = False
        self.link_origin: str | None = None
        """The origin of the links that it makes; None: from the Host header, as NestJS does."""
        self.keep_items = True
        """Whether `requests` keeps the items; False saves the memory for a large dataset."""
        self.requests: list[RequestSeen] = []
        self.lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._pager = Pager(random.Random(seed))
        self._server = HttpServer(self._respond, port=port, tls=tls, idle_seconds=IDLE_SECONDS)

    @property
    def base_url(self) -> str:
        return f"{self._server.url}{self.prefix}"

    @property
    def events(self) -> list[Any]:
        return self.datasets["events"].items

    @events.setter
    def events(self, items: list[Any]) -> None:
        self.datasets["events"].items = items

    @property
    def sales(self) -> list[Any]:
        return self.datasets["ticket_sales"].items

    @sales.setter
    def sales(self, items: list[Any]) -> None:
        self.datasets["ticket_sales"].items = items

    @property
    def errors(self) -> Sequence[BaseException]:
        """What went wrong in the API itself or in `on_page`."""
        return self._server.errors

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()
        if kind is None and self.errors:
            raise self.errors[0]

    def close(self) -> None:
        """Ends the server, with every connection and thread of it. A second time does nothing."""
        self._server.stop()

    def _respond(self, request: Request) -> Reply:
        with self.lock:
            seen = self._note(request)
            try:
                answer, sending = self._answer(seen)
            except QueryError as error:
                answer, sending = nest_error(error.status, str(error)), Sending()
            seen.status = answer.status if sending.with_head else None
        sending = replace(sending, wait_seconds=sending.wait_seconds + self.latency_seconds)
        return Reply(answer, sending, seen.lose_items)

    def _note(self, request: Request) -> RequestSeen:
        number, path, headers = len(self.requests) + 1, request.path, dict(request.headers)
        seen = RequestSeen(number, time.monotonic(), request.method, request.target, path, request.query, headers)
        if path.startswith(self.prefix):
            path = path.removeprefix(self.prefix).rstrip("/")
            seen.dataset = PATHS.get(path)
            if seen.dataset is None and self.changes is not None and path.startswith("/ticket-sales/"):
                seen.record = unquote(path.removeprefix("/ticket-sales/"))
        self.requests.append(seen)
        return seen

    def _answer(self, seen: RequestSeen) -> tuple[Answer, Sending]:
        if seen.record is not None and self.changes is not None and (refusal := self._refusal(seen)) is None:
            return self._answer_record(seen.record, self.changes), Sending()
        if seen.dataset is None or seen.method != "GET":
            return nest_error(404, f"Cannot {seen.method} {seen.path}"), Sending()
        self._counts[seen.dataset] += 1
        refusal = self._refusal(seen)
        if refusal is not None:
            return refusal, Sending()
        dataset = self.datasets[seen.dataset]
        seen.page = self._pager.number(seen.dataset, self._paging_query(seen), dataset.envelope)
        fault = self._next_fault(seen.dataset, seen.page)
        seen.fault = None if fault is None else fault.kind
        if fault is not None and fault.kind in INSTEAD:
            return INSTEAD[fault.kind](fault, self._origin(seen) + seen.target), Sending()
        return self._answer_page(seen, dataset, fault)

    def _answer_record(self, sale_id: str, changes: Changes) -> Answer:
        if changes.record_route == "refused":
            return nest_error(400, "Validation failed (uuid is expected)")
        sales = [sale for sale in changes.view(self.sales) if isinstance(sale, dict)]
        wanted = [sale for sale in sales if (str(sale.get("id")) == sale_id) != (changes.record_route == "another")]
        if changes.record_route == "none" or not wanted:
            return nest_error(404, f"Cannot GET /ticket-sales/{sale_id}")
        return json_answer(wanted[0])

    def _refusal(self, seen: RequestSeen) -> Answer | None:
        if self.token is not None and seen.headers.get("authorization") != f"Bearer {self.token}":
            return nest_error(401)
        if self.throttle is not None:
            return self.throttle.refusal(seen.at)
        return None

    def _next_fault(self, name: str, page: int) -> Fault | None:
        fault = next((fault for fault in self.faults if fault.matches(name, page, self._counts[name])), None)
        if fault is not None and fault.times is not None:
            fault.times -= 1
        return fault

    def _origin(self, seen: RequestSeen) -> str:
        return self.link_origin or f"http://{seen.headers.get('host', '')}"

    def _answer_page(self, seen: RequestSeen, dataset: Dataset, fault: Fault | None) -> tuple[Answer, Sending]:
        page = self._take(seen, dataset, fault)
        body, headers = render(dataset.envelope, page)
        own = {"Content-Type": "application/json; charset=utf-8", REQUEST_ID: str(seen.number)}
        if self.changes is not None:
            own["Date"] = self.changes.date()
        if self.gzip and "gzip" in seen.headers.get("accept-encoding", ""):
            own["Content-Encoding"], body = "gzip", gzip.compress(body, 1)
        sent, sending = send_with(fault, body)
        if self.keep_items and sending.stop_after is None and sent == body:
            seen.items = list(page.items)
        if self.on_page is not None:
            asked = (seen.number, seen.dataset or "", seen.page or 1)
            self.on_page(PageServed(*asked, items=list(page.items), total=page.total, last=not page.more))
        return Answer(200, sent, {**own, **headers}), sending

    def _path_of_links(self, seen: RequestSeen) -> str:
        """The path for links, with what else was asked for."""
        kept = {name: value for name, value in seen.query.items() if name not in self._paging_query(seen)}
        return f"{seen.path}?{urlencode(kept)}" if kept else seen.path

    def _count_first(self, seen: RequestSeen, dataset: Dataset) -> int | None:
        if self.statements != "total, rows":
            return None
        total = self._count(seen, dataset)
        self._pause(self.between_statements, seen)
        return total

    def _pause(self, what_comes: Callable[[int], object], seen: RequestSeen) -> None:
        """What comes before a statement: other requests' statements too."""
        self.lock.release()
        try:
            what_comes(seen.number)
        finally:
            self.lock.acquire()

    def _paging_query(self, seen: RequestSeen) -> dict[str, str]:
        """What is left of a query for the pager."""
        if self.changes is None or seen.dataset != "ticket_sales":
            return seen.query
        query = without_changes(seen.query)
        return query if self.changes.takes_limit else {name: v for name, v in query.items() if name != "limit"}

    def _asked(self, seen: RequestSeen, dataset: Dataset) -> Dataset:
        """The dataset as a request sees it: what changed since, in the order that it asks for."""
        if self.changes is None or seen.dataset != "ticket_sales":
            return dataset
        changes = self.changes
        items = changed_rows(changes.view(dataset.items), seen.query, changes)
        return Dataset(list(items), dataset.envelope, changed_order(seen.query, dataset.order, changes))

    def _count(self, seen: RequestSeen, dataset: Dataset) -> int:
        counted = len(self._asked(seen, dataset).items)
        if self.changes is None or seen.dataset != "ticket_sales":
            return counted
        filters = {name: v for name, v in seen.query.items() if name not in self._paging_query(seen)}
        return self.changes.total(json.dumps(filters, sort_keys=True), counted)

    def _take(self, seen: RequestSeen, dataset: Dataset, fault: Fault | None) -> Page:
        self._pause(self.before_statements, seen)
        total = self._count_first(seen, dataset)
        if total is None and self.changes is not None and self.statements == "snapshot":
            total = self._count(seen, dataset)
        all_rows, dataset = dataset, self._asked(seen, dataset)
        rows, asked = self._pager.find(dataset, self._paging_query(seen), seen.page or 1)
        at = position_with(fault, asked)
        taken = [dict(row) if isinstance(row, dict) else row for row in rows[at.start : at.start + at.limit]]
        token = cursor_after(rows, at.start + len(taken), dataset.order)
        if self.statements == "rows, total":
            self._pause(self.between_statements, seen)
            total = self._count(seen, all_rows)
        at = at if total is None else replace(at, total=total)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        page = Page(
            items=taken,
            number=at.number - 1 + dataset.envelope.first_number,
            start=at.start,
            limit=at.limit,
            total=at.total,
            pages=at.pages,
            more=at.start + at.limit < at.total,
            next_number=at.number + dataset.envelope.first_number,
            next_token=token,
            origin=self._origin(seen),
            path=self._path_of_links(seen),
            ask=dataset.envelope.ask,
            unit=dataset.envelope.unit,
            answered_at=now,
        )
        page = show_with(fault, page, at, dataset.envelope)
        self._pager.hand_out(seen.dataset or "", page.next_token, at.number + 1)
        return page


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ticketing_api", description="Serves a sample ticketing API.")
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free port")
    parser.add_argument("--token", help="the bearer token to ask for; default: none")
    parser.add_argument("--seed", type=int, default=1, help="of the sample data")
    parser.add_argument("--today", type=date.fromisoformat, default=datetime.now(UTC).date(), help="YYYY-MM-DD")
    parser.add_argument("--envelope", choices=ENVELOPES, default="veritix:wrapped", metavar="NAME")
    parser.add_argument("--page-size", type=int, default=100)
    parser.add_argument("--prefix", default="", help="a path before /events and /ticket-sales")
    return parser.parse_args(argv)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def main(argv: Sequence[str]) -> None:
    """Serves until SIGTERM or SIGINT, then leaves with exit code 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    asked = _arguments(argv)
    try:
        api = TicketingApi(
            sample_events(asked.seed),
            sample_sales(asked.seed, asked.today),
            envelope=asked.envelope,
            page_size=asked.page_size,
            token=asked.token,
            prefix=asked.prefix,
            port=asked.port,
        )
    except OSError as error:
        sys.exit(f"Can't listen on port {asked.port}: {error.strerror}. Take another --port, or 0 for a free one.")
    api.keep_items = False
    with api:
        print(api.base_url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
