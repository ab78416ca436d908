"""How an upstream wraps a page: an `Envelope` is the shape of its body and headers, and its paging.

A shape is a template: nested dicts with holes, and a hole is a function of the `Page`. `render` fills it.
Nothing here does I/O. `envelope_table` lists the envelopes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

ABSENT: Any = object()
"""What a hole returns to leave its key (or header) out."""

Form = Literal["number", "digits", "token", "absolute", "relative"]
"""How a next page is written: 2, "2", a cursor, a URL with origin, a URL without."""

Unit = Literal["page", "row", "token"]
"""What the parameter that asks for a page counts: pages, or the rows before it. A token counts nothing."""

CursorRule = Literal["row", "key", "key_again"]
"""What a cursor continues from: strictly after the last row (right), strictly after the last row's sort key
(skips rows that share it), or from that key on (sends those rows again, unless the key is `id`)."""


@dataclass(frozen=True)
class Page:
    """All that an envelope may show of one page. `items` are JSON values, or bytes that hold JSON text.

    `start` is how many rows stand before it, `number` the page's number as the upstream counts.
    """

    items: Sequence[Any]
    number: int
    start: int
    limit: int
    total: int
    pages: int
    more: bool
    next_number: int
    next_token: str
    origin: str
    path: str
    ask: str
    unit: Unit
    answered_at: str
    shown_next: Any = ABSENT
    """Where it is set, it stands in the place of every next page, whatever that place's form."""

    def url(self, number: int, token: str = "", *, origin: str | None = None) -> str:
        row = self.start + (number - self.number) * self.limit
        value = {"page": str(number), "row": str(row), "token": token}[self.unit]
        query = urlencode({self.ask: value, "limit": self.limit})
        path = self.path + ("&" if "?" in self.path else "?")
        return f"{self.origin if origin is None else origin}{path}{query}"


Hole = Callable[[Page], Any]
Template = Hole | Mapping[str, Any]


def encode_item(item: Any) -> bytes:
    """One item as JSON text. Takes lone surrogates too, which go out as escapes."""
    if isinstance(item, bytes):
        return item
    return json.dumps(item, separators=(",", ":")).encode("ascii")


def encode_items(items: Sequence[Any]) -> bytes:
    try:
        return msgspec.json.encode([msgspec.Raw(i) if isinstance(i, bytes) else i for i in items])
    except UnicodeEncodeError:
        return b"[" + b",".join(map(encode_item, items)) + b"]"


def items(page: Page) -> Any:
    return msgspec.Raw(encode_items(page.items))


def number(page: Page) -> int:
    return page.number


def start(page: Page) -> int:
    return page.start


def next_start(page: Page) -> int:
    return page.start + page.limit


def limit(page: Page) -> int:
    return page.limit


def total(page: Page) -> int:
    return page.total


def pages(page: Page) -> int:
    return page.pages


def count(page: Page) -> int:
    return len(page.items)


def more(page: Page) -> bool:
    return page.more


def answered_at(page: Page) -> str:
    return page.answered_at


def text(hole: Hole) -> Hole:
    return lambda page: str(hole(page))


FORMS: dict[Form, Hole] = {
    "number": lambda p: p.next_number,
    "digits": lambda p: str(p.next_number),
    "token": lambda p: p.next_token,
    "absolute": lambda p: p.url(p.next_number, p.next_token),
    "relative": lambda p: p.url(p.next_number, p.next_token, origin=""),
}


def next_page(form: Form = "number", end: Any = None, *, while_items: bool = False) -> Hole:
    """The next page in one form, and `end` after the last one (`while_items`: after the first empty one)."""

    def hole(page: Page) -> Any:
        if page.shown_next is not ABSENT:
            return page.shown_next
        goes_on = bool(page.items) if while_items else page.more
        return FORMS[form](page) if goes_on else end

    return hole


def link_header(form: Form) -> Hole:
    """RFC 8288, with another relation beside `next`, as real ones have."""
    following = next_page(form, ABSENT)

    def hole(page: Page) -> str:
        links = {"first": page.url(1)} if page.unit == "page" else {}
        url = following(page)
        links |= {} if url is ABSENT else {"next": url}
        return ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items()) or ABSENT

    return hole


def links_list(page: Page) -> list[dict[str, str]]:
    """Links as a list of relations, `next` among them while there is a next page."""
    following = next_page("absolute", ABSENT)(page)
    links = {"self": page.url(page.number, page.next_token), **({} if following is ABSENT else {"next": following})}
    return [{"href": url, "rel": rel, "method": "GET"} for rel, url in links.items()]


def content_range(shown_total: Hole, unit: str = "items ") -> Hole:
    """Which rows the page has, of how many."""

    def hole(page: Page) -> str:
        rows = f"{page.start}-{page.start + len(page.items) - 1}" if page.items else "*"
        return f"{unit}{rows}/{shown_total(page)}"

    return hole


def page_link(to: Callable[[Page], int], when: Callable[[Page], bool], otherwise: Any) -> Hole:
    return lambda page: page.url(to(page)) if when(page) else otherwise


@dataclass(frozen=True)
class Envelope:
    """One upstream's way to answer. `ask` is the query parameter that asks for a page; empty: one page holds all.

    The parameter's `unit` is that of its name, unless told otherwise; pages count from `first_number`.
    """

    body: Template
    ask: str = "page"
    asks_for: Unit | None = None
    first_number: int = 1
    tells_next: bool = True
    """Whether a page says that there is another one: by its number, a flag, a cursor or a link."""
    past_end: Literal["empty", "last", "missing"] = "empty"

    """What comes for a page beyond the last one: no items, the last page once more, or a 404."""
    headers: Mapping[str, Hole] = field(default_factory=dict)
    limit_names: tuple[str, ...] = ("limit",)
    default_limit: int = 20
    cap: int | None = None
    over_cap: Literal["cut", "refuse"] = "cut"
    """Beyond the cap: fewer items without a word, or a 400 (which then also meets other bad values)."""
    cursor_rule: CursorRule = "row"
    strict_query: bool = False
    """Answers an unknown query parameter with a 400, as a strict ValidationPipe does."""
    inner: tuple[str, ...] = ()
    """Where inside `body` the envelope with the items stands."""

    @property
    def unit(self) -> Unit:
        """What `ask` counts."""
        units: dict[str, Unit] = {"page": "page", "offset": "row", "skip": "row"}
        return self.asks_for or units.get(self.ask, "token")

    @property
    def is_counted(self) -> bool:
        """Whether a page is asked for by its place among all rows, wherever its rows have moved to."""
        return self.unit != "token"

    def sized(self, page_size: int) -> "Envelope":
        """The same, with this page size where the client asks for none; a smaller cap is raised to it."""
        cap = None if self.cap is None else max(self.cap, page_size)
        return replace(self, default_limit=page_size, cap=cap)

    def declaring(self, place: str) -> "Envelope":
        """The same, with the total declared at `place`: a dotted path in the envelope, or a header's name."""
        if place.lower().startswith("x-"):
            return replace(self, headers={**self.headers, place: text(total)})
        if callable(self.body):
            raise TypeError(f"a bare array has no place {place!r}: declare its total in a header")
        return replace(self, body=_with(self.body, (*self.inner, *place.split(".")), total))

    def wrapped(self) -> "Envelope":
        """The same, behind an interceptor: `{success, data: <envelope>, timestamp}`."""
        body = {"success": True, "data": self.body, "timestamp": answered_at}
        return replace(self, body=body, inner=("data", *self.inner))


def _with(template: Mapping[str, Any], path: tuple[str, ...], hole: Hole) -> dict[str, Any]:
    head, *rest = path
    value = _with(template.get(head, {}), tuple(rest), hole) if rest else hole
    return {**template, head: value}


def render(envelope: Envelope, page: Page) -> tuple[bytes, dict[str, str]]:
    """The body and the headers (beside the content type) that show `page`."""
    filled = {name: hole(page) for name, hole in envelope.headers.items()}
    headers = {name: value for name, value in filled.items() if value is not ABSENT}
    return msgspec.json.encode(_fill(envelope.body, page)), headers


def _fill(template: Any, page: Page) -> Any:
    if callable(template):
        return template(page)
    if isinstance(template, Mapping):
        filled = {key: _fill(value, page) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not ABSENT}
    return template


def shows_next(envelope: Envelope, page: Page) -> bool:
    """Whether this envelope has a place for a next page at all (`has_more` and counters are none)."""
    mark = "b9a7-next"
    body, headers = render(envelope, replace(page, items=(), shown_next=mark))
    return mark.encode() in body or any(mark in value for value in headers.values())
