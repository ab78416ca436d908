"""How public APIs and usual libraries page, as their documentation shows it: envelopes by name.

Where an API has its items under a key of its own, its paging is also played with them under `data`, as somebody would
who copied its form.
"""

from collections.abc import Mapping
from typing import Any

from tests.doubles.ticketing.envelopes import (
    ABSENT,
    Envelope,
    Hole,
    Page,
    content_range,
    count,
    items,
    limit,
    link_header,
    links_list,
    more,
    next_page,
    next_start,
    number,
    page_link,
    pages,
    start,
    text,
    total,
)


def while_more(hole: Hole, end: Any = ABSENT) -> Hole:
    """What a hole gives while there are more pages, and `end` on the last one."""
    return lambda page: hole(page) if page.more else end


def _value(value: Any) -> Hole:
    return lambda _: value


def _from(page: Page) -> int | None:
    return page.start + 1 if page.items else None


def _to(page: Page) -> int | None:
    return page.start + len(page.items) if page.items else None


def _is_last(page: Page) -> bool:
    return not page.more


def _next_number(end: Any = None) -> Hole:
    return while_more(lambda page: page.next_number, end)


def _token(end: Any = None) -> Hole:
    return while_more(lambda page: page.next_token, end)


def _links(end: Any, *, as_objects: bool = False) -> dict[str, Any]:
    """first, prev, next and last, as JSON:API and Laravel have them."""

    def link(hole: Hole) -> Hole:
        return (lambda page: {"href": url} if (url := hole(page)) not in (end, ABSENT) else url) if as_objects else hole

    return {
        "first": link(page_link(lambda _: 1, lambda _: True, end)),
        "prev": link(page_link(lambda p: p.number - 1, lambda p: p.number > 1, end)),
        "next": link(next_page("absolute", end)),
        "last": link(page_link(lambda p: p.pages, lambda _: True, end)),
    }


def _json_api(links: Mapping[str, Any], meta: Mapping[str, Any] | None = None, ask: str = "page[number]") -> Envelope:
    body = {"data": items, **({"links": dict(links)} if links else {}), **({"meta": dict(meta)} if meta else {})}
    return Envelope(body, ask=ask, asks_for="page", limit_names=("page[size]",))


_SPRING_PAGE = {"size": limit, "number": number, "totalElements": total, "totalPages": pages}
_SPRING = {
    "pageable": {"pageNumber": number, "pageSize": limit, "offset": start, "paged": _value(True)},
    "last": _is_last,
    "totalElements": total,
    "totalPages": pages,
    "first": lambda p: p.number == 0,
    "size": limit,
    "number": number,
    "numberOfElements": count,
    "empty": lambda p: not p.items,
}
_LARAVEL = {"path": _value("http://x/sales"), "per_page": limit, "from": _from, "to": _to}
_LARAVEL_LINKS = {
    "links": lambda p: [
        {"url": None, "label": "&laquo; Previous", "active": False},
        *({"url": p.url(n), "label": str(n), "active": n == p.number} for n in range(1, p.pages + 1)),
        {"url": p.url(p.next_number) if p.more else None, "label": "Next &raquo;", "active": False},
    ],
    "prev_page_url": page_link(lambda p: p.number - 1, lambda p: p.number > 1, None),
    "next_page_url": next_page("absolute"),
    "first_page_url": page_link(lambda _: 1, lambda _: True, None),
}
_KAMINARI = {
    "current_page": number,
    "next_page": _next_number(),
    "prev_page": lambda p: p.number - 1 or None,
    "total_pages": pages,
    "total_count": total,
}
_STRAPI = {"meta": {"pagination": {"page": number, "pageSize": limit, "pageCount": pages, "total": total}}}
_GITLAB = {
    "X-Next-Page": lambda p: str(p.next_number) if p.more else "",
    "X-Page": text(number),
    "X-Per-Page": text(limit),
    "X-Prev-Page": lambda p: str(p.number - 1) if p.number > 1 else "",
    "X-Total": text(total),
    "X-Total-Pages": text(pages),
}
_MONGOOSE = {
    "totalDocs": total,
    "limit": limit,
    "totalPages": pages,
    "page": number,
    "pagingCounter": _from,
    "hasPrevPage": lambda p: p.number > 1,
    "hasNextPage": more,
    "prevPage": lambda p: p.number - 1 or None,
    "nextPage": _next_number(),
}
_YII_HEADERS = {
    "X-Pagination-Current-Page": text(number),
    "X-Pagination-Page-Count": text(pages),
    "X-Pagination-Per-Page": text(limit),
    "X-Pagination-Total-Count": text(total),
}
_EVENTBRITE = {
    "pagination": {
        "object_count": total,
        "page_number": number,
        "page_size": limit,
        "page_count": pages,
        "continuation": _token(ABSENT),
        "has_more_items": more,
    }
}
_JIRA = {"startAt": start, "maxResults": limit, "total": total, "isLast": _is_last}
_BITBUCKET = {"size": total, "page": number, "pagelen": limit, "next": next_page("absolute", ABSENT)}
_BITBUCKET_SERVER = {
    "size": count,
    "limit": limit,
    "isLastPage": _is_last,
    "start": start,
    "nextPageStart": while_more(next_start, None),
}
_ALGOLIA = {"nbHits": total, "page": number, "nbPages": pages, "hitsPerPage": limit, "processingTimeMS": _value(1)}
_SALESFORCE = {
    "totalSize": total,
    "done": _is_last,
    "nextRecordsUrl": while_more(lambda p: f"/services/data/v61.0/query/{p.next_token}"),
}
_EDGES = {"pageInfo": {"hasNextPage": more, "endCursor": lambda p: p.next_token if p.items else None}}


def _as_data(fields: Mapping[str, Any], **shape: Any) -> Envelope:
    return Envelope({"data": items, **fields}, **shape)


PUBLIC_APIS: dict[str, Envelope] = {
    # Standards.
    "JSON:API links": _json_api(_links(None)),
    "JSON:API links, left out at the end": _json_api(_links(ABSENT)),
    "JSON:API link objects": _json_api(_links(None, as_objects=True)),
    "JSON:API links, number of pages": _json_api(_links(None), {"totalPages": pages}),
    "JSON:API meta.page, Laravel JSON:API": _json_api(
        {}, {"page": {"currentPage": number, "from": _from, "lastPage": pages, "perPage": limit, "total": total}}
    ),
    "JSON:API meta alone": _json_api({}, {"totalItems": total}),
    "HAL": Envelope(
        {
            "_embedded": {"sales": items},
            "_links": {"next": while_more(lambda p: {"href": p.url(p.next_number)})},
            "page": _SPRING_PAGE,
        },
        first_number=0,
    ),
    "HAL links, data": _as_data(
        {"_links": {"self": {"href": page_link(lambda p: p.number, lambda _: True, "")}}}
        | {"_links": {"next": while_more(lambda p: {"href": p.url(p.next_number)})}}
    ),
    "HAL string links, Confluence": Envelope(
        {
            "results": items,
            "start": start,
            "limit": limit,
            "size": count,
            "_links": {"base": _value("http://x"), "next": next_page("relative", ABSENT)},
        },
        ask="start",
        asks_for="row",
    ),
    "OData, Microsoft Graph": Envelope(
        {"@odata.context": _value("x"), "value": items, "@odata.nextLink": next_page("absolute", ABSENT)},
        ask="$skiptoken",
    ),
    "OData link, data": _as_data(
        {"@odata.count": total, "@odata.nextLink": next_page("absolute", ABSENT)}, ask="$skip"
    ),
    "OData count alone, data": _as_data({"@odata.count": total}, ask="$skip", asks_for="row", limit_names=("$top",)),
    "GraphQL connection": Envelope(
        {"data": {"sales": {"edges": lambda p: [{"node": i} for i in p.items], **_EDGES}}}, ask="after"
    ),
    "GraphQL page info, data": _as_data(_EDGES, ask="after"),
    "GraphQL page info, next to none": _as_data({"pageInfo": {"endCursor": _token()}}, ask="after"),
    "AIP-158": _as_data({"next_page_token": _token("")}, ask="page_token"),
    "PostgREST": Envelope(items, headers={"Content-Range": content_range(_value("*"), "")}, ask="offset"),
    "PostgREST with the count": Envelope(items, headers={"Content-Range": content_range(total, "")}, ask="offset"),
    "Content-Range, react-admin": Envelope(
        items, headers={"Content-Range": content_range(total, "sales ")}, ask="range", asks_for="row"
    ),
    "Content-Range without a total, by another parameter": Envelope(
        items, headers={"Content-Range": content_range(_value("*"))}, ask="range", asks_for="row"
    ),
    "Hydra, API Platform": _as_data(
        {"hydra:totalItems": total, "hydra:view": {"hydra:next": next_page("relative", ABSENT)}}
    ),
    # Frameworks and libraries.
    "Spring Page": Envelope({"content": items, **_SPRING}, first_number=0),
    "Spring Page, data": _as_data(_SPRING, first_number=0),
    "Spring PagedModel": Envelope({"content": items, "page": _SPRING_PAGE}, first_number=0),
    "Spring PagedModel, data": _as_data({"page": _SPRING_PAGE}, first_number=0),
    "Spring Slice, data": _as_data(
        {"number": number, "size": limit, "numberOfElements": count, "last": _is_last}, first_number=0
    ),
    "Django REST framework": Envelope(
        {
            "count": total,
            "next": next_page("absolute"),
            "previous": page_link(lambda p: p.number - 1, lambda p: p.number > 1, None),
            "results": items,
        },
        past_end="missing",
    ),
    "Django REST framework, limit and offset": Envelope(
        {"count": total, "next": next_page("absolute"), "previous": _value(None), "results": items}, ask="offset"
    ),
    "Django REST framework, cursor": Envelope(
        {"next": next_page("absolute"), "previous": _value(None), "results": items}, ask="cursor"
    ),
    "pretix": Envelope(
        {"count": total, "next": next_page("absolute"), "previous": _value(None), "results": items},
        headers={"X-Page-Generated": _value("2026-11-23T12:00:00+00:00")},
        past_end="missing",
    ),
    "Laravel paginate": _as_data(
        {"current_page": number, "last_page": pages, "total": total, **_LARAVEL, **_LARAVEL_LINKS}
    ),
    "Laravel simplePaginate": _as_data({"current_page": number, **_LARAVEL, **_LARAVEL_LINKS, "links": _value([])}),
    "Laravel cursorPaginate": _as_data(
        {"path": _value("x"), "per_page": limit, "next_cursor": _token(), "next_page_url": next_page("absolute")},
        ask="cursor",
    ),
    "Laravel API resource": _as_data(
        {"links": _links(None), "meta": {"current_page": number, "last_page": pages, "total": total, **_LARAVEL}}
    ),
    "Laravel Fractal, BigCommerce": _as_data(
        {
            "meta": {
                "pagination": {
                    "total": total,
                    "count": count,
                    "per_page": limit,
                    "current_page": number,
                    "total_pages": pages,
                    "links": {"next": while_more(lambda p: f"?page={p.next_number}")},
                }
            }
        }
    ),
    "Rails, kaminari meta": _as_data({"meta": _KAMINARI}),
    "Rails, kaminari top": _as_data(_KAMINARI),
    "Rails, will_paginate": _as_data({"current_page": number, "per_page": limit, "total_entries": total}),
    "Rails, api-pagination": Envelope(
        items, headers={"Link": link_header("absolute"), "Total": text(total), "Per-Page": text(limit)}
    ),
    "Rails, api-pagination without links": Envelope(items, headers={"Total": text(total), "Per-Page": text(limit)}),
    "Rails, pagy": Envelope(
        items,
        headers={
            "link": link_header("absolute"),
            "current-page": text(number),
            "page-limit": text(limit),
            "total-pages": text(pages),
            "total-count": text(total),
        },
    ),
    "Rails, pagy without links": Envelope(
        items, headers={"current-page": text(number), "total-pages": text(pages), "total-count": text(total)}
    ),
    "Strapi": _as_data(_STRAPI, ask="pagination[page]", asks_for="page", limit_names=("pagination[pageSize]",)),
    "Strapi, by start": _as_data(
        {"meta": {"pagination": {"start": start, "limit": limit, "total": total}}},
        ask="pagination[start]",
        asks_for="row",
    ),
    "Yii": Envelope(
        {
            "items": items,
            "_links": {"next": while_more(lambda p: {"href": p.url(p.next_number)})},
            "_meta": {"totalCount": total, "pageCount": pages, "currentPage": number, "perPage": limit},
        }
    ),
    "Yii, headers": Envelope(items, headers={**_YII_HEADERS, "Link": link_header("absolute")}),
    "Yii, headers without links": Envelope(items, headers=_YII_HEADERS),
    "ASP.NET X-Pagination": Envelope(
        items,
        headers={
            "X-Pagination": lambda p: (
                f'{{"TotalCount":{p.total},"PageSize":{p.limit},"CurrentPage":{p.number},"TotalPages":{p.pages},'
                f'"HasNext":{str(p.more).lower()}}}'
            )
        },
        ask="pageNumber",
        asks_for="page",
    ),
    ".NET PaginatedList": Envelope(
        {"items": items, "pageIndex": number, "totalPages": pages, "totalCount": total, "hasNextPage": more},
        ask="pageIndex",
        asks_for="page",
    ),
    "mongoose-paginate": Envelope({"docs": items, **_MONGOOSE}),
    "prisma-pagination": _as_data(
        {
            "meta": {
                "total": total,
                "lastPage": pages,
                "currentPage": number,
                "perPage": limit,
                "prev": lambda p: p.number - 1 or None,
                "next": _next_number(),
            }
        }
    ),
    "prisma-extension-pagination": _as_data(
        {
            "meta": {
                "isFirstPage": lambda p: p.number == 1,
                "isLastPage": _is_last,
                "currentPage": number,
                "previousPage": lambda p: p.number - 1 or None,
                "nextPage": _next_number(),
            }
        }
    ),
    "prisma-extension-pagination, cursor": _as_data(
        {"meta": {"hasPreviousPage": _value(False), "hasNextPage": more, "endCursor": _token()}}, ask="after"
    ),
    "json-server": Envelope(
        items, headers={"Link": link_header("absolute"), "X-Total-Count": text(total)}, ask="_page", asks_for="page"
    ),
    "json-server without links": Envelope(
        items, headers={"X-Total-Count": text(total)}, ask="_page", asks_for="page", limit_names=("_limit",)
    ),
    "Solr": Envelope({"numFound": total, "start": start, "docs": items}, ask="start", asks_for="row"),
    "Elasticsearch": Envelope(
        {"took": _value(3), "hits": {"total": {"value": total, "relation": _value("eq")}, "hits": items}},
        ask="from",
        asks_for="row",
    ),
    # Hand-made, as many a NestJS controller.
    "data and total": _as_data({"total": total}),
    "data and total, by offset": _as_data({"total": total}, ask="offset"),
    "items and count": Envelope({"items": items, "count": total}),
    "items and count, by skip": Envelope({"items": items, "count": total}, ask="skip"),
    "data, page and per_page": _as_data({"page": number, "per_page": limit}),
    "data, page, limit and total": _as_data({"page": number, "limit": limit, "total": total}),
    "data, page from 0, size and total": _as_data({"page": number, "size": limit, "total": total}, first_number=0),
    "data, pageIndex and pageSize": _as_data({"pageIndex": number, "pageSize": limit}, first_number=0),
    "data, pageIndex and pageSize, by pageIndex": _as_data(
        {"pageIndex": number, "pageSize": limit}, ask="pageIndex", asks_for="page", first_number=0
    ),
    "data, per_page": _as_data({"per_page": limit}),
    "data, per_page, by p": _as_data({"per_page": limit}, ask="p", asks_for="page"),
    "data, limit": _as_data({"limit": limit}),
    "data, limit, by offset": _as_data({"limit": limit}, ask="offset"),
    "data, offset": _as_data({"offset": start}, ask="offset"),
    "data, offset and total": _as_data({"offset": start, "total": total}, ask="offset"),
    "data, skip": _as_data({"skip": start}, ask="skip"),
    "data, offset, limit and has_more": _as_data(
        {"pagination": {"total": total, "limit": limit, "offset": start, "has_more": more}}, ask="offset"
    ),
    "data, last": _as_data({"last": _is_last}),
    "data, isLast, by cursor": _as_data({"isLast": _is_last}, ask="cursor"),
    "data, truncated": _as_data({"truncated": more}, ask="marker"),
    "data, has_more, by offset": _as_data({"has_more": more}, ask="offset"),
    "data, has_more from 0": _as_data({"has_more": more}, first_number=0),
    "data, totalPages from 0": _as_data({"totalPages": pages}, first_number=0),
    "data, page and totalPages from 0": _as_data({"page": number, "totalPages": pages}, first_number=0),
    "data, page and totalPages from 0, 404 behind": _as_data(
        {"page": number, "totalPages": pages}, first_number=0, past_end="missing"
    ),
    "data, totalPages, by p": _as_data({"totalPages": pages}, ask="p", asks_for="page"),
    "data, nextOffset": _as_data({"nextOffset": while_more(next_start)}, ask="offset"),
    "data, after": _as_data({"after": _token()}, ask="after"),
    "data, cursors": _as_data({"cursors": {"before": _value("x"), "after": _token()}}, ask="after"),
    "data, continuationToken": _as_data({"continuationToken": _token()}, ask="continuationToken"),
    "x-ms-continuation": _as_data({}, headers={"x-ms-continuation": _token(ABSENT)}, ask="continuation"),
    "X-Next-Cursor": _as_data({}, headers={"X-Next-Cursor": _token(ABSENT)}, ask="cursor"),
    "X-Has-More": _as_data({}, headers={"X-Has-More": lambda p: str(p.more).lower()}),
    "X-Total": Envelope(items, headers={"X-Total": text(total)}),
    # Public APIs.
    "Stripe": _as_data(
        {"object": _value("list"), "url": _value("/v1/charges"), "has_more": more}, ask="starting_after"
    ),
    "Anthropic": _as_data({"has_more": more, "first_id": _value("a"), "last_id": _token()}, ask="after_id"),
    "Shopify": Envelope(items, headers={"Link": link_header("absolute")}, ask="page_info"),
    "Shopify, its own key": Envelope({"orders": items}, headers={"Link": link_header("absolute")}, ask="page_info"),
    "GitHub": Envelope(items, headers={"Link": link_header("absolute")}, limit_names=("per_page",)),
    "GitHub search": Envelope(
        {"total_count": total, "incomplete_results": _value(False), "items": items},
        headers={"Link": link_header("absolute")},
    ),
    "GitLab": Envelope(items, headers={**_GITLAB, "Link": link_header("absolute")}),
    "GitLab, headers alone": Envelope(items, headers=_GITLAB),
    "GitLab, keyset": Envelope(items, headers={"Link": link_header("absolute")}, ask="cursor"),
    "Slack": _as_data({"ok": _value(True), "response_metadata": {"next_cursor": _token("")}}, ask="cursor"),
    "Slack, its own key": Envelope({"ok": _value(True), "messages": items, "has_more": more}, ask="cursor"),
    "HubSpot": Envelope(
        {"results": items, "paging": while_more(lambda p: {"next": {"after": p.next_token, "link": "?after=x"}})},
        ask="after",
    ),
    "Google": Envelope({"kind": _value("list"), "items": items, "nextPageToken": _token(ABSENT)}, ask="pageToken"),
    "Google Calendar": Envelope(
        {
            "items": items,
            "nextPageToken": _token(ABSENT),
            "nextSyncToken": lambda p: ABSENT if p.more else "CPDAlvWDx70CEPDAlvWDx70CGAU=",
        },
        ask="pageToken",
    ),
    "YouTube": Envelope(
        {
            "items": items,
            "nextPageToken": _token(ABSENT),
            "pageInfo": {"totalResults": total, "resultsPerPage": limit},
        },
        ask="pageToken",
    ),
    "Salesforce": Envelope({"records": items, **_SALESFORCE}, ask="query"),
    "Salesforce, data": _as_data(_SALESFORCE, ask="query"),
    "Zendesk, offset": _as_data({"count": total, "next_page": next_page("absolute"), "previous_page": _value(None)}),
    "Zendesk, cursor": _as_data(
        {
            "meta": {"has_more": more, "after_cursor": lambda p: p.next_token, "before_cursor": _value("b")},
            "links": {"prev": _value("http://x"), "next": next_page("absolute")},
        },
        ask="page[after]",
    ),
    "Contentful": Envelope(
        {"sys": {"type": _value("Array")}, "total": total, "skip": start, "limit": limit, "items": items}, ask="skip"
    ),
    "Twilio": _as_data(
        {
            "page": number,
            "page_size": limit,
            "start": start,
            "next_page_uri": next_page("relative"),
            "uri": _value("/2010-04-01/Sales.json"),
        },
        ask="Page",
        asks_for="page",
        first_number=0,
    ),
    "Twilio, newer": _as_data(
        {"meta": {"page": number, "page_size": limit, "next_page_url": next_page("absolute"), "key": _value("sales")}},
        ask="PageToken",
        first_number=0,
    ),
    "Square": _as_data({"cursor": _token(ABSENT)}, ask="cursor"),
    "Twitch": _as_data({"pagination": {"cursor": _token(ABSENT)}}, ask="after"),
    "PayPal": Envelope(
        {
            "items": items,
            "total_items": total,
            "total_pages": pages,
            "links": links_list,
        }
    ),
    "Intercom": _as_data(
        {
            "type": _value("list"),
            "total_count": total,
            "pages": {
                "type": _value("pages"),
                "page": number,
                "per_page": limit,
                "total_pages": pages,
                "next": while_more(lambda p: {"page": p.next_number, "starting_after": p.next_token}, None),
            },
        },
        ask="starting_after",
    ),
    "Notion": Envelope(
        {"object": _value("list"), "results": items, "next_cursor": _token(), "has_more": more}, ask="start_cursor"
    ),
    "Airtable": Envelope({"records": items, "offset": _token(ABSENT)}, ask="offset", asks_for="token"),
    "Airtable, data": _as_data({"offset": _token(ABSENT)}, ask="offset", asks_for="token"),
    "Algolia": Envelope({"hits": items, **_ALGOLIA}, first_number=0),
    "Algolia, data": _as_data(_ALGOLIA, first_number=0),
    "Jira": Envelope({"values": items, **_JIRA}, ask="startAt", asks_for="row"),
    "Jira, data": _as_data(_JIRA, ask="startAt", asks_for="row"),
    "Bitbucket": Envelope({"values": items, **_BITBUCKET}),
    "Bitbucket, data": _as_data(_BITBUCKET),
    "Bitbucket Server, data": _as_data(_BITBUCKET_SERVER, ask="start", asks_for="row"),
    "Reddit": Envelope({"kind": _value("Listing"), "data": {"after": _token(), "children": items}}, ask="after"),
    "Twitter": _as_data({"meta": {"result_count": count, "next_token": _token(ABSENT)}}, ask="pagination_token"),
    "Facebook": _as_data(
        {
            "paging": {
                "cursors": {"before": _value("b"), "after": lambda p: p.next_token},
                "next": next_page("absolute", ABSENT),
            }
        },
        ask="after",
    ),
    "Facebook, cursors alone": _as_data({"paging": {"cursors": {"after": lambda p: p.next_token}}}, ask="after"),
    "Dropbox, data": _as_data({"cursor": lambda p: p.next_token, "has_more": more}, ask="cursor"),
    "DynamoDB": Envelope({"Items": items, "Count": count, "LastEvaluatedKey": _token(ABSENT)}, ask="ExclusiveStartKey"),
    "DynamoDB, data": _as_data(
        {"LastEvaluatedKey": while_more(lambda p: {"id": {"S": p.next_token}})}, ask="ExclusiveStartKey"
    ),
    "AWS": _as_data({"NextToken": _token(ABSENT)}, ask="NextToken"),
    "AWS, S3": _as_data({"IsTruncated": more, "NextMarker": _token(ABSENT), "MaxKeys": limit}, ask="marker"),
    "Azure": _as_data({"nextLink": next_page("absolute", ABSENT)}, ask="skiptoken"),
    "WordPress, WooCommerce": Envelope(
        items, headers={"X-WP-Total": text(total), "X-WP-TotalPages": text(pages)}, past_end="missing"
    ),
    "Magento": Envelope(
        {"items": items, "search_criteria": {"page_size": limit, "current_page": number}, "total_count": total},
        ask="searchCriteria[currentPage]",
        asks_for="page",
        past_end="last",
    ),
    "Mailchimp, data": _as_data({"total_items": total}, ask="offset"),
    "SendGrid, data": _as_data(
        {"_metadata": {"next": next_page("absolute", ABSENT), "count": total}}, ask="page_token"
    ),
    "Mailgun": Envelope({"items": items, "paging": {"next": lambda p: p.url(p.next_number, p.next_token)}}),
    "Eventbrite": Envelope({"events": items, **_EVENTBRITE}),
    "Eventbrite, data": _as_data(_EVENTBRITE),
    "Eventbrite, without counts": _as_data(
        {"pagination": {"page_number": number, "page_size": limit}}, past_end="missing"
    ),
    "Ticketmaster": Envelope(
        {
            "_embedded": {"events": items},
            "_links": {"next": while_more(lambda p: {"href": p.url(p.next_number)})},
            "page": _SPRING_PAGE,
        },
        first_number=0,
    ),
    "SeatGeek, data": _as_data({"meta": {"total": total, "took": _value(4), "page": number, "per_page": limit}}),
    "seats.io": Envelope({"items": items, "next_page_starts_after": _token(ABSENT)}, ask="start_after_id"),
    "Pipedrive": _as_data(
        {
            "success": _value(True),
            "additional_data": {
                "pagination": {
                    "start": start,
                    "limit": limit,
                    "more_items_in_collection": more,
                    "next_start": while_more(next_start),
                }
            },
        },
        ask="start",
        asks_for="row",
    ),
    "Pipedrive, newer": _as_data({"additional_data": {"next_cursor": _token()}}, ask="cursor"),
    "Asana": _as_data(
        {"next_page": while_more(lambda p: {"offset": p.next_token, "path": "/x", "uri": "http://x"}, None)},
        ask="offset",
        asks_for="token",
    ),
    "Chargebee, data": _as_data({"next_offset": _token(ABSENT)}, ask="offset", asks_for="token"),
    "Kong": _as_data({"next": next_page("relative"), "offset": _token(ABSENT)}, ask="offset", asks_for="token"),
    "Discourse, data": _as_data({"more_topics_url": while_more(lambda p: f"/latest?p={p.next_number}")}, ask="p"),
    "Rick and Morty": Envelope(
        {
            "info": {"count": total, "pages": pages, "next": next_page("absolute"), "prev": _value(None)},
            "results": items,
        }
    ),
    "TMDB": Envelope({"page": number, "results": items, "total_pages": pages, "total_results": total}),
    "NewsAPI, data": _as_data({"status": _value("ok"), "totalResults": total}),
    "FHIR": Envelope(
        {
            "total": total,
            "entry": items,
            "link": lambda p: [{"relation": "next", "url": p.url(p.next_number)}] if p.more else [],
        }
    ),
    "FHIR links, data": _as_data(
        {"link": lambda p: [{"relation": "next", "url": p.url(p.next_number)}] if p.more else []}, ask="_getpages"
    ),
}
