"""Every way to PostgreSQL that DATABASE_URL can name, bounded transactions, and errors for people."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa
from pg8000.exceptions import Error as DriverError

from etl.database_url import parse_database_url
from etl.deadline import Deadline
from etl.errors import ConfigurationError, DeadlineExceededError, StoreUnavailableError, TerminatedError
from etl.load.postgres.database import engine_for, message_for, sqlstate_of, transaction
from etl.settings import Settings
from tests.doubles.certificates import CertificateAuthority
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.postgres_proxy import PostgresProxy
from tests.doubles.processes import free_port
from tests.support.summaries import engine_of
from tests.support.waiting import takes_at_most

PASSWORD = "s3cret@/:%?#[] ü"
USER = "tcp user"


@dataclass(frozen=True)
class Login:
    """A role with a password, and a database that it may connect to."""

    user: str
    database: str
    server: EmbeddedPostgres

    def url(self, scheme: str = "postgresql", host: str = "127.0.0.1", port: int = 0, **parameters: str) -> str:
        login = f"{quote(self.user, safe='')}:{quote(PASSWORD, safe='')}"
        address = f"{host}:{port or self.server.port}"
        return f"{scheme}://{login}@{address}/{self.database}?{urlencode(parameters)}"


@pytest.fixture(scope="module")
def login(postgres_server: EmbeddedPostgres) -> Iterator[Login]:
    postgres_server.create_role(USER, PASSWORD)
    database = postgres_server.create_database()
    yield Login(USER, database, postgres_server)
    postgres_server.drop_database(database)


def who(url: str, seconds: float = 30) -> tuple[str, ...]:
    """Connects, and tells as whom, where to and under which name."""
    engine = engine_of(url)
    try:
        with transaction(engine, Deadline(seconds)) as connection:
            asked = "SELECT current_user, current_database(), current_setting('application_name')"
            return tuple(connection.exec_driver_sql(asked).one())
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "way",
    ["unix_sock", "host is a directory", "postgresql", "postgres", "postgresql+pg8000", "parameters", "localhost"],
)
def test_every_way_to_the_database(login: Login, way: str) -> None:
    """The user, the database and the application name are those of the URL; passwords are percent-encoded."""
    server = login.server
    socket_login = f"postgresql://{quote(login.user)}@"
    everything = {"user": login.user, "password": PASSWORD, "dbname": login.database, "host": "127.0.0.1"}
    urls = {
        "unix_sock": f"{socket_login}/{login.database}?unix_sock={server.socket}",
        "host is a directory": f"{socket_login}:{server.port}/{login.database}?host={server.directory}",
        "postgresql": login.url(application_name="by hand"),
        "postgres": login.url("postgres", sslmode="disable"),
        "postgresql+pg8000": login.url("postgresql+pg8000", connect_timeout="5"),
        "parameters": f"postgresql://?{urlencode(everything | {'port': str(server.port)})}",
        "localhost": login.url(host="localhost", sslmode="prefer"),
    }
    name = "by hand" if way == "postgresql" else "veritix-etl"
    assert who(urls[way]) == (login.user, login.database, name)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[CertificateAuthority, Path]]:
    """Two authorities, with the files for `sslrootcert`; the server's certificate is of the right one."""
    directory = tmp_path_factory.mktemp("authorities")
    made = {name: CertificateAuthority(name) for name in ("right", "wrong")}
    return {name: (authority, authority.write(directory / f"{name}.pem")) for name, authority in made.items()}


@pytest.fixture
def tls_proxy(login: Login, authorities: dict[str, tuple[CertificateAuthority, Path]]) -> Iterator[PostgresProxy]:
    """The server behind TLS, on 127.0.0.1 with a certificate for `localhost` only."""
    tls = authorities["right"][0].server_context("db", ["localhost"])
    with PostgresProxy(tls, lambda _: login.server.port, negotiated=True) as proxy:
        yield proxy


TLS_CASES = [
    ("disable", None, "localhost", "28000"),
    ("allow", None, "localhost", None),
    ("prefer", None, "127.0.0.1", None),
    ("require", None, "127.0.0.1", None),
    ("require", "right", "127.0.0.1", None),
    ("require", "wrong", "localhost", "ertificate"),
    ("verify-ca", "right", "127.0.0.1", None),
    ("verify-ca", "wrong", "localhost", "ertificate"),
    ("verify-ca", None, "localhost", "ertificate"),
    ("verify-full", "right", "localhost", None),
    ("verify-full", "right", "127.0.0.1", "ertificate"),
    ("verify-full", "wrong", "localhost", "ertificate"),
]


@pytest.mark.parametrize(
    ("sslmode", "root", "host", "refusal"),
    [pytest.param(*case, id=" ".join(map(str, case[:3]))) for case in TLS_CASES],
)
def test_sslmode_means_what_it_means_to_libpq(
    login: Login,
    tls_proxy: PostgresProxy,
    authorities: dict[str, tuple[CertificateAuthority, Path]],
    sslmode: str,
    root: str | None,
    host: str,
    refusal: str | None,
) -> None:
    """Encrypted where it says so, and refused where the certificate isn't what it asks for."""
    parameters = {"sslmode": sslmode} | ({"sslrootcert": str(authorities[root][1])} if root else {})
    url = login.url(host=host, port=tls_proxy.port, **parameters)
    if refusal is None:
        assert who(url)[0] == login.user
        assert {(arrival.user, arrival.tls_version) for arrival in tls_proxy.arrivals} == {(login.user, "TLSv1.3")}
    else:
        with pytest.raises(StoreUnavailableError, match=refusal) as caught:
            who(url)
        assert PASSWORD not in str(caught.value)
        assert tls_proxy.arrivals == []


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
def test_a_server_without_tls_is_refused_where_tls_is_asked_for(login: Login, sslmode: str) -> None:
    """The password isn't sent in clear, and the message says why not."""
    with pytest.raises(StoreUnavailableError, match=r"sslmode|SSL|TLS"):
        who(login.url(host="localhost", sslmode=sslmode))


def test_a_root_certificate_that_is_not_there_is_a_configuration_error(login: Login) -> None:
    """It names the file."""
    with pytest.raises(ConfigurationError, match=r"sslrootcert=/nowhere/ca\.pem"):
        engine_of(login.url(sslmode="verify-ca", sslrootcert="/nowhere/ca.pem"))


def test_what_cannot_be_reached_says_so_soon(login: Login) -> None:
    """Wrong password, database, port or socket, and an address that swallows everything: each has its message."""
    server = login.server
    with closing(socket.create_server(("127.0.0.1", 0))) as black_hole:
        cases = {
            login.url().replace(quote(PASSWORD, safe=""), "wrong"): ["28P01", "check user and password"],
            login.url().replace(f"/{login.database}?", "/missing?"): ["3D000", '"missing"', "no such database"],
            login.url(port=free_port()): ["can't be reached", "DATABASE_URL"],
            f"postgresql://u@/d?unix_sock={server.directory}/.s.PGSQL.1": ["can't be reached", "DATABASE_URL"],
            login.url(port=black_hole.getsockname()[1], connect_timeout="1"): ["can't be reached", "DATABASE_URL"],
        }
        for url, words in cases.items():
            with takes_at_most(1), pytest.raises(StoreUnavailableError) as caught:
                who(url)
            assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
            assert PASSWORD not in str(caught.value)


def test_connecting_takes_no_longer_than_the_run_has_left() -> None:
    """However long `connect_timeout` is, the deadline is the nearer one."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as black_hole,
        takes_at_most(1),
        pytest.raises((StoreUnavailableError, DeadlineExceededError)),
    ):
        who(f"postgresql://u:p@127.0.0.1:{black_hole.getsockname()[1]}/d?connect_timeout=60", seconds=1)


def test_one_engine_per_settings(login: Login) -> None:
    """Made without connecting, and the same one for the same settings."""
    dead = Settings("http://upstream", database_url=parse_database_url(login.url(port=free_port())))
    assert engine_for(dead) is engine_for(replace(dead, log_level="DEBUG"))
    assert engine_for(dead) is not engine_for(replace(dead, database_url=parse_database_url(login.url())))


def test_dead_connections_are_replaced(
    login: Login, tls_proxy: PostgresProxy, postgres_server: EmbeddedPostgres
) -> None:
    """After the server has restarted, or the way to it was cut, the next transaction connects anew."""
    engine = engine_of(login.url(host="localhost", port=tls_proxy.port, sslmode="require"))
    backends = []
    restart = partial(postgres_server.restart, "fast")
    for interruption in (tls_proxy.drop_connections, restart, tls_proxy.drop_connections):
        interruption()
        with transaction(engine, Deadline(30)) as connection:
            backends.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    assert len(set(backends)) == len(tls_proxy.arrivals) == 3
    engine.dispose()


def test_a_refusal_is_told_also_where_a_dead_connection_is_replaced(login: Login) -> None:
    """Whoever loses the right to connect while its pool is full reads why, not that a connection broke off."""
    engine = engine_of(f"postgresql://{quote(login.user)}@/{login.database}?unix_sock={login.server.socket}")
    execute(engine, Deadline(30), "SELECT 1")
    login.server.run(f"REVOKE CONNECT ON DATABASE {login.database} FROM PUBLIC")
    login.server.terminate_backends(login.database)
    try:
        with pytest.raises(StoreUnavailableError, match=rf'permission denied for database "{login.database}".*CONNECT'):
            execute(engine, Deadline(30), "SELECT 1")
    finally:
        login.server.run(f"GRANT CONNECT ON DATABASE {login.database} TO PUBLIC")
        engine.dispose()


def execute(engine: sa.Engine, deadline: Deadline, *statements: str, failure: Exception | None = None) -> None:
    with transaction(engine, deadline) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        if failure is not None:
            raise failure


def test_a_transaction_is_bounded_on_the_server(database_url: str) -> None:
    """Its statements stop when the run's time is up, and it may not lie idle; neither outlasts the transaction."""
    engine = engine_of(database_url)
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
    asked = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    with transaction(engine, Deadline(7.5, clock=lambda: 0.0)) as connection:
        assert tuple(connection.exec_driver_sql(asked).one()) == ("7500ms", "1min", "8s")
    with engine.connect() as connection:
        assert tuple(connection.exec_driver_sql(asked).one()) == ("0", "0", "0")
    with (
        takes_at_most(0.4),
        pytest.raises(StoreUnavailableError, match=r"57014.*longer than the run had left") as caught,
    ):
        execute(engine, Deadline(0.4), "SELECT pg_sleep(60)")
    assert caught.value.details == {"sqlstate": "57014"}
    engine.dispose()


def test_a_server_that_falls_silent_is_given_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits but little longer than the server should have taken."""
    monkeypatch.setattr("etl.load.postgres.database._GRACE_SECONDS", 0.3)
    engine = engine_of(database_url)
    unbounded = [f"SET LOCAL {name} = 0" for name in ("statement_timeout", "transaction_timeout")]
    with (
        takes_at_most(0.3 + 0.3),
        pytest.raises(StoreUnavailableError, match="can't be reached, or the connection broke off"),
    ):
        execute(engine, Deadline(0.3), *unbounded, "SELECT pg_sleep(60)")
    with transaction(engine, Deadline(10)) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    engine.dispose()


def test_a_transaction_ends_on_the_server_too(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last statement has what is left, and not as much as its first one had: it would hold its locks for longer."""
    monkeypatch.setattr("etl.load.postgres.database._GRACE_SECONDS", 0.4)
    engine = engine_of(database_url)
    with pytest.raises(StoreUnavailableError):
        execute(engine, Deadline(1.5), "SELECT pg_sleep(1.2)", "SELECT pg_sleep(9)")
    with transaction(engine, Deadline(10)) as connection:
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(9)'"
        assert connection.exec_driver_sql(busy).scalar_one() == 0
    engine.dispose()


def test_a_pooled_connection_that_has_died_in_silence(login: Login) -> None:
    """Half of what is left goes to finding that out; the other half is for a new connection."""
    engine = engine_of(login.url(sslmode="disable"))
    with transaction(engine, Deadline(10)) as connection:
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    os.kill(backend, signal.SIGSTOP)
    try:
        started = time.monotonic()
        execute(engine, Deadline(4), "SELECT 1")
        assert 1 < time.monotonic() - started < 4
    finally:
        os.kill(backend, signal.SIGCONT)
        engine.dispose()


def test_a_transaction_commits_whole_or_not_at_all(database_url: str) -> None:
    """Without an error all of it stays; with one, ours or the database's, nothing does; no connection is lost."""
    engine = engine_of(database_url)
    execute(engine, Deadline(10), "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")
    for failure in (TerminatedError("the end"), ValueError("a fault")):
        with pytest.raises(type(failure), match=str(failure)):
            execute(engine, Deadline(10), "INSERT INTO kept VALUES (2)", failure=failure)
    with pytest.raises(StoreUnavailableError, match="42P01"):
        execute(engine, Deadline(10), "INSERT INTO kept VALUES (3)", "SELECT * FROM missing")
    over = Deadline(10)
    over.cancel(TerminatedError("over"))
    with pytest.raises(TerminatedError, match="over"):
        execute(engine, over, "INSERT INTO kept VALUES (4)")
    with transaction(engine, Deadline(10)) as connection:
        assert connection.exec_driver_sql("SELECT array_agg(n) FROM kept").scalar_one() == [1]
    assert isinstance(engine.pool, sa.QueuePool)
    assert engine.pool.checkedout() == 0
    engine.dispose()


HINTS = {
    "28P01": "check user and password",
    "28000": "check user and password",
    "3D000": "no such database",
    "3F000": "search_path",
    "42501": "lacks a right",
    "53100": "out of disk",
    "53300": "connections",
    "57014": "longer than the run had left",
    "22003": "too narrow",
    "25006": "read-only",
    "40001": None,
    "XX000": None,
}


def test_errors_are_explained_by_their_sqlstate(database_url: str) -> None:
    """The server's message, its code and a hint, never the statement; SQLAlchemy's and pg8000's own errors alike."""
    engine = engine_of(database_url)
    for sqlstate, hint in HINTS.items():
        statement = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = 'the words'; END $$"
        with pytest.raises(sa.exc.SQLAlchemyError) as wrapped, engine.connect() as connection:
            connection.exec_driver_sql(statement)
        with pytest.raises(DriverError) as bare, engine.connect() as connection:
            connection.connection.cursor().execute(statement)
        expected = f"PostgreSQL: the words (SQLSTATE {sqlstate})"
        for error in (wrapped.value, bare.value):
            said = message_for(error)
            assert (said == expected) if hint is None else (said.startswith(f"{expected}: ") and hint in said)
            assert sqlstate_of(error) == sqlstate
    engine.dispose()


def test_other_errors_have_no_sqlstate() -> None:
    """The message names the type of what breaks on the way, as its text may hold anything."""
    assert sqlstate_of(ConnectionResetError("secret")) is None
    assert message_for(ConnectionResetError("secret")).startswith(
        "PostgreSQL can't be reached, or the connection broke off (ConnectionResetError). Check DATABASE_URL or"
    )
