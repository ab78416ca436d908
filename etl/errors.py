"""The ways a run can fail, grouped by what the caller should do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Any, ClassVar

MAX_MESSAGE_CHARACTERS = 4000
MAX_FRAMES = 100
"""Of one exception, in the log: half of them from either end."""


class EtlError(Exception):
    """A failure with a stable `code` and the HTTP `status` that goes with it.

    The message is for people, and may be logged and answered: whoever raises it keeps secrets out. Other people's words
    in it may hold anything, so it is made one line of printable characters; a terminal obeys none of them and
    PostgreSQL can store each.
    `remedy` says what to do about it, for people, with code in backticks.
    `details` are JSON values that stand beside the message in the answer, `log_fields` those that stand beside it in
    the log alone; `run_id` is the run's, once there is one.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    remedy: ClassVar[str] = "report it, with the `frames` of its log line"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(_printable(message)[:MAX_MESSAGE_CHARACTERS])
        self.details = details
        self.log_fields: dict[str, Any] = {}
        self.run_id: str | None = None


class BadRequestError(EtlError):
    """The caller's parameters can't be understood: correct the call."""

    code = "bad_request"
    remedy = "correct the parameter that it names"
    status = 400


class NotFoundError(EtlError):
    """There is no such path: correct the call."""

    code = "not_found"
    remedy = "use a path, or an id, that there is: it names them"
    status = 404


class MethodNotAllowedError(EtlError):
    """The path exists, the method doesn't: correct the call. `details["allow"]` lists the methods."""

    code = "method_not_allowed"
    remedy = "use a method that `Allow` names"
    status = 405


class AlreadyRunningError(EtlError):
    """Another run holds the lease: wait for it."""

    code = "already_running"
    remedy = "wait for the other run"
    status = 409


class ConfigurationError(EtlError):
    """A setting is missing or wrong: correct it and deploy again. `details["problems"]` lists them all."""

    code = "configuration_error"
    remedy = "correct the settings that it lists and deploy again, or change the tables as it says"


class UpstreamError(EtlError):
    """The upstream API can't be reached, refuses, or answers what isn't understood."""

    code = "upstream_error"
    remedy = "look at the upstream: the error names the page and the reason"
    status = 502


class IncompleteExtractError(EtlError):
    """The upstream's pages don't add up to what it declares."""

    code = "incomplete_extract"
    remedy = (
        "the pages aren't understood, or don't add up: it says which keys or numbers, and what to do; once: `force`"
    )
    status = 502


class AmbiguousIdsError(EtlError):
    """Different records on one page share an id: counting each id once would lose some."""

    code = "ambiguous_ids"
    remedy = "two different sales on one page share an id: let the upstream send a unique one; once: `force`"
    status = 502


class SuspiciousExtractError(EtlError):
    """What was read is far less than what the store has: look at the upstream, or force."""

    code = "suspicious_extract"
    remedy = "far fewer tickets, or far less revenue, than a store has: look at the upstream; if it is right: `force`"
    status = 502


class TooManyRejectsError(EtlError):
    """More records than allowed can't be used."""

    code = "too_many_rejects"
    remedy = "read the reasons and keys that it names, and `etl_rejected_records`"
    status = 502


class SchemaDriftError(EtlError):
    """A field that the last successful run found is found in no record now."""

    code = "schema_drift"
    remedy = "the upstream renamed a key: the error names the old one and those seen now; if it is right: `force`"
    status = 502


class StoreUnavailableError(EtlError):
    """A store, or the run ledger in it, can't be reached or refuses."""

    code = "load_failed"
    remedy = "a store failed: the error says which one and why. The next run repairs it"
    status = 503


class LoadFailedError(StoreUnavailableError):
    """At least one store couldn't be loaded; the report says which holds what."""


class TerminatedError(EtlError):
    """The platform ended this instance in mid-run: the next run does it again."""

    code = "terminated"
    remedy = "the platform ended the instance; the stores may have the new data. The next run does it again"
    status = 503


class DeadlineExceededError(EtlError):
    """The run's time is up."""

    code = "deadline_exceeded"
    remedy = "find out what became slow, or raise `ETL_DEADLINE_SECONDS` and the function's time-out"
    status = 504


def remedies() -> dict[str, str]:
    """What to do about each code."""
    kinds = [EtlError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind.code: kind.remedy for kind in reversed(kinds)}


def as_etl_error(error: Exception) -> EtlError:
    """The error itself, if it is one of ours; else one that says where the program is at fault.

    An unexpected error's text may hold anything, and so may its variables: its type and its frames are told.
    """
    if isinstance(error, EtlError):
        return error
    frames = [line for each in _chain(error) for line in (f"{type(each).__name__}:", *_frames(each))]
    lines = [frame.partition(" ")[0] for frame in frames if frame.startswith(("etl/", "main.py:"))]
    ours = EtlError(
        f"an unexpected {type(error).__name__} at {lines[-1] if lines else 'an unknown line'}: this is a fault of the "
        "program, please report it with the `frames` of its log line"
    )
    ours.log_fields["frames"] = frames
    return ours


def _chain(error: BaseException) -> list[BaseException]:
    """The error, and before it what it was raised from or on account of; the first one first."""
    chain = [error]
    while True:
        last = chain[-1]
        cause = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if cause is None or cause in chain:
            return chain[::-1]
        chain.append(cause)


_ROOT = f"{Path(__file__).parents[1]}/"
_LIBRARIES = re.compile(r"^.*/(?:site-packages|python3[.0-9]*)/")


def _frames(error: BaseException) -> Iterator[str]:
    """`file:line function` of each frame, from the outermost to the one that raised."""
    frames = list(walk_tb(error.__traceback__))
    half = MAX_FRAMES // 2
    for number, (frame, line) in enumerate(frames):
        if half <= number < len(frames) - half:  # an endless recursion has a thousand
            if number == half:
                yield f"({len(frames) - MAX_FRAMES} more)"
            continue
        file = _LIBRARIES.sub("", frame.f_code.co_filename.removeprefix(_ROOT))
        yield f"{file}:{line} {frame.f_code.co_qualname}"


def _printable(text: str) -> str:
    """Line breaks, terminal codes, NUL, lone surrogates and marks that turn the reading direction, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
