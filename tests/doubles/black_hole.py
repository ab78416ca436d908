"""A TCP port that accepts everybody and says nothing, at once or from some moment on."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class BlackHole:
    """Listens on a loopback port. Use as a context manager.

    Without a `target` (a port) it swallows what comes, after it has said `head` to each client. With one it passes on
    all bytes, both ways, until `is_open` is cleared or a client sends `silent_at`; from then on it swallows them.
    """

    def __init__(
        self,
        target: int | None = None,
        *,
        head: bytes = b"",
        silent_at: bytes | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self._target = target
        self._head = head
        self._silent_at = silent_at
        self._listener = socket.create_server(address, backlog=64)
        self._sockets: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                client.sendall(self._head)
                if self._target is not None and self.is_open.is_set():
                    self._join(client, socket.create_connection(("127.0.0.1", self._target)))

    def _join(self, client: socket.socket, behind: socket.socket) -> None:
        self._sockets.append(behind)
        for ends in ((client, behind, self._silent_at), (behind, client, None)):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, silent_at: bytes | None) -> None:
        with suppress(OSError):  # one of them has gone
            while piece := source.recv(65_536):
                if silent_at is not None and silent_at in piece:
                    self.is_open.clear()
                if self.is_open.is_set():
                    sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
