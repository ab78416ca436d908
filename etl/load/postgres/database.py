"""The PostgreSQL engine: DATABASE_URL or the Cloud SQL connector, one a process, and bounded transactions on it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pg8000.exceptions import Error as DriverError
from sqlalchemy.exc import SQLAlchemyError

from etl.database_url import DatabaseUrl
from etl.deadline import Deadline, current, within
from etl.errors import ConfigurationError, StoreUnavailableError
from etl.settings import Settings

DRIVER = "postgresql+pg8000"
_GRACE_SECONDS = 1.0
"""How much longer than the server the client waits for it: the server's own message is the better one."""
_CONNECT_SECONDS = 30.0
_IDLE_SECONDS = 2.0
"""How long a connection from the pool may take to say that it still lives."""
_STARTUP = {"client_encoding": "UTF8"}
"""Without it the driver speaks the database's own encoding, and can't send what that one lacks."""
_HOLDS_ALL = ("UTF8", "SQL_ASCII")
"""Encodings in which a database stores whatever it is sent."""
_engines: dict[tuple[object, ...], sa.Engine] = {}
_lock = threading.Lock()


def engine_for(settings: Settings) -> sa.Engine:
    """The process's engine for these settings; made on the first call, which connects to nothing.

    Never call it at import: functions-framework forks after it has loaded the function, and neither a pool nor a
    Connector survives that.
    """
    key = (
        settings.database_url,
        settings.instance_connection_name,
        settings.db_user,
        settings.db_pass,
        settings.db_name,
        settings.db_iam_auth,
        settings.db_ip_type,
        settings.cloud_sql_admin_endpoint,
    )
    with _lock:
        if key not in _engines:
            _engines[key] = _make_engine(settings)
        return _engines[key]


def _make_engine(settings: Settings) -> sa.Engine:
    pool: dict[str, Any] = {
        "pool_size": 2,
        "max_overflow": 4,
        "pool_timeout": 30,
        # While an instance is scaled down its sockets die unnoticed.
        "pool_pre_ping": True,
        "pool_recycle": 300,
    }
    if settings.database_url is not None:
        engine = _direct_engine(settings.database_url, pool)
    else:
        from etl.load.postgres.cloud_sql import connection_maker

        connect = connection_maker(settings, _STARTUP)
        engine = sa.create_engine(f"{DRIVER}://", creator=lambda: connect(_bounded(_CONNECT_SECONDS)), **pool)
    # The driver keeps its time-out to connect for every later read.
    sa.event.listen(engine, "connect", lambda connection, _: bound_silence(connection, _IDLE_SECONDS))
    for step in ("before_cursor_execute", "commit"):
        sa.event.listen(engine, step, _bound_statement)
    _ask_pooled(engine.dialect)
    return engine


def _ask_pooled(dialect: sa.Dialect) -> None:
    """Replace the ping of a pooled connection: it is bounded, and asks for more than a sign of life.

    A connection that has died in silence must leave time for a new one. One to a server that became read-only, as a
    fail-over's old primary, would fail each run: it is dropped, as a dead one is. What the answer says holds for the
    transaction, which begins with it.
    """

    def ask(dbapi_connection: Any) -> bool:
        deadline = current()
        bound_silence(
            dbapi_connection, min(_IDLE_SECONDS, max(deadline.left() / 2, 0.1) if deadline else _IDLE_SECONDS)
        )
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute("SHOW transaction_read_only")
            return bool(cursor.fetchone()[0] == "off")
        except TimeoutError:  # no error of the driver's: SQLAlchemy wouldn't take the connection for a dead one
            return False
        finally:
            cursor.close()

    dialect.do_ping = ask  # type: ignore[method-assign]


def _bounded(seconds: float) -> float:
    deadline = current()
    return seconds if deadline is None else deadline.bound(seconds)


def _bound_statement(connection: sa.Connection, *_: object) -> None:
    """A transaction's later statements have less time than its first one."""
    if deadline := current():
        bound_silence(connection.connection.driver_connection, deadline.left() + _GRACE_SECONDS)


def _direct_engine(url: DatabaseUrl, pool: dict[str, Any]) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create(DRIVER, url.user, url.password, url.host, url.port if url.host else None, url.database),
        connect_args={
            "timeout": url.connect_timeout,
            "tcp_keepalive": True,
            "application_name": url.application_name,
            "ssl_context": _ssl_context(url),
            "startup_params": _STARTUP,
            **({"unix_sock": url.unix_sock} if url.unix_sock else {}),
        },
        **pool,
    )

    @sa.event.listens_for(engine, "do_connect")
    def bound_connect(_dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
        parameters["timeout"] = _bounded(parameters["timeout"])

    return engine


def _ssl_context(url: DatabaseUrl) -> ssl.SSLContext | bool | None:
    """What pg8000 takes for libpq's sslmode: False never, None where the server offers it, a context always.

    As in libpq, `require` with a root certificate verifies it too.
    """
    if url.unix_sock or url.sslmode == "disable":
        return False
    if url.sslmode in ("allow", "prefer"):
        return None
    if url.sslrootcert is not None and not Path(url.sslrootcert).is_file():
        raise ConfigurationError(f"DATABASE_URL names sslrootcert={url.sslrootcert}: no such file")
    context = ssl.create_default_context(cafile=url.sslrootcert)
    context.check_hostname = url.sslmode == "verify-full"
    if url.sslmode == "require" and url.sslrootcert is None:
        context.verify_mode = ssl.CERT_NONE
    return context


def bound_silence(connection: Any, seconds: float) -> None:
    """How long the driver waits for a word from the server: pg8000 has no public way to change it."""
    connection._usock.settimeout(seconds)


@contextmanager
def transaction(engine: sa.Engine, deadline: Deadline) -> Iterator[sa.Connection]:
    """A transaction that ends by the deadline: the server stops its statements, the client its waits.

    Raises StoreUnavailableError for whatever the database or the way to it refuses.
    """
    deadline.check()
    with explained_errors(), within(deadline), engine.connect() as connection:
        driver_connection = connection.connection.driver_connection
        seconds = deadline.remaining_or_raise()
        try:
            with connection.begin():
                connection.execute(
                    sa.text(
                        "SELECT set_config('statement_timeout', :timeout, true),"
                        " set_config('idle_in_transaction_session_timeout', '60s', true),"
                        " set_config('datestyle', 'ISO', true),"
                        " set_config('timezone', 'UTC', true),"
                        # Since PostgreSQL 17, and a little later, as it ends the connection: `statement_timeout` begins
                        # anew with each statement, and would let the last one hold its locks for long.
                        " CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL"
                        " THEN set_config('transaction_timeout', :limit, true) END"
                    ),
                    {"timeout": _milliseconds(seconds), "limit": _milliseconds(seconds + _GRACE_SECONDS / 2)},
                )
                yield connection
        finally:
            if not connection.closed and not connection.invalidated:
                bound_silence(driver_connection, _IDLE_SECONDS)


def encoding_of(connection: sa.Connection) -> str:
    """The database's encoding, by PostgreSQL's name for it."""
    driver_connection: Any = connection.connection.driver_connection
    return str(driver_connection.parameter_statuses["server_encoding"])


def storable(connection: sa.Connection, text: str) -> str:
    """The text as any database can hold it: in an encoding that may lack some of it, all but ASCII as escapes."""
    if encoding_of(connection) in _HOLDS_ALL:
        return text
    return text.encode("ascii", "backslashreplace").decode()


def _milliseconds(seconds: float) -> str:
    return f"{max(int(seconds * 1000), 1)}ms"


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn what SQLAlchemy, pg8000 or the connector raise into a StoreUnavailableError for people."""
    try:
        yield
    except (SQLAlchemyError, DriverError, OSError) as error:
        raise StoreUnavailableError(message_for(error), sqlstate=sqlstate_of(error)) from None


_HINTS: dict[str, str] = {
    "28": "check user and password (or the IAM user, and roles/cloudsql.instanceUser)",
    "3D": "no such database: create it, or check its name",
    "3F000": "the user may use no schema of its search_path: grant USAGE on one, and CREATE until the tables are made",
    "42P10": "the table lacks the key that docs/operations.md names for it: ALTER TABLE ... ADD PRIMARY KEY (...)",
    "42501": "the user lacks a right there: grant CONNECT and TEMPORARY on the database; USAGE on the schema, and "
    "until the tables are made CREATE (nobody has that on schema public since PostgreSQL 15); SELECT, INSERT, UPDATE "
    "and DELETE on tables that others made",
    "53": "the server is out of disk, memory or connections",
    "57014": "the statement took longer than the run had left",
    "22001": "an existing table's column is too narrow for the text",
    "22003": "an existing table's column is too narrow for the sum",
    "22021": "the database, in the encoding SQL_ASCII, holds a text that isn't UTF-8: correct it there",
    "22P05": "the database's encoding lacks that character: create a database with ENCODING 'UTF8' TEMPLATE template0, "
    "and move the tables there",
    "25006": "the server is read-only: check that it isn't a replica, and its disk not full",
}


def message_for(error: BaseException) -> str:
    """A database error in a sentence: the server's message, its SQLSTATE and a hint. No statement, no parameters."""
    fields = _server_fields(error)
    if fields is None:
        return _connection_message(error)
    state = fields.get("C", "")
    hint = next((hint for prefix, hint in _HINTS.items() if state.startswith(prefix)), None)
    return f"PostgreSQL: {fields.get('M', 'error')} (SQLSTATE {state})" + (f": {hint}" if hint else "")


def _connection_message(error: BaseException) -> str:
    """Why there is no connection."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"PostgreSQL's TLS certificate can't be verified ({cause.verify_message}): check sslmode, sslrootcert "
                "and the host name"
            )
        if "Server refuses SSL" in str(cause):
            return "PostgreSQL offers no TLS there, and sslmode asks for it: check sslmode"
    return (
        f"PostgreSQL can't be reached, or the connection broke off ({type(causes[-1]).__name__}). Check DATABASE_URL "
        "or INSTANCE_CONNECTION_NAME, and that the server is up and reachable from here."
    )


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what lies beneath it: the driver's own may say "network error", and the one below it more."""
    causes = [error]
    while (cause := _cause_of(causes[-1])) is not None and cause not in causes:
        causes.append(cause)
    return causes


def _cause_of(error: BaseException) -> BaseException | None:
    return getattr(error, "orig", None) or error.__cause__ or error.__context__


def sqlstate_of(error: BaseException) -> str | None:
    """The server's SQLSTATE; classes differ between a direct engine and the connector, codes don't."""
    return (_server_fields(error) or {}).get("C")


def _server_fields(error: BaseException) -> dict[str, str] | None:
    fields = (cause.args[0] for cause in _causes(error) if cause.args)
    return next((found for found in fields if isinstance(found, dict)), None)
