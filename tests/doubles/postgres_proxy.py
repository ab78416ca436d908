"""TLS in front of the embedded PostgreSQL, which is built without: for `sslmode`, and for Cloud SQL's port 3307."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from tests.doubles.tcp_proxy import TcpProxy, closing, connect, either, open_streams, pump

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102

HEAD = struct.Struct("!II")


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


class PostgresProxy(TcpProxy):
    """A `TcpProxy` with TLS.

    `negotiated`: the client asks for TLS first, as PostgreSQL's protocol has it, and is refused if it doesn't.
    Otherwise a connection begins with the TLS handshake, as Cloud SQL's do.
    `arrivals` are the clients that got through the handshake, `failures` the handshakes that came to nothing.
    """

    def __init__(
        self, tls: ssl.SSLContext, route: Route, *, negotiated: bool, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__(host, port)
        self.arrivals: list[Arrival] = []
        self.failures: list[str] = []
        self._tls = tls
        self._route = route
        self._negotiated = negotiated

    async def serve(self, connection: socket.socket) -> None:
        if self._negotiated and not await self._agree_on_tls(connection):
            return
        try:
            reader, writer = await open_streams(connection, self._tls)
        except (ssl.SSLError, ConnectionError) as error:
            self.failures.append(str(error))
            return
        async with closing(writer):
            await self._pass_on(reader, writer)

    async def _agree_on_tls(self, connection: socket.socket) -> bool:
        size, code = HEAD.unpack(await self._receive(connection, HEAD.size))
        await self._receive(connection, size - HEAD.size)  # left unread, it would reset the connection
        agreed = bool(code == SSL_REQUEST)
        refusal = RefusedError("28000", "no pg_hba.conf entry for this host, no encryption")
        await self._loop.sock_sendall(connection, b"S" if agreed else error_message(refusal))
        return agreed

    async def _receive(self, connection: socket.socket, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = await self._loop.sock_recv(connection, size - len(received))
            if not piece:
                raise ConnectionResetError
            received += piece
        return received

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code, packet = await read_startup(reader, writer)
        arrival = _arrival(writer, {} if code == CANCEL_REQUEST else _parameters(packet[HEAD.size :]))
        self.arrivals.append(arrival)
        try:
            target = self._route(arrival)
        except RefusedError as refusal:
            writer.write(error_message(refusal))
            await writer.drain()
            return
        up_reader, up_writer = await connect(target)
        async with closing(up_writer):
            up_writer.write(packet)
            await either(pump(reader, up_writer), pump(up_reader, writer))


async def read_startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
    """The first packet, and the code in it. It says no to whoever asks for encryption inside of the encryption."""
    while True:
        head = await reader.readexactly(HEAD.size)
        size, code = HEAD.unpack(head)
        if code not in (SSL_REQUEST, GSS_REQUEST):
            return code, head + await reader.readexactly(size - HEAD.size)
        writer.write(b"N")


def _arrival(writer: asyncio.StreamWriter, parameters: dict[str, str]) -> Arrival:
    tls = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    certificate = None if der is None else x509.load_der_x509_certificate(der)
    user = parameters.get("user", "")
    return Arrival(certificate, str(tls.version()), user, parameters.get("database", user))


def _parameters(packet: bytes) -> dict[str, str]:
    words = packet.rstrip(b"\0").decode().split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def error_message(refusal: RefusedError, severity: str = "FATAL") -> bytes:
    """As PostgreSQL writes it."""
    fields = f"S{severity}\0V{severity}\0C{refusal.sqlstate}\0M{refusal}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields
