"""From what an answer says beside its items to the next page. Pure.

What is understood stands in `paging_signals`. What only looks like paging (see `paging_words`) is never taken for the
end: either page numbers are tried, or `Next.unknown` tells it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from etl.errors import IncompleteExtractError, UpstreamError
from etl.extract.origins import Origins
from etl.extract.paging_signals import (
    HEADERS,
    PAGE_NUMBERS,
    PAGE_SIZES,
    STARTS,
    TOTAL_PATHS,
    Counters,
    Kind,
    Signal,
    read_range,
    signals_in,
    understood_forms,
)
from etl.extract.paging_words import Sign, Word, count_of, integer_of, paging_signs
from etl.records.values import is_storable

_URL = re.compile(r"[a-z][a-z0-9+.-]*:|/|\?", re.IGNORECASE)
_LINK_LIKE = re.compile(r"[/?]")
_ROUND = re.compile(r"(?:[125]|25)0*")


@dataclass(frozen=True)
class PageRequest:
    """What to ask for: the dataset's own path with one parameter, or a URL of the base's origin.

    `ordinal` counts from 1 in the order of reading. `first_number` is the number of the first page, None while it isn't
    known, and `last_number` the last one's, where a page has declared it. `doubts` are not None where the page may not
    be there, since no page speaks of it: they are what says that there is more all the same. `limit` is asked for
    instead of the usual page size. `led_by` is the signal that led here, for messages.
    """

    ordinal: int = 1
    parameter: str | None = None
    value: str | None = None
    url: str | None = None
    first_number: int | None = None
    last_number: int | None = None
    doubts: tuple[Sign, ...] | None = None
    limit: int | None = None
    led_by: str = field(default="", compare=False)

    @property
    def is_first(self) -> bool:
        """Whether it names no page."""
        return self.parameter is None and self.url is None

    @property
    def page_number(self) -> int | None:
        """The page number that is asked for, where it is asked for by number."""
        return count_of(self.value) if self.parameter == "page" else None

    @property
    def is_by_start(self) -> bool:
        """Whether it is asked for by the number of items before it."""
        return self.parameter in STARTS

    def same_page(self, other: PageRequest) -> bool:
        """Whether both ask for the same."""
        mine, others = ((r.parameter, r.value, r.url, r.limit) for r in (self, other))
        return mine == others

    def describe(self) -> str:
        """For messages; a cursor or a URL isn't shown."""
        is_number = self.page_number is not None or self.is_by_start
        how = f"{self.parameter}={self.value}" if is_number else self.parameter or "a link"
        return f"page {self.ordinal}" + ("" if self.is_first else f" (asked for by {how})")


@dataclass(frozen=True)
class Reply:
    """What an answer says beside its items. `rows` are all items that have been read, with this page's.

    `headers` have lower-case names. `has_totals` is False where what looks like a total is an amount of money.
    """

    envelope: Mapping[str, Any]
    headers: Mapping[str, str]
    item_count: int
    rows: int
    url: str
    counters: Counters
    has_totals: bool = True

    @property
    def total(self) -> int | None:
        """How many items there are in all, where it is declared."""
        return self.counters.total if self.has_totals else None


@dataclass(frozen=True)
class Next:
    """What a page says of the pages after it; `request` is None at the end.

    `unknown` is what says, at the end, that there is more, in a form that isn't understood.
    """

    request: PageRequest | None
    unknown: tuple[Sign, ...] = ()


@dataclass(frozen=True)
class _Place:
    """Where the next page is: `parameter` and `value`, a link where `parameter` is None, the end where `value` is.

    An end that `may_go_on` is one only if no later signal says where there is more.
    """

    parameter: str | None
    value: str | int | None
    may_go_on: bool = False


_END = _Place(None, None)
_NOTHING_HERE = _Place(None, None, may_go_on=True)
_SOMEWHERE = _Place("", "")
"""There is more; where, another signal says."""


@dataclass
class _State:
    """What the signals are read beside. `number` is this page's, where it is known.

    `more` are the flags that have said that there is more, `read` the paths of all signals that were understood, and
    `led_by` that of the one that is followed.
    """

    reply: Reply
    asked: PageRequest
    number: int | None
    first_number: int | None
    last_number: int | None
    more: list[Sign] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    led_by: str = ""


def next_page(reply: Reply, asked: PageRequest, origins: Origins) -> Next:
    """Follow the first signal of the page that was asked for as `asked`.

    Raises IncompleteExtractError where the pages don't advance, UpstreamError for a link to another origin.
    """
    state = _state_of(reply, asked)
    place = _next_place(state)
    if place is None or place.may_go_on:
        return _settle(state, has_ended=place is not None)
    if place.value is None:
        return Next(None)
    if reply.item_count == 0:
        raise IncompleteExtractError(
            f"{asked.describe()} is empty, and still says that another page follows (`{state.led_by}`)"
        )
    if place is _SOMEWHERE:
        return _go_somewhere(state)
    ordinal, parameter, value = asked.ordinal + 1, place.parameter, str(place.value)
    if parameter is None:
        return Next(PageRequest(ordinal, url=origins.resolve(value, reply.url), led_by=state.led_by))
    if parameter == "page" and isinstance(place.value, int):
        _check_advance(place.value, state)
        numbers = (state.first_number, state.last_number)
        return Next(PageRequest(ordinal, parameter, value, None, *numbers, led_by=state.led_by))
    doubts = None
    if parameter in STARTS and reply.total is None and not state.more:  # the first page without an item is the end
        doubts = (Sign(state.led_by, int(value) - reply.item_count, Word.WAY), *_signs(state))
    return Next(PageRequest(ordinal, parameter, value, doubts=doubts, led_by=state.led_by))


def _state_of(reply: Reply, asked: PageRequest) -> _State:
    declared, count, _ = reply.counters
    if asked.page_number is not None and declared is not None and declared != asked.page_number:
        raise IncompleteExtractError(
            f"{asked.describe()} was answered with page {declared}: the upstream has no such page, or takes its number "
            "by another parameter than `page`"
        )
    first_number = min(declared, 1) if asked.is_first and declared is not None else asked.first_number
    return _State(
        reply,
        asked,
        number=asked.page_number if declared is None else declared,
        first_number=first_number,
        last_number=asked.last_number if count is None else count - (first_number == 0),
    )


def _check_advance(number: int, state: _State) -> None:
    current = state.asked.ordinal if state.number is None else state.number
    if number <= current:
        raise IncompleteExtractError(
            f"{state.asked.describe()} names page {number} as the next one: that isn't after page {current}"
        )
    if state.last_number is not None and number > state.last_number:
        raise IncompleteExtractError(
            f"{state.asked.describe()} says that page {number} follows, but that "
            f"it has {state.last_number + (state.first_number == 0)} pages"
        )


def _next_place(state: _State) -> _Place | None:
    """What the first signal says; None without any."""
    end: _Place | None = None
    outvoted: tuple[Kind, ...] = ()
    for _, signal, value, beside in signals_in(state.reply.envelope, state.reply.headers):
        place = _READ[signal.kind](signal, value, beside, state)
        if place is None:
            continue
        state.read.add(signal.path)
        if signal.kind in outvoted:
            continue
        state.led_by = signal.path
        if place is _SOMEWHERE:
            state.more.append(Sign(signal.path, value, Word.WAY, more=True))
        elif place.may_go_on or (place.value is None and state.more):
            end = _NOTHING_HERE
            if signal.kind is Kind.NEXT:  # numbers come before links, and the first of them counts
                outvoted = (Kind.NEXT, Kind.LINK, Kind.LINK_OR_NUMBER)
        else:
            return place
    if state.more:
        return _SOMEWHERE if state.number is None else _Place("page", state.number + 1)
    if end is None and state.asked.page_number is not None and state.asked.last_number is not None:
        return _of_last_number(state)
    return end


def _read_flag(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place:  # noqa: ARG001
    return _END if value in _NO else _SOMEWHERE


def _read_next(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:
    if value is True:
        return _SOMEWHERE
    if isinstance(value, str) and _URL.match(value):
        # Numbers come before links: a COUNT follows.
        return _Place(None, value) if state.last_number is None or state.number is None else None
    number = integer_of(value)
    return _read_token(signal, value, beside, state) if number is None else _Place(signal.parameter, number)


def _read_token(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:  # noqa: ARG001
    if value in (None, False, ""):
        return _NOTHING_HERE
    if not isinstance(value, (str, int)):
        return None
    if not is_storable(str(value)):
        raise UpstreamError(f"its token for the next page ({signal.path}) can't be sent back")
    return _Place(signal.parameter, str(value))


def _read_count(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:  # noqa: ARG001
    count = count_of(value)
    if count is None:
        return None
    if state.number is None:  # it says whether: where, it can't say
        return _SOMEWHERE if state.asked.ordinal < count else _END
    return _of_last_number(state)


def _of_last_number(state: _State) -> _Place:
    number, last = state.number, state.last_number
    return _END if number is None or last is None or number >= last else _Place("page", number + 1)


def _read_start(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:
    start = count_of(value)
    has_size = any(count_of(beside.get(name)) for name in PAGE_SIZES)
    if start is None or not (has_size or state.reply.total is not None or state.more):
        return None
    return _from_start(signal, start, state)


def _read_range(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:  # noqa: ARG001
    shown = read_range(value)
    if shown is None:
        return None
    return _NOTHING_HERE if shown[0] is None else _from_start(signal, shown[0], state)


def _from_start(signal: Signal, start: int, state: _State) -> _Place:
    asked = state.asked
    if asked.parameter == signal.parameter and str(start) != asked.value:
        raise IncompleteExtractError(
            f"{asked.describe()} was answered with `{signal.path}: {start}`: the upstream takes it by another parameter"
        )
    following = start + state.reply.item_count
    is_end = following == start or (state.reply.total is not None and following >= state.reply.total)
    return _NOTHING_HERE if is_end else _Place(signal.parameter, following)


def _read_link(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:  # noqa: ARG001
    link = _next_link(value) if signal.place is HEADERS else value
    if isinstance(link, str) and link:
        return _Place(None, link)
    return _NOTHING_HERE if link in (None, False, "") and signal.place is not HEADERS else None


def _read_link_or_number(signal: Signal, value: Any, beside: Mapping[str, Any], state: _State) -> _Place | None:
    number = integer_of(value)
    if number is not None:  # any other number counts something else than pages
        is_next = number == 1 + (state.asked.ordinal if state.number is None else state.number)
        return _Place(signal.parameter, number) if is_next else None
    is_link = isinstance(value, str) and _LINK_LIKE.search(value)
    return _SOMEWHERE if value is True else _read_link(signal, value, beside, state) if is_link or not value else None


_READ: dict[Kind, Callable[[Signal, Any, Mapping[str, Any], _State], _Place | None]] = {
    Kind.NEXT: _read_next,
    Kind.MORE: _read_flag,
    Kind.COUNT: _read_count,
    Kind.CURSOR: _read_token,
    Kind.START: _read_start,
    Kind.RANGE: _read_range,
    Kind.LINK: _read_link,
    Kind.LINK_OR_NUMBER: _read_link_or_number,
}
_NO = (None, False, "", "false", "0")


def _go_somewhere(state: _State) -> Next:
    """A flag says that there is more, and nothing says where: by page numbers, if by anything."""
    others = tuple(sign for sign in _signs(state) if sign.word in (Word.WAY, Word.START))
    if not state.asked.is_first or others:
        return Next(None, (*state.more, *others))
    guess = PageRequest(1, "page", "1", last_number=state.last_number, doubts=tuple(state.more))
    return Next(guess)


def _settle(state: _State, *, has_ended: bool) -> Next:
    """No signal leads on. `has_ended` is whether one says so."""
    reply, asked = state.reply, state.asked
    if not asked.is_first and asked.doubts is None:
        return Next(None)  # the signals that led here have gone
    signs = _signs(state)
    ways = tuple(sign for sign in signs if sign.word is Word.WAY)
    if reply.total is not None and reply.rows >= reply.total:
        return Next(None, ways)
    starts = tuple(sign for sign in signs if sign.word is Word.START and reply.item_count and not has_ended)
    more = tuple(sign for sign in signs if sign.more and sign.word is not Word.WAY)
    if ways or starts or (more and not reply.item_count and asked.is_first):
        return Next(None, (*ways, *starts, *more))
    if has_ended:
        more = tuple(sign for sign in more if sign.path not in TOTAL_PATHS)
    is_all = has_ended or any(sign.more is False for sign in signs)
    if not reply.item_count or (is_all and not more):
        return Next(None)
    if asked.doubts is not None:
        return _guess_on(state, asked.doubts, more)
    numbered = tuple(sign for sign in signs if sign.word in (Word.PAGE, Word.PAGES, Word.SIZE))
    if not more and not _may_be_full(state, numbered):
        return Next(None)
    number = 2 if state.number is None else state.number + 1
    unsolved = (sign for sign in numbered if not sign.more and not _is_harmless(sign, reply.item_count))
    return Next(PageRequest(2, "page", str(number), first_number=state.first_number, doubts=(*more, *unsolved)))


def _is_harmless(sign: Sign, item_count: int) -> bool:
    """Whether a word on numbered pages fits a list of one page, that an upstream sends whatever page is asked for."""
    name = sign.path.rpartition(".")[2]
    if sign.word is Word.SIZE:
        return item_count < sign.value or (name == "size" and item_count == sign.value)
    return name in PAGE_NUMBERS or sign.more is False


def _guess_on(state: _State, doubts: Sequence[Sign], more: Sequence[Sign]) -> Next:
    """The page after one that was there, though no page spoke of it."""
    asked = state.asked
    # Records arrive meanwhile: the first page's count is what has to be there.
    kept = (*(s for s in doubts if s.word is Word.COUNT), *(s for s in more if s.word is not Word.COUNT))
    step = state.reply.item_count if asked.is_by_start else 1
    value = str((count_of(asked.value) or 0) + step)
    return Next(replace(asked, ordinal=asked.ordinal + 1, value=value, doubts=kept))


def _may_be_full(state: _State, numbered: Sequence[Sign]) -> bool:
    """Whether the first page may not be all, though nothing says that there is more."""
    count, limit = state.reply.item_count, _asked_limit(state.reply.url)
    if not numbered:
        return count == limit or not state.reply.has_totals or is_round(count)
    sizes = [sign.value for sign in numbered if sign.word is Word.SIZE]
    # A size that only repeats what was asked for says nothing of a lower cap.
    is_short = any(count < size and (size != limit or not is_round(count)) for size in sizes)
    return len(sizes) < len(numbered) or not is_short


def is_round(count: int) -> bool:
    """Whether it is a number that page sizes and caps usually have: 10, 20, 25, 50, 100, ..."""
    return count >= 10 and _ROUND.fullmatch(str(count)) is not None


def full_page(limit: int) -> str:
    """Why a page of as many items as were asked for can't be taken for all."""
    return (
        f"as many records came as NEST_API_PAGE_SIZE asks for, {limit}, more come where more are asked for, and "
        "`page=2` brings the first ones again: nothing says how to ask for the next page. Set NEST_API_PAGE_SIZE to "
        "more records than there are, or let the upstream tell its pages. "
        f"Understood are {understood_forms()}. A run with `force` loads what was read all the same."
    )


def _asked_limit(url: str) -> int | None:
    return next((count_of(value) for name, value in parse_qsl(urlsplit(url).query) if name == "limit"), None)


def _signs(state: _State) -> tuple[Sign, ...]:
    """All that looks like paging and isn't understood; but a total that has been read already is none."""
    reply, asked = state.reply, state.asked
    asked_with = () if asked.is_first else (asked.value, *(v for _, v in parse_qsl(urlsplit(reply.url).query)))
    signs = paging_signs(
        reply.envelope, reply.headers, asked.ordinal, reply.rows, [value for value in asked_with if value]
    )
    return tuple(
        sign for sign in signs if sign.path not in state.read and (reply.has_totals or sign.path not in TOTAL_PATHS)
    )


def tells_place(reply: Reply, asked: PageRequest) -> bool:
    """Whether a page says itself that it is the one that was asked for."""
    if asked.page_number is not None:
        return reply.counters.number == asked.page_number
    starts = [
        (read_range(value) or (None, None))[0] if signal.kind is Kind.RANGE else count_of(value)
        for _, signal, value, _ in signals_in(reply.envelope, reply.headers)
        if signal.kind in (Kind.START, Kind.RANGE)
    ]
    return asked.value in [str(start) for start in starts]


def unresolved(doubts: Sequence[Sign], rows: int, *, is_refused: bool) -> tuple[Sign, ...]:
    """Which doubts remain after a page that was guessed brought nothing.

    `rows` is as many items as there can be. `is_refused` is whether the upstream takes no page numbers: then words
    about full or numbered pages remain as well. If it does, whoever compares totals judges them.
    """
    remaining = [sign for sign in doubts if not (sign.word is Word.COUNT and sign.value <= rows)]
    if is_refused:
        return tuple(remaining)
    return tuple(sign for sign in remaining if sign.more and sign.path not in TOTAL_PATHS)


def refusal(unknown: Sequence[Sign], rows: int) -> str:
    """Why what was read can't be taken for all, and how to go on."""
    shown = ", ".join(f"`{sign}`" for sign in unknown[:10])
    if all(sign.word is Word.COUNT for sign in unknown):
        said = (
            f"{shown} says that there is more than the {rows} records that were read, and page 2 brings no others. If "
            "it isn't the number of records (but an amount of money, for instance), it needs another name"
        )
    elif any(sign.path.rpartition(".")[2] in STARTS and sign.word is Word.START for sign in unknown):
        said = (
            f"{shown} says where the page begins, and nothing beside it where the list ends: a `limit` (or `take`), a "
            "total or `has_more` is missing"
        )
    elif not any(sign.more or sign.word is Word.START for sign in unknown):
        said = f"{shown} speaks of pages, and the first one comes again where the second is asked for"

    else:
        said = f"{shown} says that there is more, in a form that isn't understood"

    return f"{said}. Understood are {understood_forms()}. A run with `force` loads what was read all the same."


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
