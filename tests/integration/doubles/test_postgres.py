"""The embedded PostgreSQL is a real one that tests can hurt, and it is gone with its owner."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pg8000.dbapi
import pg8000.exceptions
import pytest
import sqlalchemy as sa

from tests import ROOT
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.waiting import wait_until

OWNER = """
import sys
from tests.doubles.postgres import EmbeddedPostgres
with EmbeddedPostgres() as server:
    print(server.port, server.directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """One that a test may stop."""
    with EmbeddedPostgres() as server:
        yield server


def test_each_database_is_empty(postgres_server: EmbeddedPostgres, database_url: str) -> None:
    """A test finds no other test's tables, in the version that Cloud SQL has."""
    with sa.create_engine(database_url).connect() as connection:
        connection.execute(sa.text("CREATE TABLE mine (n int)"))
        connection.commit()
    other = postgres_server.create_database()
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres_server.run(tables, other) == [(0,)]
    assert postgres_server.run("SELECT current_setting('server_version_num')::int / 10000", other) == [(18,)]
    postgres_server.drop_database(other)


def test_tcp_wants_the_password(postgres_server: EmbeddedPostgres) -> None:
    """Over TCP a role gets in with its password only."""
    postgres_server.create_role("tess@t", "it's %41")
    right, wrong = (
        sa.create_engine(postgres_server.tcp_url("postgres", "tess@t", password).replace(":", "+pg8000:", 1))
        for password in ("it's %41", "other")
    )
    with right.connect() as connection:
        assert connection.execute(sa.text("SELECT current_user")).scalar() == "tess@t"
    with pytest.raises(sa.exc.DatabaseError, match="28P01"):
        wrong.connect()


def test_terminated_backends_are_counted_and_cut_off(postgres_server: EmbeddedPostgres, database_url: str) -> None:
    """`terminate_backends` ends the connections to that database, and no others."""
    name = sa.make_url(database_url).database or ""
    victim = pg8000.dbapi.connect("postgres", database=name, unix_sock=str(postgres_server.socket))
    bystander = pg8000.dbapi.connect("postgres", database="postgres", unix_sock=str(postgres_server.socket))
    assert postgres_server.terminate_backends(name) == 1
    with pytest.raises((pg8000.exceptions.Error, OSError)):
        victim.cursor().execute("SELECT 1")
    bystander.cursor().execute("SELECT 1")
    bystander.close()


def test_data_outlives_every_kind_of_restart(own_server: EmbeddedPostgres) -> None:
    """What was committed is there after a shutdown and after a crash, at the same address."""
    own_server.run("CREATE TABLE kept (n int)")
    port = own_server.port
    for mode in ("smart", "fast", "immediate"):
        own_server.run("INSERT INTO kept VALUES (1)")
        own_server.restart(mode)
    assert own_server.run("SELECT count(*) FROM kept") == [(3,)]
    assert own_server.port == port


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGTERM, id="terminated, without a handler"),
        pytest.param(None, id="in good order"),
    ],
)
def test_nothing_is_left_of_it_when_its_owner_ends(end: signal.Signals | None) -> None:
    """However the owner ends, nobody listens on the port any more, and the directory is deleted."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        port, directory = owner.stdout.readline().split()
        with socket.create_connection(("127.0.0.1", int(port))):
            assert Path(directory).exists()
        if end is None:
            owner.stdin.close()
        else:
            owner.send_signal(end)
    wait_until(lambda: not Path(directory).exists(), seconds=10)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
