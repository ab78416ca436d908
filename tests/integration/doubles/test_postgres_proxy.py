"""TLS in front of PostgreSQL: real handshakes, real refusals, and every byte comes through."""

import ssl
from datetime import timedelta
from pathlib import Path

import pg8000.dbapi
import pg8000.exceptions
import pytest

from tests.doubles.certificates import HOUR, CertificateAuthority
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.postgres_proxy import PostgresProxy, RefusedError
from tests.support.waiting import wait_until

AUTHORITY = CertificateAuthority("test CA")
STRANGER = CertificateAuthority("another CA")


def proxy(
    server: EmbeddedPostgres, hosts: tuple[str, ...] = ("127.0.0.1",), lifetime: timedelta = HOUR
) -> PostgresProxy:
    tls = AUTHORITY.server_context("db", hosts, lifetime=lifetime)
    return PostgresProxy(tls, lambda _: str(server.socket), negotiated=True)


def connect(front: PostgresProxy, context: ssl.SSLContext | bool) -> pg8000.dbapi.Connection:
    return pg8000.dbapi.connect("postgres", host=front.host, port=front.port, ssl_context=context)


def trusting(authority: CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem)


def test_a_megabyte_goes_both_ways_through_tls(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """What is sent arrives whole and in order, over TLS 1.3, with the authority's certificate read from a file."""
    text = "".join(chr(33 + n % 90) for n in range(1 << 20))
    with proxy(postgres_server) as front:
        connection = connect(front, ssl.create_default_context(cafile=AUTHORITY.write(tmp_path / "ca.pem")))
        cursor = connection.cursor()
        cursor.execute("SELECT %s", (text,))
        assert cursor.fetchone() == [text]
        connection.close()
    assert [(arrival.user, arrival.tls_version) for arrival in front.arrivals] == [("postgres", "TLSv1.3")]


@pytest.mark.parametrize(
    ("hosts", "lifetime", "authority", "reason"),
    [
        pytest.param(("127.0.0.1",), HOUR, STRANGER, "unable to get local issuer", id="another authority"),
        pytest.param(("db.example",), HOUR, AUTHORITY, "IP address mismatch", id="another host"),
        pytest.param(("127.0.0.1",), -HOUR, AUTHORITY, "certificate has expired", id="expired"),
    ],
)
def test_clients_refuse_a_wrong_certificate(
    postgres_server: EmbeddedPostgres,
    hosts: tuple[str, ...],
    lifetime: timedelta,
    authority: CertificateAuthority,
    reason: str,
) -> None:
    """A client that verifies turns away, and the proxy notes the failed handshake."""
    context = trusting(authority)
    with proxy(postgres_server, hosts, lifetime) as front:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            connect(front, context)
        wait_until(lambda: bool(front.failures))
        assert len(front.failures) == 1
    assert front.arrivals == []


def test_without_tls_a_client_is_refused(postgres_server: EmbeddedPostgres) -> None:
    """As a server with `hostssl` lines only."""
    with proxy(postgres_server) as front, pytest.raises(pg8000.exceptions.DatabaseError, match=r"28000.*no encryption"):
        connect(front, context=False)


def test_a_route_may_refuse() -> None:
    """The client gets the SQLSTATE and the message."""

    def refuse(_: object) -> str:
        raise RefusedError("53300", "too many connections already")

    tls = AUTHORITY.server_context("db", ["127.0.0.1"])
    with (
        PostgresProxy(tls, refuse, negotiated=True) as front,
        pytest.raises(pg8000.exceptions.DatabaseError, match=r"53300.*too many"),
    ):
        connect(front, trusting(AUTHORITY))


def test_dropped_connections_are_dead(postgres_server: EmbeddedPostgres) -> None:
    """A client finds out at its next word; a new connection is fine."""
    with proxy(postgres_server) as front:
        connection = connect(front, trusting(AUTHORITY))
        front.drop_connections()
        with pytest.raises((pg8000.exceptions.InterfaceError, OSError)):
            connection.cursor().execute("SELECT 1")
        connect(front, trusting(AUTHORITY)).close()
