"""What can go wrong with the sample ticketing API: faults as data, and what each of them changes.

A fault acts on one of four things: the position that is read, the page that is shown, the answer, or the
way in which its bytes are sent. Each kind stands in the table of what it changes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import responses
from typing import Any

from tests.doubles.http_server import Answer, Sending, json_answer, nothing
from tests.doubles.ticketing.cursors import offset_cursor
from tests.doubles.ticketing.envelopes import Envelope, Page, shows_next
from tests.doubles.ticketing.paging import Position


@dataclass
class Fault:
    """One thing that goes wrong, for requests that match `dataset`, `page` and `nth` (None: any), `times` times.

    `page` is the number of the page asked for, also where pages are asked for by cursor. `nth` counts the
    dataset's requests from 1. `times=None`: for ever. What else is read depends on the kind:

    | kind | what happens | reads |
    | --- | --- | --- |
    | `status` | another answer instead of the page | `status`, `headers`, `body` |
    | `redirect` | to `location`, by default the same URL | `status` (302), `location` |
    | `not_json`, `wrong_shape`, `html` | 200 with a body that is no page | |
    | `truncated_json` | JSON cut in mid-body, with a right Content-Length | `after_bytes` (half) |
    | `delay` | waits before the answer | `seconds` |
    | `drip` | sends the body in pieces, and waits after each | `seconds`, `piece_bytes` |
    | `chunked` | sends it whole, in chunks, without a Content-Length | `piece_bytes` |
    | `cut`, `cut_chunked` | closes in mid-body | `after_bytes` (half) |
    | `close`, `reset`, `hang` | nothing more comes | `after_bytes` (None: not even the head) |
    | `empty_page` | no items, but more pages | |
    | `never_ending` | always one more page; rows start again after the last | |
    | `repeat_page` | the rows of the page before | |
    | `stuck_page` | the first page, whichever was asked for | |
    | `next_same`, `next_back` | the next page is this page, or the one before | |
    | `show` | fields of the `Page` are shown with other values | `show` |

    `show={"total": 7}` lies about the total, `show={"shown_next": "//evil.example/events"}` about the next page.
    """

    kind: str
    dataset: str | None = None
    page: int | None = None
    nth: int | None = None
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    seconds: float = 0.0
    after_bytes: int | None = None
    piece_bytes: int = 1024
    location: str | None = None
    show: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(sorted(FAULT_KINDS))}")

    def matches(self, dataset: str, page: int, nth: int) -> bool:
        wanted = [(self.dataset, dataset), (self.page, page), (self.nth, nth)]
        return self.times != 0 and all(want is None or want == got for want, got in wanted)


@dataclass
class Throttle:
    """NestJS's throttler: `requests` in a window of `seconds`, which starts with its first request; then 429."""

    requests: int
    seconds: float
    header: str = "Retry-After"
    _window_start: float = -math.inf
    _seen: int = 0

    def refusal(self, now: float) -> Answer | None:
        """Counts a request at `now` (monotonic seconds), and refuses it if it is one too many."""
        if now >= self._window_start + self.seconds:
            self._window_start, self._seen = now, 0
        self._seen += 1
        if self._seen <= self.requests:
            return None
        wait = math.ceil(self._window_start + self.seconds - now)
        message = "ThrottlerException: Too Many Requests"
        return json_answer({"statusCode": 429, "message": message}, 429, {self.header: str(wait)})


def nest_error(status: int, message: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """An error as NestJS answers it: `error` stands beside the message only where there is one."""
    phrase = responses.get(status, "Error")
    content: dict[str, Any] = {"statusCode": status, "message": message or phrase}
    return json_answer(content | ({"error": phrase} if message else {}), status, headers)


def _status(fault: Fault, _: str) -> Answer:
    answer = nest_error(fault.status or 500, headers=fault.headers)
    return answer if fault.body is None else replace(answer, body=fault.body)


def _redirect(fault: Fault, url: str) -> Answer:
    location = url if fault.location is None else fault.location
    return Answer(fault.status or 302, headers={"Location": location, **fault.headers})


def _html(_: Fault, __: str) -> Answer:
    page = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
    return Answer(200, page, {"Content-Type": "text/html"})


def _half(fault: Fault, body: bytes) -> int:
    return len(body) // 2 if fault.after_bytes is None else fault.after_bytes


def _nothing_more(ending: str) -> Callable[[Fault, bytes], Sending]:
    def sending(fault: Fault, _: bytes) -> Sending:
        return nothing(ending) if fault.after_bytes is None else Sending(fault.after_bytes, ending)

    return sending


def _next_is(number: int, start: int, page: Page) -> Page:
    return replace(page, more=True, next_number=number, next_token=offset_cursor(start))


INSTEAD: dict[str, Callable[[Fault, str], Answer]] = {
    "status": _status,
    "redirect": _redirect,
    "not_json": lambda _, __: Answer(200, b"{'data': [}", {"Content-Type": "application/json"}),
    "wrong_shape": lambda _, __: json_answer({"statusCode": 500, "message": "Internal server error"}),
    "html": _html,
}
"""No page is made: (fault, the request's URL) -> the answer."""

POSITION: dict[str, Callable[[Position], Position]] = {
    "repeat_page": lambda at: replace(at, start=max(0, at.start - at.limit)),
    "stuck_page": lambda at: replace(at, number=1, start=0),
    "never_ending": lambda at: replace(at, start=at.start % at.total if at.total else 0),
}
"""Other rows are read."""

SHOWN: dict[str, Callable[[Page, Position, Fault], Page]] = {
    "empty_page": lambda page, _, __: replace(page, items=(), more=True),
    "never_ending": lambda page, at, _: replace(
        _next_is(page.number + 1, page.number * at.limit, page), pages=page.number + 1
    ),
    "next_same": lambda page, at, _: _next_is(page.number, at.start, page),
    "next_back": lambda page, at, _: _next_is(max(1, page.number - 1), max(0, at.start - at.limit), page),
    "show": lambda page, _, fault: replace(page, **fault.show),
}
"""The page says something else."""

SENT: dict[str, Callable[[Fault, bytes], Sending]] = {
    "delay": lambda fault, _: Sending(wait_seconds=fault.seconds),
    "drip": lambda fault, _: Sending(piece_bytes=fault.piece_bytes, pause_seconds=fault.seconds),
    "chunked": lambda fault, _: Sending(chunked=True, piece_bytes=fault.piece_bytes),
    "cut": lambda fault, body: Sending(_half(fault, body), "close"),
    "cut_chunked": lambda fault, body: Sending(_half(fault, body), "close", chunked=True),
    "close": _nothing_more("close"),
    "reset": _nothing_more("reset"),
    "hang": _nothing_more("hang"),
}
"""(fault, body) -> how it goes out."""

FAULT_KINDS = {*INSTEAD, *POSITION, *SHOWN, *SENT, "truncated_json"}


def position_with(fault: Fault | None, at: Position) -> Position:
    return POSITION[fault.kind](at) if fault is not None and fault.kind in POSITION else at


def show_with(fault: Fault | None, page: Page, at: Position, envelope: Envelope) -> Page:
    """The page as the fault has it. Raises ValueError where the envelope has no place to show that."""
    if fault is None or fault.kind not in SHOWN:
        return page
    about_next = fault.kind in {"next_same", "next_back"} or "shown_next" in fault.show
    if about_next and not shows_next(envelope, page):
        raise ValueError(f"this envelope names no next page: the fault {fault.kind!r} can't be shown in it")
    return SHOWN[fault.kind](page, at, fault)


def send_with(fault: Fault | None, body: bytes) -> tuple[bytes, Sending]:
    """What is sent of a body, and how."""
    if fault is not None and fault.kind == "truncated_json":
        body = body[: _half(fault, body)]
    return body, SENT[fault.kind](fault, body) if fault is not None and fault.kind in SENT else Sending()
