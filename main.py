"""The HTTP function: routes, parameters, and errors as problem+json. No business rule."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import flask
import functions_framework

from etl.deadline import Deadline
from etl.errors import BadRequestError, EtlError, MethodNotAllowedError, NotFoundError, as_etl_error
from etl.logs import configure_logs, log_error, log_warning, read_trace
from etl.run.ledger import ledger_of
from etl.run.metrics import CONTENT_TYPE, format_metrics
from etl.run.pipeline import RunOptions, run_etl_once
from etl.run.report import plain
from etl.settings import FALSE, TRUE, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from etl.sales.status import SalesStatus

PARAMETERS = ("dry_run", "force", "sweep")
MAX_BODY_BYTES = 65_536
BODY_HINT = 'leave it empty, or send e.g. {"dry_run": true}'
BODY_SECONDS = 5.0
RUNS_SHOWN = 20
SHOWN_DAYS = 90
LEDGER_SECONDS = 15.0
"""How long `/runs` and `/metrics` may wait for the ledger."""
REPORT_SECONDS = 10.0
"""How long `/report` may wait for both stores together."""


@functions_framework.http
def run_etl(request: flask.Request) -> flask.Response:
    """Answer one request: `POST /` or `GET /` runs the pipeline, the other routes look and change nothing."""
    configure_logs()
    try:
        response = _handler(request)(request)
    except Exception as error:  # noqa: BLE001 - the framework would answer with a page of its own
        response = _problem(as_etl_error(error))
    if "gunicorn.socket" in request.environ and _may_have_more(request, response):
        # The server would wait for the rest, in one of its few threads, for as long as the caller likes.
        _stop_reading(request.environ)
    return response


def _may_have_more(request: flask.Request, response: flask.Response) -> bool:
    """Whether there may be body that nobody has read: only `/` reads any, and not the whole of what it refuses."""
    has_body = bool(request.content_length) or "Transfer-Encoding" in request.headers
    return has_body and (request.path != "/" or 400 <= response.status_code < 500)


def _handler(request: flask.Request) -> Callable[[flask.Request], flask.Response]:
    if request.path not in ROUTES:
        raise NotFoundError(f"unknown path {request.path[:100]!r}; known paths: {', '.join(ROUTES)}")
    methods, handler = ROUTES[request.path]
    if request.method not in methods:
        raise MethodNotAllowedError(
            f"{request.path} takes {' or '.join(methods)}, and this was {request.method}", allow=", ".join(methods)
        )
    return handler


def _run(request: flask.Request) -> flask.Response:
    parameters = _parameters(request)
    settings = _settings()
    trace, span_id = read_trace(
        request.headers.get("traceparent", ""),
        request.headers.get("X-Cloud-Trace-Context", ""),
        settings.google_cloud_project,
    )
    options = RunOptions(
        dry_run=parameters.get("dry_run", False),
        force=parameters.get("force", False),
        sweep=parameters.get("sweep", False),
        trigger="scheduler" if request.headers.get("X-CloudScheduler") else "http",
        is_terminating=_is_terminating,
        trace=trace,
        span_id=span_id,
    )
    report = run_etl_once(settings, options)
    return _json(report.to_json(), 202 if report.status == "reading" else 200)


def _health(_: flask.Request) -> flask.Response:
    return _json({"status": "ok"})


def _metrics(_: flask.Request) -> flask.Response:
    settings, deadline = _settings(), Deadline(LEDGER_SECONDS)
    totals = ledger_of(settings).totals(deadline)
    return _respond(format_metrics(totals, _sales_status(settings, deadline)), 200, CONTENT_TYPE)


def _sales_status(settings: Settings, deadline: Deadline) -> SalesStatus | None:
    if settings.etl_sales_store == "none":
        return None
    from etl.sales.status import read_sales_status

    return read_sales_status(settings, deadline)


def _runs(_: flask.Request) -> flask.Response:
    runs = ledger_of(_settings()).last_runs(RUNS_SHOWN, Deadline(LEDGER_SECONDS))
    return _json({"runs": [asdict(run) for run in runs]})


def _compare(_: flask.Request) -> flask.Response:
    from etl.views.comparison import compare_stores

    settings = _settings()
    comparison = compare_stores(settings, ledger_of(settings), Deadline(settings.etl_deadline_seconds))
    return _json(comparison.to_json())


def _report(request: flask.Request) -> flask.Response:
    from etl.views.figures import RANGES, read_figures
    from etl.views.page import content_security_policy, format_page

    given = request.args.get("days", str(SHOWN_DAYS))
    if given not in map(str, RANGES):
        raise BadRequestError(f"days is {given[:50]!r}: choose one of {', '.join(map(str, RANGES))}")
    figures = read_figures(_settings(), datetime.now(UTC), int(given), Deadline(REPORT_SECONDS))
    response = _respond(format_page(figures), 200, "text/html; charset=utf-8")
    response.headers.update(
        {
            "Content-Security-Policy": content_security_policy(),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
    )
    return response


ROUTES: dict[str, tuple[tuple[str, ...], Callable[[flask.Request], flask.Response]]] = {
    "/": (("GET", "POST"), _run),
    "/health": (("GET",), _health),
    "/metrics": (("GET",), _metrics),
    "/runs": (("GET",), _runs),
    "/report": (("GET",), _report),
    "/compare": (("GET",), _compare),
}


def _settings() -> Settings:
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log_level)
    return settings


def _parameters(request: flask.Request) -> dict[str, bool]:
    """The parameters of query and body together. Raises BadRequestError for what isn't known, or is said twice."""
    given: list[tuple[str, Any]] = [(name, value) for name, values in request.args.lists() for value in values]
    given += _body(request)
    parameters: dict[str, bool] = {}
    for name, value in given:
        if name not in PARAMETERS:
            raise BadRequestError(f"unknown parameter {name[:50]!r}; known parameters: {', '.join(PARAMETERS)}")
        if name in parameters:
            raise BadRequestError(f"{name} is given more than once: give it once")
        parameters[name] = _boolean(name, value)
    return parameters


def _body(request: flask.Request) -> tuple[tuple[str, Any], ...]:
    text = _read_body(request)
    if len(text) > MAX_BODY_BYTES:
        raise BadRequestError(f"the body has more than {MAX_BODY_BYTES} bytes: leave it empty, or write parameters")
    if len(text) < min(request.content_length or 0, MAX_BODY_BYTES):
        raise BadRequestError(f"the body broke off, or took more than {BODY_SECONDS:.0f} s: send it whole")
    text = text.strip()
    if not text:
        return ()
    try:
        # Objects as their pairs, so that a parameter that is given twice is seen.
        body = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        raise BadRequestError(f"the body isn't valid JSON: {BODY_HINT}") from None
    if not isinstance(body, tuple):
        raise BadRequestError(f"the body isn't a JSON object: {BODY_HINT}")
    return body


def _read_body(request: flask.Request) -> bytes:
    """The body, or its beginning; what there is of it after 5 s."""
    if "gunicorn.socket" not in request.environ:
        return request.stream.read(MAX_BODY_BYTES + 1)
    # The server itself waits for each further byte without end.
    watch = threading.Timer(BODY_SECONDS, _stop_reading, [request.environ])
    watch.start()
    try:
        return request.stream.read(MAX_BODY_BYTES + 1)
    except Exception:  # noqa: BLE001 - the server has many errors of its own
        raise BadRequestError(
            f"the body broke off, took more than {BODY_SECONDS:.0f} s, or isn't sent as HTTP has it: send it whole"
        ) from None
    finally:
        watch.cancel()


def _stop_reading(environ: WSGIEnvironment) -> None:
    environ[_NOT_READ_ON] = True
    with suppress(OSError):  # the caller has gone
        environ["gunicorn.socket"].shutdown(socket.SHUT_RD)


_NOT_READ_ON = "veritix.not_read_on"


class _Answer(flask.Response):
    """An answer that says `Connection: close` where nothing more is read from the caller.

    The server writes that header itself, and drops the application's: its own object has to be told.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get(_NOT_READ_ON):
            with suppress(AttributeError):  # another server's, or something stands before it
                start_response.__self__.force_close()  # type: ignore[attr-defined]
        return super().__call__(environ, start_response)


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in TRUE + FALSE:
        raise BadRequestError(f"{name} is {str(value)[:50]!r}: write true or false")
    return value.lower() in TRUE


def _is_terminating() -> bool:
    """Whether SIGTERM has reached this process.

    A request runs in a thread, which can't set a signal handler; gunicorn's own handler is its worker's method, and
    the worker's `alive` tells whether it was called.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False


def _problem(error: EtlError) -> flask.Response:
    """RFC 9457: `detail` is for people, `code` for programs."""
    if error.status < 500:
        log_warning("ETL request refused", code=error.code, error=str(error))
    elif error.run_id is None:  # a run has logged its own end
        log_error("ETL request failed", code=error.code, error=str(error), **error.log_fields)
    body = {
        "type": "about:blank",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "code": error.code,
        "detail": str(error),
        **({"run_id": error.run_id} if error.run_id else {}),
        **error.details,
    }
    response = _json(body, error.status, "application/problem+json")
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = error.details["allow"]
    return response


def _json(body: Any, status: int = 200, content_type: str = "application/json") -> flask.Response:
    return _respond(json.dumps(body, default=plain) + "\n", status, content_type)


def _respond(text: str, status: int, content_type: str) -> flask.Response:
    """As a stream: of any other answer functions-framework first reads the request to its end, however long it is."""
    content = text.encode()
    headers = {"Content-Length": str(len(content))}
    return _Answer(iter((content,)), status, headers, content_type=content_type)
