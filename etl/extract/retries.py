"""Judge an attempt, and say when the next one is due. The library that waits and repeats is tenacity."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum

import requests
import urllib3
from requests.exceptions import SSLError
from tenacity import RetryCallState

from etl.extract.items import BodyError

MAX_ATTEMPTS = 3
MAX_THROTTLES = 10
MAX_RETRY_AFTER_SECONDS = 60.0


class Verdict(Enum):
    """What to do after an attempt."""

    SUCCESS = "take it"
    RETRIABLE = "try again, a few times"
    THROTTLED = "wait as long as asked, and try again"
    UNAUTHORISED = "try again with a token that was read anew, once"
    FATAL = "give up"


_STATUS_VERDICTS: tuple[tuple[range, Verdict], ...] = (
    (range(200, 300), Verdict.SUCCESS),
    (range(401, 402), Verdict.UNAUTHORISED),
    (range(429, 430), Verdict.THROTTLED),
    (range(500, 600), Verdict.RETRIABLE),
)


def classify(outcome: int | BaseException) -> Verdict:
    """Judge a status code, or the exception that came in its place."""
    if isinstance(outcome, int):
        return next((verdict for codes, verdict in _STATUS_VERDICTS if outcome in codes), Verdict.FATAL)
    # A certificate that isn't trusted, a URL that is none: they will be no better the next time.
    is_retriable = isinstance(outcome, NETWORK_ERRORS) and not isinstance(outcome, (SSLError, ValueError))
    return Verdict.RETRIABLE if is_retriable or isinstance(outcome, BodyError) else Verdict.FATAL


NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class AttemptError(Exception):
    """An attempt that didn't bring a page. `retry_after` is in seconds, None where the upstream names none."""

    def __init__(self, message: str, verdict: Verdict, status_code: int | None, retry_after: float | None) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.status_code = status_code
        self.retry_after = retry_after


_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((SSLError, urllib3.exceptions.SSLError), "its TLS certificate isn't trusted, or TLS failed"),
    ((requests.ConnectTimeout,), "no connection within {timeout:g} s"),
    ((requests.Timeout, urllib3.exceptions.TimeoutError), "no answer, or no more of it, within {timeout:g} s"),
    ((urllib3.exceptions.DecodeError,), "the body's compression is damaged"),
    ((urllib3.exceptions.IncompleteRead, urllib3.exceptions.ProtocolError), "the connection broke off"),
    ((requests.ConnectionError,), "the connection was refused, reset, or its host name isn't known"),
    ((ValueError,), "the address of the page can't be used"),
)


def reason_of(error: Exception, timeout: float) -> str:
    """Why an attempt failed, without the library's own text: that may show what it was sent."""
    if isinstance(error, BodyError):
        return f"the body {error}"
    for types, reason in _REASONS:
        if isinstance(error, types):
            return reason.format(timeout=timeout)
    return f"the connection failed: {type(error).__name__}"


class Tries:
    """How often one page has been tried, and how long to wait before the next time."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.number = 0
        self._jitter = jitter
        self._failures = 0
        self._throttles = 0
        self._last: AttemptError | None = None

    def count(self, error: Exception, timeout: float, status_code: int | None) -> AttemptError:
        """Note a failed attempt, and give the error to raise for it."""
        if not isinstance(error, AttemptError):
            error = AttemptError(reason_of(error, timeout), classify(error), status_code, None)
        self._last = error
        self._failures += error.verdict is Verdict.RETRIABLE
        self._throttles += error.verdict is Verdict.THROTTLED
        return error

    def is_over(self, _: RetryCallState) -> bool:
        return (
            self._last is None
            or self._last.verdict not in (Verdict.RETRIABLE, Verdict.THROTTLED)
            or self._failures >= MAX_ATTEMPTS
            or self._throttles > MAX_THROTTLES
            or (self._last.retry_after or 0) > MAX_RETRY_AFTER_SECONDS
        )

    def wait(self, _: RetryCallState) -> float:
        """Seconds: as long as the upstream asks, else 1, 2, 4, ... (at most 30) and up to a quarter more."""
        if self._last is not None and self._last.retry_after is not None:
            return self._last.retry_after
        doublings = max(self._failures + self._throttles - 1, 0)
        return float(min(2.0**doublings, 30.0) * (1 + self._jitter() / 4))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the upstream asks to wait; the longest of `Retry-After` and NestJS's `Retry-After-<throttler>`."""
    names = (name for name in headers if name.lower() == "retry-after" or name.lower().startswith("retry-after-"))
    waits = [wait for name in names if (wait := _read_wait(headers[name].strip(), now)) is not None]
    return max(waits, default=None)


def _read_wait(text: str, now: datetime) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max((parsedate_to_datetime(text) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone; OverflowError: one far off
        return None


_HINTS = {
    401: ("Check the token (NEST_API_TOKEN or the secret)",),
    403: ("The token may not read this: check its rights",),
    404: ("Check NEST_API_BASE_URL, and its path prefix",),
}


def message_for(status_code: int, chunks: Iterator[bytes], wait: float | None, token: str | None) -> str:
    """What an error answer says: its status, NestJS's `message`, and a hint. Never the token."""
    try:
        body = json.loads(_first_bytes(chunks))
        message = body.get("message") if isinstance(body, dict) else None
        said = "; ".join(map(str, message)) if isinstance(message, list) else str(message or "")
    except (ValueError, RecursionError, *NETWORK_ERRORS):
        said = ""
    parts = [f"the upstream answered {status_code}" + in_brackets(said, token)]
    if wait is not None and wait > MAX_RETRY_AFTER_SECONDS:
        parts.append(f"it asks to wait for {wait:.0f} s, and a run waits for {MAX_RETRY_AFTER_SECONDS:.0f} s at most")
    return ". ".join([*parts, *_HINTS.get(status_code, ())])


def in_brackets(said: str, token: str | None) -> str:
    """The upstream's own words as they stand in a message, without the token."""
    said = said.replace(token, "***") if token else said
    return f" ({said[:200]})" if said else ""


_ERROR_BYTES = 65_536


def _first_bytes(chunks: Iterator[bytes]) -> bytes:
    body = b""
    for chunk in chunks:
        body += chunk
        if len(body) > _ERROR_BYTES:
            break
    return body
