"""TLS in front of the embedded PostgreSQL, which is built without: for `sslmode`, and for Cloud SQL's port 3307."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cryptography import x509

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102

CLOSE_SECONDS = 1.0

_HEAD = struct.Struct("!II")


@dataclass(frozen=True)
class Arrival:
    """A client past its TLS handshake. `certificate` is the one it showed; `user` is "" in a cancel request."""

    certificate: x509.Certificate | None
    tls_version: str
    user: str
    database: str


class RefusedError(Exception):
    """Raised by a `Route` to turn a client away with this SQLSTATE and message."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


Route = Callable[[Arrival], str | int]
"""Where a client is passed on to: a unix socket's path, or a port on 127.0.0.1."""


class PostgresProxy:
    """Listens on `host`:`port` (0: any free one). Raises OSError if that is taken.

    `negotiated`: the client asks for TLS first, as PostgreSQL's protocol has it, and is refused if it doesn't.
    Otherwise a connection begins with the TLS handshake, as Cloud SQL's do.
    `arrivals` are the clients that got through the handshake, `failures` the handshakes that came to nothing.
    """

    def __init__(
        self, tls: ssl.SSLContext, route: Route, *, negotiated: bool, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.arrivals: list[Arrival] = []
        self.failures: list[str] = []
        self._tls = tls
        self._route = route
        self._negotiated = negotiated
        self._listener = _listen(host, port)
        self.host, self.port = self._listener.getsockname()
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="postgres-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._accepting = asyncio.run_coroutine_threadsafe(self._accept(), self._loop)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._accepting.cancel()
        self.drop_connections()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def drop_connections(self) -> None:
        """Cuts every connection, as an instance does that fails over or is scaled down."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(timeout=10)

    async def _cut(self) -> None:
        cut = list(self._clients)
        for client in cut:
            client.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports to tell that they are closed

    async def _accept(self) -> None:
        while True:
            connection, _ = await self._loop.sock_accept(self._listener)
            self._keep(self._serve(connection))

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.closing(connection), _client_may_leave():
            if self._negotiated and not await self._agree_on_tls(connection):
                return
            reader = asyncio.StreamReader(loop=self._loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
            try:
                transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls)
            except (ssl.SSLError, ConnectionError) as error:
                self.failures.append(str(error))
                return
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            async with _closing(writer):
                await self._converse(reader, writer)

    async def _agree_on_tls(self, connection: socket.socket) -> bool:
        size, code = _HEAD.unpack(await self._receive(connection, _HEAD.size))
        await self._receive(connection, size - _HEAD.size)  # left unread, it would reset the connection
        agreed = bool(code == SSL_REQUEST)
        refusal = RefusedError("28000", "no pg_hba.conf entry for this host, no encryption")
        await self._loop.sock_sendall(connection, b"S" if agreed else _error(refusal))
        return agreed

    async def _receive(self, connection: socket.socket, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = await self._loop.sock_recv(connection, size - len(received))
            if not piece:
                raise ConnectionResetError
            received += piece
        return received

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, code = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        while code in (SSL_REQUEST, GSS_REQUEST):  # asked for encryption inside of the encryption
            writer.write(b"N")
            size, code = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        rest = await reader.readexactly(size - _HEAD.size)
        arrival = _arrival(writer, {} if code == CANCEL_REQUEST else _parameters(rest))
        self.arrivals.append(arrival)
        try:
            target = self._route(arrival)
        except RefusedError as refusal:
            writer.write(_error(refusal))
            await writer.drain()
            return
        up_reader, up_writer = await _connect(target)
        async with _closing(up_writer):
            up_writer.write(_HEAD.pack(size, code) + rest)
            await _either(_pump(reader, up_writer), _pump(up_reader, writer))


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port))
    listener.setblocking(False)
    return listener


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes it in good order, if the other side takes part; at once, if we are cancelled."""
    try:
        yield
        writer.close()
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), CLOSE_SECONDS)
    finally:
        writer.transport.abort()


@contextlib.contextmanager
def _client_may_leave() -> Iterator[None]:
    """A client that hangs up ends the conversation, and is nothing to report."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
        yield


def _arrival(writer: asyncio.StreamWriter, parameters: dict[str, str]) -> Arrival:
    tls = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    certificate = None if der is None else x509.load_der_x509_certificate(der)
    user = parameters.get("user", "")
    return Arrival(certificate, str(tls.version()), user, parameters.get("database", user))


def _parameters(packet: bytes) -> dict[str, str]:
    words = packet.rstrip(b"\0").decode().split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def _error(refusal: RefusedError) -> bytes:
    fields = f"SFATAL\0VFATAL\0C{refusal.sqlstate}\0M{refusal}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


async def _connect(target: str | int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, str):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection("127.0.0.1", target)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()


async def _either(*work: Coroutine[None, None, None]) -> None:
    """Runs all of it until one part ends, and takes its error."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
