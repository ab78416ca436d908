"""A TCP proxy in a thread of its own; what stands in the middle of a connection is up to a subclass."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Self

CLOSE_SECONDS = 1.0


class TcpProxy:
    """Listens on `host`:`port` (0: any free one). Raises OSError if that is taken. A subclass writes `serve`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = _listen(host, port)
        self.host, self.port = self._listener.getsockname()
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="tcp-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop_connections(self) -> None:
        """Cuts every connection, as an instance does that fails over or is scaled down."""
        self._do(self._cut(list(self._clients)))

    def refuse(self) -> None:
        """Nobody listens any more, and every connection is cut. A second time does nothing."""
        self._do(self._stop())

    def accept(self) -> None:
        """Listens again, on the same port."""
        self._listener = _listen(self.host, self.port)
        self._do(self._start())

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def serve(self, connection: socket.socket) -> None:
        """One client, until it leaves. Whoever is here too long is cancelled."""
        raise NotImplementedError

    async def _start(self) -> None:
        self._accepting = self._loop.create_task(self._accept())

    async def _stop(self) -> None:
        await self._cut([self._accepting])
        self._listener.close()
        await self._cut(list(self._clients))

    async def _cut(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports to tell that they are closed

    async def _accept(self) -> None:
        while True:
            connection, _ = await self._loop.sock_accept(self._listener)
            task = self._loop.create_task(self._converse(connection))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _converse(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it where it knows the protocol
        with contextlib.closing(connection), client_may_leave():
            await self.serve(connection)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port))
    listener.setblocking(False)
    return listener


async def open_streams(
    connection: socket.socket, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Reader and writer for a client that was accepted, past its TLS handshake."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def connect(target: str | int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To a unix socket's path, or a port on 127.0.0.1."""
    if isinstance(target, str):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection("127.0.0.1", target)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes, until its end."""
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()


async def either(*work: Coroutine[None, None, None]) -> None:
    """Runs all of it until one part ends, and takes its error."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


@contextlib.asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes it in good order, if the other side takes part; at once, if we are cancelled."""
    try:
        yield
        writer.close()
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), CLOSE_SECONDS)
    finally:
        writer.transport.abort()


@contextlib.contextmanager
def client_may_leave() -> Iterator[None]:
    """A client that hangs up ends the conversation, and is nothing to report."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
        yield
