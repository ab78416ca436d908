"""What in an answer looks like paging, whether or not it is understood. Pure.

A key is judged by its words, whatever their case and joints: `nextPageToken`, `next_page_token` and `X-Next-Page-Token`
are one name. The names are data: the first pattern that a name matches says what it speaks of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any


class Word(Enum):
    """What a key speaks of. `WAY`, `START` and `LAST` may say it of any way to page, the others of page numbers."""

    WAY = "how to go on: a token, a link, a flag"
    START = "where in the list the page begins"
    LAST = "whether it is the last page"
    PAGE = "which page it is"
    PAGES = "how many pages there are"
    SIZE = "how many items a page may have"
    COUNT = "how many items there are"
    NONE = "something else, with all that stands in it"


_ABOUT = r"(?:(?:x|wp|odata|meta|pagination|paging|pager|page|list|results?|search|query|response|current)_)*"
_ITEMS = r"(?:items?|records?|results?|rows?|elements?|entries|docs|documents?|objects?|hits?|matches|resources?)"
_NAMES: tuple[tuple[Word, str], ...] = (
    # The way back, and what isn't about pages: when to ask again, what has changed, who may ask.
    (Word.NONE, r"(?:.*_)?(?:prev|previous|before|first|self|retry|sync|delta|updated?|modified)(?:_.*)?"),
    (Word.NONE, r"(?:.*_)?(?:refresh(?:ed)?|generated|scheduled?|rate_?limits?|quota)(?:_.*)?"),
    (Word.NONE, r"(?:.*_)?(?:csrf|xsrf|access|auth|bearer)(?:_.*)?"),
    (Word.NONE, r"more_(?:info|details?|information)|(?:learn|read|see|show)_more(?:_.*)?"),
    (Word.START, rf"{_ABOUT}(?:offset|skip|start(?:_?(?:at|from|index|row|record))?)"),
    (Word.NONE, r".*_(?:at|on|time|date|timestamp)"),
    (Word.LAST, rf"{_ABOUT}(?:is_)?last(?:_?page)?|(?:is_)?(?:done|completed?|finished|exhausted|eof|end_of_\w+)"),
    (Word.WAY, r"(?:.*_)?(?:next\w*|more|continue|continuation\w*|cursors?|bookmark|marker|resume)(?:_.*)?"),
    (Word.WAY, rf"{_ABOUT}(?:start(?:ing)?_)?after(?:_(?:id|key|cursor|token))?|{_ABOUT}token|(?:.*_)?scroll(?:_.*)?"),
    (Word.WAY, r"last_(?:evaluated_)?(?:id|key|cursor|token|seen|item|record|doc|document|value)"),
    (Word.WAY, r"(?:is_)?(?:truncated|incomplete|partial)(?:_results?|_content)?|exceeded_\w+"),
    (Word.PAGES, rf"{_ABOUT}pages|(?:.*_)?(?:total|last|max|num|number_of|nb)_?pages?|(?:.*_)?pages?_?(?:count|total)"),
    (Word.PAGE, rf"{_ABOUT}page(?:_?(?:number|no|num|index|idx))?|(?:.*_)?current_?page"),
    (Word.SIZE, rf"{_ABOUT}(?:limit|take|size)|(?:.*_)?per_?page|(?:.*_)?page_?(?:size|limit|len|length|items)"),
    (Word.SIZE, r"max_?results|pagelen|(?:batch|chunk)_?size"),
    (Word.COUNT, rf"{_ABOUT}(?:total|count)(?:_(?:of_)?(?:{_ITEMS}|count|size|found|available))?|length"),
    (Word.COUNT, rf"(?:.*_)?(?:num|number|nb|full|estimated)_?(?:of_)?(?:{_ITEMS}|found|count)"),
    (Word.COUNT, rf"(?:.*_)?(?:{_ITEMS}|total)_?(?:total|count|found|filtered|available)"),
)
_PATTERNS = tuple((word, re.compile(pattern)) for word, pattern in _NAMES)
_LISTS_OF_LINKS = ("links", "link", "pagination", "paging")
_RELATIONS = ("rel", "relation", "name", "label")
_NOTHING = ("false", "null", "none", "0", "")
_ENOUGH = 20
"""Of ways to go on: one is enough to refuse a page, and some upstream may send a hundred thousand."""
_MAX_START = 10**9
"""What is more is a time."""
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Sign:
    """A key that looks like paging, with its value.

    `more` is whether it says that more follows (True) or that this is all (False); None where it says neither.
    """

    path: str
    value: Any
    word: Word
    more: bool | None = None

    def __str__(self) -> str:
        value = self.value.partition("?")[0] if isinstance(self.value, str) else self.value
        shown = json.dumps(value, ensure_ascii=False, default=str)
        return f"{self.path}: {shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + '...'}"


@lru_cache(maxsize=1024)
def word_of(name: str) -> Word | None:
    """What a key or header of this name speaks of; None for any other name."""
    if len(name) > 100:
        return None
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    plain = re.sub(r"[^a-z0-9]+", "_", parts.lower()).strip("_")
    return next((word for word, pattern in _PATTERNS if pattern.fullmatch(plain)), None)


def paging_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers that may be about paging, under their names in lower case."""
    return {name.lower(): headers[name] for name in _names_about_paging(tuple(headers))}


@lru_cache(maxsize=64)
def _names_about_paging(names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of an answer's headers are about paging: most answers of an upstream have the same ones."""
    known = ("link", "content-range", "x-pagination", "pagination")
    return tuple(name for name in names if name.lower() in known or word_of(name) not in (None, Word.NONE))


def count_of(value: object) -> int | None:
    """A counter: a whole number from 0, as a number or as text."""
    number = integer_of(value)
    return number if number is not None and number >= 0 else None


def integer_of(value: object) -> int | None:
    """A whole number, as a number or as text of up to 15 digits."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value) else None


def paging_signs(
    envelope: Mapping[str, Any], headers: Mapping[str, str], pages: int, rows: int, asked_with: Collection[str]
) -> list[Sign]:
    """All that looks like paging and has a value, at any depth.

    `pages` and `rows` are how many pages and items have been read so far. `asked_with` are the values that the request
    for this page had: a cursor among them doesn't lead on.
    """
    signs: list[Sign] = []
    ways = 0
    for path, word, value in chain(_walk(envelope), _walk(_unpacked(headers))):
        sign = _sign(path, word, value, pages, rows)
        if sign is not None and not (word is Word.WAY and str(value) in asked_with):
            signs.append(sign)
            ways += word is Word.WAY
            if ways == _ENOUGH:
                break
    return signs


def _unpacked(headers: Mapping[str, str]) -> dict[str, Any]:
    """The headers, with JSON objects in the place of their texts (ASP.NET's X-Pagination)."""
    unpacked: dict[str, Any] = {}
    for name, value in headers.items():
        try:
            unpacked[name] = json.loads(value) if value[:1] == "{" else value
        except (ValueError, RecursionError):
            unpacked[name] = value
    return unpacked


def _walk(top: Mapping[str, Any]) -> Iterator[tuple[str, Word, Any]]:
    """(path, word, value) of each key outside lists that speaks of paging; of a way to go on, those below it."""
    open_places: list[tuple[str, Word | None, Iterator[tuple[str, Any]]]] = [("", None, iter(top.items()))]
    while open_places:
        place, above, entries = open_places[-1]
        entry = next(entries, None)
        if entry is None:
            open_places.pop()
            continue
        key, value = entry
        path = f"{place}.{key}" if place else key
        word = word_of(key)
        if word is Word.NONE:
            continue
        if above is Word.WAY:  # any key under `next` or `cursors`
            word = above
        if isinstance(value, dict):
            open_places.append((path, word, iter(value.items())))
        elif isinstance(value, list) and word is not Word.WAY:
            yield from _links(path, value)
        elif word is not None:
            yield path, word, value


def _links(path: str, items: list[Any]) -> Iterator[tuple[str, Word, Any]]:
    """The link to the next page in a list of links: `[{rel: next, href: ...}]`, under whatever names."""
    if path.rpartition(".")[2].strip("_") not in _LISTS_OF_LINKS:
        return
    for link in items:
        if isinstance(link, dict) and any(str(link.get(name)).lower() == "next" for name in _RELATIONS):
            yield f"{path}[next]", Word.WAY, next((v for k, v in link.items() if k not in _RELATIONS and v), None)


def _sign(path: str, word: Word, value: Any, pages: int, rows: int) -> Sign | None:
    """The sign that a key and its value make; None where the value says nothing."""
    number = count_of(value)
    if word is Word.WAY:
        is_nothing = not value or (isinstance(value, str) and value.lower() in _NOTHING)
        return None if is_nothing else Sign(path, value, word, more=True)
    if word is Word.LAST and isinstance(value, bool):
        return Sign(path, value, word, more=not value)
    if word is Word.START and number is None and isinstance(value, str) and value and "start" not in path.lower():
        return Sign(path, value, Word.WAY, more=True)  # a token under the name of an offset; a start may be a day
    if number is None or (word is Word.LAST and "last" not in path.lower()):
        return None
    if word in (Word.PAGES, Word.LAST):
        return Sign(path, number, Word.PAGES, more=number > pages)
    if word is Word.COUNT:
        return Sign(path, number, word, more=True) if number > rows else None
    if word is Word.START and number >= _MAX_START:
        return None
    return Sign(path, number, word) if word is not Word.SIZE or number else None
