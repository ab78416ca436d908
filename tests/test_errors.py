"""Every failure has a stable code and the HTTP status that goes with it."""

import json
from collections.abc import Iterator

import pytest

import etl.pipeline  # noqa: F401 - with it come all modules that derive errors of their own
from etl.errors import MAX_MESSAGE_CHARACTERS, EtlError, IncompleteExtractError

# DESIGN 7, and `terminated` for an instance that is taken away.
CODES = {
    "bad_request": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "already_running": 409,
    "configuration_error": 500,
    "internal_error": 500,
    "upstream_error": 502,
    "incomplete_extract": 502,
    "ambiguous_ids": 502,
    "suspicious_extract": 502,
    "too_many_rejects": 502,
    "schema_drift": 502,
    "load_failed": 503,
    "terminated": 503,
    "deadline_exceeded": 504,
}


def classes(root: type[EtlError] = EtlError) -> Iterator[type[EtlError]]:
    yield root
    for child in root.__subclasses__():
        yield from classes(child)


def test_codes() -> None:
    """The codes and statuses are the contract's, also those of errors that other modules derive."""
    assert {(error.code, error.status) for error in classes()} == set(CODES.items())


def test_details() -> None:
    """An error carries its message, JSON details beside it, and the run's id once there is one."""
    error = IncompleteExtractError("7 of 8", distinct=7, declared=None)
    assert (str(error), error.run_id) == ("7 of 8", None)
    assert json.loads(json.dumps(error.details)) == {"distinct": 7, "declared": None}
    assert EtlError("x").details == {}


WORDS = [
    pytest.param("Größe 5 € 🎟 \\", "Größe 5 € 🎟 \\", id="printable"),
    pytest.param("a\r\nb\u2028c", "a\\r\\nb\\u2028c", id="line breaks"),
    pytest.param("\x1b[2J\x9b1m\x07", "\\x1b[2J\\x9b1m\\x07", id="terminal codes"),
    pytest.param("a\0b", "a\\x00b", id="NUL"),
    pytest.param("a\ud800b", "a\\ud800b", id="lone surrogate"),
    pytest.param("a\u202eb\u200bc", "a\\u202eb\\u200bc", id="right to left, and nothing to see"),
    pytest.param("x" * 1_000_000, "x" * MAX_MESSAGE_CHARACTERS, id="a megabyte"),
]


@pytest.mark.parametrize(("words", "shown"), WORDS)
def test_a_message_is_one_printable_line(words: str, shown: str) -> None:
    """Whatever an upstream or a store has said, the message can be shown on a terminal and kept in the ledger."""
    assert str(EtlError(words)) == shown
