"""However an upstream pages, all of its sales are read, or an error names the keys: a part is never taken for all."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from etl.errors import EtlError, IncompleteExtractError, UpstreamError
from etl.extract.client import Api
from etl.extract.next_page import Next
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.envelopes import Envelope, Hole, count, items, pages, total
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.public_apis import PUBLIC_APIS
from tests.doubles.ticketing.request_log import PageServed
from tests.doubles.ticketing.sample_data import plain_sales
from tests.support.upstream import Reading, client, extraction, read_once

SALES = plain_sales(7)
"""Three pages of three."""
UNKNOWN_LIST = "has no list under data, results, items, docs; its keys are"
REFUSED: Mapping[str, tuple[str, ...]] = {
    # Their items stand under keys that aren't known.
    "HAL": (UNKNOWN_LIST, "_embedded"),
    "OData, Microsoft Graph": (UNKNOWN_LIST, "@odata.nextLink"),
    "GraphQL connection": (UNKNOWN_LIST, "data"),
    "Spring Page": (UNKNOWN_LIST, "content"),
    "Spring PagedModel": (UNKNOWN_LIST, "content"),
    "Elasticsearch": (UNKNOWN_LIST, "hits"),
    "Shopify, its own key": (UNKNOWN_LIST, "orders"),
    "Slack, its own key": (UNKNOWN_LIST, "messages"),
    "Salesforce": (UNKNOWN_LIST, "records"),
    "Airtable": (UNKNOWN_LIST, "records"),
    "Algolia": (UNKNOWN_LIST, "hits"),
    "Jira": (UNKNOWN_LIST, "values"),
    "Bitbucket": (UNKNOWN_LIST, "values"),
    "Reddit": (UNKNOWN_LIST, "data"),
    "DynamoDB": (UNKNOWN_LIST, "Items"),
    "Eventbrite": (UNKNOWN_LIST, "events"),
    "Ticketmaster": (UNKNOWN_LIST, "_embedded"),
    "FHIR": (UNKNOWN_LIST, "entry"),
    # They go on in ways that aren't known.
    "Hydra, API Platform": ("hydra:view.hydra:next",),
    "Spring Page, data": ("pageable.offset: 0", "totalPages: 3"),
    "ASP.NET X-Pagination": ("x-pagination.HasNext: true",),
    "prisma-extension-pagination, cursor": ("meta.hasNextPage: true", "meta.endCursor"),
    "Strapi, by start": ("meta.pagination.start: 0",),
    "Solr": ("`start: 0`", "numFound: 7"),
    "data, offset": ("`offset: 0`", "`limit` (or `take`)", "has_more"),
    "data, skip": ("`skip: 0`", "`limit` (or `take`)", "has_more"),
    "data, truncated": ("truncated: true",),
    "data, nextOffset": ("nextOffset: 3",),
    "data, after": ("`after: ",),
    "data, cursors": ("cursors.after",),
    "data, continuationToken": ("continuationToken",),
    "x-ms-continuation": ("x-ms-continuation",),
    "X-Next-Cursor": ("x-next-cursor",),
    "X-Has-More": ("x-has-more",),
    "Anthropic": ("has_more: true", "last_id"),
    "Salesforce, data": ("nextRecordsUrl", "totalSize: 7", "done: false"),
    "Twilio": ("next_page_uri",),
    "Square": ("`cursor: ",),
    "Twitch": ("pagination.cursor",),
    "Intercom": ("pages.next.starting_after", "pages.total_pages: 3"),
    "Airtable, data": ("`offset: ",),
    "Jira, data": ("startAt: 0", "isLast: false"),
    "Bitbucket Server, data": ("nextPageStart: 3", "isLastPage: false"),
    "Twitter": ("meta.next_token",),
    "Facebook, cursors alone": ("paging.cursors.after",),
    "Dropbox, data": ("has_more: true", "`cursor: "),
    "DynamoDB, data": ("LastEvaluatedKey.id.S",),
    "AWS": ("NextToken",),
    "AWS, S3": ("IsTruncated: true", "NextMarker"),
    "SendGrid, data": ("_metadata.next", "_metadata.count: 7"),
    "seats.io": ("next_page_starts_after",),
    "Pipedrive": ("additional_data.pagination.next_start: 3", "more_items_in_collection: true"),
    "Pipedrive, newer": ("additional_data.next_cursor",),
    "Asana": ("next_page.offset",),
    "Chargebee, data": ("next_offset",),
    "Discourse, data": ("more_topics_url",),
    "Rick and Morty": ("info.next", "info.count: 7"),
    "FHIR links, data": ("link[next]",),
    # They ignore the parameter, and send the first page again.
    "JSON:API meta.page, Laravel JSON:API": ("meta.page.lastPage: 3", "meta.page.total: 7"),
    "JSON:API meta alone": ("meta.totalItems: 7", "than the 3 records"),
    "OData count alone, data": ("@odata.count: 7",),
    "Content-Range, react-admin": ("answered with `content-range: 0`",),
    "Content-Range without a total, by another parameter": ("content-range: 0",),
    "Strapi": ("page=2) was answered with page 1", "another parameter than `page`"),
    ".NET PaginatedList": ("hasNextPage: true", "totalPages: 3"),
    "json-server without links": ("x-total-count: 7",),
    "data and total, by offset": ("`total: 7`", "force"),
    "items and count, by skip": ("`count: 7`",),
    "data, pageIndex and pageSize, by pageIndex": ("pageIndex: 0", "pageSize: 3"),
    "data, per_page, by p": ("per_page: 3",),
    "data, limit, by offset": ("`limit: 3`",),
    "data, isLast, by cursor": ("isLast: false",),
    "data, has_more, by offset": ("has_more: true",),
    "data, totalPages, by p": ("totalPages: 3",),
    "Stripe": ("has_more: true",),
    "Notion": ("go round in a circle", "`next_cursor`"),
    "Magento": ("total_count: 7", "search_criteria.page_size: 3"),
    "Mailchimp, data": ("total_items: 7",),
    # The page after the last one still has a next one.
    "Mailgun": ("page 4", "is empty", "`paging.next`"),
}
"""What the error says; all other forms are read to their end."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def api(upstream: TicketingApi) -> Iterator[Api]:
    with client(upstream.base_url) as api:
        yield api


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of three sales is a large one, that is read as a stream."""
    monkeypatch.setattr("etl.extract.body.WHOLE_PAGE_BYTES", 100)
    monkeypatch.setattr("etl.extract.body.BATCH_BYTES", 150)
    monkeypatch.setattr("etl.extract.client._CHUNK_BYTES", 64)


def read(
    upstream: TicketingApi,
    api: Api,
    envelope: Envelope,
    sales: list[Any],
    *,
    limit: int | None = None,
    force: bool = False,
) -> Reading:
    """One reading of these sales; the upstream sends as many a page as its envelope says."""
    upstream.datasets["ticket_sales"].envelope = envelope
    upstream.sales = sales
    upstream.requests.clear()
    api.page_size = limit
    return read_once(extraction(api, force=force))


def check_form(upstream: TicketingApi, api: Api, name: str, limit: int | None = None) -> None:
    """All sales are read, each once, or the error names the keys."""
    envelope = PUBLIC_APIS[name].sized(3)
    if name not in REFUSED:
        reading = read(upstream, api, envelope, SALES, limit=limit)
        assert sorted(reading.ids, key=str) == ids(7)
        return
    with pytest.raises(EtlError) as caught:
        read(upstream, api, envelope, SALES, limit=limit)
    assert isinstance(caught.value, UpstreamError if UNKNOWN_LIST in REFUSED[name] else IncompleteExtractError)
    assert str(caught.value).startswith("ticket_sales")
    for words in REFUSED[name]:
        assert words in str(caught.value)


def ids(count: int) -> list[str]:
    """The ids of `plain_sales(count)`."""
    return [str(number) for number in range(1, count + 1)]


@pytest.mark.parametrize("limit", [None, 3], ids=["", "limit"])
@pytest.mark.parametrize("name", PUBLIC_APIS)
def test_every_form(upstream: TicketingApi, api: Api, name: str, limit: int | None) -> None:
    """Every form of paging is read to its end, or refused by an error that names its keys."""
    check_form(upstream, api, name, limit)


@pytest.mark.parametrize("name", PUBLIC_APIS)
@pytest.mark.usefixtures("small_batches")
def test_every_form_as_a_stream(upstream: TicketingApi, api: Api, name: str) -> None:
    """It makes no difference that a large page tells of the next one only behind its items."""
    check_form(upstream, api, name)


def test_what_is_refused_is_known() -> None:
    """Each refusal above is one of a form that there is, and there are many of either kind."""
    assert set(REFUSED) <= set(PUBLIC_APIS)
    assert min(len(REFUSED), len(PUBLIC_APIS) - len(REFUSED)) > 60


def test_a_reader_that_stops_after_a_page_is_found(
    upstream: TicketingApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table can fail: who takes every page for the last one reads three of the seven sales, whatever the form."""
    monkeypatch.setattr("etl.extract.pages.next_page", lambda *_: Next(None))
    for name in PUBLIC_APIS.keys() - REFUSED.keys():
        assert len(read(upstream, api, PUBLIC_APIS[name].sized(3), SALES, force=True).ids) == 3, name


@pytest.mark.parametrize("name", ["Stripe", "data and total, by offset", "data, after", "data, offset"])
def test_force_takes_what_is_refused(upstream: TicketingApi, api: Api, name: str) -> None:
    """Whoever knows better may load what was read."""
    reading = read(upstream, api, PUBLIC_APIS[name].sized(3), SALES, force=True)
    assert reading.ids == ids(3)


# One page, with odd keys beside it.

ODD: dict[str, dict[str, Any]] = {
    "requestId": {"requestId": "9c1f", "traceId": "00-ab", "correlation_id": 7},
    "took": {"took": 12, "timed_out": False, "durationMs": 0.5},
    "status": {"status": "ok", "statusCode": 200, "code": 0},
    "version": {"version": "2.1", "apiVersion": 3},
    "currency": {"currency": "EUR", "totalRevenue": 24_000, "total_amount": 500, "grandTotal": 700, "subtotal": 600},
    "timestamp": {"timestamp": "2026-11-23T00:00:00Z", "path": "/ticket-sales", "success": True},
    "message": {"message": "more tickets soon", "links": []},
    "count": {"count": count},
    "meta.count": {"meta": {"count": count, "itemCount": count}},
    "count of something else": {"count": 2, "stats": {"refunds": 900}},
    "total": {"total": total},
    "total in meta": {"meta": {"total": total, "page": 1, "limit": 100}},
    "page and pages": {"page": 1, "pages": 1},
    "limit": {"limit": 500},
    "per_page": {"per_page": 500},
    "no limit": {"limit": None, "offset": 0, "total": total},
    "offset, limit and total": {"offset": 0, "limit": 100, "total": total},
    "links.self": {"links": {"self": "/sales", "first": "/sales?page=1", "last": "/sales?page=1"}},
    "_links.self": {"_links": {"self": {"href": "/ticket-sales"}, "curies": [{"name": "t", "href": "/{rel}"}]}},
    "nothing next": {"next": None, "previous": None, "cursor": "", "continuationToken": None, "nextOffset": 0},
    "flags": {"has_more": False, "truncated": False},
    "the last": {"isLast": True},
    "done": {"done": True},
    "sync": {"nextSyncToken": "CPDAl", "deltaLink": "/x", "lastUpdated": "2026-11-23", "last_modified": 1_790_000_000},
    "times": {"nextUpdateAt": "2026-11-24", "generatedAt": 1_790_000_000, "next_refresh_time": 1_790_000_000},
    "rates": {"rateLimit": {"limit": 100, "remaining": 99, "next": 3}, "retryAfter": 30},
    "pages of a site": {"pageTitle": "Sales", "homepage": "https://x.example", "landing_page": 3, "file_size": 1234},
    "counts of other things": {"ticketCount": 99, "refund_count": 12, "unread": 7},
    "logins": {"accessToken": "x", "csrfToken": "y", "tokenType": "Bearer"},
    "zones": {"utcOffset": 60, "timezone": "Europe/Berlin"},
    "period": {"start": "2026-01-01", "end": "2026-12-31", "start_date": "2026-01-01", "from": 1_760_000_000},
    "no errors": {"error": None, "errors": [], "warnings": ["late"]},
    "filters": {"filters": {"status": "paid"}, "sort": [["id", "ASC"]], "facets": [{"value": "paid", "count": 420}]},
    "included": {"included": [{"type": "event", "id": "1", "attributes": {"next": "x", "page": 4, "total": 99}}]},
    "sums": {"summary": {"tickets": 900, "revenue": 1200, "refunded": 3}},
    "help": {"learnMore": "https://x.example", "more_info": "https://x.example", "docs": "https://docs.example"},
    "where": {"env": "prod", "locale": "de", "tenant": "a", "server": "eu-1", "region": "eu"},
}
ODD_HEADERS = {
    "X-RateLimit-Limit": "100",
    "X-RateLimit-Remaining": "99",
    "X-Request-Id": "7",
    "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT",
    "X-Page-Generated": "2026-11-23T12:00:00Z",
    "Link": "</a.css>; rel=preload",
    "X-Response-Time": "12",
    "X-Total-Time": "12",
    "Retry-After": "3",
    "Set-Cookie": "next=1; page=2",
    "Accept-Ranges": "bytes",
    "X-CSRF-Token": "t",
    "ETag": '"page-2"',
}


def filled(template: Any) -> Any:
    """A template with these values in it; a hole stays one."""
    if isinstance(template, dict):
        return {key: filled(value) for key, value in template.items()}
    return template if callable(template) else lambda _: template


ONE_PAGE: list[Any] = [
    *(pytest.param({"data": items, **filled(fields)}, {}, id=name) for name, fields in ODD.items()),
    pytest.param(items, {}, id="bare array"),
    pytest.param(items, filled(ODD_HEADERS), id="headers"),
]
SAY_ALL = {
    *("total", "total in meta", "page and pages", "limit", "per_page", "no limit", "offset, limit and total"),
    *("nothing next", "flags", "the last", "done"),
}
"""Those that say themselves that they are one page."""
SAY_FULL = {"total in meta", "offset, limit and total"}
"""Those of them that say that it is full at 100: records may have been pushed off it, after they were counted."""


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize(("body", "headers"), ONE_PAGE)
def test_one_page_is_one_page(
    upstream: TicketingApi,
    api: Api,
    body: Any,
    headers: dict[str, Hole],
    size: int,
    request: pytest.FixtureRequest,
) -> None:
    """A list of one page is read at once, whatever stands beside it; of a full one page 2 is asked for, or it again."""
    reading = read(upstream, api, Envelope(body, ask="", headers=headers), plain_sales(size))
    assert reading.ids == ids(size)
    assert reading.tally.duplicates == 0
    name = request.node.callspec.id.removesuffix(f"-{size}")
    further = [] if size == 3 else [""] if name in SAY_FULL else [] if name in SAY_ALL else ["page=2"]
    assert queries(upstream) == ["", *further]


def queries(upstream: TicketingApi) -> list[str]:
    """What was asked for, one request after the other."""
    return [seen.target.partition("?")[2] for seen in upstream.requests]


NO_MORE = [
    pytest.param("veritix:wrapped", 1, id="Veritix"),
    pytest.param("nestjs-paginate", 1, id="nestjs-paginate"),
    pytest.param("nestjs-paginate cursor", 2, id="nestjs-paginate by cursor, which ends with an empty page"),
    pytest.param("nestjs-typeorm-paginate", 1, id="nestjs-typeorm-paginate"),
    pytest.param("nestjs-typeorm-paginate:no route", 1, id="nestjs-typeorm-paginate without links"),
    pytest.param("@nestjsx/crud", 1, id="crud"),
    pytest.param("typeorm-cursor-pagination", 1, id="typeorm-cursor-pagination"),
    pytest.param("mongoose-paginate", 1, id="mongoose-paginate"),
    pytest.param("prisma-pagination", 1, id="prisma-pagination"),
    pytest.param("array", 1, id="bare array"),
    pytest.param("data:wrapped", 1, id="in an interceptor"),
]


@pytest.mark.parametrize(("name", "requests"), NO_MORE)
def test_usual_upstreams_cost_no_more_requests(upstream: TicketingApi, api: Api, name: str, requests: int) -> None:
    """A page of the usual paginators that is all is asked for once, and three pages three times."""
    envelope = ENVELOPES[name] if name in ENVELOPES else PUBLIC_APIS[name]
    assert read(upstream, api, envelope.sized(50), plain_sales(17)).ids == ids(17)
    assert len(upstream.requests) == requests
    if envelope.ask:
        assert read(upstream, api, envelope.sized(7), plain_sales(17)).ids == ids(17)
        assert len(upstream.requests) == requests + 2


# Full pages without a word, and pages from 0.

BY_PAGE = Envelope(items)
FULL = [
    pytest.param(BY_PAGE, 25, 10, None, ["page=2", "page=1", "page=3", "page=4"], id="pages from 1"),
    pytest.param(BY_PAGE, 10, 10, None, ["page=2", "page=1"], id="one page"),
    pytest.param(BY_PAGE, 26, 7, 7, ["page=2", "page=1", "page=3", "page=4", "page=5"], id="as many as asked for"),
    pytest.param(replace(BY_PAGE, first_number=0), 25, 10, None, ["page=2", "page=1", "page=2", "page=3"], id="from 0"),
    pytest.param(replace(BY_PAGE, first_number=0), 15, 10, None, ["page=2", "page=1", "page=2"], id="two pages from 0"),
    pytest.param(replace(BY_PAGE, past_end="missing"), 15, 10, None, ["page=2", "page=1", "page=3"], id="404 behind"),
    pytest.param(replace(BY_PAGE, past_end="missing"), 10, 10, None, ["page=2"], id="404 behind the only page"),
    pytest.param(replace(BY_PAGE, past_end="last"), 25, 10, None, ["page=2", "page=1", "page=3", "page=4"], id="last"),
    pytest.param(replace(BY_PAGE, past_end="last"), 10, 10, None, ["page=2"], id="the only page comes again"),
    pytest.param(replace(BY_PAGE, ask=""), 10, 10, None, ["page=2"], id="not paged"),
    pytest.param(replace(BY_PAGE, ask=""), 7, 10, 7, ["page=2", "limit=8"], id="not paged, as many as asked for"),
    pytest.param(replace(BY_PAGE, ask="", strict_query=True), 10, 10, None, ["page=2"], id="page is no parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("envelope", "sales", "size", "limit", "asked"), FULL)
def test_full_pages_without_a_word(
    upstream: TicketingApi, api: Api, envelope: Envelope, sales: int, size: int, limit: int | None, asked: list[str]
) -> None:
    """Where page 2 is there, pages are read by number until there is none; an upstream that ignores it has one page."""
    reading = read(upstream, api, envelope.sized(size), plain_sales(sales), limit=limit)
    assert sorted(reading.ids, key=lambda key: int(key or 0)) == ids(sales)

    assert (reading.tally.duplicates, reading.tally.completeness) == (0, "undeclared")
    assert [query.removeprefix(f"limit={limit}").removeprefix("&") for query in queries(upstream)] == ["", *asked]


def test_a_limit_that_hides_the_rest(upstream: TicketingApi, api: Api) -> None:
    """Bare pages that only an offset leads along: that as many came as were asked for is no proof of all."""
    for sales in (8, 30):
        with pytest.raises(
            IncompleteExtractError, match=r"as NEST_API_PAGE_SIZE asks for, 7, .* Set NEST_API_PAGE_SIZE"
        ):
            read(upstream, api, Envelope(items, ask="offset").sized(7), plain_sales(sales), limit=7)
    reading = read(upstream, api, Envelope(items, ask="offset").sized(7), plain_sales(8), limit=99)
    assert reading.ids == ids(8)


UNNAMED = [{**sale, "id": None} for sale in plain_sales(25)]
WITHOUT_IDS: list[Any] = [
    pytest.param(BY_PAGE, 10, id="full pages"),
    pytest.param(replace(BY_PAGE, first_number=0), 10, id="full pages from 0"),
    pytest.param(replace(BY_PAGE, past_end="last"), 10, id="the last page again"),
    pytest.param(replace(BY_PAGE, ask=""), 25, id="one page"),
    pytest.param(PUBLIC_APIS["data, has_more from 0"], 4, id="a flag, from 0"),
    pytest.param(ENVELOPES["has_more"], 4, id="a flag"),
    pytest.param(PUBLIC_APIS["data, totalPages from 0"], 4, id="a count, from 0"),
    pytest.param(PUBLIC_APIS["data, page and per_page"], 4, id="numbers"),
]


@pytest.mark.parametrize(("envelope", "size"), WITHOUT_IDS)
def test_guessed_pages_of_records_without_ids(upstream: TicketingApi, api: Api, envelope: Envelope, size: int) -> None:
    """A page that comes again isn't counted twice, though nothing but its text tells that."""
    assert len(read(upstream, api, envelope.sized(size), UNNAMED).records) == 25


ARRIVE: list[Any] = [
    pytest.param(ENVELOPES["has_more"], True, id="a flag, newest first"),
    pytest.param(ENVELOPES["has_more"], False, id="a flag, oldest first"),
    pytest.param(ENVELOPES["has_more"].declaring("total"), True, id="a flag and a total, newest first"),
    pytest.param(PUBLIC_APIS["data, has_more from 0"], True, id="a flag, from 0, newest first"),
    pytest.param(PUBLIC_APIS["data, totalPages from 0"], True, id="a count, from 0, newest first"),
    pytest.param(Envelope({"data": items, "total_pages": pages}), True, id="a count, newest first"),
    pytest.param(PUBLIC_APIS["data and total"], True, id="a total, newest first"),
    pytest.param(PUBLIC_APIS["data and total"], False, id="a total, oldest first"),
    pytest.param(PUBLIC_APIS["data, page and per_page"], True, id="numbers, newest first"),
    pytest.param(BY_PAGE, True, id="full pages, newest first"),
    pytest.param(replace(BY_PAGE, first_number=0), True, id="full pages from 0, newest first"),
    pytest.param(replace(BY_PAGE, ask=""), True, id="one page, newest first"),
    pytest.param(replace(BY_PAGE, ask=""), False, id="one page, oldest first"),
    pytest.param(PUBLIC_APIS["data, offset and total"], True, id="offsets, newest first"),
]


@pytest.mark.parametrize(("envelope", "newest_first"), ARRIVE)
def test_sales_arrive_while_pages_are_guessed(
    upstream: TicketingApi, api: Api, envelope: Envelope, newest_first: bool
) -> None:
    """A sale arrives after each of the first pages: all that stood there are read, each once."""
    arrivals = plain_sales(9, first_id=101)

    def on_page(_: PageServed) -> None:
        if arrivals:
            upstream.sales.insert(0 if newest_first else len(upstream.sales), arrivals.pop())

    upstream.on_page = on_page
    try:
        reading = read(upstream, api, envelope.sized(10), plain_sales(50))
    finally:
        upstream.on_page = None
    assert set(ids(50)) <= set(reading.ids)
    assert len(set(reading.ids)) == len(reading.ids)


# Totals that are none.

MONEY = [
    pytest.param({"total": 1 + 2 + 3}, 3, True, ["page=2"], id="what the sales cost"),
    pytest.param({"total": "6"}, 3, True, ["page=2"], id="as text"),
    pytest.param({"total": 6, "page": 1, "pages": 1}, 3, True, [], id="beside a word on pages"),
    pytest.param({"meta": {"totalItems": 6}}, 3, True, ["page=2"], id="in meta"),
    pytest.param({"total": 0}, 0, True, [], id="nothing"),
    pytest.param({"total": 7}, 3, False, ["page=2"], id="another amount"),
]


def priced(count: int) -> list[dict[str, Any]]:
    """Sales of 1, 2, 3, ..."""
    return [
        {"id": n, "event_id": "e", "totalAmount": f"{n}.00", "sale_date": "2026-01-05"} for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(("fields", "sales", "told_apart", "asked"), MONEY)
def test_an_amount_of_money_is_no_count(
    upstream: TicketingApi, api: Api, fields: dict[str, Any], sales: int, told_apart: bool, asked: list[str]
) -> None:
    """A total that is what a single page's sales cost is no count; of any other that doesn't fit the error tells."""

    envelope = Envelope({"data": items, **filled(fields)}, ask="")
    if told_apart:
        reading = read(upstream, api, envelope, priced(sales))
        assert len(reading.ids) == sales
        assert reading.tally.completeness == ("undeclared" if sales else "proved")
    else:
        with pytest.raises(IncompleteExtractError) as caught:
            read(upstream, api, envelope, priced(sales))
        for words in ("`total: 7` says that there is more than the 3 records", "amount of money", "another name"):
            assert words in str(caught.value)
    assert queries(upstream) == ["", *asked]


def test_a_count_that_looks_like_money(upstream: TicketingApi, api: Api) -> None:
    """Where the first page's sales happen to cost as much as there are, the second page shows it."""
    reading = read(upstream, api, Envelope({"data": items, "total": total}).sized(3), priced(6))
    assert reading.ids == ids(6)


def test_a_total_that_is_ahead_of_its_rows(upstream: TicketingApi, api: Api) -> None:
    """A sale that arrives between the rows and their count makes no list of one page a paged one."""
    envelope = Envelope({"data": items, "total": total}, ask="")
    upstream.faults = [Fault("show", nth=None, show={"total": 4})]
    upstream.on_page = lambda served: upstream.sales.extend(plain_sales(1, first_id=4)) if served.total == 4 else None
    try:
        with pytest.raises(IncompleteExtractError, match="3 distinct records were read"):
            read(upstream, api, envelope, plain_sales(3))
        assert queries(upstream) == ["", "page=2"]
        assert read(upstream, api, envelope, plain_sales(4)).ids == ids(4)
    finally:
        upstream.faults, upstream.on_page = [], None
