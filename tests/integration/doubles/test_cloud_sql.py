"""The Cloud SQL stand-in, as the real Connector sees it."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.auth.credentials import Credentials
from google.cloud.sql.connector import Connector

from tests.doubles.certificates import HOUR
from tests.doubles.cloud_sql import CloudSqlStandIn
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.waiting import wait_until

PASSWORD_USER, IAM_USER = "sandy", "fn@veritix-test.iam"


class Local(Credentials):
    """The connector wants credentials that it can refresh."""

    def refresh(self, _: object) -> None:
        self.token = "local"
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + HOUR


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        server.create_role(PASSWORD_USER, "dune")
        server.create_role(IAM_USER)
        yield server


def who_am_i(stand_in: CloudSqlStandIn, user: str, password: str | None = None, **options: Any) -> str:
    """Logs in through the real Connector, and asks the server as whom."""
    with Connector(
        refresh_strategy="lazy",
        credentials=Local(),  # type: ignore[no-untyped-call]
        sqladmin_api_endpoint=stand_in.admin_endpoint,
        enable_iam_auth=password is None,
        **options,
    ) as connector:
        name = stand_in.instance_connection_name
        connection = connector.connect(name, "pg8000", user=user, password=password, db="postgres")
        with closing(connection):
            cursor = connection.cursor()
            cursor.execute("SELECT current_user")
            return str(cursor.fetchone()[0])


@pytest.mark.parametrize(
    ("user", "password", "error"),
    [
        pytest.param(PASSWORD_USER, "dune", None, id="password"),
        pytest.param(PASSWORD_USER, "desert", "28P01", id="wrong password"),
        pytest.param(IAM_USER, None, None, id="IAM"),
        pytest.param(IAM_USER + ".gserviceaccount.com", None, None, id="IAM, by the whole address"),
        pytest.param(PASSWORD_USER, None, "28000", id="IAM, as somebody else"),
    ],
)
def test_users_log_in(postgres: EmbeddedPostgres, user: str, password: str | None, error: str | None) -> None:
    """With their role's password, or with the token that stands for them and for nobody else."""
    with CloudSqlStandIn(postgres, iam_users={"local": IAM_USER}) as stand_in:
        if error is None:
            assert user.startswith(who_am_i(stand_in, user, password))
            assert [arrival.tls_version for arrival in stand_in.proxy.arrivals] == ["TLSv1.3"]
        else:
            with pytest.raises(Exception, match=error):
                who_am_i(stand_in, user, password)


def test_a_token_that_stands_for_nobody_is_refused(postgres: EmbeddedPostgres) -> None:
    """Already by the admin API, before anybody connects."""
    with (
        CloudSqlStandIn(postgres) as stand_in,
        pytest.raises(Exception, match=r"403.*stands for no database user"),
    ):
        who_am_i(stand_in, IAM_USER)
    assert stand_in.proxy.arrivals == []


@pytest.mark.parametrize(
    ("has", "wants", "error"),
    [
        pytest.param(("PRIMARY",), "PUBLIC", None, id="public"),
        pytest.param(("PRIVATE",), "PRIVATE", None, id="private"),
        pytest.param(("PSC",), "PSC", None, id="PSC"),
        pytest.param(("PRIMARY",), "PRIVATE", "matching preference: PRIVATE", id="private, but there is none"),
    ],
)
def test_kinds_of_address(postgres: EmbeddedPostgres, has: tuple[str, ...], wants: str, error: str | None) -> None:
    """The instance is reached at the kind of address that the client asks for, if it has one."""
    with CloudSqlStandIn(postgres, ip_types=has) as stand_in:
        if error is None:
            assert who_am_i(stand_in, PASSWORD_USER, "dune", ip_type=wants) == PASSWORD_USER
        else:
            with pytest.raises(Exception, match=error):
                who_am_i(stand_in, PASSWORD_USER, "dune", ip_type=wants)


@pytest.mark.parametrize("status", [403, 404])
def test_the_admin_api_fails_as_asked(postgres: EmbeddedPostgres, status: int) -> None:
    """The connector reports the status and the message."""
    with CloudSqlStandIn(postgres) as stand_in:
        stand_in.fail(status, path="/connectSettings")
        with pytest.raises(Exception, match=f"{status}.*made to fail with {status}"):
            who_am_i(stand_in, PASSWORD_USER, "dune")


@pytest.mark.parametrize(
    ("server", "client", "failure"),
    [
        pytest.param(-HOUR, HOUR, "alert certificate expired", id="server's"),
        pytest.param(HOUR, -HOUR, "certificate has expired", id="client's"),
    ],
)
def test_expired_certificates_are_refused(
    postgres: EmbeddedPostgres, server: timedelta, client: timedelta, failure: str
) -> None:
    """By the side that they are shown to."""
    with CloudSqlStandIn(postgres, server_lifetime=server, client_lifetime=client) as stand_in:
        with pytest.raises(Exception, match=r"certificate has expired|network error"):
            who_am_i(stand_in, PASSWORD_USER, "dune")
        wait_until(lambda: bool(stand_in.proxy.failures))
        assert [failure in said for said in stand_in.proxy.failures] == [True]


def test_two_instances_stand_side_by_side(postgres: EmbeddedPostgres) -> None:
    """Each has a loopback address of its own, as the port is the same."""
    with CloudSqlStandIn(postgres) as one, CloudSqlStandIn(postgres) as other:
        assert one.proxy.port == other.proxy.port
        assert one.proxy.host != other.proxy.host
        assert who_am_i(other, PASSWORD_USER, "dune") == PASSWORD_USER
        assert one.proxy.arrivals == []
