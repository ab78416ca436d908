"""Connections to Cloud SQL through its Python Connector."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pg8000.exceptions import Error as DriverError

from etl.errors import StoreUnavailableError
from etl.settings import Settings, is_local_endpoint

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.sql.connector import Connector

CONNECT_SECONDS = 30.0


def connection_maker(settings: Settings) -> Callable[[], Any]:
    """A function that opens a pg8000 connection to the instance. Its first call makes the process's one Connector.

    It raises StoreUnavailableError where the Admin API or the instance can't be reached, and pg8000's errors where
    PostgreSQL refuses the login.
    """
    connectors: list[Connector] = []
    lock = threading.Lock()

    def connect() -> Any:
        with lock:
            if not connectors:
                connectors.append(_connector(settings))
        return _bounded(lambda: _connect(connectors[0], settings), settings)

    return connect


def _connector(settings: Settings) -> Connector:
    from google.cloud.sql.connector import Connector

    endpoint = settings.cloud_sql_admin_endpoint
    return Connector(
        # A background refresh stops while the CPU is throttled between requests.
        refresh_strategy="lazy",
        credentials=_local_credentials() if is_local_endpoint(endpoint) else None,
        sqladmin_api_endpoint=endpoint,
    )


def _connect(connector: Connector, settings: Settings) -> Any:
    from google.cloud.sql.connector import IPTypes

    return connector.connect(
        settings.instance_connection_name or "",
        "pg8000",
        user=settings.db_user,
        password=None if settings.db_iam_auth else settings.db_pass,
        db=settings.db_name,
        enable_iam_auth=settings.db_iam_auth,
        ip_type=IPTypes[settings.db_ip_type],
    )


def _bounded(connect: Callable[[], Any], settings: Settings) -> Any:
    """Call `connect`, but wait for it no longer than 30 s: the Connector itself waits for the Admin API without end."""
    outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            outcome.put((connect(), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            outcome.put((None, error))

    threading.Thread(target=attempt, name="cloud-sql-connect", daemon=True).start()
    try:
        connection, error = outcome.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise StoreUnavailableError(
            f"Cloud SQL: no connection to {settings.instance_connection_name} within {CONNECT_SECONDS:.0f} s. Check "
            f"that DB_IP_TYPE={settings.db_ip_type} fits the instance, and that its network can be reached from here."
        ) from None
    if isinstance(error, DriverError):
        raise error
    if error is not None:
        raise StoreUnavailableError(_explain(error, settings)) from None
    return connection


def _explain(error: BaseException, settings: Settings) -> str:
    status = getattr(error, "status", None)
    hint = _HINTS.get(status, f"check INSTANCE_CONNECTION_NAME and DB_IP_TYPE={settings.db_ip_type}")
    what = f"the Admin API answered {status}" if status else type(error).__name__
    return f"Cloud SQL: no connection to {settings.instance_connection_name} ({what}): {hint}"


_HINTS: dict[object, str] = {
    403: "the function's account needs roles/cloudsql.client, and the Cloud SQL Admin API must be enabled",
    404: "there is no such instance: check INSTANCE_CONNECTION_NAME",
}


def _local_credentials() -> Credentials:
    """Throw-away credentials for a stand-in of the Admin API on this machine. They can refresh, as IAM logins need."""
    from google.auth.credentials import Credentials

    class LocalCredentials(Credentials):
        def refresh(self, _request: object) -> None:
            """Make a token that lasts an hour."""
            self.token = "local"  # noqa: S105 - not a secret
            self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)  # google.auth compares naive UTC

    return LocalCredentials()  # type: ignore[no-untyped-call]
