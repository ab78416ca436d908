"""Every failure has a stable code and the HTTP status that goes with it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest

import etl.run.pipeline  # noqa: F401 - with it come all modules that derive errors of their own
from etl.errors import MAX_FRAMES, MAX_MESSAGE_CHARACTERS, EtlError, IncompleteExtractError, as_etl_error

# What callers and alerts rely on: a code never changes its status.
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


VALUE = "value-5d0c"


def look_up(names: Mapping[str, str] = MappingProxyType({})) -> str:
    return names[VALUE]


def divide() -> None:
    try:
        look_up()
    except KeyError as error:
        raise ZeroDivisionError(VALUE) from error


def stumble() -> None:
    try:
        look_up()
    except KeyError:
        raise ZeroDivisionError(VALUE)  # noqa: B904 - on account of the other one, not from it


def hide() -> None:
    try:
        look_up()
    except KeyError:
        raise ZeroDivisionError(VALUE) from None


def parse() -> None:
    json.loads("{" + VALUE)


def in_a_thread() -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(look_up).result()


def fall(depth: int = 0) -> None:
    fall(depth + 1)


FRAMES = [
    pytest.param(look_up, ["KeyError:", "caught", "look_up"], id="one"),
    pytest.param(divide, ["KeyError:", "divide", "look_up", "ZeroDivisionError:", "caught", "divide"], id="from one"),
    pytest.param(
        stumble, ["KeyError:", "stumble", "look_up", "ZeroDivisionError:", "caught", "stumble"], id="in handling one"
    ),
    pytest.param(hide, ["ZeroDivisionError:", "caught", "hide"], id="from none"),
    pytest.param(
        parse,
        ["JSONDecodeError:", "caught", "parse", "loads", "JSONDecoder.decode", "JSONDecoder.raw_decode"],
        id="deep",
    ),
    pytest.param(
        in_a_thread,
        ["KeyError:", "caught", "in_a_thread", "Future.result", "Future.__get_result", "_WorkItem.run", "look_up"],
        id="in a thread",
    ),
]


def caught(cause: Callable[[], object]) -> EtlError:
    try:
        cause()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return as_etl_error(error)
    pytest.fail("nothing was raised")


@pytest.mark.parametrize(("cause", "functions"), FRAMES)
def test_an_unexpected_error_tells_every_frame_and_no_value(cause: Callable[[], object], functions: list[str]) -> None:
    """As file, line and function, with what it was raised from before it; its message is short."""
    error = caught(cause)
    assert (error.code, error.status, error.details) == ("internal_error", 500, {})
    frames = error.log_fields["frames"]
    assert [frame.split(" ")[-1] for frame in frames] == functions
    places = [frame for frame in frames if not frame.endswith(":")]
    assert [
        place for place in places if not re.fullmatch(r"(tests|json|concurrent)/[a-z_/]+\.py:\d+ [\w.]+", place)
    ] == []
    assert VALUE not in str(error) + str(frames)
    assert str(error).startswith(
        f"an unexpected {[name for name in functions if name.endswith('Error:')][-1][:-1]} at "
    )


def test_an_unexpected_error_names_a_place_of_the_program() -> None:
    """Not the library's line that it came to in the end."""
    error = caught(lambda: re.compile(MAX_FRAMES))  # type: ignore[call-overload] # is what is wrong
    assert "an unknown line" in str(error)
    error = caught(lambda: EtlError(7))  # type: ignore[arg-type]
    assert re.search(r"TypeError at etl/errors\.py:\d+: ", str(error))


def test_an_endless_recursion_is_cut_in_the_middle() -> None:
    """Both ends of its frames are told, and how many stood between."""
    frames = caught(fall).log_fields["frames"]
    assert len(frames) == 1 + MAX_FRAMES + 1
    assert re.fullmatch(r"\([0-9]+ more\)", frames[1 + MAX_FRAMES // 2])
    assert {frame.split(" ")[-1] for frame in (*frames[2:50], *frames[52:])} == {"fall"}


def test_an_error_of_ours_stays_what_it_is() -> None:
    """It has no frames to tell."""
    error = IncompleteExtractError("7 of 8")
    assert as_etl_error(error) is error
    assert error.log_fields == {}
