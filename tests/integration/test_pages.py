"""Pages in order: every envelope to its end, pages ahead, bounded endings, and links that stay with the origin."""

import re
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest

from etl.errors import IncompleteExtractError, UpstreamError
from etl.extract.client import TICKET_SALES
from etl.extract.pages import PageStream
from etl.logs import LogContext, log_context
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.cursors import Order
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.envelopes import Envelope, items, next_page, pages
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.request_log import PageServed
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.upstream import at_once, client, extraction, fetch_threads, json_logs, logged, read_all, read_once
from tests.support.waiting import wait_until


def ids(count: int) -> list[str]:
    """The ids of `plain_sales(count)`, as they are read."""
    return [str(number) for number in range(1, count + 1)]


SIZES = [(0, 7), (1, 1), (14, 7), (25, 1), (25, 7), (25, 100)]
"""(items, page size)"""


@pytest.mark.parametrize("name", ENVELOPES)
def test_every_envelope_is_read_to_its_end(name: str) -> None:
    """Every sale and every event comes once and in order, whatever the envelope, with full and short last pages."""
    envelope = ENVELOPES[name]
    with TicketingApi(token="t0k") as upstream, client(upstream.base_url, token="t0k") as api:
        for count, size in SIZES:
            upstream.sales, upstream.events = plain_sales(count), plain_events(count)
            for dataset in upstream.datasets.values():
                dataset.envelope = envelope.sized(size)
            assert read_once(extraction(api)).ids == ids(count), (count, size)
            if size > 1:
                events = read_once(extraction(api), "events")
                names = {e.event_id: e.event_name for e in events.records}  # a full last page is read again
                assert list(names.items()) == [(f"event-{i}", f"Event {i}") for i in range(count)]
        assert {seen.headers["authorization"] for seen in upstream.requests} == {"Bearer t0k"}
    assert fetch_threads() == []


PAGED = [name for name, envelope in ENVELOPES.items() if envelope.ask and not name.startswith(("meta.", "pagination."))]


@pytest.mark.parametrize("name", PAGED)
def test_the_page_size_is_asked_for(name: str) -> None:
    """With NEST_API_PAGE_SIZE every request has `limit`, and the pages have that size."""
    with TicketingApi(sales=plain_sales(25), envelope=name) as upstream:
        reading = read_all(upstream.base_url, env={"NEST_API_PAGE_SIZE": "10"})
        assert {seen.query["limit"] for seen in upstream.requests} == {"10"}
        served = sorted(len(seen.items or ()) for seen in upstream.requests)
    # Where pages tell no number, page 1 is asked for once more; where nothing tells the end, an empty page does.
    assert served in ([5, 10, 10], [0, 5, 10, 10], [5, 10, 10, 10])
    assert reading.ids == ids(25)


CAPPED = [
    pytest.param("nestjs-paginate", "1000", 150, [100, 50], id="cut silently"),
    pytest.param("@nestjsx/crud", "1000", 150, [100, 50], id="cut silently, crud"),
    pytest.param("nestjs-paginate cursor", "1000", 150, [100, 50, 0], id="cut silently, cursor"),
    pytest.param("nestjs-typeorm-paginate", "110", 150, [110, 40], id="no cap"),
    pytest.param("array", "7", 26, [26], id="not paged at all"),
]


@pytest.mark.parametrize(("name", "size", "count", "served"), CAPPED)
def test_an_upstream_may_grant_less(name: str, size: str, count: int, served: list[int]) -> None:
    """A page size that the upstream cuts, or ignores, loses nothing: a short page isn't taken for the last one."""
    with TicketingApi(sales=plain_sales(count), envelope=name) as upstream:
        reading = read_all(upstream.base_url, env={"NEST_API_PAGE_SIZE": size})
        assert [len(seen.items or ()) for seen in upstream.requests] == served
    assert reading.ids == ids(count)


def test_a_page_size_that_is_refused() -> None:
    """Over the cap of a strict upstream the run ends with the upstream's own words."""
    with TicketingApi(sales=plain_sales(1)) as upstream:
        with pytest.raises(UpstreamError, match=r"ticket_sales, page 1: .* 400 \(limit must not be greater than 100\)"):
            read_all(upstream.base_url, env={"NEST_API_PAGE_SIZE": "101"})
        assert len(upstream.requests) == 1


ORDERS = [
    pytest.param("cursor.afterCursor", Order("sale_date"), 7, 0, id="with a tie-break"),
    pytest.param("links.next:cursor", Order("sale_date", descending=True), 7, 0, id="descending"),
    pytest.param("nestjs-paginate cursor", Order("id"), 7, 0, id="nestjs-paginate, by id"),
    pytest.param("typeorm-cursor-pagination", Order("id"), 7, 0, id="typeorm, by id"),
    pytest.param("typeorm-cursor-pagination", Order("price"), 7, 3, id="typeorm sends the last row again"),
]


@pytest.mark.parametrize(("name", "order", "size", "repeats"), ORDERS)
def test_cursors_in_an_order(name: str, order: Order, size: int, repeats: int) -> None:
    """Cursors lead through every row once; those that a paginator sends again count once."""
    with TicketingApi(sales=plain_sales(25, events=3), envelope=name, page_size=size, order=order) as upstream:
        reading = read_all(upstream.base_url)
    assert sorted(reading.ids, key=str) == sorted(ids(25))
    assert reading.tally.duplicates == repeats


# Pages ahead.


@pytest.mark.parametrize("concurrency", [1, 4, 7])
def test_counted_pages_are_fetched_ahead_and_taken_in_order(concurrency: int) -> None:
    """The upstream sees NEST_API_CONCURRENCY requests at once, never more, and the records come in its order."""
    with TicketingApi(sales=plain_sales(35), page_size=3) as upstream:
        upstream.latency_seconds = 0.1
        reading = read_all(upstream.base_url, env={"NEST_API_CONCURRENCY": str(concurrency)})
        assert at_once(upstream.requests, upstream.latency_seconds) == concurrency
        assert sorted(seen.page or 0 for seen in upstream.requests) == list(range(1, 13))
    assert reading.ids == ids(35)
    assert fetch_threads() == []


SLOW = 0.03
"""Seconds a page takes to come: longer than a thread takes to get its turn."""
AHEAD = [
    pytest.param("veritix", 4, id="counted"),
    pytest.param("pagination.page+totalPages:digits", 1, id="counted, without a total"),
    pytest.param("next_page", 1, id="numbers"),
    pytest.param("hasMore", 1, id="a flag"),
    pytest.param("next_cursor", 1, id="cursors"),
    pytest.param("links.next", 1, id="links"),
]


@pytest.mark.parametrize(("name", "ahead"), AHEAD)
def test_how_far_ahead(name: str, ahead: int) -> None:
    """While a page is folded, NEST_API_CONCURRENCY pages are under way where they are counted, else one."""
    with TicketingApi(sales=plain_sales(20), envelope=name, page_size=2) as upstream, client(upstream.base_url) as api:
        upstream.latency_seconds = SLOW
        stream = iter(PageStream(api, TICKET_SALES, 1000, lambda: 0.0))
        next(stream)
        if name == "hasMore":  # where pages tell no number, the second page is found first, and page 1 comes again
            next(stream)
        before = len(upstream.requests) - len({seen.page for seen in upstream.requests})
        read = 1 + (name == "hasMore")
        wait_until(lambda: len(upstream.requests) == before + read + ahead)
        time.sleep(0.03)
        assert len(upstream.requests) == before + read + ahead
        next(stream)
        wait_until(lambda: len(upstream.requests) == before + read + 1 + ahead)
        assert len(upstream.requests) == before + read + 1 + ahead
        assert fetch_threads() != []
        assert isinstance(stream, Generator)
        stream.close()
        assert fetch_threads() == []


def test_nothing_is_fetched_ahead_of_a_slow_reader() -> None:
    """Once folding is known to take longer than fetching, no thread is used."""
    now = [0.0]
    with TicketingApi(sales=plain_sales(20), page_size=2) as upstream, client(upstream.base_url) as api:
        seen = []
        for _ in PageStream(api, TICKET_SALES, 1000, lambda: now[0]):
            now[0] += 10
            time.sleep(0.01)
            seen.append(len(upstream.requests))
    assert seen[5:] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("status", [429, 503])
def test_fewer_pages_at_once_where_the_upstream_is_overloaded(status: int) -> None:
    """After a 429 or 503 the rest comes with half as many requests at once, complete and in order."""
    with TicketingApi(sales=plain_sales(24), page_size=1, faults=[Fault("status", page=6, status=status)]) as upstream:
        upstream.latency_seconds = 0.06
        reading = read_all(upstream.base_url)
        assert at_once(upstream.requests[:9], upstream.latency_seconds) == 4
        assert at_once(upstream.requests[14:], upstream.latency_seconds) <= 2
    assert reading.ids == ids(24)


def test_the_run_is_named_in_what_threads_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Requests of pages ahead are logged with the run's id and trace too."""
    with json_logs(), TicketingApi(sales=plain_sales(19), page_size=2) as upstream:
        upstream.latency_seconds = 0.01
        with log_context(LogContext("run-7", "projects/p/traces/t")):
            read_all(upstream.base_url)
    lines = logged(capsys)
    assert [line["logging.googleapis.com/labels"] for line in lines] == [{"run_id": "run-7"}] * 10
    assert {line["logging.googleapis.com/trace"] for line in lines} == {"projects/p/traces/t"}
    assert [(line["attempt"], line["status_code"], line["record_count"]) for line in lines] == [
        *[(1, 200, 2)] * 9,
        (1, 200, 1),
    ]


ERRORS: list[Any] = [
    pytest.param([Fault("status", page=4, status=404)], UpstreamError, "page 4 .*404", id="a page ahead"),
    pytest.param([Fault("empty_page", page=4)], IncompleteExtractError, "page 4 .* is empty", id="its envelope"),
    pytest.param(
        [Fault("stuck_page", page=n, show={}) for n in (4, 5, 6)], IncompleteExtractError, "page 4", id="its items"
    ),
]


@pytest.mark.parametrize("name", ["veritix", "hasMore"])
@pytest.mark.parametrize(("faults", "error", "message"), ERRORS)
def test_an_error_comes_in_its_turn_and_leaves_no_thread(
    name: str, faults: list[Fault], error: type[Exception], message: str
) -> None:
    """What stands before the page that fails is read; no thread outlives the error, even while that is looked at."""
    got: list[str | None] = []
    with TicketingApi(sales=plain_sales(20), envelope=name, page_size=2, faults=faults) as upstream:
        upstream.latency_seconds = 0.01
        with client(upstream.base_url) as api:
            with pytest.raises(error) as caught:
                got.extend(record.sale_id for record in extraction(api).sales())
            assert fetch_threads() == []
    assert got[:6] == ids(6)
    if name == "veritix" or "empty" in message or "404" in message:
        assert re.search(message, str(caught.value))


# Endings.

COUNTED_AND_NEXT = Envelope({"data": items, "next_page": next_page(), "total_pages": pages})
ALWAYS = {"times": None}
ENDLESS = [
    pytest.param("next_page", Fault("next_same", page=2), "page 2 .*names page 2 as the next", id="the same number"),
    pytest.param("nextPage:digits", Fault("next_same", page=3), "page 3 .*names page 3", id="the same digits"),
    pytest.param("next_page", Fault("next_back", page=3), "page 3 .*names page 2 as the next", id="a number back"),
    pytest.param("next_page", Fault("show", page=2, show={"shown_next": -1}), "page 2 .*names page -1", id="negative"),
    pytest.param("next_page", Fault("show", page=2, show={"shown_next": 0}), "page 2 .*names page 0", id="page 0"),
    pytest.param("next_page", Fault("stuck_page", page=3), "page 3 .*names page 2", id="the first page again"),
    pytest.param("veritix", Fault("stuck_page", page=3), "page 3 .*was answered with page 1", id="another page"),
    pytest.param("nestjs-paginate", Fault("show", page=2, show={"number": 5}), "page 2 .*answered with page 5", id="5"),
    pytest.param("next_page:absolute", Fault("next_same"), "go round in a circle", id="the same URL"),
    pytest.param("next_page:relative", Fault("next_back", page=3), "go round in a circle", id="a URL back"),
    pytest.param("next_page:absolute", Fault("next_back", page=2), "go round in a circle", id="the first URL"),
    pytest.param("next_cursor", Fault("next_same"), "page 3 .*in a circle", id="the same cursor"),
    pytest.param("cursor.afterCursor", Fault("next_back", page=3), "in a circle", id="a cursor back"),
    pytest.param("has_more+next_cursor", Fault("next_back", page=4), "in a circle", id="a cursor back, with a flag"),
    pytest.param("next_cursor", Fault("stuck_page"), "in a circle", id="the first cursor again"),
    pytest.param("links.next", Fault("next_same", page=2), "in a circle", id="the same link"),
    pytest.param("links.next:cursor", Fault("next_back", page=3), "in a circle", id="a link back"),
    pytest.param("link header", Fault("next_same", page=2), "in a circle", id="the same Link header"),
    pytest.param("link header:cursor", Fault("next_back", page=4), "in a circle", id="a Link header back"),
    pytest.param("hasMore", Fault("stuck_page"), "`hasMore: true` says that there", id="a flag, always the first page"),
    pytest.param("pagination.has_more", Fault("repeat_page", page=3), None, id="one page twice does no harm"),
    pytest.param("next_page", Fault("never_ending"), "page 8 .*3 pages in a row", id="numbers for ever"),
    pytest.param("has_more", Fault("never_ending"), "page 8 .*3 pages in a row", id="a flag for ever"),
    pytest.param("page+pageCount", Fault("never_ending"), "page 8 .*3 pages in a row", id="a growing count"),
    pytest.param("next_cursor", Fault("never_ending"), "page 8 .*3 pages in a row", id="cursors for ever"),
    pytest.param("links.next", Fault("never_ending"), "page 8 .*3 pages in a row", id="links for ever"),
    pytest.param("link header", Fault("never_ending"), "page 8 .*3 pages in a row", id="Link headers for ever"),
    pytest.param("data+page+limit", Fault("never_ending"), "page 9 .*3 pages in a row", id="full pages for ever"),
    *(
        pytest.param(name, Fault("empty_page", page=2), "page 2.* is empty, and still says", id=f"empty: {name}")
        for name in ("next_page", "hasMore", "veritix", "next_cursor", "links.next", "link header", "nestjs-paginate")
    ),
    pytest.param(
        COUNTED_AND_NEXT,
        Fault("show", show={"pages": 2}),
        "page 2 .*says that page 3 follows, but that it has 2 pages",
        id="more pages than declared",
    ),
]


@pytest.mark.parametrize(("envelope", "fault", "message"), ENDLESS)
def test_reading_ends(envelope: str | Envelope, fault: Fault, message: str | None) -> None:
    """Pages that don't lead on end the run soon, with an error that names dataset and page."""
    faults = [replace(fault, times=1 if fault.kind == "repeat_page" else None)]
    with TicketingApi(sales=plain_sales(10), envelope=envelope, page_size=2, faults=faults) as upstream:
        if message is None:
            assert read_all(upstream.base_url).tally.duplicates == 2

        else:
            with pytest.raises(IncompleteExtractError, match=message) as caught:
                read_all(upstream.base_url)
            assert re.match(r"ticket_sales[:,] .*(page \d|has_?[mM]ore)", str(caught.value))

        assert len(upstream.requests) <= 12
    assert fetch_threads() == []


def grow(upstream: TicketingApi) -> Callable[[PageServed], None]:
    """Two more sales at the end after each page."""

    def after_page(_: PageServed) -> None:
        upstream.sales.extend(plain_sales(2, first_id=len(upstream.sales) + 1))

    return after_page


LIMITS: list[Any] = [
    pytest.param("hasMore", plain_sales(20), None, False, id="as many as allowed"),
    pytest.param("hasMore", plain_sales(21), None, True, id="one more"),
    pytest.param("veritix", plain_sales(21), None, True, id="one more, counted"),
    pytest.param("next_cursor", plain_sales(21), None, True, id="one more, by cursor"),
    pytest.param("hasMore", plain_sales(4), grow, True, id="new ones for ever"),
    pytest.param("next_page", [{"event_id": "e"}] * 4, Fault("never_ending", times=None), True, id="without ids"),
]


@pytest.mark.parametrize(("name", "sales", "change", "fails"), LIMITS)
def test_the_number_of_pages_is_bounded(name: str, sales: list[Any], change: Any, fails: bool) -> None:
    """NEST_API_MAX_PAGES pages are read; where there are more, the error says so and what to do."""
    with TicketingApi(sales=sales, envelope=name, page_size=2) as upstream:
        if isinstance(change, Fault):
            upstream.faults = [change]
        elif change is not None:
            upstream.on_page = change(upstream)
        if fails:
            match = r"ticket_sales.*more than 10 pages\. Raise NEST_API_MAX_PAGES"
            with pytest.raises(IncompleteExtractError, match=match):
                read_all(upstream.base_url, max_pages=10)
        else:
            assert read_all(upstream.base_url, max_pages=10).ids == ids(20)
        assert len(upstream.requests) <= 14


@pytest.mark.parametrize("name", ["nestjs-paginate cursor", "data+page+limit"])
def test_an_empty_last_page_is_fine(name: str) -> None:
    """Some paginators tell the end by an empty page."""
    with TicketingApi(sales=plain_sales(6), envelope=name, page_size=2) as upstream:
        assert read_all(upstream.base_url).ids == ids(6)
        assert [len(seen.items or ()) for seen in upstream.requests] == [2, 2, 2, 0]


# The origin.

LINKED = [name for name in ENVELOPES if "absolute" in name] + [
    "links.next",
    "links.next:cursor",
    "link header",
    "link header:cursor",
]


@pytest.mark.parametrize("name", LINKED)
def test_links_to_another_origin(name: str) -> None:
    """They are refused by an error that names both origins; NEST_API_LINK_ORIGINS takes them for the base's own."""
    with TicketingApi() as other, TicketingApi(sales=plain_sales(6), envelope=name, page_size=2) as upstream:
        upstream.token, upstream.link_origin = "t0k", other.base_url
        with pytest.raises(UpstreamError) as caught:
            read_all(upstream.base_url, token="t0k")
        message = str(caught.value)
        assert re.match(r"ticket_sales[:,] page 1\b", message)
        assert f"leads to {other.base_url}, but the token goes to {upstream.base_url} only" in message
        assert "NEST_API_BASE_URL" in message
        assert "NEST_API_LINK_ORIGINS" in message
        assert len(upstream.requests) == 1
        env = {"NEST_API_LINK_ORIGINS": f"https://x.example, {other.base_url}"}
        assert read_all(upstream.base_url, token="t0k", env=env).ids == ids(6)
        assert other.requests == []


TRICKS: list[Any] = [
    pytest.param("//{other}/ticket-sales?page=2", False, id="without a scheme"),
    pytest.param("https://{own}/ticket-sales?page=2", False, id="another scheme"),
    pytest.param("http://{own}@{other}/ticket-sales?page=2", False, id="the origin as a user"),
    pytest.param("http://user@{own}/ticket-sales?page=2", False, id="a user"),
    pytest.param("ht\ntp://{other}/ticket-sales?page=2", False, id="a line break"),
    pytest.param("javascript:alert(1)", False, id="no HTTP"),
    pytest.param("http://{own}.example/ticket-sales?page=2", False, id="no URL"),
    pytest.param("HTTP://{own}/ticket-sales?page=2", True, id="upper case"),
    pytest.param("//{own}/ticket-sales?page=2", True, id="the same, without a scheme"),
    pytest.param("/ticket-sales?page=2", True, id="a path"),
    pytest.param("?page=2", True, id="a query"),
    pytest.param("/ticket-sales?page=2#x", True, id="a fragment"),
]


@pytest.mark.parametrize(("link", "followed"), TRICKS)
def test_how_links_are_read(link: str, followed: bool) -> None:
    """Only a link to the very same scheme, host and port is followed; nothing reaches the other origin."""
    with TicketingApi() as other, TicketingApi(sales=plain_sales(4), page_size=2) as upstream:
        own, others = (api.base_url.removeprefix("http://") for api in (upstream, other))
        for name in ("next_page", "links.next", "link header"):
            shown = link.format(own=own, other=others)
            if name == "link header":
                shown = shown.replace("\n", "\t")  # a header can't hold a line break
            upstream.datasets["ticket_sales"].envelope = ENVELOPES[name].sized(2)
            upstream.faults = [Fault("show", page=1, show={"shown_next": shown})]
            if followed:
                assert read_all(upstream.base_url).ids == ids(4)
                assert upstream.requests[-1].target == "/ticket-sales?page=2"
            else:
                with pytest.raises(UpstreamError):
                    read_all(upstream.base_url)
        assert other.requests == []


ALIASES = [
    pytest.param("https://inside.example", "https://inside.example:443", id="the default port"),
    pytest.param("http://inside.example:80", "http://Inside.Example/", id="upper case and a slash"),
    pytest.param("http://10.0.0.5:3000", "https://x.example,http://10.0.0.5:3000", id="one of several"),
]


@pytest.mark.parametrize(("link_origin", "setting"), ALIASES)
def test_link_origins_are_compared_as_origins(link_origin: str, setting: str) -> None:
    """Default ports and upper case make no difference; path and query are used on the configured origin."""
    with TicketingApi(sales=plain_sales(5), envelope="links.next", page_size=2, prefix="/v1") as upstream:
        upstream.link_origin = link_origin
        assert read_all(upstream.base_url, env={"NEST_API_LINK_ORIGINS": setting}).ids == ids(5)
        assert [seen.target for seen in upstream.requests[1:]] == [
            "/v1/ticket-sales?page=2&limit=2",
            "/v1/ticket-sales?page=3&limit=2",
        ]


@pytest.mark.parametrize("name", ["nestjs-paginate", "nestjs-typeorm-paginate"])
def test_numbers_come_before_links(name: str) -> None:
    """Where pages are counted, links of a wrong origin do no harm."""
    with TicketingApi() as other, TicketingApi(sales=plain_sales(6), envelope=name, page_size=2) as upstream:
        upstream.link_origin = other.base_url
        assert read_all(upstream.base_url).ids == ids(6)
        assert other.requests == []
