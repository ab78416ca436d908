"""Each outcome of an attempt has its verdict, and the next attempt comes when it should, or not at all."""

import json
import socket
import ssl
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from tenacity import Retrying, retry_if_exception_type

from etl.errors import DeadlineExceededError
from etl.extract.items import BodyError
from etl.extract.retries import AttemptError, Tries, Verdict, classify, message_for, reason_of, retry_after
from tests.support.strategies import JSON_VALUES

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET = "s3cret"
Outcome = Exception | None


def test_every_status_code() -> None:
    """Success, throttling, a refused token and the server's faults are told apart; all else is fatal."""
    found = {code: classify(code) for code in range(100, 600)}
    assert {code for code, verdict in found.items() if verdict is Verdict.SUCCESS} == {*range(200, 300)}
    assert {code for code, verdict in found.items() if verdict is Verdict.RETRIABLE} == {*range(500, 600)}
    assert {code for code, verdict in found.items() if verdict is Verdict.THROTTLED} == {429}
    assert {code for code, verdict in found.items() if verdict is Verdict.UNAUTHORISED} == {401}
    assert set(found.values()) == {*Verdict}


BROKEN = "the connection was refused, reset, or its host name isn't known"
RETRIABLE: list[tuple[Exception, str]] = [
    (requests.ConnectionError(SECRET), BROKEN),
    (requests.ConnectTimeout(SECRET), "no connection within 30 s"),
    (requests.ReadTimeout(SECRET), "no answer, or no more of it, within 30 s"),
    (requests.exceptions.ChunkedEncodingError(SECRET), "the connection failed: ChunkedEncodingError"),
    (requests.exceptions.ContentDecodingError(SECRET), "the connection failed: ContentDecodingError"),
    (requests.exceptions.ProxyError(SECRET), BROKEN),
    (urllib3.exceptions.ReadTimeoutError(urllib3.HTTPConnectionPool("h"), "/", SECRET), "no answer, or no more of it"),
    (urllib3.exceptions.ProtocolError(SECRET), "the connection broke off"),
    (urllib3.exceptions.IncompleteRead(5, 10), "the connection broke off"),
    (urllib3.exceptions.DecodeError(SECRET), "the body's compression is damaged"),
    (ConnectionResetError(SECRET), "the connection failed: ConnectionResetError"),
    (BrokenPipeError(SECRET), "the connection failed: BrokenPipeError"),
    (TimeoutError(SECRET), "the connection failed: TimeoutError"),
    (socket.gaierror(SECRET), "the connection failed: gaierror"),
    (BodyError("isn't valid JSON, or is cut short"), "the body isn't valid JSON, or is cut short"),
]
FATAL: list[tuple[Exception, str]] = [
    (requests.exceptions.SSLError(SECRET), "its TLS certificate isn't trusted"),
    (requests.exceptions.InvalidURL(SECRET), "the address of the page can't be used"),
    (requests.exceptions.MissingSchema(SECRET), "the address of the page can't be used"),
    (requests.exceptions.InvalidSchema(SECRET), "the address of the page can't be used"),
    (requests.exceptions.InvalidHeader(SECRET), "the address of the page can't be used"),
    (urllib3.exceptions.LocationParseError(SECRET), "the address of the page can't be used"),
    (ssl.SSLCertVerificationError(SECRET), "can't be used|TLS"),
    (ValueError(SECRET), "the address of the page can't be used"),
    (KeyError(SECRET), "the connection failed: KeyError"),
]


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [pytest.param(error, Verdict.RETRIABLE, reason, id=type(error).__name__) for error, reason in RETRIABLE]
    + [pytest.param(error, Verdict.FATAL, reason, id=type(error).__name__) for error, reason in FATAL],
)
def test_exceptions(error: Exception, verdict: Verdict, reason: str) -> None:
    """The network's faults are tried again, a wrong address isn't; the reason holds no library's text."""
    assert classify(error) is verdict
    said = reason_of(error, 30.0)
    assert any(said.startswith(part) or part in said for part in reason.split("|"))
    assert SECRET not in said


def test_time_out_is_told() -> None:
    """The reason for a time-out tells the one that is set, as a person would write it."""
    assert reason_of(requests.ReadTimeout(), 0.5) == "no answer, or no more of it, within 0.5 s"


def failed(retry_after: float | None = None) -> AttemptError:
    return AttemptError("the upstream answered 503", Verdict.RETRIABLE, 503, retry_after)


def throttled(retry_after: float | None = None) -> AttemptError:
    return AttemptError("the upstream answered 429", Verdict.THROTTLED, 429, retry_after)


UNAUTHORISED = AttemptError("the upstream answered 401", Verdict.UNAUTHORISED, 401, None)
REFUSED = AttemptError("the upstream answered 404", Verdict.FATAL, 404, None)
RESET, CUT, CERTIFICATE = ConnectionResetError(), BodyError("is cut short"), requests.exceptions.SSLError()
TRIES: list[tuple[str, list[Outcome], list[float], bool]] = [
    ("success", [None], [], True),
    ("one failure", [failed(), None], [1], True),
    ("two failures", [failed(), failed(), None], [1, 2], True),
    ("three failures", [failed(), failed(), failed()], [1, 2], False),
    ("reset, cut short, 503", [RESET, CUT, failed()], [1, 2], False),
    ("fatal", [REFUSED], [], False),
    ("fatal after a failure", [failed(), REFUSED], [1], False),
    ("certificate", [CERTIFICATE], [], False),
    ("token refused", [UNAUTHORISED], [], False),
    ("ten throttles", [*[throttled(0)] * 10, None], [0] * 10, True),
    ("eleven throttles", [throttled(0)] * 11, [0] * 10, False),
    ("throttles without a time", [*[throttled()] * 8, None], [1, 2, 4, 8, 16, 30, 30, 30], True),
    ("a throttle is no attempt", [failed(0), throttled(5), failed(0), throttled(7), None], [0, 5, 0, 7], True),
    ("two failures among throttles", [throttled(5), failed(0), throttled(5), failed(0), None], [5, 0, 5, 0], True),
    ("three failures among throttles", [failed(0), throttled(5), failed(0), failed()], [0, 5, 0], False),
    ("waits as long as asked", [throttled(60), failed(59.5), None], [60, 59.5], True),
    ("asked to wait too long", [throttled(60.5)], [], False),
    ("asked to wait too long by 503", [failed(61)], [], False),
    ("asked to wait 0", [failed(0), None], [0], True),
]  # fmt: skip


def run(outcomes: list[Outcome], jitter: Callable[[], float]) -> tuple[Tries, list[float], Exception | None]:
    """As the API does it, with tenacity; the waits are noted, not waited for."""
    tries, waits, left = Tries(jitter), list[float](), list(outcomes)

    def attempt() -> None:
        tries.number += 1
        outcome = left.pop(0)
        if outcome is not None:
            raise tries.count(outcome, 30.0, getattr(outcome, "status_code", None))

    retrying = Retrying(
        retry=retry_if_exception_type(AttemptError),
        stop=tries.is_over,
        wait=tries.wait,
        sleep=waits.append,
        reraise=True,
    )
    try:
        retrying(attempt)
    except AttemptError as error:
        return tries, waits, error
    return tries, waits, None


@pytest.mark.parametrize(("outcomes", "waits", "succeeds"), [pytest.param(*case, id=name) for name, *case in TRIES])
def test_tries(outcomes: list[Outcome], waits: list[float], succeeds: bool) -> None:
    """Three attempts, ten throttles beside them, and the waits that were asked for, else 1 s, 2 s and so on."""
    tries, waited, error = run(outcomes, lambda: 0.0)
    assert (tries.number, waited, error is None) == (len(outcomes), waits, succeeds)
    last = outcomes[-1]
    if last is not None:
        assert str(error) == (str(last) if isinstance(last, AttemptError) else reason_of(last, 30.0))


def test_jitter() -> None:
    """Up to a quarter is added to the waits that nobody asked for, and to no other."""
    _, waits, _ = run([failed(), throttled(7), failed(), None], iter([0.0, 0.5]).__next__)
    assert waits == [1, 7, 4.5]


HEADERS = [
    pytest.param({}, None, id="none"),
    pytest.param({"Retry-After": "0"}, 0, id="0"),
    pytest.param({"Retry-After": "7"}, 7, id="seconds"),
    pytest.param({"retry-after": " 7 "}, 7, id="lower case and blanks"),
    pytest.param({"Retry-After": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30, id="HTTP date"),
    pytest.param({"Retry-After": "Monday, 23-Nov-26 12:00:30 GMT"}, 30, id="RFC 850 date"),
    pytest.param({"Retry-After": "Mon, 23 Nov 2026 13:00:30 +0100"}, 30, id="date with an offset"),
    pytest.param({"Retry-After": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0, id="date that is past"),
    pytest.param({"Retry-After-short": "1"}, 1, id="suffixed"),
    pytest.param({"Retry-After-short": "1", "Retry-After-long": "40", "Retry-After": "9"}, 40, id="the longest"),
    pytest.param({"RETRY-AFTER-MEDIUM": "3", "Retry-After": "soon"}, 3, id="beside garbage"),
    pytest.param({"Retry-After": "9" * 4000}, 999_999_999_999, id="far too long"),
    pytest.param({"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, None, id="year beyond an int"),
    pytest.param({"Retry-After": "Mon, 01 Jan 2027 00:00:00 +99999999999999"}, None, id="offset beyond an int"),
    *(
        pytest.param({"Retry-After": text}, None, id=repr(text))
        for text in ("", "soon", "-1", "1.5", "1e3", "+5", "5s", "٣", "²", "Mon, 99 Nov 2026 12:00:30 GMT", ",")
    ),
    pytest.param({"X-Retry-After": "5", "Retry": "5", "RetryAfter": "5"}, None, id="other headers"),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "seconds"), HEADERS)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Every form of Retry-After is read, also NestJS's named throttlers'; garbage is as if it weren't there."""
    assert retry_after(headers, NOW) == seconds
    assert retry_after(CaseInsensitiveDict(headers), NOW) == seconds


@given(st.text(max_size=40) | st.text(string.digits + ",: -+JanMonGMTZ", max_size=40))
def test_any_retry_after(text: str) -> None:
    """No header value raises, and no wait is negative."""
    wait = retry_after({"Retry-After": text}, NOW)
    assert wait is None or wait >= 0


def nest(message: object) -> bytes:
    return json.dumps({"statusCode": 400, "message": message, "error": "Bad Request"}).encode()


ANSWERS = [
    pytest.param(404, nest("Cannot GET /events"), None, "answered 404 (Cannot GET /events). Check NEST_API_BASE_URL"),
    pytest.param(400, nest(["no number", "no page"]), None, "answered 400 (no number; no page)"),
    pytest.param(401, nest("Unauthorized"), None, "answered 401 (Unauthorized). Check the token"),
    pytest.param(403, b"", None, "answered 403. The token may not read this"),
    pytest.param(500, b"<html>oops</html>", None, "answered 500"),
    pytest.param(502, b"\xff\xfe", None, "answered 502"),
    pytest.param(500, b"[" * 50_000, None, "answered 500"),
    pytest.param(500, b'"oops"', None, "answered 500"),
    pytest.param(500, nest(None), None, "answered 500"),
    pytest.param(500, nest("x" * 300), None, f"answered 500 ({'x' * 200})"),
    pytest.param(500, nest("x" * 100_000), None, "answered 500"),
    pytest.param(400, nest(f"bad token {SECRET}"), None, "answered 400 (bad token ***)"),
    pytest.param(400, nest([f"a {SECRET}", SECRET]), None, "answered 400 (a ***; ***)"),
    pytest.param(400, nest("x" * 195 + SECRET), None, f"answered 400 ({'x' * 195}***)"),
    pytest.param(429, b"", 60.0, "answered 429"),
    pytest.param(429, b"", 3600.0, "answered 429. it asks to wait for 3600 s, and a run waits for 60 s at most"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "wait", "said"), ANSWERS)
def test_message_for_people(status: int, body: bytes, wait: float | None, said: str) -> None:
    """The message holds an error answer's status, NestJS's message and a hint, and not the token."""
    for size in (7, 1_000_000):
        chunks = (body[start : start + size] for start in range(0, len(body), size))
        told = message_for(status, chunks, wait, SECRET)
        assert told.startswith(f"the upstream {said}")
        assert SECRET not in told
        assert len(told) < 400


def breaks_off(body: bytes, error: Exception) -> Iterator[bytes]:
    yield body
    raise error


def test_explain_of_a_broken_body() -> None:
    """A body that breaks off, or whose compression is damaged, is no second error; the end of the run's time is."""
    for error in (
        urllib3.exceptions.ProtocolError(SECRET),
        urllib3.exceptions.DecodeError(SECRET),
        TimeoutError(SECRET),
    ):
        assert message_for(500, breaks_off(nest("half")[:30], error), None, None) == "the upstream answered 500"
    with pytest.raises(DeadlineExceededError):
        message_for(500, breaks_off(b"", DeadlineExceededError("the time is up")), None, None)


def test_explain_reads_no_endless_body() -> None:
    """Of an error answer only the first 64 KiB or so are read."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1_000
            yield b" " * 1_000

    assert message_for(500, endless(), None, None) == "the upstream answered 500"
    assert read < 100_000


@given(JSON_VALUES | st.lists(JSON_VALUES, max_size=3))
def test_explain_of_any_message(message: object) -> None:
    """Whatever stands under `message`, the answer can be told."""
    assert message_for(422, iter([nest(message)]), None, "").startswith("the upstream answered 422")
