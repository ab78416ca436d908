"""Whatever a caller sends, byte by byte, it gets an answer of the right kind in bounded time, and others get theirs."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from etl.run.ledger_tables import LEASE, metadata
from tests.support.function import Function
from tests.support.summaries import engine_of
from tests.support.waiting import takes_at_most

PATIENCE = 30.0
SLOW_SECONDS = 5.0
"""How long a body may take."""
POST = b"POST / HTTP/1.1\r\nHost: f\r\n"
GET = b"GET / HTTP/1.1\r\nHost: f\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_REQUEST, FRAMEWORK = "bad_request", None
"""FRAMEWORK: what never reaches the function is answered by the server before it, in its own way."""
CALLS = [
    pytest.param(GET + b"X-Long: " + b"x" * 1_000_000 + b"\r\n\r\n", (400, 431), FRAMEWORK, id="header of 1 MB"),
    pytest.param(
        GET + b"".join(b"X-%d: x\r\n" % n for n in range(5000)) + b"\r\n", (400, 431), FRAMEWORK, id="5,000 headers"
    ),
    pytest.param(
        b"GET /?force=" + b"1" * 1_000_000 + b" HTTP/1.1\r\nHost: f\r\n\r\n", (400,), BAD_REQUEST, id="query of 1 MB"
    ),
    pytest.param(
        b"GET /?" + b"a&" * 50_000 + b" HTTP/1.1\r\nHost: f\r\n\r\n", (400,), BAD_REQUEST, id="50,000 parameters"
    ),
    pytest.param(b"BREW / HTTP/1.1\r\nHost: f\r\n\r\n", (405,), "method_not_allowed", id="odd method"),
    pytest.param(b"TRACE / HTTP/1.1\r\nHost: f\r\n\r\n", (405,), "method_not_allowed", id="TRACE"),
    pytest.param(b"GET // HTTP/1.1\r\nHost: f\r\n\r\n", (500,), "configuration_error", id="two slashes are one"),
    pytest.param(b"GET /%00 HTTP/1.1\r\nHost: f\r\n\r\n", (404,), "not_found", id="NUL"),
    pytest.param(b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\nHost: f\r\n\r\n", (404,), "not_found", id="up the tree"),
    pytest.param(b"GET /%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: f\r\n\r\n", (404,), FRAMEWORK, id="line break in a path"),
    pytest.param(GET + b"traceparent: 00-x\r\n severity: CRITICAL\r\n\r\n", (400,), FRAMEWORK, id="folded header"),
    pytest.param(GET + b"traceparent: 00-\x1b[2J\x7f\r\n\r\n", (400, 500), None, id="escapes in a trace header"),
    pytest.param(POST + b"Content-Length: -1\r\n\r\n", (400,), FRAMEWORK, id="negative length"),
    pytest.param(
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,), FRAMEWORK, id="two lengths"
    ),
    pytest.param(POST + b"Content-Length: 99\r\n\r\n{}", (400,), BAD_REQUEST, id="body that breaks off"),
    pytest.param(CHUNKED + b"2\r\n{}\r\n", (400,), BAD_REQUEST, id="chunks that break off"),
    pytest.param(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", (400,), BAD_REQUEST, id="chunks that are none"),
    pytest.param(
        POST + b"Content-Length: 999999999999\r\n\r\n" + b"x" * 70_000, (400,), BAD_REQUEST, id="body of a terabyte"
    ),
    pytest.param(CHUNKED + b"400\r\n%b\r\n" % (b"x" * 1024) * 100, (400,), BAD_REQUEST, id="body without end"),
]


@pytest.fixture(scope="module")
def function() -> Iterator[Function]:
    """The function without any setting."""
    with Function({}) as function:
        yield function


def address_of(function: Function) -> tuple[str, int]:
    url = urlsplit(function.url)
    return str(url.hostname), url.port or 0


def ask(function: Function, sent: bytes, then: Callable[[socket.socket], None] = lambda _: None) -> tuple[int, bytes]:
    """(status, body) of the answer to these bytes, after which nothing more comes."""
    with socket.create_connection(address_of(function), timeout=PATIENCE) as connection:
        with suppress(ConnectionError):  # it has been refused before its end
            connection.sendall(sent)
            then(connection)
        answer = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65_536):
                answer += piece
                head, separator, body = answer.partition(b"\r\n\r\n")
                length = next(
                    (line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b""
                )
                if separator and length and len(body) >= int(length):
                    break
    assert answer, "no answer"
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(("sent", "statuses", "code"), CALLS)
def test_a_hostile_call(function: Function, sent: bytes, statuses: tuple[int, ...], code: str | None) -> None:
    """It is refused with its own code, and never taken for a fault of the program; the next call is served."""
    status, body = ask(function, sent, lambda connection: connection.shutdown(socket.SHUT_WR))
    assert status in statuses, body
    if code is not None:
        assert json.loads(body)["code"] == code, body
    assert b"Traceback" not in body
    assert b"internal_error" not in body
    assert function.call("GET", "/health").status_code == 200


HEALTH = b"GET /health HTTP/1.1\r\nHost: f\r\n\r\n"
OLD_POST = b"POST / HTTP/1.0\r\nHost: f\r\n"
STAY = b"Connection: keep-alive\r\n"
BODY = b'Content-Length: 7\r\n\r\n{"a":1}'
CONNECTIONS = [
    pytest.param(POST + BODY, 400, "close", id="a body that is refused"),
    pytest.param(OLD_POST + STAY + BODY, 400, "close", id="the same, HTTP/1.0, though it would stay"),
    pytest.param(OLD_POST + BODY, 400, "close", id="the same, HTTP/1.0"),
    pytest.param(CHUNKED + b'7\r\n{"a":1}\r\n0\r\n\r\n', 400, "close", id="the same in chunks"),
    pytest.param(POST + b"Expect: 100-continue\r\n" + BODY, 400, "close", id="the same after asking"),
    pytest.param(POST + b"Content-Length: 200000\r\n\r\n" + b" " * 200_000, 400, "close", id="a large body"),
    pytest.param(b"POST /nothing HTTP/1.1\r\nHost: f\r\n" + BODY, 404, "close", id="a body for nobody"),
    pytest.param(b"DELETE / HTTP/1.1\r\nHost: f\r\n" + BODY, 405, "close", id="a method with a body"),
    pytest.param(b"GET /health HTTP/1.1\r\nHost: f\r\n" + BODY, 200, "close", id="a body that nobody wants"),
    pytest.param(POST + b"Content-Length: 2\r\n\r\n{}", 500, "keep-alive", id="a body that is read"),
    pytest.param(b"POST /?a=1 HTTP/1.1\r\nHost: f\r\n\r\n", 400, "keep-alive", id="no body"),
    pytest.param(b"POST /?a=1 HTTP/1.0\r\n" + STAY + b"\r\n", 400, "keep-alive", id="no body, HTTP/1.0, to stay"),
    pytest.param(b"GET /health HTTP/1.0\r\n\r\n", 200, "close", id="no body, HTTP/1.0"),
    pytest.param(HEALTH, 200, "keep-alive", id="as most do"),
]


def check_connection(function: Function, sent: bytes, status: int, connection: str) -> None:
    """The answer's status and its `Connection`; and the next request on that connection is answered, or is not."""
    with socket.create_connection(address_of(function), timeout=PATIENCE) as caller:
        with suppress(ConnectionError):  # it has been refused before its end
            caller.sendall(sent)
        answer = HTTPResponse(caller)
        answer.begin()
        assert (answer.status, answer.headers["Connection"]) == (status, connection)
        assert len(answer.read()) == int(answer.headers["Content-Length"])
        following = b""
        with suppress(ConnectionError):
            caller.sendall(HEALTH)
            following = caller.recv(12)
    assert following == (b"HTTP/1.1 200" if connection == "keep-alive" else b"")


@pytest.mark.parametrize(("sent", "status", "connection"), CONNECTIONS)
def test_what_an_answer_says_of_its_connection(function: Function, sent: bytes, status: int, connection: str) -> None:
    """`close` where the connection is read no further, so that nobody sends the next request into it."""
    check_connection(function, sent, status, connection)


def test_a_refused_run_says_so_too(database_url: str) -> None:
    """Another run holds the lease: 409, and the connection ends."""
    engine = engine_of(database_url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        held = {"name": "etl", "fence": 1, "run_id": "other", "expires_at": sa.func.now() + timedelta(hours=1)}
        connection.execute(sa.insert(LEASE).values(**held))
    engine.dispose()
    with Function({"NEST_API_BASE_URL": "http://127.0.0.1:1", "DATABASE_URL": database_url}) as function:
        check_connection(function, POST + b'Content-Length: 15\r\n\r\n{"force": true}', 409, "close")


def test_slow_callers(function: Function) -> None:
    """A body that stands still, or comes drop by drop, is given up after 5 s, and others are served meanwhile."""

    def drop_by_drop(connection: socket.socket) -> None:
        for _ in range(70):
            connection.sendall(b" ")
            time.sleep(0.1)

    slow = POST + b"Content-Length: 9999\r\n\r\n{"
    with takes_at_most(SLOW_SECONDS, at_least=SLOW_SECONDS - 1), ThreadPoolExecutor(2) as callers:
        answers = [callers.submit(ask, function, slow), callers.submit(ask, function, slow, drop_by_drop)]
        time.sleep(0.5)
        assert function.call("GET", "/health").status_code == 200
        for answer in answers:
            status, body = answer.result()
            assert (status, json.loads(body)["code"]) == (400, BAD_REQUEST)
            assert "5 s" in json.loads(body)["detail"]


def test_callers_that_never_end() -> None:
    """More of them than the server has threads, where nobody reads their bodies: each is answered, and so is the next
    caller.
    """
    sent = b"POST /nothing HTTP/1.1\r\nHost: f\r\nContent-Length: 9999\r\n\r\n{"
    with Function({}) as function, ExitStack() as stack:
        for _ in range(4 * (os.cpu_count() or 1) + 1):
            connection = stack.enter_context(socket.create_connection(address_of(function), timeout=PATIENCE))
            connection.sendall(sent)
            assert connection.recv(12) == b"HTTP/1.1 404"
            with suppress(ConnectionError):  # it has been closed
                connection.sendall(b" ")
        with takes_at_most(0):
            assert function.call("GET", "/health").status_code == 200
