"""Everything in an answer that is understood as paging: where it stands, and how the next page is asked for. Pure.

The names are data. So are their places: an answer is looked through once, whatever the number of signals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Any, NamedTuple

from etl.extract.paging_words import count_of

Path = tuple[str, ...]


class Kind(Enum):
    """How a signal names the next page. Null, false and '' say that there is none."""

    NEXT = "a page number, a token or a URL"
    MORE = "a flag: another page, or not"
    COUNT = "how many pages there are"
    CURSOR = "a token, sent back as a parameter"
    START = "how many items stand before the page's: the next page's are asked for"
    RANGE = "the same, as Content-Range has it"
    LINK = "a URL"
    LINK_OR_NUMBER = "a URL or a page number"


@dataclass(frozen=True)
class Form:
    """Signals of one kind: each name in each place. What is sent back is sent as `parameter`."""

    kind: Kind
    places: tuple[Path, ...]
    names: tuple[str, ...]
    parameter: str = "page"


@dataclass(frozen=True)
class Signal:
    """One place in an answer. `path` is how messages name it."""

    kind: Kind
    place: Path
    name: str
    parameter: str
    path: str


CONTAINERS: tuple[Path, ...] = (("pagination",), ("meta",), ("meta", "pagination"), ("paging",), ())
"""Where counters, cursors and totals stand, first choice first; () is the envelope itself."""
HEADERS: Path = ("the headers",)
_TOP, _PAGINATION = CONTAINERS[-1], CONTAINERS[0]
_PAGE_INFO: tuple[Path, ...] = (("pageInfo",), ("page_info",))
_LINKS: tuple[Path, ...] = (("links",), ("_links",), ("meta", "links"), ("pagination", "links"))
PAGE_NUMBERS = ("page", "currentPage", "current_page", "pageNumber", "page_number", "x-page", "current-page")
PAGE_COUNTS = ("total_pages", "totalPages", "pageCount", "page_count", "last_page", "lastPage", "pages")
PAGE_COUNT_HEADERS = ("x-total-pages", "total-pages", "x-wp-totalpages")
PAGE_SIZES = ("limit", "take", "per_page", "perPage", "page_size", "pageSize", "itemsPerPage", "size")
TOTALS = ("total", "totalItems", "total_items", "totalCount", "total_count", "totalDocs", "totalElements")
"""`count` is none of them: beside @nestjsx/crud's `total` it is the page's own."""
TOTAL_HEADERS = ("x-total-count", "x-total", "total-count", "x-wp-total")
FORMS: tuple[Form, ...] = (
    Form(Kind.NEXT, (_PAGINATION,), ("next_page", "nextPage")),
    Form(Kind.MORE, (_PAGINATION,), ("has_more",)),
    Form(Kind.NEXT, (_TOP,), ("next_page", "nextPage")),
    Form(Kind.MORE, (_TOP,), ("has_more",)),
    Form(Kind.NEXT, CONTAINERS, ("next_page", "nextPage")),
    Form(Kind.NEXT, (HEADERS,), ("x-next-page",)),
    Form(Kind.MORE, CONTAINERS, ("has_more", "hasMore", "hasNextPage", "has_next_page", "hasNext", "has_next")),
    Form(Kind.MORE, _PAGE_INFO, ("hasNextPage", "has_next_page")),
    Form(Kind.COUNT, CONTAINERS, PAGE_COUNTS),
    Form(Kind.COUNT, (HEADERS,), PAGE_COUNT_HEADERS),
    Form(Kind.CURSOR, (("cursor",),), ("afterCursor",), "afterCursor"),
    Form(Kind.CURSOR, CONTAINERS, ("next_cursor", "nextCursor"), "cursor"),
    Form(Kind.CURSOR, (("response_metadata",),), ("next_cursor",), "cursor"),
    Form(Kind.CURSOR, _PAGE_INFO, ("endCursor", "end_cursor"), "after"),
    Form(Kind.CURSOR, (("paging", "next"),), ("after",), "after"),
    Form(Kind.CURSOR, CONTAINERS, ("nextPageToken",), "pageToken"),
    Form(Kind.CURSOR, CONTAINERS, ("next_page_token",), "page_token"),
    Form(Kind.START, CONTAINERS, ("offset",), "offset"),
    Form(Kind.START, CONTAINERS, ("skip",), "skip"),
    Form(Kind.RANGE, (HEADERS,), ("content-range",), "offset"),
    Form(Kind.LINK_OR_NUMBER, CONTAINERS, ("next",)),
    Form(Kind.LINK, _LINKS, ("next",)),
    Form(Kind.LINK, tuple((*place, "next") for place in _LINKS), ("href",)),
    Form(Kind.LINK, CONTAINERS, ("next_page_url", "nextPageUrl", "next_url", "nextUrl", "next_link", "nextLink")),
    Form(Kind.LINK, (_TOP,), ("@odata.nextLink",)),
    Form(Kind.LINK, (HEADERS,), ("link",)),
)
"""All that is understood, first choice first. The customer's come first, and numbers before links."""
SIGNALS: tuple[Signal, ...] = tuple(
    dict.fromkeys(
        Signal(form.kind, place, name, form.parameter, ".".join((*(() if place == HEADERS else place), name)))
        for form in FORMS
        for place in form.places
        for name in form.names
    )
)
"""Every signal that is understood; the first one that an answer gives is followed."""
_Tree = dict[str, tuple[tuple[int, Signal] | None, "_Tree"]]


def _tree_of(signals: Iterable[tuple[int, Signal]], path: Path) -> _Tree:
    """The signals below a path, by the next key on the way to them: an answer is looked through once."""
    tree: _Tree = {}
    below = [(rank, signal) for rank, signal in signals if signal.place[: len(path)] == path]
    for rank, signal in below:
        if signal.place == path:
            tree[signal.name] = ((rank, signal), {})
    for key in {signal.place[len(path)] for _, signal in below if len(signal.place) > len(path)}:
        tree[key] = (tree.get(key, (None, {}))[0], _tree_of(below, (*path, key)))
    return tree


_TREE = _tree_of([(rank, signal) for rank, signal in enumerate(SIGNALS) if signal.place != HEADERS], ())
_HEADER_TREE = _tree_of(enumerate(SIGNALS), HEADERS)
_RANK = itemgetter(0)
_COUNTERS = {
    name: (role, rank)
    for role, names in enumerate(
        (PAGE_NUMBERS, (*PAGE_COUNTS, *PAGE_COUNT_HEADERS), (*TOTALS, *TOTAL_HEADERS)),
    )
    for rank, name in enumerate(names)
}
STARTS = tuple(form.parameter for form in FORMS if form.kind is Kind.START)
"""The parameters that count items."""
TOTAL_PATHS = {*(".".join((*place, name)) for place in CONTAINERS for name in TOTALS), *TOTAL_HEADERS}
_RANGE = re.compile(r"(?:([a-z_-]+)[ =])?\s*(?:(\d{1,15})-\d{1,15}|\*)/(\d{1,15}|\*)", re.IGNORECASE)

Found = tuple[int, Signal, Any, Mapping[str, Any]]
"""(rank, signal, its value, what stands beside it)."""


def signals_in(envelope: Mapping[str, Any], headers: Mapping[str, str]) -> list[Found]:
    """Each signal that is given, the first choice first."""
    found: list[Found] = []
    _look_into(envelope, _TREE, found)
    if headers:
        _look_into(headers, _HEADER_TREE, found)
    if len(found) > 1:
        found.sort(key=_RANK)
    return found


def _look_into(place: Mapping[str, Any], tree: _Tree, found: list[Found]) -> None:
    for name in place.keys() & tree.keys():
        ranked, below = tree[name]
        value = place[name]
        if ranked is not None:
            found.append((*ranked, value, place))
        if below:
            if isinstance(value, list):  # [{rel: next, href: ...}]
                value = {str(link.get("rel")): link.get("href") for link in value if isinstance(link, dict)}
            if isinstance(value, dict):
                _look_into(value, below, found)


def read_range(text: str) -> tuple[int | None, int | None] | None:
    """How many items stand before the page's, and how many there are, as a Content-Range has it; not one of bytes."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or (match[1] or "").lower() == "bytes":
        return None
    return count_of(match[2]), count_of(match[3])


class Counters(NamedTuple):
    """What an answer counts: which page it is, how many pages there are, and how many items in all."""

    number: int | None
    pages: int | None
    total: int | None


def counters_in(envelope: Mapping[str, Any], headers: Mapping[str, str]) -> Counters:
    """The counters, as far as the envelope or the headers declare them."""
    counts: list[int | None] = [None, None, None]
    for place in _containers(envelope):
        _count_in(place, counts)
    if headers:
        _count_in(headers, counts)
        if counts[2] is None and "content-range" in headers:
            counts[2] = (read_range(headers["content-range"]) or (None, None))[1]
    return Counters(*counts)


def declared_size(envelope: Mapping[str, Any]) -> int | None:
    """How many items a full page has, where the envelope says so."""
    declared = (place.get(name) for place in _containers(envelope) for name in PAGE_SIZES)
    return next((size for size in map(count_of, declared) if size), None)


def _containers(envelope: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Each place where counters may stand, first choice first."""
    for path in CONTAINERS:
        place: Any = envelope
        for key in path:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            yield place


def _count_in(place: Mapping[str, Any], counts: list[int | None]) -> None:
    """Add the counters of a place to those that were found before; of two names for one the first choice counts."""
    best: dict[int, tuple[int, int]] = {}
    for name in place.keys() & _COUNTERS.keys():
        role, rank = _COUNTERS[name]
        if counts[role] is None and (count := count_of(place[name])) is not None:
            best[role] = min(best.get(role, (rank, count)), (rank, count))
    for role, (_, count) in best.items():
        counts[role] = count


def understood_forms() -> str:
    """The paging forms that are understood, for messages."""
    groups: dict[tuple[Path, ...], list[str]] = {}
    for form in FORMS[4:]:
        groups.setdefault(form.places, []).extend(form.names)
    anywhere = groups.pop(CONTAINERS)
    containers = ", ".join(".".join(place) for place in CONTAINERS if place)
    headers = [name.title() for name in groups.pop((HEADERS,))]
    others = [".".join((*place, name)) for places, names in groups.items() for place in places for name in names]
    return (
        f"{', '.join(anywhere)} (at the top or in {containers}); {', '.join(others)}; the headers {', '.join(headers)}"
    )
