"""An envelope leads to the right next page, to the end, or to an error; never in a circle, never to another origin."""

import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import EtlError, IncompleteExtractError, UpstreamError
from etl.extract.next_page import Next, PageRequest, Reply, is_round, next_page, refusal, unresolved
from etl.extract.origins import Origins
from etl.extract.paging_signals import CONTAINERS, HEADERS, SIGNALS, Kind, counters_in, understood_forms
from etl.extract.paging_words import Sign, Word
from tests.support.strategies import NESTED_VALUES

ORIGIN = "https://api.example.com"
URL = f"{ORIGIN}/v1/ticket-sales?lang=en"
ORIGINS = Origins(f"{ORIGIN}/v1", ("http://inside:3000", "https://www.example.com"))
FIRST = PageRequest()
END = Next(None)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def follow(
    envelope: dict[str, Any],
    headers: Mapping[str, str] = NO_HEADERS,
    asked: PageRequest = FIRST,
    items: int = 5,
    rows: int | None = None,
    url: str = URL,
) -> Next:
    counters = counters_in(envelope, headers)
    return next_page(Reply(envelope, headers, items, rows or items * asked.ordinal, url, counters), asked, ORIGINS)


def place(envelope: dict[str, Any], headers: Mapping[str, str] = NO_HEADERS, **told: Any) -> Next:
    """Where the next page is, whatever is known of pages' numbers."""
    following = follow(envelope, headers, **told)
    request = following.request
    return following if request is None else Next(replace(request, first_number=None, last_number=None))


def by_number(number: int, ordinal: int | None = None) -> PageRequest:
    return PageRequest(ordinal or number, "page", str(number))


def page(number: int, ordinal: int = 2) -> Next:
    return Next(by_number(number, ordinal))


def by(parameter: str, value: str, ordinal: int = 2, doubts: tuple[Sign, ...] | None = None) -> Next:
    return Next(PageRequest(ordinal, parameter, value, doubts=doubts))


def guess(number: int, *doubts: Sign) -> Next:
    """A page that no page speaks of; where page 1 is guessed, it may be the first one again."""
    return Next(PageRequest(min(number, 2), "page", str(number), doubts=doubts))


def flag(path: str, value: object) -> Sign:
    return Sign(path, value, Word.WAY, more=True)


def link_to(path: str, ordinal: int = 2) -> Next:
    return Next(PageRequest(ordinal, url=f"{ORIGIN}{path}"))


def nest(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


NEXT: list[tuple[object, Next]] = [
    (2, page(2)),
    ("2", page(2)),
    (7, page(7)),
    ("eyJpZCI6MX0=", by("page", "eyJpZCI6MX0=")),
    ("2026-01-31", by("page", "2026-01-31")),
    (f"{ORIGIN}/v1/ticket-sales?page=2&status=paid", link_to("/v1/ticket-sales?page=2&status=paid")),
    ("/v1/ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    ("?page=2", link_to("/v1/ticket-sales?page=2")),
    (None, END),
    (False, END),
    ("", END),
]
LINK: list[tuple[object, Next]] = [
    (f"{ORIGIN}/v1/ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    ("/v1/ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    ("?page=2", link_to("/v1/ticket-sales?page=2")),
    ("ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    (None, END),
    (False, END),
    ("", END),
]
LINK_OR_NUMBER = [*LINK, (2, page(2)), ("2", page(2))]


def ways(kind: Kind, parameter: str, path: str) -> list[tuple[object, Next]]:
    """What a signal leads to, by its value, where nothing stands beside it."""
    if kind is Kind.CURSOR:
        tokens = ("eyJpZCI6MX0=", "a:b/c?", "17")
        return [*((token, by(parameter, token)) for token in tokens), *((value, END) for value in (None, False, ""))]
    if kind is Kind.MORE:
        more = [(value, guess(1, flag(path, value))) for value in (True, 1, "true", "1", "yes", 12)]
        return [*more, *((value, END) for value in (False, None, "", 0, "false", "0"))]
    if kind is Kind.COUNT:
        more = [(value, guess(1, flag(path, value))) for value in (3, "3", 2)]
        return [*more, *((value, END) for value in (1, "1", 0))]
    if kind is Kind.LINK:
        return LINK
    return [*(NEXT if kind is Kind.NEXT else LINK_OR_NUMBER), (True, guess(1, flag(path, True)))]


ALONE = [signal for signal in SIGNALS if signal.place != HEADERS and signal.kind is not Kind.START]


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        pytest.param(nest((*signal.place, signal.name), value), expected, id=f"{signal.path}={value!r}")
        for signal in ALONE
        for value, expected in ways(signal.kind, signal.parameter, signal.path)
    ],
)
def test_every_signal(envelope: dict[str, Any], expected: Next) -> None:
    """Each signal alone leads to the next page in each of its forms, or to the end."""
    assert place(envelope) == expected
    assert place({"status": "ok", "took": 5, **envelope}) == expected


PLACES = {
    Kind.NEXT: {(*container, name) for container in CONTAINERS for name in ("next_page", "nextPage")},
    Kind.MORE: {
        *(
            (*container, name)
            for container in CONTAINERS
            for name in ("has_more", "hasMore", "hasNextPage", "has_next_page", "hasNext", "has_next")
        ),
        *((place, name) for place in ("pageInfo", "page_info") for name in ("hasNextPage", "has_next_page")),
    },
    Kind.COUNT: {
        (*container, name)
        for container in CONTAINERS
        for name in ("total_pages", "totalPages", "pageCount", "page_count", "last_page", "lastPage", "pages")
    },
    Kind.CURSOR: {
        ("cursor", "afterCursor"),
        ("response_metadata", "next_cursor"),
        ("paging", "next", "after"),
        *((place, name) for place in ("pageInfo", "page_info") for name in ("endCursor", "end_cursor")),
        *(
            (*container, name)
            for container in CONTAINERS
            for name in ("next_cursor", "nextCursor", "nextPageToken", "next_page_token")
        ),
    },
    Kind.START: {(*container, name) for container in CONTAINERS for name in ("offset", "skip")},
    Kind.LINK_OR_NUMBER: {(*container, "next") for container in CONTAINERS},
    Kind.LINK: {
        ("@odata.nextLink",),
        *(
            (*container, name)
            for container in CONTAINERS
            for name in ("next_page_url", "nextPageUrl", "next_url", "nextUrl", "next_link", "nextLink")
        ),
        *(
            (*links, *end)
            for links in (("links",), ("_links",), ("meta", "links"), ("pagination", "links"))
            for end in (("next",), ("next", "href"))
        ),
    },
}


def test_where_signals_stand() -> None:
    """These are all signals of the body, each in each of its places; the headers have a table of their own."""
    assert CONTAINERS == (("pagination",), ("meta",), ("meta", "pagination"), ("paging",), ())
    for kind in Kind:
        found = {(*signal.place, signal.name) for signal in SIGNALS if signal.kind is kind and signal.place != HEADERS}
        assert found == PLACES.get(kind, set()), kind


START = [
    *(
        pytest.param({name: 0, size: 5}, by(name, "5", doubts=(Sign(name, 0, Word.WAY), Sign(size, 5, Word.SIZE))))
        for name, size in (("offset", "limit"), ("skip", "take"), ("skip", "limit"), ("offset", "per_page"))
    ),
    pytest.param({"meta": {"offset": "0", "total": 12}}, by("offset", "5"), id="a total instead of a limit"),
    pytest.param({"offset": 0, "total": 5}, END, id="and it is all"),
    pytest.param({"pagination": {"offset": 0, "limit": 5}, "total": 5}, END, id="a total elsewhere"),
    pytest.param({"offset": 0, "has_more": True}, by("offset", "5"), id="a flag instead of a limit"),
    pytest.param({"offset": 0, "limit": 5, "hasMore": False}, END, id="the flag's end"),
    pytest.param(
        {"offset": 0, "limit": 100},
        by("offset", "5", doubts=(Sign("offset", 0, Word.WAY), Sign("limit", 100, Word.SIZE))),
        id="a short page is no end: caps are silent",
    ),
    pytest.param({"offset": 0}, Next(None, (Sign("offset", 0, Word.START),)), id="alone it tells no end"),
    pytest.param({"offset": 0, "limit": 0}, Next(None, (Sign("offset", 0, Word.START),)), id="a limit of 0"),
    pytest.param({"offset": 0, "meta": {"limit": 5}}, Next(None, (Sign("offset", 0, Word.START),)), id="elsewhere"),
    pytest.param({"offset": "it3m", "limit": 5}, Next(None, (flag("offset", "it3m"),)), id="a token"),
]


@pytest.mark.parametrize(("envelope", "expected"), START)
def test_starts(envelope: dict[str, Any], expected: Next) -> None:
    """A page that tells where it begins, and how large it is or how many there are, leads on by the next offset."""
    doubts = expected.request.doubts if expected.request else ()
    following = place(envelope)
    assert {str(sign) for sign in (following.request and following.request.doubts) or ()} == set(map(str, doubts or ()))
    assert replace_doubts(following) == replace_doubts(expected)


def replace_doubts(following: Next) -> Next:
    request = following.request and replace(following.request, doubts=None)
    return replace(following, request=request)


def test_starts_go_on() -> None:
    """Offsets lead from page to page by the items that came, to an empty page, or to the total."""
    third = PageRequest(3, "offset", "10", doubts=())
    assert place({"offset": 10, "limit": 5}, asked=third, items=2).request == PageRequest(
        4, "offset", "12", doubts=(Sign("offset", 10, Word.WAY), Sign("limit", 5, Word.SIZE))
    )
    assert place({"offset": 10, "limit": 5}, asked=third, items=0) == END
    assert place({"offset": 10, "limit": 5, "total": 12}, asked=third, items=2) == END
    with pytest.raises(IncompleteExtractError, match=r"offset=10\) was answered with `offset: 0`"):
        follow({"offset": 0, "limit": 5}, asked=third)


HEADER_TABLE = [
    pytest.param({"x-next-page": "2"}, page(2), id="X-Next-Page"),
    pytest.param({"x-next-page": ""}, END, id="X-Next-Page, last page"),
    pytest.param({"x-page": "1", "x-total-pages": "3"}, page(2), id="X-Page and X-Total-Pages"),
    pytest.param({"x-page": "1", "x-total-pages": "1"}, END, id="X-Total-Pages, last page"),
    pytest.param({"x-wp-totalpages": "3"}, guess(1, flag("x-wp-totalpages", "3")), id="X-WP-TotalPages"),
    pytest.param({"current-page": "1", "total-pages": "3"}, page(2), id="Total-Pages"),
    pytest.param({"x-total": "12"}, guess(2, Sign("x-total", 12, Word.COUNT, more=True)), id="X-Total"),
    pytest.param({"x-total": "5"}, END, id="X-Total, all"),
    pytest.param({"content-range": "0-4/12"}, by("offset", "5"), id="Content-Range"),
    pytest.param({"content-range": "sales 0-4/5"}, END, id="Content-Range, all"),
    pytest.param(
        {"content-range": "0-4/*"}, by("offset", "5", doubts=(Sign("content-range", 0, Word.WAY),)), id="no total"
    ),
    pytest.param({"content-range": "*/0"}, END, id="Content-Range, nothing"),
    pytest.param({"content-range": "bytes 0-4/12"}, END, id="Content-Range of bytes"),
    pytest.param({"content-range": "5 of 12"}, END, id="Content-Range of another form"),
    pytest.param({"x-next-page": "2", "link": "</v1/x>; rel=next"}, page(2), id="numbers before links"),
    pytest.param({"x-next-page": "", "link": "</v1/x>; rel=next"}, END, id="a number's end before a link"),
    pytest.param({"x-ms-continuation": "abc"}, Next(None, (flag("x-ms-continuation", "abc"),)), id="a token"),
    pytest.param(
        {"x-pagination": '{"HasNext": true}'}, Next(None, (flag("x-pagination.HasNext", True),)), id="an object"
    ),
    pytest.param({"x-pagination": '{"HasNext": '}, END, id="half an object"),
]


@pytest.mark.parametrize(("headers", "expected"), HEADER_TABLE)
def test_headers(headers: dict[str, str], expected: Next) -> None:
    """Headers are read as the body is, after it."""
    assert place({}, headers) == expected
    assert place({"page": 1, "total_pages": 3}, headers) == page(2)


# Envelopes of real paginators beside their items.
PAGINATE_LINKS = {"current": f"{URL}&page=2", "previous": f"{URL}&page=1"}
REAL = [
    pytest.param(
        {"meta": {"itemsPerPage": 5, "totalItems": 12, "currentPage": 1, "totalPages": 3, "sortBy": [["id", "ASC"]]}}
        | {"links": {"current": f"{URL}&page=1", "next": "http://10.0.0.9/ticket-sales?page=2"}},
        (FIRST, 5),
        page(2),
        id="nestjs-paginate, its link behind a proxy",
    ),
    pytest.param(
        {"meta": {"totalItems": 12, "currentPage": 3, "totalPages": 3}, "links": PAGINATE_LINKS},
        (by_number(3), 2),
        END,
        id="nestjs-paginate, last page",
    ),
    pytest.param(
        {"meta": {"itemsPerPage": 5, "cursor": "V1"}, "links": {"next": f"{URL}&cursor=V2"}},
        (FIRST, 5),
        link_to("/v1/ticket-sales?lang=en&cursor=V2"),
        id="nestjs-paginate by cursor",
    ),
    pytest.param(
        {"meta": {"itemCount": 5, "totalItems": 12, "itemsPerPage": 5, "totalPages": 3, "currentPage": 2}},
        (by_number(2), 5),
        page(3, 3),
        id="nestjs-typeorm-paginate",
    ),
    pytest.param(
        {"meta": {"itemCount": 2, "totalItems": 12, "totalPages": 3, "currentPage": 3}, "links": {"next": ""}},
        (by_number(3), 2),
        END,
        id="nestjs-typeorm-paginate, last page",
    ),
    pytest.param(
        {"count": 5, "total": 12, "page": 1, "pageCount": 3},
        (FIRST, 5),
        page(2),
        id="@nestjsx/crud",
    ),
    pytest.param(
        {"count": 2, "total": 12, "page": 3, "pageCount": 3},
        (by_number(3), 2),
        END,
        id="@nestjsx/crud, last page",
    ),
    pytest.param(
        {"success": True, "timestamp": "t", "total": 12, "page": 1, "limit": 5, "totalPages": 3},
        (FIRST, 5),
        page(2),
        id="Veritix",
    ),
    pytest.param(
        {"total": 0, "page": 1, "limit": 5, "totalPages": 0},
        (FIRST, 0),
        END,
        id="Veritix, nothing there",
    ),
    pytest.param(
        {"cursor": {"beforeCursor": "a", "afterCursor": "b"}},
        (FIRST, 5),
        by("afterCursor", "b"),
        id="typeorm-cursor-pagination",
    ),
    pytest.param(
        {"cursor": {"beforeCursor": "b", "afterCursor": None}},
        (PageRequest(2, "afterCursor", "b"), 5),
        END,
        id="typeorm-cursor-pagination, last page",
    ),
    pytest.param(
        {"totalDocs": 12, "limit": 5, "totalPages": 3, "page": 1, "hasNextPage": True, "nextPage": 2},
        (FIRST, 5),
        page(2),
        id="mongoose-paginate",
    ),
    pytest.param(
        {"totalDocs": 12, "limit": 5, "totalPages": 3, "page": 3, "hasNextPage": False, "nextPage": None},
        (by_number(3), 2),
        END,
        id="mongoose-paginate, last page",
    ),
]


@pytest.mark.parametrize(("envelope", "read", "expected"), REAL)
def test_real_paginators(envelope: dict[str, Any], read: tuple[PageRequest, int], expected: Next) -> None:
    """The envelopes of the usual paginators are understood, on their first, middle and last pages."""
    asked, items = read
    assert place(envelope, asked=asked, items=items) == expected


def word(path: str, value: object, kind: Word, *, more: bool | None = None) -> Sign:
    return Sign(path, value, kind, more)


WORDS = [
    # Nothing, or all.
    pytest.param({}, 5, END, id="bare array"),
    pytest.param({"total": 5}, 5, END, id="a total, and all is here"),
    pytest.param({"count": 5}, 5, END, id="a count, and all is here"),
    pytest.param({"count": 4}, 5, END, id="a count of something else"),
    pytest.param({"page": 1, "limit": 5, "total": 5}, 5, END, id="a full page, and all is here"),
    pytest.param({"page": 1, "pages": 1}, 5, END, id="one page"),
    pytest.param({"info": {"pages": 1}}, 5, END, id="one page, anywhere"),
    pytest.param({"page": 1, "last": True}, 5, END, id="the last page"),
    pytest.param({"limit": 100}, 5, END, id="a limit that isn't reached"),
    pytest.param({"page": 1, "limit": 5}, 0, END, id="nothing there"),
    pytest.param({"offset": 0}, 0, END, id="nothing there, from the start"),
    pytest.param({"next": None}, 100, END, id="a full page, and nothing follows"),
    # Page 2 shows whether it is there.
    pytest.param({}, 100, guess(2), id="a full page"),
    pytest.param({"count": 100}, 100, guess(2), id="a full page, and its own count"),
    pytest.param({"page": 1}, 5, guess(2), id="a page's number"),
    pytest.param({"page": 0}, 5, by("page", "1", doubts=()), id="a page's number, from 0"),
    pytest.param({"page": 1, "limit": 100}, 5, guess(2), id="a short page: caps are silent"),
    pytest.param({"page": 1, "limit": 5}, 5, guess(2, word("limit", 5, Word.SIZE)), id="a full page of its size"),
    pytest.param({"page": 1, "size": 5}, 5, guess(2), id="a size that may be the number of items"),
    pytest.param({"per_page": 5}, 5, guess(2, word("per_page", 5, Word.SIZE)), id="a size"),
    pytest.param({"pageIndex": 0}, 5, guess(2, word("pageIndex", 0, Word.PAGE)), id="another name of the number"),
    pytest.param({"last": False}, 5, guess(2, word("last", False, Word.LAST, more=True)), id="not the last page"),
    pytest.param({"nbPages": 3}, 5, guess(2, word("nbPages", 3, Word.PAGES, more=True)), id="other pages"),
    pytest.param({"count": 12}, 5, guess(2, word("count", 12, Word.COUNT, more=True)), id="a count of more"),
    pytest.param({"total": 12}, 5, guess(2, word("total", 12, Word.COUNT, more=True)), id="a total of more"),
    pytest.param(
        {"count": 12, "next": None}, 5, guess(2, word("count", 12, Word.COUNT, more=True)), id="it says both"
    ),
    # Other ways, which page numbers don't lead along.
    pytest.param({"cursor": "c"}, 5, Next(None, (flag("cursor", "c"),)), id="a cursor"),
    pytest.param({"after": 7}, 5, Next(None, (flag("after", 7),)), id="after"),
    pytest.param({"x": {"y": {"nextOffset": 5}}}, 5, Next(None, (flag("x.y.nextOffset", 5),)), id="deep inside"),
    pytest.param({"skip": 0}, 5, Next(None, (word("skip", 0, Word.START),)), id="skip alone"),
    pytest.param({"total": 5, "cursor": "c"}, 5, Next(None, (flag("cursor", "c"),)), id="a total doesn't say all"),
    pytest.param({"next": None, "token": "t"}, 5, Next(None, (flag("token", "t"),)), id="another end"),
    pytest.param(
        {"has_more": True, "last_id": "i"}, 5, Next(None, (flag("has_more", True), flag("last_id", "i"))), id="a flag"
    ),

    pytest.param({"next": "t0ken"}, 5, Next(None, (flag("next", "t0ken"),)), id="a next that is no link"),
    pytest.param({"next": 5}, 5, Next(None, (flag("next", 5),)), id="a next that is no page"),
    pytest.param({"next_page": {"offset": 5}}, 5, Next(None, (flag("next_page.offset", 5),)), id="an object"),
    pytest.param({"count": 12}, 0, Next(None, (word("count", 12, Word.COUNT, more=True),)), id="nothing of 12"),
]  # fmt: skip


@pytest.mark.parametrize(("envelope", "items", "expected"), WORDS)
def test_words_that_lead_nowhere(envelope: dict[str, Any], items: int, expected: Next) -> None:
    """Without a signal it is the end only where nothing looks like paging; page 2 is asked for where that can tell."""
    assert place(envelope, items=items) == expected


LIMITED = [
    pytest.param({}, 7, 7, guess(2), id="as many as were asked for"),
    pytest.param({}, 6, 7, END, id="fewer"),
    pytest.param({}, 8, 7, END, id="more: it isn't looked at"),
    pytest.param({"limit": 7}, 6, 7, END, id="fewer, and no cap"),
    pytest.param({"limit": 1000}, 100, 1000, guess(2), id="a cap, and only what was asked for is said"),
    pytest.param({"limit": 500}, 100, 1000, END, id="a size that the upstream knows"),
]


@pytest.mark.parametrize(("envelope", "items", "limit", "expected"), LIMITED)
def test_a_page_of_the_size_that_was_asked_for(
    envelope: dict[str, Any], items: int, limit: int, expected: Next
) -> None:
    """Full is what has as many items as were asked for; a size that only repeats that says nothing of a lower cap."""
    assert place(envelope, items=items, url=f"{ORIGIN}/v1/x?limit={limit}") == expected


def test_round_numbers() -> None:
    """The sizes and caps that pages usually have."""
    assert [n for n in range(600) if is_round(n)] == [10, 20, 25, 50, 100, 200, 250, 500]
    assert [is_round(n) for n in (999, 1000, 2500, 10_000, 30_000)] == [False, True, True, True, False]


ONWARDS = [
    pytest.param({"page": 2, "limit": 5}, 5, 10, 3, id="pages"),
    pytest.param({"page": 2, "limit": 5}, 3, 8, 3, id="a short page"),
    pytest.param({"page": 2, "limit": 5}, 0, 5, None, id="an empty page"),
    pytest.param({"page": 2, "total": 8}, 3, 8, None, id="all are here"),
    pytest.param({"page": 2, "total": 9}, 3, 8, 3, id="one is missing"),
    pytest.param({"last": True}, 3, 8, None, id="the last page"),
    pytest.param({"next": None}, 3, 8, None, id="an end that is said"),
]


@pytest.mark.parametrize(("envelope", "items", "rows", "following"), ONWARDS)
def test_guessed_pages_go_on(envelope: dict[str, Any], items: int, rows: int, following: int | None) -> None:
    """Pages that nobody speaks of are read by their numbers until one is empty, or all are here."""
    asked = PageRequest(2, "page", "2", doubts=())
    assert follow(envelope, asked=asked, items=items, rows=rows) == (
        END if following is None else Next(PageRequest(3, "page", str(following), doubts=()))
    )


DOUBTS = [
    pytest.param(word("total", 12, Word.COUNT, more=True), 12, True, False, id="as many as declared"),
    pytest.param(word("count", 12, Word.COUNT, more=True), 11, False, True, id="fewer than declared"),
    pytest.param(word("total", 12, Word.COUNT, more=True), 11, True, True, id="fewer, and page 2 is page 1"),
    pytest.param(word("total", 12, Word.COUNT, more=True), 11, False, False, id="fewer, which is compared elsewhere"),
    pytest.param(word("last", False, Word.LAST, more=True), 12, False, True, id="it said that there is more"),
    pytest.param(word("per_page", 5, Word.SIZE), 12, False, False, id="a full page, and page 2 is empty"),
    pytest.param(word("per_page", 5, Word.SIZE), 12, True, True, id="a full page, and page 2 is page 1"),
]


@pytest.mark.parametrize(("doubt", "rows", "is_refused", "remains"), DOUBTS)
def test_doubts_remain(doubt: Sign, rows: int, is_refused: bool, remains: bool) -> None:
    """What said that there is more is a doubt until as many are here; words on pages, while page 1 comes again."""
    assert unresolved([doubt], rows, is_refused=is_refused) == ((doubt,) if remains else ())


REFUSALS = [
    pytest.param([word("offset", 0, Word.START)], ("`offset: 0`", "`limit` (or `take`)", "has_more"), id="offset"),
    pytest.param([word("startAt", 0, Word.START)], ("`startAt: 0`", "isn't understood"), id="another start"),
    pytest.param([word("total", 240, Word.COUNT)], ("`total: 240`", "than the 3 records", "money"), id="a total"),
    pytest.param([flag("next_token", "abc?s3cret"), flag("x", 1)], ('`next_token: "abc"`, `x: 1`',), id="a token"),
    pytest.param([flag("token", "a" * 99)], ('`token: "' + "a" * 39 + "...`",), id="a long token"),
]


@pytest.mark.parametrize(("signs", "shown"), REFUSALS)
def test_refusals(signs: list[Sign], shown: tuple[str, ...]) -> None:
    """A refusal names the keys and their values, what is missing, what would be understood, and how to go on."""
    text = refusal(signs, 3)
    for words in (*shown, "next_page", "pageInfo.endCursor", "Content-Range", "`force`"):
        assert words in text
    assert "s3cret" not in text
    assert "unique column" not in text


ELSEWHERE = "https://elsewhere.example/x"
PRECEDENCE = [
    pytest.param({"pagination": {"next_page": 2, "nextPage": 3}, "next_page": 4}, page(2), id="the customer's order"),
    pytest.param({"pagination": {"next_page": None}, "next_page": 4}, END, id="the first one that is given"),
    pytest.param({"next_page": None, "next_cursor": "c"}, by("cursor", "c"), id="no number, but a cursor"),
    pytest.param({"next_page": None, "page": 1, "total_pages": 3}, page(2), id="no number, but pages"),
    pytest.param({"next_page": None, "links": {"next": ELSEWHERE}}, END, id="number's end before link"),
    pytest.param({"next_cursor": None, "links": {"next": "/v1/x"}}, link_to("/v1/x"), id="no cursor, but a link"),
    pytest.param({"links": {"next": None}, "_links": {"next": "/v1/x"}}, link_to("/v1/x"), id="no link, but a link"),
    pytest.param({"pagination": {"has_more": False}, "next_page": 4}, END, id="flag in pagination before next_page"),
    pytest.param({"next_page": 2, "has_more": False}, page(2), id="next_page before flag"),
    pytest.param({"nextPage": 2, "links": {"next": ELSEWHERE}}, page(2), id="number before link"),
    pytest.param({"page": 1, "totalPages": 3, "links": {"next": ELSEWHERE}}, page(2), id="count before link"),
    pytest.param({"next_page": ELSEWHERE, "page": 1, "totalPages": 3}, page(2), id="count before link in next_page"),
    pytest.param({"next_page": ELSEWHERE, "page": 3, "totalPages": 3}, END, id="count's end before link in next_page"),
    pytest.param({"page": 3, "totalPages": 3, "links": {"next": ELSEWHERE}}, END, id="count's end before link"),
    pytest.param({"page": 1, "totalPages": 3, "nextCursor": "c"}, page(2), id="count before cursor"),
    pytest.param({"nextCursor": "c", "links": {"next": ELSEWHERE}}, by("cursor", "c"), id="cursor before link"),
    pytest.param({"nextCursor": "c", "page": 1, "limit": 5}, by("cursor", "c"), id="cursor before size"),
    pytest.param({"nextCursor": "c", "offset": 0, "limit": 5}, by("cursor", "c"), id="cursor before offset"),
    pytest.param({"offset": 0, "total": 9, "next": ELSEWHERE}, by("offset", "5"), id="offset before link"),
    pytest.param({"totalPages": 3, "next_cursor": "c"}, by("cursor", "c"), id="count without a number, and cursor"),
    pytest.param({"totalPages": 3, "next": "/v1/x"}, link_to("/v1/x"), id="count without a number, and link"),
    pytest.param({"totalPages": 1, "next_cursor": "c"}, END, id="one page, and cursor"),
    pytest.param({"next": "/v1/x", "links": {"next": ELSEWHERE}}, link_to("/v1/x"), id="next before links"),
    pytest.param(
        {"links": [{"rel": "self", "href": ELSEWHERE}, {"rel": "next", "href": "/v1/x"}]},
        link_to("/v1/x"),
        id="a list of links",
    ),
    pytest.param({"links": [{"rel": "self", "href": ELSEWHERE}]}, END, id="a list of links, none next"),
    pytest.param({"pageInfo": {"hasNextPage": True, "endCursor": "c"}}, by("after", "c"), id="page info"),
    pytest.param({"pageInfo": {"hasNextPage": False, "endCursor": "c"}}, END, id="page info's end"),
    pytest.param({"cursor": {"afterCursor": "a"}, "next_cursor": "c"}, by("afterCursor", "a"), id="afterCursor first"),
    pytest.param({"has_more": True}, guess(1, flag("has_more", True)), id="flag alone"),
    pytest.param({"has_more": True, "page": 4}, page(5), id="flag and page"),
    pytest.param({"has_more": True, "page": 4, "total_pages": 6}, page(5), id="flag and count"),
    pytest.param({"has_more": True, "next_cursor": "c"}, by("cursor", "c"), id="flag and cursor"),
    pytest.param({"hasMore": True, "cursor": {"afterCursor": "c"}}, by("afterCursor", "c"), id="flag and afterCursor"),
    pytest.param({"pagination": {"has_more": True, "nextCursor": "c"}}, by("cursor", "c"), id="both in pagination"),
    pytest.param({"pagination": {"has_more": True}, "nextPage": 5}, page(5), id="flag and next_page"),
    pytest.param({"has_more": True, "links": {"next": "/v1/x"}}, link_to("/v1/x"), id="flag and link"),
    pytest.param({"has_more": True, "next_cursor": None}, guess(1, flag("has_more", True)), id="flag and no cursor"),
    pytest.param({"has_more": True, "links": {"next": None}}, guess(1, flag("has_more", True)), id="flag and no link"),
    pytest.param({"has_more": False, "next_cursor": "c"}, END, id="flag's end and cursor"),
    pytest.param({"has_more": True, "hasMore": False}, guess(1, flag("has_more", True)), id="two flags"),
    pytest.param({"totalPages": None, "next_cursor": "c"}, by("cursor", "c"), id="count of null is no signal"),
    pytest.param({"totalPages": "many", "next_cursor": "c"}, by("cursor", "c"), id="count of text is no signal"),
    pytest.param({"totalPages": -1, "next_cursor": "c"}, by("cursor", "c"), id="negative count is no signal"),
    pytest.param({"total_pages": True, "next_cursor": "c"}, by("cursor", "c"), id="boolean count is no signal"),
    pytest.param(
        {"meta": [1], "pagination": "no", "links": 5, "next_page": 2}, page(2), id="containers of other types"
    ),
    pytest.param({"pagination": {"page": 4}, "page": 9, "totalPages": 9}, page(5), id="page in pagination first"),
]


@pytest.mark.parametrize(("envelope", "expected"), PRECEDENCE)
def test_precedence(envelope: dict[str, Any], expected: Next) -> None:
    """The first signal is followed; numbers come before links; a flag says whether, what stands beside it where."""
    assert place(envelope) == expected


CURRENT = [
    pytest.param({"has_more": True}, by_number(4, 2), 5, None, None, id="asked for by number"),
    pytest.param({"has_more": True, "page": "4"}, by_number(4, 2), 5, None, None, id="and declared"),
    pytest.param({"has_more": True, "page": 0}, FIRST, 1, 0, None, id="pages from 0"),
    pytest.param({"page": 0, "totalPages": 3}, FIRST, 1, 0, 2, id="count from 0"),
    pytest.param({"page": 1, "totalPages": 3}, replace(by_number(1), first_number=0), 2, 0, 2, id="count from 0, on"),
    pytest.param(
        {"page": 2, "totalPages": 3}, replace(by_number(2), first_number=0), None, 0, 2, id="count from 0, end"
    ),
    pytest.param({"page": 2, "totalPages": 3}, replace(by_number(2), first_number=1), 3, 1, 3, id="count from 1"),
    pytest.param({"page": -1, "totalPages": 3}, by_number(1), 2, None, 3, id="a negative page is none"),
    pytest.param({"page": 7, "totalPages": 9}, PageRequest(3, url=URL), 8, None, 9, id="after a link"),
    pytest.param(
        {}, replace(by_number(2), last_number=3), 3, None, 3, id="an earlier page has told how many there are"
    ),
    pytest.param({}, replace(by_number(3), last_number=3), None, None, 3, id="and this is the last one"),
    pytest.param({"page": 2, "totalPages": 4}, replace(by_number(2), last_number=3), 3, None, 4, id="one more by now"),
]


@pytest.mark.parametrize(("envelope", "asked", "number", "first", "last"), CURRENT)
def test_current_page(
    envelope: dict[str, Any], asked: PageRequest, number: int | None, first: int | None, last: int | None
) -> None:
    """The page that follows is counted from the page that is declared, else from the one that was asked for."""
    following = follow(envelope, asked=asked)
    numbered = PageRequest(asked.ordinal + 1, "page", str(number), first_number=first, last_number=last)
    assert following == (END if number is None else Next(numbered))


def test_a_flag_after_a_cursor() -> None:
    """Where a cursor led to a page that has none, no page number is made up."""
    following = follow({"has_more": True}, asked=PageRequest(3, "cursor", "c"))
    assert following == Next(None, (flag("has_more", True),))


ASTRAY = [
    pytest.param({"next_page": 1}, FIRST, 5, "page 1 names page 1 as the next one", id="onto itself"),
    pytest.param({"next_page": 0}, FIRST, 5, "names page 0 as the next one", id="0"),
    pytest.param({"nextPage": -1}, FIRST, 5, "names page -1 as the next one", id="negative"),
    pytest.param({"nextPage": "-3"}, FIRST, 5, "names page -3 as the next one", id="negative as text"),
    pytest.param({"nextPage": 3}, by_number(3), 5, r"page 3 \(asked for by page=3\) names page 3", id="asked for"),
    pytest.param({"nextPage": 2}, by_number(3), 5, "isn't after page 3", id="backwards"),
    pytest.param({"page": 3, "nextPage": 3}, FIRST, 5, "isn't after page 3", id="declared"),
    pytest.param({"page": 1, "totalPages": 3}, by_number(2), 5, r"page=2\) was answered with page 1: .* than `page`",
                 id="first again"),
    pytest.param({"meta": {"currentPage": "3"}}, by_number(4), 5, r"page=4\) was answered with page 3", id="last"),
    pytest.param({"next_page": 4, "totalPages": 3}, by_number(3), 5, "page 4 follows.* has 3 pages", id="beyond"),
    pytest.param({"has_more": True, "page": 3, "pageCount": 3}, by_number(3), 5, "has 3 pages", id="flag beyond"),
    *(
        pytest.param(envelope, FIRST, 0, "page 1 is empty, and still says that another .*`", id=f"empty: {name}")
        for name, envelope in {
            "number": {"next_page": 2},
            "flag": {"has_more": True},
            "count": {"page": 1, "totalPages": 3},
            "cursor": {"next_cursor": "s3cret"},
            "link": {"links": {"next": "/v1/x"}},
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize(("envelope", "asked", "items", "message"), ASTRAY)
def test_pages_that_do_not_advance(envelope: dict[str, Any], asked: PageRequest, items: int, message: str) -> None:
    """A next page that isn't further on, or beyond the last one, or after an empty one, is an error that names it."""
    with pytest.raises(IncompleteExtractError, match=message) as caught:
        follow(envelope, asked=asked, items=items)
    assert "s3cret" not in str(caught.value)


TWO = link_to("/v1/x?page=2")
LINK_HEADERS = [
    pytest.param('</v1/x?page=2>; rel="next"', TWO, id="quoted"),
    pytest.param("</v1/x?page=2>; rel=next", TWO, id="token"),
    pytest.param("</v1/x?page=2>;rel=next", TWO, id="no blank"),
    pytest.param('</v1/x?page=2>  ;\tREL = "Next"', TWO, id="blanks and upper case"),
    pytest.param(f"<{ORIGIN}/v1/x?page=2>; rel=next", TWO, id="absolute"),
    pytest.param('</v1/x>; rel="prev", </v1/x?page=2>; rel="next", </v1/x?page=9>; rel="last"', TWO, id="among others"),
    pytest.param('</v1/x?page=2>; rel="last next"', TWO, id="two relations"),
    pytest.param('</v1/x?page=2>; title="a, b; c"; rel="next"; type=x', TWO, id="beside other parameters"),
    pytest.param('</v1/x?page=2>; title="say \\"hi\\""; rel="next"', TWO, id="escaped quotes"),
    pytest.param('</v1/x?page=2>; title="x; rel=prev"; rel=next', TWO, id="rel within a title"),
    pytest.param("</v1/x?page=2>; crossorigin; rel=next", TWO, id="parameter without value"),
    pytest.param("</v1/x?page=2>; title*=UTF-8''%e2%82%ac; rel=next", TWO, id="extended parameter"),
    pytest.param("</v1/x?a=1,2;3>; rel=next", link_to("/v1/x?a=1,2;3"), id="comma and semicolon in the URL"),
    pytest.param("</v1/x?page=2>; rel=next; rel=prev", TWO, id="of two rels the first counts"),
    pytest.param("</v1/x?page=2>; rel=next, </v1/x?page=3>; rel=next", TWO, id="of two links the first counts"),
    pytest.param("</v1/x?page=0>; rel=prev; rel=next", END, id="a second rel doesn't count"),
    pytest.param('</v1/x>; title="; rel=next"; rel=prev', END, id="next within a title"),
    pytest.param('</v1/x>; rel="nextish"', END, id="another relation"),
    pytest.param('</v1/x>; rel="prev", </v1/x>; rel="first"', END, id="last page"),
    pytest.param("</style.css>; rel=preload; as=style", END, id="not about pages"),
    pytest.param("</v1/x>", END, id="no parameter"),
    pytest.param("/v1/x; rel=next", END, id="no angle brackets"),
    pytest.param("", END, id="empty"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "expected"), LINK_HEADERS)
def test_link_header(header: str, expected: Next) -> None:
    """The target of rel="next" is followed, in every form of RFC 8288; a header without one says nothing."""
    headers = {"link": header}
    assert place({}, headers) == expected
    assert place({"links": {"next": "/v1/first"}}, headers) == link_to("/v1/first")
    assert place({"page": 1, "totalPages": 3}, headers) == page(2)
    assert place({"page": 1}, headers) == (guess(2) if expected == END else expected)


def test_link_header_of_garbage() -> None:
    """A header of 60,000 characters that are no link is read past at once."""
    before = time.process_time()
    for garbage in ("<", ";", '"', "<;", "<>;", "<>;a", '<>;a="', "<> ", "<>;\t\t", "<>;a=b\\"):
        assert follow({}, {"link": garbage * (60_000 // len(garbage))}) == END
    assert time.process_time() - before < 1


RESOLVED = [
    pytest.param(f"{ORIGIN}/v1/x?a=1&b=%2F#part", "/v1/x?a=1&b=%2F", id="absolute, without its fragment"),
    pytest.param("HTTPS://API.Example.COM/v1/X", "/v1/X", id="upper case"),
    pytest.param(f"{ORIGIN}:443/v1/x", "/v1/x", id="default port"),
    pytest.param("//api.example.com/v1/x", "/v1/x", id="scheme left out"),
    pytest.param("/elsewhere/x", "/elsewhere/x", id="path outside the prefix"),
    pytest.param("../x?page=2", "/x?page=2", id="relative path"),
    pytest.param("http://inside:3000/v1/x", "/v1/x", id="alias"),
    pytest.param("HTTP://INSIDE:3000/v1/x", "/v1/x", id="alias in upper case"),
    pytest.param("https://www.example.com:443/v1/x", "/v1/x", id="alias with its default port"),
    pytest.param("/v1/..//other.example/x", "//other.example/x", id="a path that looks like a host"),
    pytest.param("https:///other.example/x", "/other.example/x", id="no host"),
    pytest.param("/\\other.example/x", "/\\other.example/x", id="backslash in the path"),
]


@pytest.mark.parametrize(("link", "path"), RESOLVED)
def test_links_on_the_origin(link: str, path: str) -> None:
    """A link on the configured origin, or on one that is taken for it, is asked for on the configured origin."""
    assert ORIGINS.resolve(link, URL) == ORIGIN + path


REFUSED = [
    pytest.param("https://other.example/v1/x", "https://other.example", id="host"),
    pytest.param("http://api.example.com/v1/x", "http://api.example.com", id="scheme"),
    pytest.param(f"{ORIGIN}:8443/v1/x", f"{ORIGIN}:8443", id="port"),
    pytest.param("http://inside/v1/x", "http://inside", id="alias, other port"),
    pytest.param("https://inside:3000/v1/x", "https://inside:3000", id="alias, other scheme"),
    pytest.param("//other.example/v1/x", "https://other.example", id="only a host"),
    pytest.param("https://api.example.com.other.example/x", "other.example", id="longer host"),
    pytest.param("https://api.example.com@other.example/x", "https://other.example", id="host as user"),
    pytest.param("https://user:s3cret@api.example.com/v1/x", ORIGIN, id="user and password"),
    pytest.param("https://@api.example.com/v1/x", ORIGIN, id="empty user"),
    pytest.param("https://other.example\\@api.example.com/x", "leads to", id="backslash before @"),
    pytest.param("https://other.example\\.api.example.com/x", "leads to", id="backslash in the host"),
    pytest.param("https://other.example#@api.example.com/x", "https://other.example", id="fragment before @"),
    pytest.param("https://other.example?@api.example.com/x", "https://other.example", id="query before @"),
    pytest.param("https://\tother.example/x", "https://other.example", id="tab"),
    pytest.param("https://api.example.com:443:80/x", "can't be read", id="two ports"),
    pytest.param("https://api.example.com:99999/x", "can't be read", id="port out of range"),
    pytest.param("https://[::1/x", "can't be read", id="open bracket"),
    pytest.param("https://api.example.com\uff0fother.example/x", "can't be read", id="full-width slash"),
    pytest.param("ftp://api.example.com/x", "ftp://api.example.com", id="another protocol"),
    pytest.param("file:///etc/passwd", "file://", id="file"),
    pytest.param("javascript:alert(1)", "leads to", id="no address"),
]


@pytest.mark.parametrize(("link", "shown"), REFUSED)
def test_links_to_another_origin(link: str, shown: str) -> None:
    """A link to any other origin is refused, wherever it stands; the message names both, and no secret."""
    for envelope, headers in (
        ({"links": {"next": link}}, {}),
        ({"next_page": link}, {}),
        ({}, {"link": f"<{link}>; rel=next"}),
    ):
        with pytest.raises(UpstreamError) as caught:
            follow(envelope, headers)
        assert shown in str(caught.value)
        assert "can't be read" in shown or (
            ORIGIN in str(caught.value) and "NEST_API_LINK_ORIGINS" in str(caught.value)
        )
        assert "s3cret" not in str(caught.value)


def test_links_of_an_http_base() -> None:
    """A base with a port of its own takes links with that port only, and IPv6 hosts are hosts."""
    origins = Origins("http://[::1]:3000/api")
    assert (
        origins.resolve("http://[::1]:3000/api/x?page=2", "http://[::1]:3000/api/x") == "http://[::1]:3000/api/x?page=2"
    )
    for link in ("http://[::1]/api/x", "http://127.0.0.1:3000/api/x", "https://[::1]:3000/api/x"):
        with pytest.raises(UpstreamError):
            origins.resolve(link, "http://[::1]:3000/api/x")


def test_token_that_no_request_can_carry() -> None:
    """A token with a lone surrogate in it can't be sent: that is the upstream's fault, and said so."""
    for envelope in ({"next_cursor": "\ud800"}, {"next_page": "\udfff"}):
        with pytest.raises(UpstreamError):
            follow(envelope)


TOTAL_TABLE = [
    *(
        pytest.param(nest((*container, name), value), {}, 12, id=".".join((*container, f"{name}={value!r}")))
        for container in CONTAINERS
        for name in ("total", "totalItems", "total_items", "totalCount", "total_count", "totalDocs", "totalElements")
        for value in (12, "12")
    ),
    pytest.param({"total": 0}, {"x-total-count": "5"}, 0, id="0 is a total"),
    *(
        pytest.param({}, {name: "12"}, 12, id=name)
        for name in ("x-total-count", "x-total", "total-count", "x-wp-total")
    ),
    pytest.param({}, {"content-range": "items 0-4/12"}, 12, id="Content-Range"),
    pytest.param({}, {"content-range": "0-4/*"}, None, id="Content-Range without a total"),
    pytest.param({}, {"content-range": "bytes 0-4/12"}, None, id="Content-Range of bytes"),
    pytest.param({"total": 12}, {"x-total": "99"}, 12, id="envelope before header"),
    pytest.param({"total": None}, {"x-total-count": "12"}, 12, id="null, then header"),
    pytest.param({"total": 99, "meta": {"total": 50}, "pagination": {"total": 12}}, {}, 12, id="pagination first"),
    pytest.param({"total": 99, "meta": {"totalItems": 12}}, {}, 12, id="meta before the top level"),
    pytest.param({"count": 5, "total": 12}, {}, 12, id="@nestjsx/crud's count is the page's"),
    pytest.param({"count": 5}, {}, None, id="count alone is none"),
    pytest.param({"total": -1}, {}, None, id="negative"),
    pytest.param({"total": True}, {}, None, id="boolean"),
    pytest.param({"total": "many", "totalItems": "1e3"}, {"x-total": "about 12"}, None, id="no number"),
    pytest.param({"total": {"value": 12}}, {}, None, id="object"),
    pytest.param({}, {"x-total": "-1"}, None, id="negative header"),
    pytest.param({}, {}, None, id="nothing"),
]


@pytest.mark.parametrize(("envelope", "headers", "total"), TOTAL_TABLE)
def test_declared_total(envelope: dict[str, Any], headers: dict[str, str], total: int | None) -> None:
    """The total is found wherever upstreams declare it, and only what is a total is taken for one."""
    assert counters_in(envelope, headers).total == total


def test_understood_forms() -> None:
    """Every name that is understood stands once in the forms that messages list."""
    anywhere, others, headers = understood_forms().split("; ")
    anywhere = anywhere.removesuffix(" (at the top or in pagination, meta, meta.pagination, paging)")
    names = [*anywhere.split(", "), *others.split(", "), *headers.removeprefix("the headers ").lower().split(", ")]
    assert len(names) == len(set(names))
    assert {name.rpartition(".")[2] for name in names} == {signal.name.rpartition(".")[2] for signal in SIGNALS}


DESCRIBED = [
    (FIRST, "page 1"),
    (by_number(3), "page 3 (asked for by page=3)"),
    (PageRequest(2, "page", "s3cret"), "page 2 (asked for by page)"),
    (PageRequest(4, "afterCursor", "s3cret"), "page 4 (asked for by afterCursor)"),
    (PageRequest(5, url="http://h/?token=s3cret"), "page 5 (asked for by a link)"),
    (PageRequest(2, "offset", "3"), "page 2 (asked for by offset=3)"),
]


def test_requests_are_described_without_their_tokens() -> None:
    """A message says which page was asked for and how, and shows neither a cursor nor a URL."""
    assert [request.describe() for request, _ in DESCRIBED] == [text for _, text in DESCRIBED]


KEYS = st.sampled_from(sorted({key for paths in PLACES.values() for path in paths for key in path} | {"page", "total"}))


@given(
    st.dictionaries(KEYS, NESTED_VALUES | st.dictionaries(KEYS, NESTED_VALUES, max_size=3)),
    st.text(),
    st.integers(0, 3),
)
def test_any_envelope(envelope: dict[str, Any], header: str, items: int) -> None:
    """Whatever an envelope holds, it leads on, to the end, or to one of our errors."""
    for asked in (FIRST, by_number(2), PageRequest(2, "cursor", "c")):
        try:
            following = follow(envelope, {"link": header}, asked, items).request
        except EtlError:
            continue
        if following is not None and following.value != "1":
            assert following.ordinal == asked.ordinal + 1
            assert (following.url or "").startswith(f"{ORIGIN}/") != (following.value is not None)
            if following.page_number is not None and asked.page_number is not None:
                assert following.page_number > asked.page_number


@given(st.integers(1, 40), st.sampled_from(sorted(PLACES[Kind.COUNT])), st.booleans(), st.integers(0, 1))
def test_counted_pages_end(count: int, path: tuple[str, ...], as_text: bool, first: int) -> None:
    """Where pages are counted, each is asked for once, in order, and then it ends."""
    asked, seen = FIRST, [first]
    for _ in range(count):
        counters = {"page": seen[-1], **nest(path, str(count) if as_text else count)}
        following = follow(counters, asked=asked).request
        if following is None:
            break
        asked = following
        seen.append(asked.page_number or 0)
    assert seen == list(range(first, first + count))
