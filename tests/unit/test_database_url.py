"""DATABASE_URL is read as other tools write it, and an error about it shows no password."""

import pytest

from etl.database_url import PARAMETERS, DatabaseUrl, parse_database_url

PLAIN = DatabaseUrl(host="db.example.com", port=5432, user="etl", password="pw", database="sales")
URL = "postgresql://etl:pw@db.example.com/sales"


def parts(**changed: object) -> DatabaseUrl:
    return DatabaseUrl(**{**vars(PLAIN), **changed})


SOCKET_URL = "postgresql://etl:pw@/sales?"
URLS = [
    pytest.param(URL, PLAIN, id="plain"),
    pytest.param("postgres://etl:pw@db.example.com/sales", PLAIN, id="postgres"),
    pytest.param("postgresql+pg8000://etl:pw@db.example.com/sales", PLAIN, id="SQLAlchemy's, with the driver"),
    pytest.param("postgresql://etl:pw@DB.Example.com:6543/sales", parts(port=6543), id="port"),
    pytest.param("postgresql://etl@db.example.com/sales", parts(password=None), id="no password"),
    pytest.param("postgresql://etl:@db.example.com/sales", parts(password=None), id="empty password"),
    pytest.param("postgresql://etl:pw@/sales", parts(host="localhost"), id="no host"),
    pytest.param("postgresql:///sales?user=etl&password=pw", parts(host="localhost"), id="login in the query"),
    pytest.param("postgresql://etl:pw@[::1]:6543/sales", parts(host="::1", port=6543), id="IPv6"),
    pytest.param(
        "postgresql://et%40l:p%40s%2Fs%3Aw%23%3F%25+%C3%A9@db.example.com/sa%20les",
        parts(user="et@l", password="p@s/s:w#?%+é", database="sa les"),
        id="percent-encoded",
    ),
    pytest.param("postgresql://etl:a:b@db.example.com/sales", parts(password="a:b"), id="colon in the password"),
    pytest.param("postgresql://etl:a@b@db.example.com/sales", parts(password="a@b"), id="@ in the password"),
    *(
        pytest.param(f"{URL}?sslmode={mode}", parts(sslmode=mode), id=f"sslmode={mode}")
        for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    ),
    pytest.param(
        f"{URL}?sslmode=verify-ca&sslrootcert=%2Fetc%2Fca.pem",
        parts(sslmode="verify-ca", sslrootcert="/etc/ca.pem"),
        id="sslrootcert",
    ),
    pytest.param(
        f"{URL}?connect_timeout=3&application_name=my%20etl",
        parts(connect_timeout=3, application_name="my etl"),
        id="connect_timeout and application_name",
    ),
    pytest.param(
        f"{URL}?host=other&port=6543&user=u&password=p&dbname=d",
        DatabaseUrl(host="other", port=6543, user="u", password="p", database="d"),
        id="the query wins",
    ),
    pytest.param(f"{URL}?connect_timeout=3&connect_timeout=4", parts(connect_timeout=4), id="said twice: the last"),
    pytest.param(f"{URL}?", PLAIN, id="empty query"),
    pytest.param(
        f"{SOCKET_URL}host=/var/run/PostgreSQL",
        parts(host=None, unix_sock="/var/run/PostgreSQL/.s.PGSQL.5432"),
        id="socket directory",
    ),
    pytest.param(
        f"{SOCKET_URL}host=/run/pg/&port=6543",
        parts(host=None, port=6543, unix_sock="/run/pg/.s.PGSQL.6543"),
        id="socket directory and port",
    ),
    pytest.param(
        "postgresql://etl:pw@%2FVar%2Frun:6543/sales",
        parts(host=None, port=6543, unix_sock="/Var/run/.s.PGSQL.6543"),
        id="socket directory as host",
    ),
    pytest.param(
        f"{SOCKET_URL}unix_sock=/cloudsql/p:r:i/.s.PGSQL.5432",
        parts(host=None, unix_sock="/cloudsql/p:r:i/.s.PGSQL.5432"),
        id="Cloud SQL's socket",
    ),
    pytest.param(
        f"{URL}?unix_sock=/cloudsql/p:r:i/.s.PGSQL.5432",
        parts(host=None, unix_sock="/cloudsql/p:r:i/.s.PGSQL.5432"),
        id="socket beside a host",
    ),
]


@pytest.mark.parametrize(("text", "expected"), URLS)
def test_urls(text: str, expected: DatabaseUrl) -> None:
    """Every form in which people have such a URL is read into the same parts; the query wins, as in libpq."""
    assert parse_database_url(text) == expected


BAD = [
    pytest.param("mysql://etl:s3cret@db/sales", "is for mysql; write one of postgresql://", id="MySQL"),
    pytest.param("postgresql+psycopg://etl:s3cret@db/sales", "is for postgresql\\+psycopg", id="another driver"),
    pytest.param("sqlite:///sales.db", "is for sqlite", id="SQLite"),
    pytest.param("s3cret", "no known scheme", id="no URL"),
    pytest.param("etl:s3cret@db://sales", "no known scheme", id="scheme in the middle"),
    pytest.param("postgresql:etl:s3cret@db/sales", "no known scheme", id="no slashes"),
    pytest.param("postgresql://:s3cret@db/sales", "names no user;", id="no user"),
    pytest.param("postgresql://etl:s3cret@db", "names no database name;", id="no database"),
    pytest.param("postgresql://etl:s3cret@db/", "names no database name;", id="empty database"),
    pytest.param("postgresql://db", "names no user and a database name;", id="neither"),
    pytest.param("postgresql://etl:s3cret@db:port/sales", "percent-encode", id="port as text"),
    pytest.param("postgresql://etl:s3cret@db:70000/sales", "percent-encode", id="port out of range"),
    pytest.param("postgresql://etl:s3cret@db/sales?port=0", "port=0 is not a whole number", id="port 0"),
    pytest.param("postgresql://etl:s3cret@db:0/sales", "port", id="port 0 in the address"),
    pytest.param("postgresql://etl:s3cret@[::1/sales", "percent-encode", id="open bracket"),
    pytest.param("postgresql://etl:s3/cret@db/sales", "percent-encode", id="slash in the password"),
    pytest.param("postgresql://etl:s3#cret@db/sales", "percent-encode", id="hash in the password"),
    pytest.param("postgresql://etl:s3?cret@db/sales", "percent-encode", id="question mark in the password"),
    pytest.param("postgresql://etl:12?cret@db/sales", "percent-encode", id="question mark after digits"),
    pytest.param("postgresql://etl:p@ss?cret@db/sales", "percent-encode", id="@ and question mark"),
    pytest.param("postgresql://etl:p@ss?cret=cret@db/sales", "percent-encode", id="@, question mark, equals"),
    pytest.param(f"{URL}?sslmode=on", "sslmode=on is not one of disable, allow", id="sslmode"),
    pytest.param(f"{URL}?sslmode=", "sslmode= is not one of", id="empty sslmode"),
    pytest.param(f"{SOCKET_URL}host=/tmp&sslmode=verify-full", "needs a host name", id="certificate of a socket"),
    pytest.param(f"{URL}?connect_timeout=0", "connect_timeout=0 is not a whole number from 1 to 3600", id="timeout 0"),
    pytest.param(f"{URL}?connect_timeout=soon", "connect_timeout=soon is not", id="timeout as text"),
    pytest.param(
        f"{URL}?pool_size=5&sslmode=require&target_session_attrs=any",
        "has unknown parameters pool_size, target_session_attrs; known are " + ", ".join(PARAMETERS),
        id="unknown parameters",
    ),
    pytest.param("postgresql://etl%00user%00postgres:s3cret@db/sales", "control characters", id="NUL in the user"),
    pytest.param("postgresql://etl:s3\ncret@db/sales", "control characters", id="line break in the password"),
    pytest.param(f"{URL}?application_name=a%00options%00-csearch_path=x", "control characters", id="NUL in a name"),
    pytest.param(f"{URL}?SSLMODE=require", "unknown parameters SSLMODE", id="upper case"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_errors_hold_no_password(text: str, message: str) -> None:
    """What can't be read is named, with what to write in its place; the password is never shown, nor a part of it."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_database_url(text)
    assert "cret" not in str(caught.value)


def test_repr_holds_no_password() -> None:
    """The parts can be logged."""
    assert "pw" not in repr(PLAIN)
    assert "db.example.com" in repr(PLAIN)
