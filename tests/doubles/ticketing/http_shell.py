"""The HTTP side of the sample ticketing API: a threading HTTP/1.1 server that can also break off as asked."""

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.doubles.ticketing.faults import Answer, Sending

IDLE_SECONDS = 5.0
"""Node closes a connection that was idle for this long."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Reply:
    """An answer, how it is sent, and whom to tell where the client left before all of it was sent."""

    answer: Answer
    sending: Sending
    lost: Callable[[], None]


Respond = Callable[[str, str, Mapping[str, str]], Reply]
"""(method, target, headers with lower-case names) -> what to answer."""


class HttpServer(ThreadingHTTPServer):
    """Serves `respond` on a loopback port until `stop`, over TLS if it is given a context for that.

    What goes wrong in it is kept in `errors`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, respond: Respond, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.respond = respond
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self._connections: set[socket.socket] = set()
        self._reset: set[socket.socket] = set()
        self._workers: set[threading.Thread] = set()
        self._loop = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

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
        if error is not None and not isinstance(error, ConnectionError):
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
        self.connection.settimeout(IDLE_SECONDS)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.connection.settimeout(None)  # only a wait for a request is bounded, not a slow reader
        return super().parse_request()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.respond(self.command, self.path, headers)
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
        if self.command != "GET":
            self.close_connection = True  # what the client sent as a body stands unread

    def _send(self, answer: Answer, sending: Sending) -> None:
        self.send_response_only(answer.status)
        self.send_header("Server", self.version_string())
        for name, value in {"Date": self.date_time_string(), **answer.headers}.items():
            if value:
                self.send_header(name, value)
        if sending.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        for piece in _pieces(answer.body[: sending.stop_after], sending):
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
        return "sample"

    def log_message(self, *_: Any) -> None:
        """Quiet: the API keeps its own log of what it was asked."""


for _method in ("POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)


def _pieces(body: bytes, sending: Sending) -> Iterator[bytes]:
    size = sending.piece_bytes or len(body) or 1
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if sending.chunked else piece
