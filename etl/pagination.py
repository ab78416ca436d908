"""From a page's envelope to the next page. Pure.

The signals are data: where each stands, and how the next page is asked for. Sources: DESIGN section 3, and the answers
of the NestJS paginators nestjs-paginate, nestjs-typeorm-paginate, @nestjsx/crud and typeorm-cursor-pagination.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from etl.errors import IncompleteExtractError, UpstreamError
from etl.records import is_storable

Path = tuple[str, ...]


class Kind(Enum):
    """How a signal names the next page."""

    NEXT = "a page number, a token or a URL; null, false and '' are the end"
    MORE = "a flag: another page, or not"
    COUNT = "how many pages there are"
    CURSOR = "a token, sent back as a parameter"
    LINK = "a URL"
    SIZE = "the size of a full page, where nothing counts the pages: the last one is the first that isn't full"


@dataclass(frozen=True)
class Signal:
    """One place in an envelope. A number or token found there is sent back as `parameter`."""

    kind: Kind
    path: Path
    parameter: str = "page"


CONTAINERS: tuple[Path, ...] = (("pagination",), ("meta",), ())
"""Where counters, cursors and totals stand, first choice first; () is the envelope itself."""
LINK_HEADER = "Link header"
PAGE_NUMBERS = ("page", "currentPage", "current_page")
PAGE_COUNTS = ("total_pages", "totalPages", "pageCount", "page_count")
TOTALS = ("total", "totalItems", "total_items", "totalCount", "total_count")
"""`count` is none of them: beside @nestjsx/crud's `total` it is the page's own."""
PAGE_SIZES = ("limit", "itemsPerPage", "per_page", "perPage", "pageSize", "page_size", "size")
ROUND_SIZES = frozenset(size * ten for size in (10, 20, 25, 30, 50) for ten in (1, 10, 100))
"""What upstreams take for a page's size where nothing asks for one, or declares it."""
SIGNALS: tuple[Signal, ...] = (
    Signal(Kind.NEXT, ("pagination", "next_page")),
    Signal(Kind.NEXT, ("pagination", "nextPage")),
    Signal(Kind.MORE, ("pagination", "has_more")),
    Signal(Kind.NEXT, ("next_page",)),
    Signal(Kind.NEXT, ("nextPage",)),
    Signal(Kind.MORE, ("has_more",)),
    Signal(Kind.MORE, ("pagination", "hasMore")),
    Signal(Kind.MORE, ("hasMore",)),
    *(Signal(Kind.COUNT, (*container, name)) for container, name in product(CONTAINERS, PAGE_COUNTS)),
    Signal(Kind.CURSOR, ("cursor", "afterCursor"), "afterCursor"),
    *(
        Signal(Kind.CURSOR, (*container, name), "cursor")
        for container, name in product(CONTAINERS, ("next_cursor", "nextCursor"))
    ),
    Signal(Kind.LINK, ("links", "next")),
    Signal(Kind.LINK, (LINK_HEADER,)),
    *(Signal(Kind.SIZE, (*container, "limit")) for container in CONTAINERS),
)
"""Every signal that is understood; the first one that an envelope gives is followed."""

_PAGING_WORDS = re.compile(r"next|cursor|page|offset|more|links", re.IGNORECASE)
_CONTINUING_WORDS = re.compile(r"next|more", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*:|/|\?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class PageRequest:
    """What to ask for: the dataset's own path with one parameter, or a URL of the base's origin.

    `ordinal` counts from 1 in the order of reading.
    """

    ordinal: int = 1
    parameter: str | None = None
    value: str | None = None
    url: str | None = None

    @property
    def page_number(self) -> int | None:
        """The page number that is asked for, where it is asked for by number."""
        return count_of(self.value) if self.parameter == "page" else None

    def describe(self) -> str:
        """For messages; a cursor or a URL isn't shown."""
        how = f"page={self.value}" if self.page_number is not None else self.parameter or "a link"
        return f"page {self.ordinal}" + (f" (asked for by {how})" if self.ordinal > 1 else "")


@dataclass(frozen=True)
class Next:
    """What a page says of the pages after it; `request` is None at the end.

    `is_understood` is False where the envelope gives no signal. `last_page` is the number of pages, where it is
    declared and the next ones can be asked for by number.
    """

    request: PageRequest | None
    is_understood: bool = True
    last_page: int | None = None


@dataclass(frozen=True)
class Origins:
    """The origin that the token may go to, and those whose links are taken for its own."""

    base: str
    aliases: tuple[str, ...] = ()

    def resolve(self, link: str, current_url: str) -> str:
        """A link found at `current_url`, as a URL of the base's origin. Raises UpstreamError for any other."""
        try:
            target = urlsplit(urljoin(current_url, link))
            origin = _origin(target)
        except ValueError:
            raise UpstreamError("a link to the next page can't be read as a URL") from None
        base = urlsplit(self.base)
        if "@" in target.netloc or origin not in {_origin(urlsplit(known)) for known in (self.base, *self.aliases)}:
            raise UpstreamError(
                f"the upstream leads to {_show(target)}, but the token goes to {_show(base)} only. "
                "If a proxy in front of the upstream makes such links, set NEST_API_BASE_URL to the address that it "
                "is reached by, or name the other origin in NEST_API_LINK_ORIGINS."
            )
        return urlunsplit((base.scheme, base.netloc, target.path, target.query, ""))


@dataclass(frozen=True)
class _Place:
    """Where the next page is: `parameter` and `value`, a link where `parameter` is None, the end where `value` is."""

    parameter: str | None
    value: str | int | None


_END = _Place(None, None)


@dataclass(frozen=True)
class _State:
    """What the signals are read beside."""

    source: Mapping[str, Any]
    current: int
    last_page: int | None
    item_count: int


def next_page(
    envelope: Mapping[str, Any],
    link_header: str | None,
    asked: PageRequest,
    item_count: int,
    url: str,
    origins: Origins,
) -> Next:
    """Follow the first signal of the page that was asked for as `asked` and came from `url`.

    Raises IncompleteExtractError where the pages don't advance, UpstreamError for a link to another origin.
    """
    link = _next_link(link_header or "")
    source = {**envelope, LINK_HEADER: link} if link else envelope
    last_page = _first_count(envelope, PAGE_COUNTS)
    state = _State(source, _current_page(envelope, asked), last_page, item_count)
    place = _next_place(state)
    if place is None or place.value is None:
        return Next(None, is_understood=place is not None)
    if item_count == 0:
        raise IncompleteExtractError(f"{asked.describe()} is empty, and still says that another page follows")
    if place.parameter is None:
        return Next(PageRequest(asked.ordinal + 1, url=origins.resolve(str(place.value), url)))
    if isinstance(place.value, int):
        _check_advance(place.value, state, asked)
    return Next(
        PageRequest(asked.ordinal + 1, place.parameter, str(place.value)),
        last_page=last_page if isinstance(place.value, int) else None,
    )


def _check_advance(number: int, state: _State, asked: PageRequest) -> None:
    if number <= state.current:
        raise IncompleteExtractError(
            f"{asked.describe()} names page {number} as the next one: that doesn't lead on from page {state.current}"
        )
    if state.last_page is not None and number > state.last_page:
        raise IncompleteExtractError(
            f"{asked.describe()} says that page {number} follows, and that there are {state.last_page} pages"
        )


def _current_page(envelope: Mapping[str, Any], asked: PageRequest) -> int:
    declared = _first_count(envelope, PAGE_NUMBERS)
    if asked.page_number is not None and declared is not None and declared != asked.page_number:
        raise IncompleteExtractError(f"{asked.describe()} was answered with page {declared}")
    return next((n for n in (declared, asked.page_number) if n is not None), asked.ordinal)


def _next_place(state: _State) -> _Place | None:
    """What the first signal says; None without any."""
    more = False
    for signal in SIGNALS:
        found, value = _look_up(state.source, signal.path)
        if not found:
            continue
        if signal.kind is Kind.MORE:
            if value in _NO:
                return _END
            more = True  # it says that there is more, not where: what stands beside it says that
            continue
        place = _READ[signal.kind](signal, value, state)
        if place is not None and not (more and place.value is None):
            return place
    return _Place("page", state.current + 1) if more else None


def _read_next(signal: Signal, value: Any, state: _State) -> _Place | None:
    if value is True:
        return _Place(signal.parameter, state.current + 1)
    if isinstance(value, str) and _URL.match(value):
        # Numbers come before links: a COUNT follows.
        return _Place(None, value) if state.last_page is None else None
    number = _integer(value)
    return _read_token(signal, value, state) if number is None else _Place(signal.parameter, number)


def _read_token(signal: Signal, value: Any, state: _State) -> _Place | None:  # noqa: ARG001 - one of a table
    if value in (None, False, ""):
        return _END
    if not is_storable(str(value)):
        raise UpstreamError(f"its token for the next page ({'.'.join(signal.path)}) can't be sent back")
    return _Place(signal.parameter, str(value))


def _read_count(signal: Signal, value: Any, state: _State) -> _Place | None:
    count = count_of(value)
    if count is None:
        return None
    return _Place(signal.parameter, state.current + 1) if state.current < count else _END


def _read_link(signal: Signal, value: Any, state: _State) -> _Place | None:  # noqa: ARG001
    return _Place(None, value) if isinstance(value, str) and value else _END


def _read_size(signal: Signal, value: Any, state: _State) -> _Place | None:
    size = count_of(value)
    if not size or not any(_look_up(state.source, (*signal.path[:-1], name))[0] for name in PAGE_NUMBERS):
        return None
    return _Place(signal.parameter, state.current + 1) if state.item_count >= size else _END


_READ: dict[Kind, Callable[[Signal, Any, _State], _Place | None]] = {
    Kind.NEXT: _read_next,
    Kind.COUNT: _read_count,
    Kind.CURSOR: _read_token,
    Kind.LINK: _read_link,
    Kind.SIZE: _read_size,
}
_NO = (None, False, "", "false", "0")


def declared_total(envelope: Mapping[str, Any], header: str | None) -> int | None:
    """How many items there are in all, where the envelope or the X-Total-Count header says so."""
    total = _first_count(envelope, TOTALS)
    return count_of(header) if total is None else total


def declared_size(envelope: Mapping[str, Any]) -> int | None:
    """How many items a full page has, where the envelope says so."""
    return _first_count(envelope, PAGE_SIZES)


def unknown_paging(envelope: Mapping[str, Any], *, continuing: bool) -> list[str]:
    """The keys that look like paging and have a value; only those that say "there is more" if `continuing`."""
    words = _CONTINUING_WORDS if continuing else _PAGING_WORDS
    places = {container: _look_up(envelope, container)[1] for container in CONTAINERS}
    return [
        ".".join((*container, str(key)))
        for container, place in places.items()
        if isinstance(place, Mapping)
        for key, value in place.items()
        if words.search(str(key)) and value not in (*_NO, 0) and (*container, key) not in places
    ]


def understood_forms() -> str:
    """The paging forms that are understood, for messages."""
    return ", ".join(dict.fromkeys(".".join(signal.path) for signal in SIGNALS))


def count_of(value: object) -> int | None:
    """A counter: a whole number from 0, as a number or as text."""
    number = _integer(value)
    return number if number is not None and number >= 0 else None


def _integer(value: object) -> int | None:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value) else None


def _first_count(envelope: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for container in CONTAINERS:
        _, place = _look_up(envelope, container)
        counts = (count_of(place[name]) for name in names if name in place) if isinstance(place, dict) else ()
        if (count := next((count for count in counts if count is not None), None)) is not None:
            return count
    return None


def _look_up(source: Mapping[str, Any], path: Path) -> tuple[bool, Any]:
    value: Any = source
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False, None
        value = value[key]
    return True, value


_PARAMETER = r"""\s*;\s*([\w!#$&+.^`|~*-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]+))?"""
_LINK = re.compile(rf"<([^<>]*)>((?:{_PARAMETER})*)")


def _next_link(header: str) -> str | None:
    """The target of rel="next" in a Link header (RFC 8288): of a link's parameters named rel, the first counts."""
    for link in _LINK.finditer(header):
        parameters = re.finditer(_PARAMETER, link[2])
        relations = next((p[2] or "" for p in parameters if p[1].lower() == "rel"), "")
        if "next" in relations.strip('"').lower().split():
            return link[1]
    return None


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    scheme = url.scheme.lower()
    return scheme, (url.hostname or "").lower(), url.port or _DEFAULT_PORTS.get(scheme)


def _show(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
