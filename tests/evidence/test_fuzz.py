"""Whatever comes in from outside, what goes wrong is one of our own errors.

`make test` plays the same 500 examples of each every time; `make fuzz` plays 100,000 others, and a failing example
prints the decorator that replays it.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date
from typing import Any
from zoneinfo import ZoneInfo

import flask.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ConfigurationError, EtlError
from etl.extract.body import read_page
from etl.extract.items import BodyError, ItemDecoder
from etl.extract.next_page import PageRequest, Reply, next_page, refusal
from etl.extract.origins import Origins
from etl.extract.paging_signals import counters_in
from etl.records.fields import EventItem, Rejected, SaleItem
from etl.records.reader import read_event, sale_reader
from etl.settings import NAMES, Settings
from tests.support.application import application_client
from tests.support.strategies import DATE_TEXTS, FUZZED, NESTED_VALUES, NUMBER_TEXTS

TODAY = date(2026, 11, 24)
ZONES = (UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Kiritimati"), ZoneInfo("America/St_Johns"))
KEYS = st.sampled_from(sorted({*SaleItem.__struct_fields__, *EventItem.__struct_fields__}))
TOKENS = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b"\xef\xbb\xbf",
        b" ",
        b"null",
        b"-",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"0",
        b'"data"',
        b'"items"',
        b'{"id":1}',
        b'"page":2',
        b'"next":',
        b"true",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=64),
    st.lists(TOKENS, max_size=24).map(b"".join),
    st.builds(
        lambda before, items, after: before + json.dumps(items).encode(errors="surrogatepass") + after,
        st.sampled_from([b"", b'{"data":', b'{"x":[{}],"results":', b'{"data":{"items":']),
        st.lists(NESTED_VALUES | st.dictionaries(KEYS, NESTED_VALUES, max_size=6), max_size=4),
        st.sampled_from([b"", b"}", b',"total":3}', b"}}", b" x"]),
    ),
)
ODD_TEXTS = st.text(min_size=1, max_size=3).map(lambda text: text * 400) | st.sampled_from(["a\0", "\ud800"])
VALUES = NESTED_VALUES | NUMBER_TEXTS | DATE_TEXTS | st.text(max_size=30) | ODD_TEXTS


@FUZZED
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from(ZONES))
def test_records(fields: dict[str, Any], zone: Any) -> None:
    """An item with any values is a record that both stores can hold, or rejected."""
    sale, event = ItemDecoder(SaleItem).convert(fields), ItemDecoder(EventItem).convert(fields)
    assert sale is not None
    assert event is not None
    for record in (sale_reader(TODAY, zone)(sale), read_event(event)):
        if not isinstance(record, Rejected):
            assert "\0" not in record.event_id
            assert 0 < len(record.event_id.encode()) <= 1000  # a lone surrogate can't be encoded


@FUZZED
@given(BODIES, st.sampled_from([EventItem, SaleItem]), st.integers(1, 40))
def test_pages(body: bytes, item_type: Any, size: int) -> None:
    """Any bytes are a page, whose parts can be told, or a BodyError."""
    with suppress(BodyError):
        page = read_page((body[at : at + size] for at in range(0, len(body), size)), ItemDecoder(item_type))
        for batch in page.batches:
            assert len(batch) == len(batch.items) == len(batch.texts())
            batch.first_keys()


@FUZZED
@given(
    st.dictionaries(
        st.sampled_from(["pagination", "meta", "links", "cursor", "page", "total", "next_page", "nextPage", "has_more"])
        | st.sampled_from(["totalPages", "limit", "next", "afterCursor", "next_cursor", "paging", "_links", "pageInfo"])
        | st.sampled_from(["offset", "skip", "take", "count", "last", "continuationToken", "nextOffset", "pageIndex"])
        | st.text(max_size=4),
        st.recursive(
            VALUES,
            lambda inner: (
                st.dictionaries(st.sampled_from(["next", "page", "totalPages", "href", "rel", "offset"]), inner)
                | st.lists(inner, max_size=2)
            ),
        ),
        max_size=6,
    ),
    st.dictionaries(
        st.sampled_from(["link", "content-range", "x-total", "x-next-page", "x-pagination", "x-page", "x-next-cursor"]),
        st.text(max_size=60)
        | st.from_regex(r"<[^>]{0,20}>; ?rel=\"?next\"?", fullmatch=True)
        | st.from_regex(r"(bytes |items=)?(\d{1,3}-\d{1,20}|\*)/(\d|\*)", fullmatch=True)
        | st.sampled_from(["2", "-1", '{"HasNext":[{}]}', "{" * 9]),
        max_size=3,
    ),
    st.sampled_from(
        [
            PageRequest(),
            PageRequest(2, "page", "2"),
            PageRequest(2, "page", "2", doubts=()),
            PageRequest(2, "offset", "5", doubts=()),
            PageRequest(2, url="https://api.example.com/a?b"),
        ]
    ),
    st.integers(0, 5) | st.sampled_from([100, 10**6]),
)
def test_pagination(envelope: dict[str, Any], headers: dict[str, str], asked: PageRequest, items: int) -> None:
    """Any envelope and headers lead to a page of the upstream's own origin, to the end, or to one of our errors."""
    counters = counters_in(envelope, headers)
    reply = Reply(envelope, headers, items, items, "https://api.example.com/v1/events?x=1", counters)

    with suppress(EtlError):
        following = next_page(reply, asked, Origins("https://api.example.com/v1"))
        assert refusal(following.unknown, items)
        if following.request is not None and following.request.url is not None:
            assert following.request.url.startswith("https://api.example.com/")


HOLD_SECRETS = ("DATABASE_URL", "NEST_API_BASE_URL", "NEST_API_TOKEN", "DB_PASS")
SECRET_TEXTS = st.sampled_from(
    ["https://u:s3cret@h", "https://h/?key=s3cret", "postgresql://u:s3cret@h:x/d", "mysql://u:s3cret@h/d"]
)
TEXTS = st.text(max_size=40) | st.sampled_from(
    [
        "true",
        "1",
        "-1",
        "1e9",
        "٣",
        "https://a.example/v1",
        "http://[::1",
        "postgresql://u@[/d?port=x",
        "postgres://u:%zz@h:99999/d",
        "Europe/Berlin",
        "../../etc/passwd",
        "a:b:c",
        "\0",
    ]
)


@FUZZED
@given(
    st.dictionaries(st.sampled_from(NAMES), TEXTS),
    st.dictionaries(st.sampled_from(HOLD_SECRETS), SECRET_TEXTS, max_size=2),
)
def test_settings(env: dict[str, str], secrets: dict[str, str]) -> None:
    """Any environment is settings, or one of our errors, which shows no password."""
    env |= secrets
    told: list[str] = []
    try:
        Settings.from_env(env)
    except ConfigurationError as error:
        told = error.details["problems"]
    assert not [problem for problem in told if problem.startswith(HOLD_SECRETS) and "s3cret" in problem]


@pytest.fixture(scope="module")
def client() -> Iterator[flask.testing.FlaskClient]:
    """Without any setting: whatever is asked, no run begins."""
    with application_client() as client:
        yield client


@FUZZED
@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "BREW"]),
    st.sampled_from(["/", "/runs", "/metrics", "/health", "/%00", "/%0A%0D/", "/../runs"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="?#\t\r\n"), max_size=12).map(
        lambda text: re.sub("//+", "/", "/" + text)
    ),
    st.binary(max_size=40) | st.sampled_from([b"dry_run=true", b"force=%ff", b"dry_run=1&dry_run=2", b"&&=&;"]),
    st.binary(max_size=64) | BODIES | st.sampled_from([b'{"dry_run":true}', b'{"force":"maybe"}', b'{"force":{}}']),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
)
def test_http_entry(
    client: flask.testing.FlaskClient, method: str, path: str, query: bytes, body: bytes, header: str
) -> None:
    """Any request is answered with JSON and one of our own codes; `internal_error` is none for a caller's fault.

    Paths with two slashes never reach the function: functions-framework redirects them. The test's client would make
    such ones by leaving out tabs and line breaks, which come percent-encoded only.
    """
    headers = {"traceparent": header, "X-Cloud-Trace-Context": header, "Content-Type": header}
    answer = client.open(
        path, method=method, query_string=query.decode("latin-1"), data=body, headers=headers, buffered=True
    )
    if path == "/health" and method == "GET":
        assert answer.json == {"status": "ok"}
    elif method != "HEAD":
        assert answer.content_type == "application/problem+json", answer.data[:200]
        assert answer.get_json()["code"] in ("bad_request", "not_found", "method_not_allowed", "configuration_error")
