"""Cloud SQL's real Connector against a stand-in for the Admin API and the instance's TLS proxy."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from etl.deadline import Deadline
from etl.errors import StoreUnavailableError
from etl.load.postgres.database import engine_for, transaction
from etl.load.postgres.load import load_postgres
from etl.settings import Settings
from tests.doubles.cloud_sql import CloudSqlStandIn
from tests.doubles.http_stand_in import HANG
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.summaries import DAYS, EVENTS, PostgresStore, rows_of, summary_of
from tests.support.waiting import takes_at_most

INSTANCE = "veritix-test:europe-west1:veritix"
PASSWORD = "s3cret"
USER = "cloud user"
IAM_USER = "etl@veritix-test.iam"
TOKEN = "local"
"""What the throw-away credentials for a loopback endpoint hold."""

MakeInstance = Callable[..., tuple[CloudSqlStandIn, Settings]]


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The name of one that USER owns."""
    postgres_server.create_role(USER, PASSWORD)
    postgres_server.create_role(IAM_USER)
    name = postgres_server.create_database(owner=USER)
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def make_instance(postgres_server: EmbeddedPostgres, database: str) -> Iterator[MakeInstance]:
    """Starts an instance that holds the database, and gives the settings for a password login there."""
    with ExitStack() as instances:

        def make(**options: Any) -> tuple[CloudSqlStandIn, Settings]:
            double = CloudSqlStandIn(postgres_server, instance_connection_name=INSTANCE, **options)
            instance = instances.enter_context(double)
            settings = Settings(
                "http://upstream",
                instance_connection_name=INSTANCE,
                db_user=USER,
                db_pass=PASSWORD,
                db_name=database,
                cloud_sql_admin_endpoint=instance.admin_endpoint,
            )
            instances.callback(lambda: engine_for(settings).dispose())
            return instance, settings

        yield make


def who(settings: Settings) -> str:
    with transaction(engine_for(settings), Deadline(30)) as connection:
        return str(connection.exec_driver_sql("SELECT current_user").scalar_one())


def test_a_load_by_password(make_instance: MakeInstance, postgres_server: EmbeddedPostgres, database: str) -> None:
    """COPY and all go through the Connector; one connection, and one certificate, serve every transaction."""
    instance, settings = make_instance()
    summary = summary_of({"a": "Aïda 🎟️"}, [("a", "2026-01-01", 1, "12345678901234.123456789")])
    engine = engine_for(settings)
    assert instance.log == []
    for _ in range(2):
        load_postgres(summary, engine, Deadline(30))
    assert engine_for(replace(settings, log_level="DEBUG")) is engine
    with PostgresStore(postgres_server.url(database)) as store:
        assert store.rows(DAYS) == rows_of(summary)[DAYS]
    assert [(arrival.user, arrival.tls_version) for arrival in instance.proxy.arrivals] == [
        (settings.db_user, "TLSv1.3")
    ]
    assert sorted(request.path.rsplit("veritix", 1)[1] for request in instance.log) == [
        "/connectSettings",
        ":generateEphemeralCert",
    ]


def test_a_database_in_another_encoding(make_instance: MakeInstance, postgres_server: EmbeddedPostgres) -> None:
    """The Connector's connections speak UTF-8 too: a SQL_ASCII database gets a name as it is."""
    _, settings = make_instance()
    name = postgres_server.create_database(owner=USER, encoding="SQL_ASCII")
    settings = replace(settings, db_name=name)
    summary = summary_of({"Ω": "Aïda 🎟️"}, [("Ω", "2026-01-01", 1, "1")])
    try:
        load_postgres(summary, engine_for(settings), Deadline(30))
        with PostgresStore(postgres_server.url(name)) as store:
            assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(summary)
    finally:
        engine_for(settings).dispose()
        postgres_server.drop_database(name)


def test_dead_connections_are_replaced(make_instance: MakeInstance) -> None:
    """After the instance has cut them, the next transaction connects anew."""
    instance, settings = make_instance()
    assert who(settings) == settings.db_user
    instance.proxy.drop_connections()
    assert who(settings) == settings.db_user
    assert len(instance.proxy.arrivals) == 2


@pytest.mark.parametrize("db_user", [IAM_USER, f"{IAM_USER}.gserviceaccount.com"])
def test_a_login_by_iam(make_instance: MakeInstance, db_user: str) -> None:
    """No password is needed; the account's token goes into the certificate's request, and comes anew."""
    instance, settings = make_instance(iam_users={TOKEN: IAM_USER})
    assert who(replace(settings, db_user=db_user, db_pass=None, db_iam_auth=True)) == IAM_USER
    assert [request.json["access_token"] for request in instance.log if request.method == "POST"] == [TOKEN]


@pytest.mark.parametrize(
    ("ip_type", "has", "refusal"),
    [
        pytest.param("PUBLIC", ["PRIMARY", "PRIVATE"], None, id="public"),
        pytest.param("PRIVATE", ["PRIVATE"], None, id="private"),
        pytest.param("PSC", ["PSC"], None, id="psc"),
        pytest.param("PRIVATE", ["PRIMARY"], "DB_IP_TYPE=PRIVATE", id="no private address"),
    ],
)
def test_the_kind_of_address(
    make_instance: MakeInstance, ip_type: str, has: Sequence[str], refusal: str | None
) -> None:
    """DB_IP_TYPE picks one that the instance has, or the message names the setting."""
    _, settings = make_instance(ip_types=has)
    settings = replace(settings, db_ip_type=ip_type)
    if refusal is None:
        assert who(settings) == settings.db_user
    else:
        with pytest.raises(StoreUnavailableError, match=refusal):
            who(settings)


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], int | str | None, list[str]]] = {
    "wrong password": ({}, {"db_pass": "wr0ng"}, None, ["28P01", "check user and password"]),
    "wrong IAM user": (
        {"iam_users": {TOKEN: IAM_USER}},
        {"db_user": "other@veritix-test.iam", "db_iam_auth": True},
        None,
        ["28000", "roles/cloudsql.instanceUser"],
    ),
    "unknown database": ({}, {"db_name": "missing"}, None, ["3D000", "no such database"]),
    "unknown instance": (
        {},
        {"instance_connection_name": "veritix-test:europe-west1:other"},
        None,
        ["veritix-test:europe-west1:other", "404", "no such instance"],
    ),
    "other region": ({}, {"instance_connection_name": "veritix-test:us-east1:veritix"}, None, ["us-east1"]),
    "403": ({}, {}, 403, [INSTANCE, "403", "roles/cloudsql.client", "Admin API must be enabled"]),
    "expired server": ({"server_lifetime": timedelta(hours=-1)}, {}, None, [INSTANCE, "SSLCertVerificationError"]),
    "expired client": ({"client_lifetime": timedelta(hours=-1)}, {}, None, ["can't be reached"]),
}


@pytest.mark.parametrize(
    ("instance_is", "settings_are", "fault", "words"), [pytest.param(*case, id=name) for name, case in REFUSALS.items()]
)
def test_a_refusal_has_a_clear_message(
    make_instance: MakeInstance,
    caplog: pytest.LogCaptureFixture,
    instance_is: dict[str, Any],
    settings_are: dict[str, Any],
    fault: int | None,
    words: list[str],
) -> None:
    """It names the instance and what to check; neither it nor the log holds a password or a token."""
    instance, settings = make_instance(**instance_is)
    if fault is not None:
        instance.fail(fault, times=2)
    with pytest.raises(StoreUnavailableError) as caught:
        who(replace(settings, **settings_are))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    for text in (str(caught.value), caplog.text):
        assert "Bearer" not in text
        assert PASSWORD not in text


def test_the_token_does_not_get_into_the_log(
    make_instance: MakeInstance, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio reports an error that nobody asked for with the request's headers; the log has its type only."""
    monkeypatch.setattr("etl.load.postgres.cloud_sql.CONNECT_SECONDS", 0.5)
    instance, settings = make_instance()
    instance.fail(HANG, times=10, path="/connectSettings")
    instance.fail(403, times=10)  # the certificate: nobody asks what became of it while the other call hangs
    gc.collect()  # what refused calls of earlier tests have left is reported by now
    caplog.clear()
    with pytest.raises(StoreUnavailableError, match="within"):
        who(settings)
    ends = time.monotonic() + 5
    while not caplog.records and time.monotonic() < ends:
        time.sleep(0.02)
        gc.collect()  # it reports when the task goes
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("etl", "WARNING", "Cloud SQL connector")
    ]
    assert caplog.records[0].__dict__["fields"] == {"error": "ClientResponseError"}
    assert "Bearer" not in caplog.text


def test_an_admin_api_that_hangs_is_given_up(make_instance: MakeInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """After CONNECT_SECONDS, with a message that names what to check; later attempts work."""
    monkeypatch.setattr("etl.load.postgres.cloud_sql.CONNECT_SECONDS", 0.7)
    instance, settings = make_instance()
    instance.fail(HANG, times=2)
    with takes_at_most(0.7), pytest.raises(StoreUnavailableError, match=rf"{INSTANCE}.*DB_IP_TYPE=PUBLIC"):
        who(settings)


def test_an_admin_api_that_is_not_there(make_instance: MakeInstance) -> None:
    """Nothing listens at the endpoint: the message says that there is no way to the instance."""
    _, settings = make_instance()
    with pytest.raises(StoreUnavailableError, match=INSTANCE):
        who(replace(settings, cloud_sql_admin_endpoint="http://127.0.0.1:1"))


def test_importing_makes_nothing() -> None:
    """functions-framework forks after the import: until a request comes there is no Connector, thread or engine."""
    program = """
import sys, threading
import etl.load.postgres.database, etl.load.postgres.cloud_sql, etl.load.postgres.load, etl.run.pipeline
print([name for name in sys.modules if name.startswith(("google.cloud.sql", "aiohttp"))], threading.active_count())
print(etl.load.postgres.database._engines)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["[] 1", "{}"]


def test_making_an_engine_connects_to_nothing(make_instance: MakeInstance) -> None:
    """Not before the first transaction does a thread start, or the Admin API hear of us."""
    instance, settings = make_instance()
    threads = threading.active_count()
    engine_for(settings)
    assert (instance.log, threading.active_count()) == ([], threads)
