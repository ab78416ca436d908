"""A log event is one line of JSON in the form that Cloud Logging parses, written at once, and without a secret."""

import contextvars
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from etl.logs import LogContext, configure_logs, log_context, log_error, log_info, log_warning, read_trace
from tests.support.upstream import json_logs

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUN = LogContext("run-1", f"projects/p/traces/{TRACE}", SPAN)


Lines = Callable[[], list[dict[str, Any]]]


def parse(text: str) -> dict[str, Any]:
    """One line, by the letter of the JSON standard."""
    assert text.isascii()
    found: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return found


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """The events logged since the last call, with the logs set up; afterwards they are as they were."""
    with json_logs():
        yield lambda: [parse(text) for text in capsys.readouterr().out.split("\n")[:-1]]


class Pipe:
    """What the other end of a pipe sees: each write, as it comes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def write(self, text: str) -> None:
        self.seen.append(text)

    def flush(self) -> None:
        self.seen.append("flush")


@pytest.mark.usefixtures("lines")
def test_one_write_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is written in one piece, and at once, to whatever stdout is by then: lines of threads never mix."""
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    log_info("first\nand second", text="x\n" * 1000)
    log_info("third")
    assert [text == "flush" for text in pipe.seen] == [False, True] * 2
    assert [text.count("\n") for text in pipe.seen[::2]] == [1, 1]
    assert [parse(text)["message"] for text in pipe.seen[::2]] == ["first\nand second", "third"]


def test_whole_line(lines: Lines) -> None:
    """Severity, message, time and the fields stand at the top level, with run, trace and span."""
    with log_context(RUN):
        log_info("ETL extract attempt", dataset="events", attempt=1, status_code=None, record_count=0)
    (line,) = lines()
    time = datetime.fromisoformat(line.pop("time"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert line == {
        "severity": "INFO",
        "message": "ETL extract attempt",
        "logger": "etl",
        "dataset": "events",
        "attempt": 1,
        "status_code": None,
        "record_count": 0,
        "logging.googleapis.com/labels": {"run_id": "run-1"},
        "logging.googleapis.com/trace": f"projects/p/traces/{TRACE}",
        "logging.googleapis.com/spanId": SPAN,
    }


def test_time_is_what_cloud_logging_takes(lines: Lines) -> None:
    """The time is RFC 3339 in UTC, also where a record falls on a whole second."""
    for created in (1_769_902_200.0, 1_769_902_200.25):
        record = logging.makeLogRecord(
            {"name": "etl", "levelno": 20, "levelname": "INFO", "msg": "x", "created": created}
        )
        logging.root.handle(record)
    assert [line["time"] for line in lines()] == ["2026-01-31T23:30:00Z", "2026-01-31T23:30:00.250000Z"]


CONTEXTS = [
    pytest.param(LogContext(), {}, id="none"),
    pytest.param(LogContext("r"), {"logging.googleapis.com/labels": {"run_id": "r"}}, id="run"),
    pytest.param(LogContext(trace="t"), {"logging.googleapis.com/trace": "t"}, id="trace"),
    pytest.param(
        LogContext("r", "t"),
        {"logging.googleapis.com/labels": {"run_id": "r"}, "logging.googleapis.com/trace": "t"},
        id="no span",
    ),
]


@pytest.mark.parametrize(("context", "expected"), CONTEXTS)
def test_context(context: LogContext, expected: dict[str, Any], lines: Lines) -> None:
    """Only what is known of run and trace is in a line; after the run it is gone, and the outer one is back."""
    with log_context(RUN):
        with log_context(context):
            log_info("inside")
        log_info("outside")
    log_info("after")
    found = [{k: v for k, v in line.items() if k.startswith("logging.")} for line in lines()]
    assert found[0] == expected
    assert found[1]["logging.googleapis.com/labels"] == {"run_id": "run-1"}
    assert found[2] == {}


def test_context_of_a_thread(lines: Lines) -> None:
    """A thread that is started with a copy of the context logs for the same run."""
    with log_context(RUN):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(log_info, "inside"))
    thread.start()
    thread.join()
    assert lines()[0]["logging.googleapis.com/labels"] == {"run_id": "run-1"}


VALUES = [
    pytest.param("a\nb\r\n\u2028c", "a\nb\r\n\u2028c", id="line breaks"),
    pytest.param("\x1b[31mred\x1b[0m\x07", "\x1b[31mred\x1b[0m\x07", id="terminal codes"),
    pytest.param('"}, "severity": "ERROR', '"}, "severity": "ERROR', id="quotes"),
    pytest.param("é🎫\0", "é🎫\0", id="beyond ASCII"),
    pytest.param("\ud800", "\ud800", id="lone surrogate"),
    pytest.param(12.5, 12.5, id="float"),
    pytest.param({"a": [1, None, True]}, {"a": [1, None, True]}, id="nested"),
    pytest.param(Decimal("0.10"), "0.10", id="Decimal"),
    pytest.param(datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31 00:00:00+00:00", id="datetime"),
    pytest.param(ValueError, "<class 'ValueError'>", id="any object"),
]


@pytest.mark.parametrize(("value", "logged"), VALUES)
def test_values(value: object, logged: object, lines: Lines) -> None:
    """Whatever a value holds, the event stays one line, and the value can be read back."""
    message = str(value).replace("\ud800", "")  # pytest's own capture of messages can't be sent between its processes
    log_info("event", value=value)
    log_info(message)
    first, second = lines()
    assert (first["value"], second["message"], second["severity"]) == (logged, message, "INFO")


def test_fields_do_not_replace_what_is_ours(lines: Lines) -> None:
    """A field of the name of one of our own leaves ours as it is."""
    clashing = (
        "severity",
        "message",
        "time",
        "logger",
        "logging.googleapis.com/labels",
        "logging.googleapis.com/trace",
    )
    with log_context(RUN):
        log_info("event", **dict.fromkeys(clashing, "forged"), kept="yes")
        log_error("event", exception="forged")
    found = lines()
    assert [line["message"] for line in found] == ["event", "event"]
    assert not any("forged" in line.values() for line in found)
    assert found[0]["kept"] == "yes"


LEVELS: list[tuple[Callable[..., None], str]] = [
    (log_info, "INFO"),
    (log_warning, "WARNING"),
    (log_error, "ERROR"),
]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_levels(level: str, lines: Lines) -> None:
    """Our events are logged from the level that is set on, other libraries' from WARNING on."""
    configure_logs(level)
    for log, _ in LEVELS:
        log("ours")
    other = logging.getLogger("urllib3")
    other.info("connection %s", "opened")
    other.warning("connection %s", "lost")
    number = logging.getLevelNamesMapping()
    expected = [name for _, name in LEVELS if number[name] >= number[level]]
    found = lines()
    assert [line["severity"] for line in found if line["logger"] == "etl"] == expected
    assert [line["message"] for line in found if line["logger"] == "urllib3"] == ["connection lost"]


def test_level_stays(lines: Lines) -> None:
    """Setting the logs up again without a level keeps the one that was set."""
    configure_logs("WARNING")
    configure_logs()
    log_info("not logged")
    log_warning("logged")
    assert [line["message"] for line in lines()] == ["logged"]


def test_no_line_is_doubled(lines: Lines) -> None:
    """Whatever handlers were there, and however often the logs are set up: an event is one line."""
    logging.root.addHandler(logging.StreamHandler(sys.stdout))  # as functions-framework does
    logging.root.addHandler(logging.StreamHandler(sys.stdout))
    for _ in range(3):
        configure_logs()
    log_info("once")
    logging.getLogger("flask.app").error("once")
    assert [(line["logger"], line["severity"]) for line in lines()] == [("etl", "INFO"), ("flask.app", "ERROR")]


def test_exceptions_are_told_by_their_type(lines: Lines) -> None:
    """A library that logs an exception can't put its text, or a stack trace, into our logs."""
    try:
        raise ConnectionError("postgresql://etl:s3cret@db")
    except ConnectionError:
        logging.getLogger("pg8000").exception("query failed")
        logging.getLogger("pg8000").error("again", exc_info=True, stack_info=True)
    log_error("done")
    found = lines()
    assert [line.get("exception") for line in found] == ["ConnectionError", "ConnectionError", None]
    assert not any(word in str(found) for word in ("s3cret", "Traceback", "test_logs.py"))


@pytest.mark.usefixtures("lines")
def test_another_formatter(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the same events can be plain text."""
    configure_logs("INFO", logging.Formatter("%(levelname)s %(message)s"))
    log_warning("careful", n=1)
    assert capsys.readouterr().out == "WARNING careful\n"


PARENT = f"00-{TRACE}-{SPAN}-01"
CLOUD = "105445aa7843bc8bf206b12000100000/1;o=1"
TRACES = [
    pytest.param("", "", "p", (None, None), id="none"),
    pytest.param(PARENT, "", "p", (f"projects/p/traces/{TRACE}", SPAN), id="traceparent"),
    pytest.param(PARENT, "", None, (TRACE, SPAN), id="without a project"),
    pytest.param(PARENT, CLOUD, "p", (f"projects/p/traces/{TRACE}", SPAN), id="traceparent first"),
    pytest.param("", CLOUD, "p", (f"projects/p/traces/{CLOUD[:32]}", "0000000000000001"), id="Cloud's own"),
    pytest.param("garbage", CLOUD, None, (CLOUD[:32], "0000000000000001"), id="garbage, then Cloud's own"),
    pytest.param("", CLOUD[:32], "p", (f"projects/p/traces/{CLOUD[:32]}", None), id="Cloud's own without span"),
    pytest.param("", f"{CLOUD[:32]}/18446744073709551615", None, (CLOUD[:32], "f" * 16), id="largest span"),
    pytest.param("00-xyz-01", "xyz/1", "p", (None, None), id="garbage"),
    pytest.param(f"{PARENT}\nseverity", "", "p", (None, None), id="more behind it"),
    pytest.param(PARENT.upper(), "", "p", (None, None), id="upper case"),
]


@pytest.mark.parametrize(("traceparent", "cloud_trace", "project", "expected"), TRACES)
def test_read_trace(
    traceparent: str, cloud_trace: str, project: str | None, expected: tuple[str | None, str | None]
) -> None:
    """The trace of a request is found in either header, in the form that Cloud Logging links to it."""
    assert read_trace(traceparent, cloud_trace, project) == expected
