"""The HTTP/1.1 server under every stand-in: it answers what it should, and breaks off where it should."""

import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


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
    """A `body` in pieces goes out as they come, and the connection ends after the last one.

    Such pieces, and a Content-Length among their headers, are sent as they are: they may lie. A body in one piece is
    sent with its length. An empty header isn't sent.
    """

    status: int
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sending:
    """How an answer's bytes go out. `stop_after` body bytes, `ending` follows; None: the whole body goes out."""

    stop_after: int | None = None
    ending: str = ""
    """What follows instead of the rest: `close` (FIN), `reset` (RST) or `hang` (nothing, until the server closes)."""
    with_head: bool = True
    chunked: bool = False
    piece_bytes: int = 0
    """Size of the pieces in which the body goes out, `pause_seconds` after each; 0: all at once."""
    pause_seconds: float = 0.0
    wait_seconds: float = 0.0
    """Wait before the first byte."""


def nothing(ending: str) -> Sending:
    """Not even a head."""
    return Sending(0, ending, with_head=False)


@dataclass(frozen=True)
class Reply:
    """An answer, how it is sent, and whom to tell where the client left before all of it was sent."""

    answer: Answer
    sending: Sending = Sending()
    lost: Callable[[], None] = lambda: None


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    head = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Answer(status, json.dumps(content, separators=(",", ":")).encode(), head)


class HttpServer(ThreadingHTTPServer):
    """Serves `respond` on a loopback address until `stop`, over TLS if it is given a context for that.

    It closes a connection that was idle for `idle_seconds` (None: never). What goes wrong in it is kept in `errors`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        respond: Callable[[Request], Reply],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        super().__init__((host, port), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.respond = respond
        self.idle_seconds = idle_seconds
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self._scheme = "http" if tls is None else "https"
        self._connections: set[socket.socket] = set()
        self._reset: set[socket.socket] = set()
        self._workers: set[threading.Thread] = set()
        self._loop = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{self._scheme}://{self.server_address[0]!s}:{self.server_port}"

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Ends every connection and thread, also those that hang. A second time does nothing."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        if self._loop.is_alive():
            self.shutdown()
            self._loop.join()
        for connection in list(self._connections):
            _shut(connection)
        for worker in list(self._workers):
            worker.join(timeout=5)
        self.server_close()

    def reset(self, connection: socket.socket) -> None:
        """Makes the connection end with RST instead of FIN."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._reset.add(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        worker = threading.current_thread()
        self._workers.add(worker)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self._workers.discard(worker)

    def shutdown_request(self, request: Any) -> None:
        if request in self._reset:
            self._reset.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):  # a client that has gone is no error
            self.errors.append(error)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # its own thread was quicker


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def handle_one_request(self) -> None:
        self.connection.settimeout(self.server.idle_seconds)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.connection.settimeout(None)  # only a wait for a request is bounded, not a slow reader
        return super().parse_request()

    def do_GET(self) -> None:
        request = self._request()
        if request is None:
            self.close_connection = True
            return
        reply = self.server.respond(request)
        sending = reply.sending
        self.server.stopping.wait(sending.wait_seconds)
        if sending.with_head:
            try:
                self._send(reply.answer, sending)
            except ConnectionError:
                reply.lost()
                raise
        if sending.stop_after is not None:
            self._break_off(sending.ending)

    def _request(self) -> Request | None:
        """None: its sender has gone, maybe in the midst of the headers."""
        has_body = self.command not in ("GET", "DELETE")
        length = int(self.headers.get("Content-Length", int(has_body)))
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, self.path, headers, body) if len(body) == length else None

    def _send(self, answer: Answer, sending: Sending) -> None:
        self.send_response_only(answer.status)
        given = {name.lower() for name in answer.headers}
        own = {"Server": self.version_string(), "Date": self.date_time_string()}
        for name, value in own.items():
            if name.lower() not in given:
                self.send_header(name, value)
        for name, value in answer.headers.items():
            if value:
                self.send_header(name, value)
        if sending.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif isinstance(answer.body, bytes):
            self.send_header("Content-Length", str(len(answer.body)))
        else:
            self.close_connection = True
        self.end_headers()
        for piece in _pieces(answer.body, sending):
            self.wfile.write(piece)
            self.server.stopping.wait(sending.pause_seconds)
        if sending.chunked and sending.stop_after is None:
            self.wfile.write(b"0\r\n\r\n")

    def _break_off(self, ending: str) -> None:
        self.close_connection = True
        if ending == "hang":
            self.server.stopping.wait()
        elif ending == "reset":
            self.server.reset(self.connection)

    def version_string(self) -> str:
        return "stand-in"

    def log_message(self, *_: Any) -> None:
        """Quiet: a stand-in keeps its own log of what it was asked."""


for _method in ("POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)


def _pieces(body: bytes | Iterable[bytes], sending: Sending) -> Iterator[bytes]:
    if not isinstance(body, bytes):
        yield from body
        return
    body = body[: sending.stop_after]
    size = sending.piece_bytes or len(body) or 1
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if sending.chunked else piece
