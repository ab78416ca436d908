"""The envelopes that the sample ticketing API can play, by name, and the places where a total can be declared."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.doubles.ticketing.envelopes import (
    ABSENT,
    Envelope,
    Form,
    Hole,
    answered_at,
    content_range,
    count,
    items,
    limit,
    link_header,
    links_list,
    more,
    next_page,
    number,
    page_link,
    pages,
    start,
    text,
    total,
)


def _at(place: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields beside the items, at the top level ("") or in `place`."""
    return {"data": items, **(fields if not place else {place: dict(fields)})}


def _named(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


_NEXT_PLACES = [("pagination", "next_page"), ("pagination", "nextPage"), ("", "next_page"), ("", "nextPage")]
_NEXT_FORMS: list[tuple[str, Form, Any]] = [
    ("", "number", None),
    (":digits", "digits", None),
    (":absolute", "absolute", None),
    (":relative", "relative", ""),
    (":false", "number", False),
]
_COUNTER_NAMES = [
    ("page", "total_pages"),
    ("page", "totalPages"),
    ("currentPage", "totalPages"),
    ("page", "pageCount"),
]
_COUNTER_FORMS: list[tuple[str, Callable[[Hole], Hole]]] = [("", lambda hole: hole), (":digits", text)]

_TYPEORM_META = {
    "totalItems": total,
    "itemCount": count,
    "itemsPerPage": limit,
    "totalPages": pages,
    "currentPage": number,
}
_VERITIX = Envelope(
    {"data": items, "total": total, "page": number, "limit": limit, "totalPages": pages},
    cap=100,
    over_cap="refuse",
)

ENVELOPES: dict[str, Envelope] = {
    # One page holds all.
    "array": Envelope(items, ask="", tells_next=False),
    "data": Envelope({"data": items}, ask="", tells_next=False),
    "results": Envelope({"results": items}, ask="", tells_next=False),
    "items": Envelope({"items": items}, ask="", tells_next=False),
    "data:wrapped": Envelope({"success": True, "data": items, "timestamp": answered_at}, ask="", tells_next=False),
    # The next page by name.
    **{
        _named(place, name) + suffix: Envelope(_at(place, {name: next_page(form, end)}))
        for place, name in _NEXT_PLACES
        for suffix, form, end in _NEXT_FORMS
    },
    # Whether there is more.
    **{
        _named(place, name): Envelope(_at(place, {name: more}))
        for place, name in [("pagination", "has_more"), ("", "has_more"), ("", "hasMore")]
    },
    # Page and number of pages.
    **{
        _named(place, f"{current}+{last}") + suffix: Envelope(_at(place, {current: form(number), last: form(pages)}))
        for place in ("pagination", "meta", "")
        for current, last in _COUNTER_NAMES
        for suffix, form in _COUNTER_FORMS
    },
    # Cursors.
    "cursor.afterCursor": Envelope(_at("cursor", {"afterCursor": next_page("token")}), ask="afterCursor"),
    "next_cursor": Envelope(_at("", {"next_cursor": next_page("token")}), ask="cursor"),
    "nextCursor": Envelope(_at("", {"nextCursor": next_page("token", "")}), ask="cursor"),
    "has_more+next_cursor": Envelope(_at("", {"has_more": more, "next_cursor": next_page("token")}), ask="cursor"),
    # Links.
    "links.next": Envelope(_at("links", {"next": next_page("absolute")})),
    "links.next:relative": Envelope(_at("links", {"next": next_page("relative", ABSENT)})),
    "links.next:cursor": Envelope(_at("links", {"next": next_page("absolute", "")}), ask="cursor"),
    "link header": Envelope(items, headers={"Link": link_header("absolute")}),
    "link header:relative": Envelope(items, headers={"Link": link_header("relative")}),
    "link header:cursor": Envelope({"data": items}, headers={"Link": link_header("absolute")}, ask="cursor"),
    # Further forms.
    "next": Envelope(_at("", {"next": next_page()})),
    "next:absolute": Envelope(_at("", {"next": next_page("absolute")})),
    "paging.next:relative": Envelope(_at("paging", {"next": next_page("relative", ABSENT)})),
    "meta.next_page": Envelope(_at("meta", {"next_page": next_page()})),
    "meta.has_more": Envelope(_at("meta", {"has_more": more})),
    "links.next.href": Envelope(_at("links", {"next": {"href": next_page("absolute")}})),
    "_links.next.href": Envelope(_at("_links", {"next": {"href": next_page("absolute", ABSENT)}})),
    "links[next]": Envelope({"data": items, "links": links_list}),
    "meta.links.next": Envelope({"data": items, "meta": {"links": {"next": next_page("absolute")}}}),
    "pagination.links.next": Envelope({"data": items, "pagination": {"links": {"next": next_page("absolute")}}}),
    "page+last_page": Envelope(_at("", {"page": number, "last_page": pages})),
    "meta.page+lastPage": Envelope(_at("meta", {"page": number, "lastPage": pages})),
    "page+pages": Envelope(_at("", {"page": number, "pages": pages})),
    "page+page_count": Envelope(_at("", {"page": number, "page_count": pages})),
    "meta.pagination": Envelope({"data": items, "meta": {"pagination": {"page": number, "totalPages": pages}}}),
    "paging.page+totalPages": Envelope(_at("paging", {"page": number, "totalPages": pages})),
    "offset+limit": Envelope(_at("", {"offset": start, "limit": limit}), ask="offset", tells_next=False),
    "meta.offset+limit+total": Envelope(_at("meta", {"offset": start, "limit": limit, "total": total}), ask="offset"),
    "skip+take": Envelope(_at("", {"skip": start, "take": limit}), ask="skip", tells_next=False),
    "pageInfo": Envelope(_at("pageInfo", {"hasNextPage": more, "endCursor": lambda p: p.next_token}), ask="after"),
    "X-Next-Page": Envelope(items, headers={"X-Next-Page": next_page("digits", "")}),
    "X-Page+X-Total-Pages": Envelope(items, headers={"X-Page": text(number), "X-Total-Pages": text(pages)}),
    "X-Total": Envelope(items, headers={"X-Total": text(total)}, tells_next=False),
    "Content-Range": Envelope(items, headers={"Content-Range": content_range(total)}, ask="offset"),
    "Content-Range:unknown": Envelope(
        items, headers={"Content-Range": content_range(lambda _: "*")}, ask="offset", tells_next=False
    ),
    "docs+totalDocs": Envelope({"docs": items, "totalDocs": total, "page": number, "totalPages": pages}),
    # Pages from 0.
    "has_more:from 0": Envelope(_at("", {"has_more": more}), first_number=0),
    "page+totalPages:from 0": Envelope(_at("", {"page": number, "totalPages": pages}), first_number=0),
    "totalPages:from 0": Envelope(_at("", {"totalPages": pages}), first_number=0),
    # Nothing tells the next page.
    "data+page+limit": Envelope({"data": items, "page": number, "limit": limit}, tells_next=False),
    "data+total": Envelope({"data": items, "total": total}, tells_next=False),
    # Real paginators, as their servers answer.
    "nestjs-paginate": Envelope(
        {
            "data": items,
            "meta": {
                "itemsPerPage": limit,
                "totalItems": total,
                "currentPage": lambda p: max(1, min(p.number, p.pages)),
                "totalPages": pages,
                "sortBy": lambda _: [["id", "ASC"]],
            },
            "links": {
                "first": page_link(lambda _: 1, lambda p: p.number > 1, ABSENT),
                "previous": page_link(lambda p: p.number - 1, lambda p: p.number > 1, ABSENT),
                "current": page_link(lambda p: p.number, lambda _: True, ABSENT),
                "next": next_page("absolute", ABSENT),
                "last": page_link(lambda p: p.pages, lambda p: p.number < p.pages, ABSENT),
            },
        },
        cap=100,
    ),
    "nestjs-paginate cursor": Envelope(
        {
            "data": items,
            "meta": {"itemsPerPage": limit, "sortBy": lambda _: [["createdAt", "ASC"]]},
            "links": {"next": next_page("absolute", ABSENT, while_items=True)},
        },
        ask="cursor",
        cap=100,
        cursor_rule="key",
    ),
    "nestjs-typeorm-paginate": Envelope(
        {
            "items": items,
            "meta": _TYPEORM_META,
            "links": {
                "first": page_link(lambda _: 1, lambda _: True, ""),
                "previous": page_link(lambda p: p.number - 1, lambda p: p.number > 1, ""),
                "next": next_page("absolute", ""),
                "last": page_link(lambda p: p.pages, lambda p: p.pages > 0, ""),
            },
        },
        default_limit=10,
    ),
    "nestjs-typeorm-paginate:no route": Envelope({"items": items, "meta": _TYPEORM_META}, default_limit=10),
    "@nestjsx/crud": Envelope(
        {"data": items, "count": count, "total": total, "page": number, "pageCount": pages},
        limit_names=("limit", "per_page"),
        cap=100,
    ),
    "veritix": _VERITIX,
    "veritix:wrapped": _VERITIX.wrapped(),
    "typeorm-cursor-pagination": Envelope(
        {"data": items, "cursor": {"beforeCursor": None, "afterCursor": next_page("token")}},
        ask="afterCursor",
        default_limit=100,
        cursor_rule="key_again",
    ),
}

TOTAL_PLACES = (
    *(
        _named(place, name)
        for place in ("", "meta", "pagination")
        for name in ("total", "totalItems", "total_items", "totalCount", "total_count")
    ),
    "paging.total",
    "meta.pagination.total",
    "totalDocs",
    "totalElements",
    "X-Total",
    "X-Total-Count",
)
"""Places that `Envelope.declaring` takes and that the ETL promises to find a declared total in."""
