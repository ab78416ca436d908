"""Read DATABASE_URL as people have it from other tools: libpq's forms, into what pg8000 needs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("postgresql", "postgres", "postgresql+pg8000")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PARAMETERS = (
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "password",
    "port",
    "sslmode",
    "sslrootcert",
    "unix_sock",
    "user",
)


_UNREADABLE = (
    "can't be read as a URL: percent-encode what is special in user, password and parameters "
    "(@ is %40, / is %2F, ? is %3F, # is %23)"
)


@dataclass(frozen=True)
class DatabaseUrl:
    """Where the database is and how to log in. `connect_timeout` is in seconds."""

    host: str | None
    port: int
    user: str
    password: str | None = field(repr=False)
    database: str
    unix_sock: str | None = None
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    connect_timeout: int = 10
    application_name: str = "veritix-etl"


def parse_database_url(text: str) -> DatabaseUrl:
    """Read a `postgresql://` URL; parameters in the query win over the same part of the URL, as in libpq.

    Raises ValueError with a message that holds no password.
    Source of the forms: PostgreSQL documentation, "Connection URIs" (libpq).
    """
    refuse_control_characters(unquote(text))
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in SCHEMES:
        shown = scheme if separator and re.fullmatch(r"[A-Za-z0-9+.-]+", scheme) else "no known scheme"
        raise ValueError(f"is for {shown}; write one of {', '.join(f'{s}://' for s in SCHEMES)}")
    try:
        url = urlsplit(text)
        url_host, url_port = url.hostname, url.port
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    parameters = _parameters(url.query)

    def pick(name: str, from_url: str | None) -> str | None:
        return parameters.get(name) or (unquote(from_url) if from_url else None)

    user = pick("user", url.username)
    database = pick("dbname", url.path.removeprefix("/"))
    if not user or not database:
        missing = " and ".join(n for n, v in (("a user", user), ("a database name", database)) if not v)
        raise ValueError(f"names no {missing.removeprefix('a ')}; write postgresql://USER:PASSWORD@HOST:PORT/NAME")
    port = _whole("port", pick("port", "5432" if url_port is None else str(url_port)), 1, 65535)
    host = pick("host", url_host)
    unix_sock = parameters.get("unix_sock")
    if host and host.startswith("/"):
        unix_sock = unix_sock or str(PurePosixPath(host) / f".s.PGSQL.{port}")
        host = None
    sslmode = parameters.get("sslmode", "prefer")
    if sslmode not in SSL_MODES:
        raise ValueError(f"sslmode={sslmode} is not one of {', '.join(SSL_MODES)}")
    if sslmode.startswith("verify-") and not host:
        raise ValueError(f"sslmode={sslmode} needs a host name to connect to over TCP")
    return DatabaseUrl(
        host=None if unix_sock else (host or "localhost"),
        port=port,
        user=user,
        password=pick("password", url.password),
        database=database,
        unix_sock=unix_sock,
        sslmode=sslmode,
        sslrootcert=parameters.get("sslrootcert"),
        connect_timeout=_whole("connect_timeout", parameters.get("connect_timeout", "10"), 1, 3600),
        application_name=parameters.get("application_name", "veritix-etl"),
    )


def _parameters(query: str) -> dict[str, str]:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if "@" in query:
        # Most likely a bare ? in the password: what follows it must not be shown.
        raise ValueError(_UNREADABLE)
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise ValueError(f"has unknown parameters {', '.join(unknown)}; known are {', '.join(PARAMETERS)}")
    return parameters


def _whole(name: str, text: str | None, low: int, high: int) -> int:
    if text is None or not re.fullmatch(r"\d{1,6}", text) or not low <= int(text) <= high:
        raise ValueError(f"{name}={text} is not a whole number from {low} to {high}")
    return int(text)


def refuse_control_characters(text: str) -> None:
    """Raise ValueError where there are any: a NUL would end a parameter of the login, and begin another one."""
    if any(ord(character) < 32 for character in text):
        raise ValueError("has control characters in it: write plain text")
