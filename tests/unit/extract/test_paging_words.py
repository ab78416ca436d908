"""Which keys speak of paging, whatever their case and joints, and which values say something."""

from typing import Any

import pytest

from etl.extract.paging_words import Sign, Word, paging_headers, paging_signs, word_of

NAMES: dict[Word | None, str] = {
    Word.WAY: """
        next nextPageToken next_page_token Next-Page-Token NEXT hasNextPage has_more hasMoreItems more moreAvailable
        nextOffset next_start nextRecordsUrl @odata.nextLink hydra:next cursor cursors nextCursor endCursor after
        searchAfter starting_after continuationToken continuation x-ms-continuation token pageToken marker NextMarker
        last_id lastEvaluatedKey truncated isTruncated incomplete_results partial exceededTransferLimit scroll_id
    """,
    Word.START: "offset skip start startAt start_index page_offset $skip",
    Word.LAST: "last isLast is_last lastPage isLastPage done complete finished",
    Word.PAGE: "page pageNumber page_number pageIndex pageNo currentPage current_page X-Page X-Pagination-Current-Page",
    Word.PAGES: "pages totalPages total_pages pageCount page_count nbPages numPages X-Total-Pages X-WP-TotalPages",
    Word.SIZE: "limit take size per_page perPage page_size pageSize pagelen itemsPerPage maxResults page-limit",
    Word.COUNT: """
        total count totalCount total_count totalItems totalElements totalDocs totalSize totalResults total_entries
        numFound nbHits resultCount result_count object_count recordsTotal recordsFiltered full_count @odata.count
        X-Total-Count X-Total x-pagination-total-count itemCount numberOfElements length totalHits
    """,
    Word.NONE: """
        previous prev_page hasPreviousPage beforeCursor startCursorBefore first first_page_url self nextSyncToken
        deltaLink lastUpdated last_modified Last-Modified updated_at nextUpdateAt next_run_time retryAfter Retry-After
        rateLimit X-RateLimit-Limit X-Rate-Limit-Remaining csrfToken accessToken refresh_token authToken generatedAt
        X-Page-Generated start_date created_on response_time learnMore more_info readMoreUrl
    """,
    None: """
        id status took requestId version currency timestamp message path data_source totalRevenue total_amount
        grandTotal totalTickets ticketCount viewCount pageTitle homepage landing_page page_url file_size tokenType
        utcOffset timezoneOffset context text links meta pagination paging locale duration completedBy lastName
        country counter accountant discount skipped pager Content-Length ETag Set-Cookie
    """,
}


@pytest.mark.parametrize(
    ("name", "word"), [pytest.param(name, word, id=name) for word, names in NAMES.items() for name in names.split()]
)
def test_what_a_name_speaks_of(name: str, word: Word | None) -> None:
    """Each name is judged by its words."""
    assert word_of(name) is word


NOTHING: tuple[Any, ...] = (None, False, "", 0, "0", "null", [], {})
VALUES: list[Any] = [
    *(pytest.param({"next": value}, [], id=f"next={value!r}") for value in NOTHING),
    *(
        pytest.param({"next": value}, [Sign("next", value, Word.WAY, more=True)], id=f"next={value!r}")
        for value in (True, 7, "abc", ["a", 1])
    ),
    pytest.param({"cursors": {"before": "a", "end": "b"}}, [Sign("cursors.end", "b", Word.WAY, more=True)], id="below"),
    pytest.param({"a": {"b": {"page": 2}}}, [Sign("a.b.page", 2, Word.PAGE)], id="deep inside"),
    pytest.param({"offset": 0, "skip": "20"}, [Sign("offset", 0, Word.START), Sign("skip", 20, Word.START)], id="0"),
    pytest.param({"start": 1_790_000_000, "offset": -60}, [], id="times, and what is no place"),
    pytest.param({"last": False}, [Sign("last", False, Word.LAST, more=True)], id="not the last"),
    pytest.param({"last": True}, [Sign("last", True, Word.LAST, more=False)], id="the last"),
    pytest.param(
        {"last_page": 4, "done": 7}, [Sign("last_page", 4, Word.PAGES, more=True)], id="the last one's number"
    ),
    pytest.param({"pages": 2}, [Sign("pages", 2, Word.PAGES, more=False)], id="as many pages as were read"),
    pytest.param({"pages": "3"}, [Sign("pages", 3, Word.PAGES, more=True)], id="more pages"),
    pytest.param({"page": "2", "size": 0, "limit": None}, [Sign("page", 2, Word.PAGE)], id="sizes of nothing"),
    pytest.param({"count": 6, "total": 7, "found": 9}, [], id="no more than were read"),
    pytest.param({"count": 8}, [Sign("count", 8, Word.COUNT, more=True)], id="more than were read"),
    pytest.param({"count": "many", "page": 1.5, "total": True}, [], id="no numbers"),
    pytest.param({"rateLimit": {"next": 7, "limit": 5}, "prev": {"page": 1}}, [], id="nothing below what isn't paging"),
    pytest.param({"facets": [{"count": 99, "next": "x"}]}, [], id="lists"),
    pytest.param(
        {"links": [{"rel": "prev", "href": "/0"}, {"rel": "next", "href": "/2"}]},
        [Sign("links[next]", "/2", Word.WAY, more=True)],
        id="a list of links",
    ),
    pytest.param({"cursor": "asked"}, [], id="the cursor that was asked for"),
]


@pytest.mark.parametrize(("envelope", "signs"), VALUES)
def test_what_a_value_says(envelope: dict[str, Any], signs: list[Sign]) -> None:
    """A key says something by its value: of 7 items on 2 pages, or of more."""
    assert paging_signs(envelope, {}, 2, 7, ["asked"]) == signs


def test_headers() -> None:
    """Of an answer's headers those are kept that may be about paging; JSON in them is looked into."""
    sent = {"X-Next-Page": "3", "Link": "<x>", "Content-Range": "0-1/2", "X-Pagination": "{}", "X-RateLimit-Limit": "9"}
    sent |= {"Content-Type": "application/json", "Set-Cookie": "page=2", "Retry-After": "3", "ETag": "next"}
    kept = paging_headers(sent)
    assert kept == {"x-next-page": "3", "link": "<x>", "content-range": "0-1/2", "x-pagination": "{}"}
    assert paging_signs({}, {"x-pagination": '{"HasNext":true}'}, 1, 5, []) == [
        Sign("x-pagination.HasNext", True, Word.WAY, more=True)
    ]


def test_an_envelope_of_any_depth() -> None:
    """However deep an envelope is, it is looked through."""
    deep: dict[str, Any] = {"next": 1}
    for _ in range(5000):
        deep = {"a": deep}
    assert [sign.value for sign in paging_signs(deep, {}, 1, 1, [])] == [1]
