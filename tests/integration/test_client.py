"""The upstream client: what it sends, how it judges answers, how it retries, and where it takes the token."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from etl.deadline import Deadline
from etl.errors import ConfigurationError, DeadlineExceededError, TerminatedError, UpstreamError
from etl.extract.client import TICKET_SALES, Api, BrokenPageError
from etl.extract.items import ItemDecoder
from etl.extract.next_page import PageRequest
from etl.extract.token import Token
from etl.records.fields import SaleItem
from tests.doubles.http_server import HttpServer
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.sample_data import plain_sales
from tests.support.upstream import NOW, FakeDeadline, attempt_event, client, json_logs, logged, read_all
from tests.support.waiting import BUSY_SECONDS, takes_at_most

FIRST, SECOND = PageRequest(), PageRequest(2, "page", "2")
GZIPPED = gzip.compress(json.dumps(plain_sales(50)).encode())


def fetch(api: Api, request: PageRequest = FIRST) -> list[Any]:
    """The ids on one page of ticket sales."""
    page = api.fetch_page(TICKET_SALES, request, ItemDecoder(SaleItem)).page
    return [item and item.id for batch in page.batches for item in batch.items]


def token_of(*values: str) -> tuple[Token, Iterator[str]]:
    """A token that can be renewed, and what of its values hasn't been read; reading one too many is an error."""
    unread = iter(values)
    return Token(lambda: next(unread), can_renew=True), unread


AS_SEEN = [
    pytest.param("", "", {}, None, FIRST, "/ticket-sales", None, id="bare"),
    pytest.param("", "/", {}, None, FIRST, "/ticket-sales", None, id="slash"),
    pytest.param("/api/v1", "", {}, "t0k", FIRST, "/api/v1/ticket-sales", "Bearer t0k", id="prefix, token"),
    pytest.param("/api/v1", "/", {}, None, SECOND, "/api/v1/ticket-sales?page=2", None, id="prefix and slash"),
    pytest.param(
        "", "", {"NEST_API_PAGE_SIZE": "3"}, None, SECOND, "/ticket-sales?limit=3&page=2", None, id="page size"
    ),
    pytest.param(
        "",
        "",
        {"NEST_API_PAGE_SIZE": "3"},
        "t0k",
        PageRequest(2, url="BASE/ticket-sales?page=2&limit=9"),
        "/ticket-sales?page=2&limit=9",
        "Bearer t0k",
        id="a link is asked for as it stands",
    ),
]


@pytest.mark.parametrize(("prefix", "slash", "env", "token", "request_", "target", "authorization"), AS_SEEN)
def test_requests_as_the_upstream_sees_them(
    prefix: str,
    slash: str,
    env: dict[str, str],
    token: str | None,
    request_: PageRequest,
    target: str,
    authorization: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Path, query and Authorization are right, `limit` goes out only when set, and a netrc file adds no login."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password other")
    monkeypatch.setenv("NETRC", str(netrc))
    with TicketingApi(sales=plain_sales(5), prefix=prefix, token=token) as upstream:
        url = request_.url and request_.url.replace("BASE", upstream.base_url)
        with client(upstream.base_url + slash, token=token, env=env) as api:
            fetch(api, replace(request_, url=url))
        (seen,) = upstream.requests
    assert (seen.method, seen.target, seen.headers.get("authorization")) == ("GET", target, authorization)
    assert seen.headers["accept"] == "application/json"


def test_a_cursor_is_encoded() -> None:
    """Whatever characters a cursor has, the upstream gets the same ones back."""
    with TicketingApi(sales=plain_sales(5)) as upstream, client(upstream.base_url) as api:
        fetch(api, PageRequest(2, "afterCursor", "a+b/c=&page=9 é#?%20"))
        assert upstream.requests[0].query == {"afterCursor": "a+b/c=&page=9 é#?%20"}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_one_connection_is_used_again(compressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages one after another take one connection, and arrive compressed where the upstream can do that."""
    opened: list[object] = []
    process = HttpServer.process_request

    def process_and_note(server: HttpServer, request: Any, client_address: Any) -> None:
        opened.append(client_address)
        process(server, request, client_address)

    monkeypatch.setattr(HttpServer, "process_request", process_and_note)
    with TicketingApi(sales=plain_sales(500), page_size=200) as upstream, client(upstream.base_url) as api:
        upstream.gzip = compressed
        assert [len(fetch(api, PageRequest(n, "page", str(n)))) for n in (1, 2, 3)] == [200, 200, 100]
        assert upstream.requests[0].headers["accept-encoding"] == "gzip, identity"
    assert len(opened) == 1


RETRIED = [
    pytest.param(Fault("status", status=500), "the upstream answered 500 (Internal Server Error)", 500, id="500"),
    pytest.param(Fault("status", status=502, body=b"<html>"), "the upstream answered 502", 502, id="502, HTML"),
    pytest.param(Fault("status", status=503), "the upstream answered 503 (Service Unavailable)", 503, id="503"),
    pytest.param(Fault("status", status=599, body=b"[" * 50_000), "the upstream answered 599", 599, id="599, odd"),
    pytest.param(Fault("close"), "the connection was refused, reset", None, id="closed before the answer"),
    pytest.param(Fault("reset"), "the connection was refused, reset", None, id="reset before the answer"),
    pytest.param(Fault("reset", after_bytes=9), "the connection broke off", 200, id="reset in mid-body"),
    pytest.param(Fault("cut"), "the connection broke off", 200, id="cut short of its Content-Length"),
    pytest.param(Fault("cut_chunked"), "the connection broke off", 200, id="cut between chunks"),
    pytest.param(Fault("truncated_json"), "the body isn't valid JSON, or is cut short", 200, id="truncated JSON"),
    pytest.param(
        Fault("status", status=200, body=b""), "the body isn't valid JSON, or is cut short", 200, id="no body"
    ),
    pytest.param(Fault("not_json"), "the body isn't valid JSON", 200, id="not JSON"),
    pytest.param(Fault("html"), "the body is neither a JSON object nor an array", 200, id="HTML"),
    pytest.param(
        Fault("wrong_shape"),
        "the body has no list under data, results, items, docs; its keys are statusCode, message",
        200,
        id="an object without items",
    ),
    pytest.param(
        Fault("status", status=200, body=b'{"data": {"a": 1}}'), "the body has no list under data", 200, id="data: {}"
    ),
    pytest.param(Fault("status", status=200, body=b'{"data": []} x'), "the body isn't valid JSON", 200, id="a rest"),
    pytest.param(
        Fault("status", status=200, headers={"Content-Encoding": "gzip"}, body=b"no gzip"),
        "the body's compression is damaged",
        200,
        id="bad gzip",
    ),
    *(
        pytest.param(
            Fault("status", status=200, headers={"Content-Encoding": coding}, body=GZIPPED),
            "the body is compressed in a way that wasn't asked for",
            200,
            id=f"packed as {coding}",
        )
        for coding in ("deflate", "gzip, gzip", "br")
    ),
    pytest.param(
        Fault("status", status=200, headers={"Content-Encoding": "gzip"}, body=GZIPPED[:-50]),
        "the body isn't valid JSON, or is cut short",
        200,
        id="gzip cut short",
    ),
    *(
        pytest.param(Fault("status", status=200, body=json.dumps(body).encode()), reason, 200, id=f"it failed: {name}")
        for name, body, reason in (
            ("success", {"success": False, "data": [], "message": "later"}, "the upstream says that it failed (later)"),
            ("ok", {"ok": False, "items": [{"id": 9}]}, "the upstream says that it failed"),
            (
                "error",
                {"error": {"message": "no database"}, "data": []},
                "the upstream says that it failed (no database)",
            ),
            ("its token", {"error": "bad t0k", "data": []}, "the upstream says that it failed (bad ***)"),
        )
    ),
    pytest.param(Fault("hang"), "no answer, or no more of it, within 0.2 s", None, id="no answer in time"),
    pytest.param(Fault("hang", after_bytes=9), "no answer, or no more of it, within 0.2 s", 200, id="stalls"),
]


@pytest.mark.parametrize(("fault", "reason", "status"), RETRIED)
def test_what_is_tried_again(fault: Fault, reason: str, status: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Such an attempt is made up to three times, 1 s and 2 s apart; then the error says where it was and why."""
    faults = [replace(fault, page=2, times=2), replace(fault, page=3, times=None)]
    deadline = FakeDeadline()
    timeout = "0.2" if fault.kind == "hang" else "9"
    with (
        json_logs(),
        TicketingApi(sales=plain_sales(9), page_size=3, faults=faults) as upstream,
        client(
            upstream.base_url,
            token="t0k",
            deadline=deadline,
            env={"NEST_API_TIMEOUT_SECONDS": timeout},
        ) as api,
    ):
        assert fetch(api, SECOND) == [4, 5, 6]
        assert deadline.slept == [1, 2]
        with pytest.raises(UpstreamError) as caught:
            fetch(api, PageRequest(3, "page", "3"))
        assert deadline.slept == [1, 2, 1, 2]
        assert [seen.page for seen in upstream.requests] == [2, 2, 2, 3, 3, 3]
    message = str(caught.value)
    assert message.startswith("ticket_sales, page 3 (asked for by page=3): " + reason)
    assert message.endswith(" (tried 3 times)")
    attempts = [(1, status, 0), (2, status, 0), (3, 200, 3), (1, status, 0), (2, status, 0), (3, status, 0)]
    assert logged(capsys) == [attempt_event(*attempt, "ticket_sales") for attempt in attempts]


def test_no_content_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """204 says that there is nothing, at once and on the same connection, and is no failed attempt."""
    with json_logs(), TicketingApi(faults=[Fault("status", status=204, body=b"", times=2)]) as upstream:
        with client(upstream.base_url) as api:
            fetched = api.fetch_page(TICKET_SALES, FIRST, ItemDecoder(SaleItem))
            assert (list(fetched.page.batches), fetched.page.item_count, fetched.total) == ([], 0, None)
            assert fetched.page.is_whole
        assert read_all(upstream.base_url).tally.completeness == "undeclared"
        assert len(upstream.requests) == 2
    assert logged(capsys) == [attempt_event(1, 204, 0, "ticket_sales")] * 2


def test_a_large_page_that_says_that_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind items that have been taken already, such words are a page that breaks off."""
    monkeypatch.setattr("etl.extract.body.WHOLE_PAGE_BYTES", 1000)
    body = json.dumps({"data": plain_sales(50), "success": False, "error": "cut off"}).encode()
    with TicketingApi(faults=[Fault("status", status=200, body=body)]) as upstream, client(upstream.base_url) as api:
        with pytest.raises(BrokenPageError, match=r"ticket_sales, page 1: .* failed \(cut off\)"):
            fetch(api)
        assert fetch(api) == []


def test_jitter() -> None:
    """A wait is up to a quarter longer than its back-off, by the dice that are passed in."""
    deadline = FakeDeadline()
    with (
        TicketingApi(sales=plain_sales(1), faults=[Fault("close", times=2)]) as upstream,
        client(upstream.base_url, deadline=deadline, jitter=iter([0.5, 1.0]).__next__) as api,
    ):
        assert fetch(api) == [1]
    assert deadline.slept == [1.125, 2.5]


def test_an_address_that_nobody_serves() -> None:
    """A refused connection is tried again; TLS with a server that has none isn't. Neither message shows the token."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    deadline = FakeDeadline()
    with (
        client(f"http://{address}", token="t0k", deadline=deadline) as api,
        pytest.raises(UpstreamError, match=r"ticket_sales, page 1: the connection was refused.*tried 3 times"),
    ):
        fetch(api)
    assert deadline.slept == [1, 2]
    with TicketingApi() as upstream, client(upstream.base_url.replace("http", "https"), token="t0k") as api:
        with pytest.raises(UpstreamError, match=r"ticket_sales, page 1: its TLS certificate isn't trusted, or TLS fa"):
            fetch(api)
        assert upstream.requests == []


AT_ONCE = [
    pytest.param(400, b"", "the upstream answered 400", id="400"),
    pytest.param(401, b"", "the upstream answered 401. Check the token", id="401"),
    pytest.param(403, b"[1]", "the upstream answered 403. The token may not read this", id="403"),
    pytest.param(404, b"no JSON", "the upstream answered 404. Check NEST_API_BASE_URL", id="404"),
    pytest.param(
        422, b'{"message": ["limit must not be", "greater than 100"]}', r"422 \(limit must not be; greater", id="422"
    ),
    pytest.param(410, b'{"message": "bad token t0k"}', r"410 \(bad token \*\*\*\)", id="410, echoing the token"),
    pytest.param(304, b"", "the upstream answered 304", id="304"),
    pytest.param(302, b"", "the upstream answered 302", id="a redirect to nowhere"),
]


@pytest.mark.parametrize(("status", "body", "message"), AT_ONCE)
def test_what_fails_at_once(status: int, body: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal isn't asked for twice. The error has NestJS's own words and a hint, and never the token."""
    faults = [Fault("status", status=status, body=body)]
    with json_logs(), TicketingApi(sales=plain_sales(1), faults=faults) as upstream:
        with client(upstream.base_url, token="t0k") as api, pytest.raises(UpstreamError, match=message) as caught:
            fetch(api)
        assert len(upstream.requests) == 1
    assert str(caught.value).startswith("ticket_sales, page 1: ")
    assert "t0k" not in str(caught.value)
    assert logged(capsys) == [attempt_event(1, status, 0, "ticket_sales")]


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


WAITS: list[Any] = [
    pytest.param({"Retry-After": "0"}, [0], id="0"),
    pytest.param({"Retry-After": "7"}, [7], id="seconds"),
    pytest.param({"Retry-After": "60"}, [60], id="the longest"),
    pytest.param({"retry-after": http_date(12)}, [12], id="a date"),
    pytest.param({"Retry-After": http_date(-12)}, [0], id="a date gone by"),
    pytest.param({"Retry-After": "Mon, 23 Nov 2026 12:00:09 -0000"}, [1], id="a date without a zone is no date"),
    pytest.param({"Retry-After-short": "1"}, [1], id="a named throttler"),
    pytest.param({"Retry-After-short": "1", "Retry-After-long": "40", "Retry-After-x": "?"}, [40], id="several"),
    pytest.param({"Retry-After": "soon"}, [1], id="nonsense"),
    pytest.param({}, [1], id="absent"),
]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("headers", "slept"), WAITS)
def test_the_upstream_says_how_long_to_wait(headers: Mapping[str, str], slept: list[float], status: int) -> None:
    """Each form of Retry-After is waited out, once it comes with a status that is worth another attempt."""
    deadline = FakeDeadline()
    faults = [Fault("status", status=status, headers=headers)]
    with (
        TicketingApi(sales=plain_sales(1), faults=faults) as upstream,
        client(upstream.base_url, deadline=deadline) as api,
    ):
        assert fetch(api) == [1]
    assert deadline.slept == slept


TOO_LONG = [
    pytest.param({"Retry-After": "61"}, 1000, UpstreamError, "asks to wait for 61 s, and a run waits for 60", id="61"),
    pytest.param({"Retry-After": http_date(3600)}, 9999, UpstreamError, "asks to wait for 3600 s", id="a date"),
    pytest.param({"Retry-After-day": "9" * 30}, 1000, UpstreamError, "asks to wait for 999999999999 s", id="ages"),
    pytest.param({"Retry-After": "30"}, 20, DeadlineExceededError, "would have had to wait for 30 s", id="deadline"),
]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("headers", "seconds", "error", "message"), TOO_LONG)
def test_waits_that_are_too_long(
    headers: Mapping[str, str], seconds: float, error: type[Exception], message: str, status: int
) -> None:
    """More than 60 s, or more than the run has left, ends it without a wait."""
    deadline = FakeDeadline(seconds)
    faults = [Fault("status", status=status, headers=headers)]
    with TicketingApi(sales=plain_sales(1), faults=faults) as upstream:
        with client(upstream.base_url, deadline=deadline) as api, pytest.raises(error, match=message):
            fetch(api)
        assert len(upstream.requests) == 1
    assert deadline.slept == []


THROTTLED = [
    pytest.param([429] * 10, [2.0] * 10, None, id="ten times"),
    pytest.param([429] * 11, [2.0] * 10, "answered 429", id="eleven times"),
    pytest.param([429] * 5 + [500] + [429] * 5 + [500], [2.0] * 12, None, id="and two failures"),
    pytest.param([500, 429, 500, 429, 500], [2.0] * 4, "answered 500", id="and three failures"),
]


@pytest.mark.parametrize(("statuses", "slept", "message"), THROTTLED)
def test_throttling_is_no_failure(statuses: Sequence[int], slept: list[float], message: str | None) -> None:
    """A 429 is waited out up to 10 times a request, and isn't one of its three attempts."""
    faults = [Fault("status", status=status, headers={"Retry-After": "2"}) for status in statuses]
    deadline = FakeDeadline()
    with TicketingApi(sales=plain_sales(1), faults=faults) as upstream:
        with client(upstream.base_url, deadline=deadline) as api:
            if message is None:
                assert fetch(api) == [1]
            else:
                with pytest.raises(UpstreamError, match=message):
                    fetch(api)
        assert len(upstream.requests) == len(statuses) + (message is None)
    assert deadline.slept == slept


def test_throttling_without_a_time_is_waited_out_ever_longer() -> None:
    """Where a 429 names no time, the waits double, to 30 s at most."""
    deadline = FakeDeadline()
    faults = [Fault("status", status=429, times=10)]
    with (
        TicketingApi(sales=plain_sales(1), faults=faults) as upstream,
        client(upstream.base_url, deadline=deadline) as api,
    ):
        assert fetch(api) == [1]
    assert deadline.slept == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]


@pytest.mark.parametrize(("status", "left"), [(429, 2), (503, 2), (500, 4), (404, 4)])
def test_concurrency_falls_where_the_upstream_is_overloaded(status: int, left: int) -> None:
    """429 and 503 halve it, down to one; other failures leave it."""
    with (
        TicketingApi(sales=plain_sales(1), faults=[Fault("status", status=status)]) as upstream,
        client(upstream.base_url, env={"NEST_API_CONCURRENCY": "4"}) as api,
    ):
        try:
            fetch(api)
        except UpstreamError:
            assert status == 404
        assert api.concurrency == left
        upstream.faults = [Fault("status", status=429, times=5)]
        fetch(api)
        assert api.concurrency == 1


TOKENS: list[Any] = [
    pytest.param(("right",), [200], [], None, id="right"),
    pytest.param(("old", "right"), [401, 200], [], None, id="renewed"),
    pytest.param(("old", "old", "right"), [401, 401], ["right"], "answered 401", id="renewed once only"),
    pytest.param(("old", "older", "right"), [401, 401], ["right"], "answered 401", id="the new one is refused"),
]


@pytest.mark.parametrize(("values", "statuses", "unread", "message"), TOKENS)
def test_the_token_is_renewed_once(
    values: tuple[str, ...],
    statuses: list[int],
    unread: list[str],
    message: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a 401 the token is read again, once a run, and each request is in the log."""
    token, rest = token_of(*values)
    deadline = FakeDeadline()
    with json_logs(), TicketingApi(sales=plain_sales(1), token="right") as upstream:
        with client(upstream.base_url, token=token, deadline=deadline) as api:
            if message is None:
                assert fetch(api) == fetch(api) == [1]
                statuses = [*statuses, 200]
            else:
                for _ in range(2):
                    with pytest.raises(UpstreamError, match=message):
                        fetch(api)
                statuses = [*statuses, 401]
        assert [seen.status for seen in upstream.requests] == statuses
    assert list(rest) == unread
    assert deadline.slept == []
    assert [line["status_code"] for line in logged(capsys)] == statuses


def test_a_given_token_is_not_renewed() -> None:
    """NEST_API_TOKEN is what it is: a 401 ends the run. So it does without any token."""
    with TicketingApi(token="right") as upstream:
        for token in ("wrong", None):
            with (
                client(upstream.base_url, token=token) as api,
                pytest.raises(UpstreamError, match=r"401.*NEST_API_TOK"),
            ):
                fetch(api)
        assert [seen.headers.get("authorization") for seen in upstream.requests] == ["Bearer wrong", None]


def test_the_token_is_renewed_once_by_several_threads() -> None:
    """Where all threads meet the 401 together, one of them reads the token, and all go on with it."""
    token, unread = token_of("old", "right", "never read")
    with TicketingApi(sales=plain_sales(8), page_size=1, token="right") as upstream:
        upstream.latency_seconds = 0.05
        with client(upstream.base_url, token=token) as api, ThreadPoolExecutor(8) as pool:
            pages = [PageRequest(n, "page", str(n)) for n in range(1, 9)]
            assert list(pool.map(lambda page: fetch(api, page), pages)) == [[n] for n in range(1, 9)]
        statuses = [seen.status for seen in upstream.requests]
    assert statuses.count(200) == 8
    assert 2 <= statuses.count(401) <= 8
    assert list(unread) == ["never read"]


def test_a_token_that_cannot_be_read() -> None:
    """The error of whoever reads the token is the run's, and nothing is asked without it."""

    def read() -> str:
        raise ConfigurationError("the secret is gone")

    with TicketingApi() as upstream, client(upstream.base_url, token=Token(read, can_renew=True)) as api:
        with pytest.raises(ConfigurationError, match="the secret is gone"):
            fetch(api)
        assert upstream.requests == []


REDIRECTS = (301, 302, 303, 307, 308)
SAME_ORIGIN = [
    pytest.param("/ticket-sales?page=2", id="relative"),
    pytest.param("http://{own}/ticket-sales?page=2", id="absolute"),
    pytest.param("//{own}/ticket-sales?page=2", id="without a scheme"),
    pytest.param("HTTP://{own}/ticket-sales?page=2", id="upper case"),
]


@pytest.mark.parametrize("location", SAME_ORIGIN)
def test_redirects_within_the_origin_are_followed(location: str) -> None:
    """Any redirect to the same scheme, host and port is followed, with the token."""
    with TicketingApi(sales=plain_sales(6), page_size=3, token="t0k") as upstream:
        own = upstream.base_url.removeprefix("http://")
        with client(upstream.base_url, token="t0k") as api:
            for status in REDIRECTS:
                upstream.faults = [Fault("redirect", page=1, status=status, location=location.format(own=own))]
                assert fetch(api) == [4, 5, 6], status
        assert {seen.headers["authorization"] for seen in upstream.requests} == {"Bearer t0k"}
        assert [seen.status for seen in upstream.requests] == [s for redirect in REDIRECTS for s in (redirect, 200)]


OTHER_ORIGINS = [
    pytest.param("http://{other}/ticket-sales", "http://{other}", id="another port"),
    pytest.param("//{other}/ticket-sales", "http://{other}", id="without a scheme"),
    pytest.param("https://{own}/ticket-sales", "https://{own}", id="another scheme"),
    pytest.param("http://localhost:{port}/ticket-sales", "http://localhost:{port}", id="another host"),
    pytest.param("HTTP://LOCALHOST:{port}/ticket-sales", "http://LOCALHOST:{port}", id="upper case"),
    pytest.param("http://{own}@{other}/ticket-sales", "http://{other}", id="the origin as a user"),
    pytest.param("http://somebody:secret@{own}/ticket-sales", "http://{own}", id="a user at the origin"),
    pytest.param("http://127.0.0.1/ticket-sales", "http://127.0.0.1", id="the default port"),
    pytest.param("ftp://{own}/ticket-sales", "ftp://{own}", id="not HTTP"),
    pytest.param("http:\\\\{other}\\ticket-sales", None, id="backslashes"),
    pytest.param("/\\{other}/ticket-sales", None, id="slash and backslash"),
    pytest.param("http://[{other}/ticket-sales", None, id="no URL"),
    pytest.param("http://{own}:x/ticket-sales", None, id="no port"),
]


@pytest.mark.parametrize(("location", "shown"), OTHER_ORIGINS)
def test_redirects_to_another_origin_are_refused(location: str, shown: str | None) -> None:
    """The token stays with the configured origin: the error names both, and the other one sees no request."""
    with TicketingApi() as other, TicketingApi(token="t0k") as upstream:
        own = upstream.base_url.removeprefix("http://")
        names = {"own": own, "port": own.partition(":")[2], "other": other.base_url.removeprefix("http://")}
        with client(upstream.base_url, token="t0k") as api:
            for status in REDIRECTS:
                upstream.faults = [Fault("redirect", status=status, location=location.format(**names))]
                with pytest.raises(UpstreamError) as caught:
                    fetch(api)
                message = str(caught.value)
                assert "secret" not in message
                if shown is not None:
                    leads = f"leads to {shown.format(**names)}, but the token goes to {upstream.base_url} only"
                    assert leads in message
                    assert "NEST_API_BASE_URL" in message
                    assert "NEST_API_LINK_ORIGINS" in message
        assert other.requests == []


def test_a_refused_redirect_is_an_attempt_of_a_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    """The error of a refused redirect names dataset and page, and its request is in the log as any other."""
    faults = [Fault("redirect", location="http://elsewhere.example/")]
    with (
        json_logs(),
        TicketingApi(faults=faults) as upstream,
        client(upstream.base_url) as api,
        pytest.raises(UpstreamError) as caught,
    ):
        fetch(api, SECOND)
    assert str(caught.value).startswith("ticket_sales, page 2 (asked for by page=2): ")
    assert logged(capsys) == [attempt_event(1, 302, 0, "ticket_sales")]


def test_redirects_in_a_circle(capsys: pytest.CaptureFixture[str]) -> None:
    """Five redirects are followed, a sixth is an error; each request is in the log once."""
    with (
        json_logs(),
        TicketingApi(sales=plain_sales(1), faults=[Fault("redirect", times=5)]) as upstream,
        client(upstream.base_url) as api,
    ):
        assert fetch(api) == [1]
        assert [line["status_code"] for line in logged(capsys)] == [302] * 5 + [200]
        upstream.faults = [Fault("redirect", times=None)]
        with pytest.raises(UpstreamError, match="ticket_sales, page 1: more than 5 redirects"):
            fetch(api)
        assert [line["status_code"] for line in logged(capsys)] == [302] * 6
        assert len(upstream.requests) == 12


def test_link_origins_are_taken_for_the_base() -> None:
    """A redirect to a NEST_API_LINK_ORIGINS origin is followed on the configured one; the other sees nothing."""
    with TicketingApi() as other, TicketingApi(sales=plain_sales(4), page_size=2, token="t0k") as upstream:
        upstream.faults = [Fault("redirect", location=f"{other.base_url}/ticket-sales?page=2")]
        with client(
            upstream.base_url, token="t0k", env={"NEST_API_LINK_ORIGINS": f"http://x.example,{other.base_url}/"}
        ) as api:
            assert fetch(api) == [3, 4]
        assert [seen.target for seen in upstream.requests] == ["/ticket-sales", "/ticket-sales?page=2"]
        assert other.requests == []


def test_nothing_is_asked_after_the_deadline() -> None:
    """Once the time is up, no request goes out."""
    deadline = FakeDeadline(5)
    with TicketingApi(sales=plain_sales(1)) as upstream, client(upstream.base_url, deadline=deadline) as api:
        assert fetch(api) == [1]
        deadline.now = 5.0
        with pytest.raises(DeadlineExceededError, match="the run's 5 s are up"):
            fetch(api)
        assert len(upstream.requests) == 1


SLOW = [
    pytest.param(Fault("hang"), id="no answer"),
    pytest.param(Fault("delay", seconds=60), id="a late answer"),
    pytest.param(Fault("hang", after_bytes=20), id="stalls in mid-body"),
    pytest.param(Fault("drip", seconds=0.02, piece_bytes=1), id="drips"),
]


@pytest.mark.parametrize("fault", SLOW)
def test_the_deadline_bounds_every_wait(fault: Fault) -> None:
    """However slow an answer is, the run ends at its deadline, not at the request's time-out."""
    with (
        TicketingApi(sales=plain_sales(100), page_size=100, faults=[fault]) as upstream,
        client(upstream.base_url, deadline=Deadline(0.3)) as api,
        takes_at_most(0.3),
        pytest.raises(DeadlineExceededError),
    ):
        fetch(api)


OK = b"HTTP/1.1 200 OK\r\n"
WITHOUT_END = [
    pytest.param(b"HTTP/1.1 503 Slow\r\nContent-Length: 999999\r\n\r\n", b" ", id="an error's body"),
    pytest.param(OK + b"X-Long: ", b"x", id="a header"),
    pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="100 Continue"),
    pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n", id="trailers"),
    pytest.param(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], b"\0\0\0\xff\xff", id="empty gzip"),
]


@pytest.mark.parametrize(("head", "piece"), WITHOUT_END)
def test_the_deadline_bounds_what_comes_without_end(head: bytes, piece: bytes) -> None:
    """An answer that keeps coming, and never comes to its end, ends the run at its deadline too."""
    with (
        dripping(head, piece) as base_url,
        client(base_url, deadline=Deadline(0.3)) as api,
        takes_at_most(0.3),
        pytest.raises(DeadlineExceededError),
    ):
        fetch(api)


@contextmanager
def dripping(head: bytes, piece: bytes) -> Iterator[str]:
    """A server whose answer begins with `head` and goes on with `piece`, every 10 ms, for a minute."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(head)
            for _ in range(6_000):
                if stopped.wait(0.01):
                    return
                try:
                    connection.sendall(piece)
                except OSError:
                    return

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stopped.set()
            server.join()


def test_a_run_can_be_ended_from_another_thread() -> None:
    """Once the deadline is cancelled, the answer under way isn't waited for, and its reason is the run's error."""
    deadline = Deadline(60)
    faults = [Fault("drip", seconds=0.02, piece_bytes=1)]
    with (
        TicketingApi(sales=plain_sales(100), page_size=100, faults=faults) as upstream,
        client(upstream.base_url, deadline=deadline) as api,
        ThreadPoolExecutor(1) as pool,
    ):
        fetching = pool.submit(fetch, api)
        while not upstream.requests:
            time.sleep(0.005)
        deadline.cancel(TerminatedError("SIGTERM"))
        with pytest.raises(TerminatedError, match="SIGTERM"):
            fetching.result(timeout=BUSY_SECONDS)
