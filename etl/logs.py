"""Structured logs: one JSON object a line on stdout, in the form that Cloud Logging parses.

Source of the field names: Cloud Logging documentation, "Structured logging", special JSON fields.
"""

from __future__ import annotations

import contextvars
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

_logger = logging.getLogger("etl")
_OWN_FIELDS = ("severity", "message", "time", "logger", "exception")


@dataclass(frozen=True)
class LogContext:
    """What every line of a run carries: its run id, and the trace that Cloud Run gave the request."""

    run_id: str | None = None
    trace: str | None = None
    span_id: str | None = None


_context: contextvars.ContextVar[LogContext] = contextvars.ContextVar("log_context", default=LogContext())  # noqa: B039 - frozen


@contextmanager
def log_context(context: LogContext) -> Iterator[None]:
    """Attach run and trace to every line logged inside; a thread inherits it through `copy_context`."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


def read_trace(traceparent: str, cloud_trace: str, project: str | None) -> tuple[str | None, str | None]:
    """(trace, span id) from the headers `traceparent` and `X-Cloud-Trace-Context`, as Cloud Logging wants them."""
    if match := re.fullmatch(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", traceparent):
        trace, span = match[1], match[2]
    elif match := re.match(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?", cloud_trace):
        trace, span = match[1], f"{int(match[2]):016x}" if match[2] else ""
    else:
        return None, None
    return (f"projects/{project}/traces/{trace}" if project else trace), span or None


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON; `extra={"fields": {...}}` stands at the top level."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "logger": record.name,
        }
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        line.update({name: value for name, value in fields.items() if name not in _OWN_FIELDS})
        context = _context.get()
        if context.run_id:
            line["logging.googleapis.com/labels"] = {"run_id": context.run_id}
        if context.trace:
            line["logging.googleapis.com/trace"] = context.trace
        if context.span_id:
            line["logging.googleapis.com/spanId"] = context.span_id
        if record.exc_info and record.exc_info[0]:
            # The type only: a library's exception text or traceback may hold an address with a password.
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, default=str)


class _LineHandler(logging.Handler):
    """Writes a line in one write to whatever stdout, or stderr, is at that moment."""

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = getattr(sys, self._stream)
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:  # noqa: BLE001 - logging's own way to report what can't be logged
            self.handleError(record)


def configure_logs(
    level: str | None = None,
    formatter: logging.Formatter | None = None,
    stream: Literal["stdout", "stderr"] = "stdout",
) -> None:
    """Make ours the only handler of the root logger: functions-framework has set up two that double each line.

    Without a level the one that was set before stays, or INFO.
    """
    handler = _LineHandler(stream)
    handler.setFormatter(formatter or JsonFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel("WARNING")
    _logger.setLevel(level or _logger.level or "INFO")


def log_info(message: str, /, **fields: Any) -> None:
    """An event that is as it should be; `fields` are JSON values, and stand at the top level of the line."""
    _logger.info(message, extra={"fields": fields})


def log_warning(message: str, /, **fields: Any) -> None:
    """An event that somebody should look at some day."""
    _logger.warning(message, extra={"fields": fields})


def log_error(message: str, /, **fields: Any) -> None:
    """An event that somebody should look at now."""
    _logger.error(message, extra={"fields": fields})
