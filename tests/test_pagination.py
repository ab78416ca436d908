"""An envelope leads to the right next page, to the end, or to an error; never in a circle, never to another origin."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import EtlError, IncompleteExtractError, UpstreamError
from etl.pagination import (
    LINK_HEADER,
    SIGNALS,
    Next,
    Origins,
    PageRequest,
    declared_total,
    next_page,
    understood_forms,
    unknown_paging,
)
from tests.strategies import NESTED_VALUES

ORIGIN = "https://api.example.com"
URL = f"{ORIGIN}/v1/ticket-sales?limit=5"
ORIGINS = Origins(f"{ORIGIN}/v1", ("http://inside:3000", "https://www.example.com"))
FIRST = PageRequest()
END = Next(None)
UNKNOWN = Next(None, is_understood=False)


def follow(
    envelope: dict[str, Any], link: str | None = None, asked: PageRequest = FIRST, items: int = 5, url: str = URL
) -> Next:
    return next_page(envelope, link, asked, items, url, ORIGINS)


def by_number(number: int, ordinal: int | None = None) -> PageRequest:
    return PageRequest(ordinal or number, "page", str(number))


def page(number: int, last: int | None = None, ordinal: int = 2) -> Next:
    return Next(by_number(number, ordinal), last_page=last)


def by(parameter: str, value: str, ordinal: int = 2) -> Next:
    return Next(PageRequest(ordinal, parameter, value))


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
    (True, page(2)),
    ("eyJpZCI6MX0=", by("page", "eyJpZCI6MX0=")),
    ("2026-01-31", by("page", "2026-01-31")),
    (f"{ORIGIN}/v1/ticket-sales?page=2&status=paid", link_to("/v1/ticket-sales?page=2&status=paid")),
    ("/v1/ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    ("?page=2", link_to("/v1/ticket-sales?page=2")),
    (None, END),
    (False, END),
    ("", END),
]
MORE: list[tuple[object, Next]] = [
    *((value, page(2)) for value in (True, 1, "true", "1", "yes", 12)),
    *((value, END) for value in (False, None, "", 0, "false", "0")),
]
COUNT: list[tuple[object, Next]] = [(3, page(2, 3)), ("3", page(2, 3)), (2, page(2, 2)), (1, END), ("1", END), (0, END)]
LINK: list[tuple[object, Next]] = [
    (f"{ORIGIN}/v1/ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    ("/v1/ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    ("?page=2", link_to("/v1/ticket-sales?page=2")),
    ("ticket-sales?page=2", link_to("/v1/ticket-sales?page=2")),
    (None, END),
    (False, END),
    ("", END),
]


def cursor(parameter: str) -> list[tuple[object, Next]]:
    found: list[tuple[object, Next]] = [
        ("eyJpZCI6MX0=", by(parameter, "eyJpZCI6MX0=")),
        ("a:b/c?", by(parameter, "a:b/c?")),
    ]
    return [*found, (17, by(parameter, "17")), *((value, END) for value in (None, False, ""))]


WAYS: dict[tuple[str, ...], list[tuple[object, Next]]] = {
    ("pagination", "next_page"): NEXT,
    ("pagination", "nextPage"): NEXT,
    ("pagination", "has_more"): MORE,
    ("next_page",): NEXT,
    ("nextPage",): NEXT,
    ("has_more",): MORE,
    ("pagination", "hasMore"): MORE,
    ("hasMore",): MORE,
    **{
        (*container, name): COUNT
        for container in (("pagination",), ("meta",), ())
        for name in ("total_pages", "totalPages", "pageCount", "page_count")
    },
    ("cursor", "afterCursor"): cursor("afterCursor"),
    **{
        (*container, name): cursor("cursor")
        for container in (("pagination",), ("meta",), ())
        for name in ("next_cursor", "nextCursor")
    },
    ("links", "next"): LINK,
}


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        pytest.param(nest(path, value), expected, id=f"{'.'.join(path)}={value!r}")
        for path, values in WAYS.items()
        for value, expected in values
    ],
)
def test_every_signal(envelope: dict[str, Any], expected: Next) -> None:
    """Each signal alone leads to the next page in each of its forms, or to the end."""
    assert follow(envelope) == expected
    assert follow({"total": 12, "limit": 5, **envelope}) == expected


def test_no_signal_is_left_out() -> None:
    """The table above speaks of every signal there is; `limit` and the Link header have tables of their own."""
    others = {("limit",), ("meta", "limit"), ("pagination", "limit"), (LINK_HEADER,)}
    assert {signal.path for signal in SIGNALS} == WAYS.keys() | others


# Envelopes of real paginators (FACTS), beside their items.
PAGINATE_LINKS = {"current": f"{URL}&page=2", "previous": f"{URL}&page=1"}
REAL = [
    pytest.param(
        {"meta": {"itemsPerPage": 5, "totalItems": 12, "currentPage": 1, "totalPages": 3, "sortBy": [["id", "ASC"]]}}
        | {"links": {"current": f"{URL}&page=1", "next": "http://10.0.0.9/ticket-sales?page=2"}},
        (FIRST, 5),
        page(2, 3),
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
        link_to("/v1/ticket-sales?limit=5&cursor=V2"),
        id="nestjs-paginate by cursor",
    ),
    pytest.param(
        {"meta": {"itemCount": 5, "totalItems": 12, "itemsPerPage": 5, "totalPages": 3, "currentPage": 2}},
        (by_number(2), 5),
        page(3, 3, 3),
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
        page(2, 3),
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
        page(2, 3),
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
    pytest.param({}, (FIRST, 5), UNKNOWN, id="bare array"),
    pytest.param({"total": 5}, (FIRST, 5), UNKNOWN, id="only a total"),
    pytest.param({"page": 1, "limit": 5}, (FIRST, 5), page(2), id="page and limit, full page"),
    pytest.param({"page": "2", "limit": "5"}, (by_number(2), 4), END, id="page and limit as text, short page"),
    pytest.param({"page": 2, "limit": 5}, (by_number(2), 0), END, id="page and limit, empty page"),
    pytest.param({"meta": {"currentPage": 1, "limit": 5}}, (FIRST, 6), page(2), id="page and limit in meta"),
    pytest.param(
        {"pagination": {"current_page": 1, "limit": 5}}, (FIRST, 5), page(2), id="page and limit in pagination"
    ),
    pytest.param({"limit": 5, "offset": 0}, (FIRST, 5), UNKNOWN, id="limit and offset"),
    pytest.param({"page": 1, "limit": 0}, (FIRST, 5), UNKNOWN, id="a limit of 0"),
    pytest.param({"page": 1, "meta": {"limit": 5}}, (FIRST, 5), UNKNOWN, id="limit without a page beside it"),
]


@pytest.mark.parametrize(("envelope", "read", "expected"), REAL)
def test_real_paginators(envelope: dict[str, Any], read: tuple[PageRequest, int], expected: Next) -> None:
    """The envelopes of the usual paginators are understood, on their first, middle and last pages."""
    asked, items = read
    assert follow(envelope, asked=asked, items=items) == expected


ELSEWHERE = "https://elsewhere.example/x"
PRECEDENCE = [
    pytest.param({"pagination": {"next_page": 2, "nextPage": 3}, "next_page": 4}, page(2), id="the customer's order"),
    pytest.param({"pagination": {"next_page": None}, "next_page": 4}, END, id="the first one that is given"),
    pytest.param({"pagination": {"has_more": False}, "next_page": 4}, END, id="flag in pagination before next_page"),
    pytest.param({"next_page": 2, "has_more": False}, page(2), id="next_page before flag"),
    pytest.param({"nextPage": 2, "links": {"next": ELSEWHERE}}, page(2), id="number before link"),
    pytest.param({"page": 1, "totalPages": 3, "links": {"next": ELSEWHERE}}, page(2, 3), id="count before link"),
    pytest.param({"next_page": ELSEWHERE, "page": 1, "totalPages": 3}, page(2, 3), id="count before link in next_page"),
    pytest.param({"next_page": ELSEWHERE, "page": 3, "totalPages": 3}, END, id="count's end before link in next_page"),
    pytest.param({"page": 3, "totalPages": 3, "links": {"next": ELSEWHERE}}, END, id="count's end before link"),
    pytest.param({"page": 1, "totalPages": 3, "nextCursor": "c"}, page(2, 3), id="count before cursor"),
    pytest.param({"nextCursor": "c", "links": {"next": ELSEWHERE}}, by("cursor", "c"), id="cursor before link"),
    pytest.param({"nextCursor": "c", "page": 1, "limit": 5}, by("cursor", "c"), id="cursor before size"),
    pytest.param({"cursor": {"afterCursor": "a"}, "next_cursor": "c"}, by("afterCursor", "a"), id="afterCursor first"),
    pytest.param({"has_more": True}, page(2), id="flag alone"),
    pytest.param({"has_more": True, "page": 4}, page(5), id="flag and page"),
    pytest.param({"has_more": True, "page": 4, "total_pages": 6}, page(5, 6), id="flag and count"),
    pytest.param({"has_more": True, "next_cursor": "c"}, by("cursor", "c"), id="flag and cursor"),
    pytest.param({"hasMore": True, "cursor": {"afterCursor": "c"}}, by("afterCursor", "c"), id="flag and afterCursor"),
    pytest.param({"pagination": {"has_more": True, "nextCursor": "c"}}, by("cursor", "c"), id="both in pagination"),
    pytest.param({"pagination": {"has_more": True}, "nextPage": 5}, page(5), id="flag and next_page"),
    pytest.param({"has_more": True, "links": {"next": "/v1/x"}}, link_to("/v1/x"), id="flag and link"),
    pytest.param({"has_more": True, "next_cursor": None}, page(2), id="flag and no cursor"),
    pytest.param({"has_more": True, "links": {"next": None}}, page(2), id="flag and no link"),
    pytest.param({"has_more": False, "next_cursor": "c"}, END, id="flag's end and cursor"),
    pytest.param({"has_more": True, "hasMore": False}, END, id="two flags"),
    pytest.param({"totalPages": None, "next_cursor": "c"}, by("cursor", "c"), id="count of null is no signal"),
    pytest.param({"totalPages": "many", "next_cursor": "c"}, by("cursor", "c"), id="count of text is no signal"),
    pytest.param({"totalPages": -1, "next_cursor": "c"}, by("cursor", "c"), id="negative count is no signal"),
    pytest.param({"total_pages": True, "next_cursor": "c"}, by("cursor", "c"), id="boolean count is no signal"),
    pytest.param(
        {"meta": [1], "pagination": "no", "links": 5, "next_page": 2}, page(2), id="containers of other types"
    ),
    pytest.param({"pagination": {"page": 4}, "page": 9, "totalPages": 9}, page(5, 9), id="page in pagination first"),
]


@pytest.mark.parametrize(("envelope", "expected"), PRECEDENCE)
def test_precedence(envelope: dict[str, Any], expected: Next) -> None:
    """The first signal is followed; numbers come before links; a flag says whether, what stands beside it where."""
    assert follow(envelope) == expected


CURRENT = [
    pytest.param({"has_more": True}, by_number(4, 2), page(5, ordinal=3), id="asked for by number"),
    pytest.param({"has_more": True, "page": "4"}, by_number(4, 2), page(5, ordinal=3), id="and declared"),
    pytest.param({"has_more": True}, PageRequest(3, "cursor", "c"), page(4, ordinal=4), id="asked for otherwise"),
    pytest.param({"has_more": True, "page": 0}, FIRST, page(1), id="pages from 0"),
    pytest.param({"page": 0, "totalPages": 3}, FIRST, page(1, 3), id="count from 0"),
    pytest.param({"page": -1, "totalPages": 3}, FIRST, page(2, 3), id="a negative page is none"),
    pytest.param({"page": 7, "totalPages": 9}, PageRequest(3, url=URL), page(8, 9, 4), id="after a link"),
]


@pytest.mark.parametrize(("envelope", "asked", "expected"), CURRENT)
def test_current_page(envelope: dict[str, Any], asked: PageRequest, expected: Next) -> None:
    """The page that follows is counted from the page that is declared, else from the one that was asked for."""
    assert follow(envelope, asked=asked) == expected


ASTRAY = [
    pytest.param({"next_page": 1}, FIRST, 5, "page 1 names page 1 as the next one", id="onto itself"),
    pytest.param({"next_page": 0}, FIRST, 5, "names page 0 as the next one", id="0"),
    pytest.param({"nextPage": -1}, FIRST, 5, "names page -1 as the next one", id="negative"),
    pytest.param({"nextPage": "-3"}, FIRST, 5, "names page -3 as the next one", id="negative as text"),
    pytest.param({"nextPage": 3}, by_number(3), 5, r"page 3 \(asked for by page=3\) names page 3", id="asked for"),
    pytest.param({"nextPage": 2}, by_number(3), 5, "doesn't lead on from page 3", id="backwards"),
    pytest.param({"page": 3, "nextPage": 3}, FIRST, 5, "doesn't lead on from page 3", id="declared"),
    pytest.param({"page": 1, "totalPages": 3}, by_number(2), 5, r"page=2\) was answered with page 1", id="first again"),
    pytest.param({"meta": {"currentPage": "3"}}, by_number(4), 5, r"page=4\) was answered with page 3", id="last"),
    pytest.param({"next_page": 4, "totalPages": 3}, by_number(3), 5, "page 4 follows.* there are 3 pages", id="beyond"),
    pytest.param({"has_more": True, "page": 3, "pageCount": 3}, by_number(3), 5, "there are 3 pages", id="flag beyond"),
    *(
        pytest.param(envelope, FIRST, 0, "page 1 is empty, and still says that another", id=f"empty: {name}")
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
    pytest.param("</v1/x?page=0>; rel=prev; rel=next", UNKNOWN, id="a second rel doesn't count"),
    pytest.param('</v1/x>; title="; rel=next"; rel=prev', UNKNOWN, id="next within a title"),
    pytest.param('</v1/x>; rel="nextish"', UNKNOWN, id="another relation"),
    pytest.param('</v1/x>; rel="prev", </v1/x>; rel="first"', UNKNOWN, id="last page"),
    pytest.param("</style.css>; rel=preload; as=style", UNKNOWN, id="not about pages"),
    pytest.param("</v1/x>", UNKNOWN, id="no parameter"),
    pytest.param("/v1/x; rel=next", UNKNOWN, id="no angle brackets"),
    pytest.param("", UNKNOWN, id="empty"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "expected"), LINK_HEADERS)
def test_link_header(header: str, expected: Next) -> None:
    """The target of rel="next" is followed, in every form of RFC 8288; a header without one says nothing."""
    assert follow({}, header) == expected
    assert follow({"links": {"next": "/v1/first"}}, header) == link_to("/v1/first")
    assert follow({"page": 1, "totalPages": 3}, header) == page(2, 3)
    assert follow({"page": 1, "limit": 5}, header) == (page(2) if expected == UNKNOWN else expected)


def test_link_header_of_garbage() -> None:
    """A header of 60,000 characters that are no link is read past at once."""
    before = time.process_time()
    for garbage in ("<", ";", '"', "<;", "<>;", "<>;a", '<>;a="', "<> ", "<>;\t\t", "<>;a=b\\"):
        assert follow({}, garbage * (60_000 // len(garbage))) == UNKNOWN
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
    for envelope, header in (
        ({"links": {"next": link}}, None),
        ({"next_page": link}, None),
        ({}, f"<{link}>; rel=next"),
    ):
        with pytest.raises(UpstreamError) as caught:
            follow(envelope, header)
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
        pytest.param(nest((*container, name), value), None, 12, id=".".join((*container, f"{name}={value!r}")))
        for container in (("pagination",), ("meta",), ())
        for name in ("total", "totalItems", "total_items", "totalCount", "total_count")
        for value in (12, "12")
    ),
    pytest.param({"total": 0}, "5", 0, id="0 is a total"),
    pytest.param({}, "12", 12, id="header"),
    pytest.param({"total": 12}, "99", 12, id="envelope before header"),
    pytest.param({"total": None}, "12", 12, id="null, then header"),
    pytest.param({"total": 99, "meta": {"total": 50}, "pagination": {"total": 12}}, None, 12, id="pagination first"),
    pytest.param({"total": 99, "meta": {"totalItems": 12}}, None, 12, id="meta before the top level"),
    pytest.param({"count": 5, "total": 12}, None, 12, id="@nestjsx/crud's count is the page's"),
    pytest.param({"count": 5}, None, None, id="count alone is none"),
    pytest.param({"total": -1}, None, None, id="negative"),
    pytest.param({"total": True}, None, None, id="boolean"),
    pytest.param({"total": "many", "totalItems": "1e3"}, "about 12", None, id="no number"),
    pytest.param({"total": {"value": 12}}, None, None, id="object"),
    pytest.param({}, "-1", None, id="negative header"),
    pytest.param({}, None, None, id="nothing"),
]


@pytest.mark.parametrize(("envelope", "header", "total"), TOTAL_TABLE)
def test_declared_total(envelope: dict[str, Any], header: str | None, total: int | None) -> None:
    """The total is found wherever upstreams declare it, and only what is a total is taken for one."""
    assert declared_total(envelope, header) == total


UNKNOWN_TABLE = [
    pytest.param({"hasNextPage": True}, ["hasNextPage"], ["hasNextPage"], id="flag"),
    pytest.param({"next": "http://x"}, ["next"], ["next"], id="link"),
    pytest.param({"meta": {"nextId": 7, "offset": 5}}, ["meta.nextId", "meta.offset"], ["meta.nextId"], id="meta"),
    pytest.param({"pagination": {"more": 1}}, ["pagination.more"], ["pagination.more"], id="a container is no key"),
    pytest.param({"cursor": "c", "page": 3, "offset": 5}, ["cursor", "page", "offset"], [], id="not of more"),
    pytest.param({"NEXT": 1, "Links": [1]}, ["NEXT", "Links"], ["NEXT"], id="upper case"),
    pytest.param({"next": None, "hasNext": False, "more": "", "nextOffset": 0, "offset": "0"}, [], [], id="no value"),
    pytest.param({"total": 5, "success": True, "timestamp": "t", "message": "ok"}, [], [], id="other keys"),
]  # fmt: skip


@pytest.mark.parametrize(("envelope", "keys", "continuing"), UNKNOWN_TABLE)
def test_unknown_paging(envelope: dict[str, Any], keys: list[str], continuing: list[str]) -> None:
    """Keys that look like paging and have a value are told, so that one page isn't taken for all."""
    assert unknown_paging(envelope, continuing=False) == keys
    assert unknown_paging(envelope, continuing=True) == continuing


def test_understood_forms() -> None:
    """The forms that messages list are all the signals, each once."""
    assert understood_forms().split(", ") == [".".join(signal.path) for signal in SIGNALS]


DESCRIBED = [
    (FIRST, "page 1"),
    (by_number(3), "page 3 (asked for by page=3)"),
    (PageRequest(2, "page", "s3cret"), "page 2 (asked for by page)"),
    (PageRequest(4, "afterCursor", "s3cret"), "page 4 (asked for by afterCursor)"),
    (PageRequest(5, url="http://h/?token=s3cret"), "page 5 (asked for by a link)"),
]


def test_requests_are_described_without_their_tokens() -> None:
    """A message says which page was asked for and how, and shows neither a cursor nor a URL."""
    assert [request.describe() for request, _ in DESCRIBED] == [text for _, text in DESCRIBED]


KEYS = st.sampled_from(sorted({key for path in WAYS for key in path} | {"page", "limit", "total"}))


@given(
    st.dictionaries(KEYS, NESTED_VALUES | st.dictionaries(KEYS, NESTED_VALUES, max_size=3)),
    st.text(),
    st.integers(0, 3),
)
def test_any_envelope(envelope: dict[str, Any], header: str, items: int) -> None:
    """Whatever an envelope holds, it leads on, to the end, or to one of our errors."""
    for asked in (FIRST, by_number(2), PageRequest(2, "cursor", "c")):
        try:
            following = follow(envelope, header, asked, items).request
        except EtlError:
            continue
        if following is not None:
            assert following.ordinal == asked.ordinal + 1
            assert (following.url or "").startswith(f"{ORIGIN}/") != (following.value is not None)
            if following.page_number is not None and asked.page_number is not None:
                assert following.page_number > asked.page_number


@given(st.integers(1, 40), st.sampled_from([path for path, values in WAYS.items() if values is COUNT]), st.booleans())
def test_counted_pages_end(count: int, path: tuple[str, ...], as_text: bool) -> None:
    """Where pages are counted, each is asked for once, in order, and then it ends."""
    asked, seen = FIRST, [1]
    while (request := follow(nest(path, str(count) if as_text else count), asked=asked).request) is not None:
        asked = request
        seen.append(asked.page_number or 0)
    assert seen == list(range(1, count + 1))
