"""A small HTTP server on a loopback port, with a log and faults: what the stand-ins for Google's APIs share."""

import json
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """`target` is the path with its query; `headers` have lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """`body` in pieces goes out as they come, and the connection ends after the last one.

    Pieces, and headers with a Content-Length, are sent as they are: they may lie.
    """

    status: int
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(content: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json; charset=UTF-8"})


CANONICAL = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def google_error(status: int, message: str, code: str | None = None) -> Answer:
    """An error as Google's APIs write it. `code` is the canonical one; None: the usual one of that status."""
    code = code or CANONICAL.get(status, "UNKNOWN")
    return json_answer({"error": {"code": status, "status": code, "message": message}}, status)


HANG, LOSE_ANSWER = "hang", "lose the answer"


@dataclass(frozen=True)
class Fault:
    """`kind`: an HTTP status to answer with, HANG, or LOSE_ANSWER (the work is done, the connection breaks)."""

    kind: int | str
    path: str

    def matches(self, request: Request) -> bool:
        return self.path in request.target


class HttpStandIn:
    """Answers by `respond`, which a subclass writes. Use as a context manager.

    `log` holds the requests in their order of arrival, unless `keeps_log` is False. What goes wrong in the stand-in
    itself is raised at the end.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.log: list[Request] = []
        self.keeps_log = True
        self.errors: list[BaseException] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if kind is None and self.errors:
            raise self.errors[0]

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def fail(self, kind: int | str, times: int = 1, path: str = "") -> None:
        """The next `times` requests whose target contains `path` meet this `Fault`."""
        self._faults.extend([Fault(kind, path)] * times)

    def recover(self) -> None:
        """No further request meets a fault."""
        with self._lock:
            self._faults.clear()

    def respond(self, request: Request) -> Answer:
        raise NotImplementedError

    def handle(self, request: Request) -> Answer | None:
        """None: no answer is sent, and the connection ends."""
        with self._lock:
            if self.keeps_log:
                self.log.append(request)
            fault = next((fault for fault in self._faults if fault.matches(request)), None)
            if fault is not None:
                self._faults.remove(fault)
        if fault is None:
            return self.respond(request)
        if fault.kind == HANG:
            self._closing.wait()
            return None
        if fault.kind == LOSE_ANSWER:
            self.respond(request)
            return None
        return google_error(int(fault.kind), f"made to fail with {fault.kind}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], stand_in: HttpStandIn) -> None:
        super().__init__(address, _Handler)
        self.stand_in = stand_in

    def handle_error(self, *_: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):  # a client that has gone is no error
            self.stand_in.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0 if self.command in ("GET", "DELETE") else 1))
        body = self.rfile.read(length)
        if len(body) < length:  # its sender has gone, maybe in the midst of the headers
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.stand_in.handle(Request(self.command, self.path, headers, body))
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        pieces = answer.body
        if isinstance(pieces, bytes):
            self.send_header("Content-Length", str(len(pieces)))
            pieces = [pieces]
        else:
            self.close_connection = True
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Quiet: the stand-in keeps its own log."""


for _method in ("POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)
