"""Connections to Cloud SQL through its Python Connector."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pg8000.exceptions import Error as DriverError

from etl.errors import StoreUnavailableError
from etl.logs import log_warning
from etl.settings import Settings, is_local_endpoint

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.sql.connector import Connector

CONNECT_SECONDS = 30.0


def connection_maker(settings: Settings, startup: Mapping[str, str]) -> Callable[[float], Any]:
    """A function that opens a pg8000 connection to the instance within some seconds, at most 30.

    `startup` holds the server's parameters to begin with. Its first call makes the process's one Connector.

    It raises StoreUnavailableError where the Admin API or the instance can't be reached, and pg8000's errors where
    PostgreSQL refuses the login.
    """
    made: list[tuple[Connector, asyncio.AbstractEventLoop]] = []
    lock = threading.Lock()

    def connect(seconds: float) -> Any:
        with lock:
            if not made:
                loop = _loop()
                made.append((_connector(settings, loop), loop))
        return _connect(*made[0], settings, startup, min(seconds, CONNECT_SECONDS))

    return connect


def _connector(settings: Settings, loop: asyncio.AbstractEventLoop) -> Connector:
    from google.cloud.sql.connector import Connector

    endpoint = settings.cloud_sql_admin_endpoint
    return Connector(
        loop=loop,
        # A background refresh stops while the CPU is throttled between requests.
        refresh_strategy="lazy",
        credentials=_local_credentials() if is_local_endpoint(endpoint) else None,
        sqladmin_api_endpoint=endpoint,
    )


def _loop() -> asyncio.AbstractEventLoop:
    """An event loop of our own: the Connector's could log a failed request with the token in its headers."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(
        lambda _, context: log_warning("Cloud SQL connector", error=type(context.get("exception")).__name__)
    )
    threading.Thread(target=loop.run_forever, name="cloud-sql", daemon=True).start()
    return loop


def _connect(
    connector: Connector,
    loop: asyncio.AbstractEventLoop,
    settings: Settings,
    startup: Mapping[str, str],
    seconds: float,
) -> Any:
    """The Connector itself would wait for the Admin API without end."""
    pending = asyncio.run_coroutine_threadsafe(
        connector.connect_async(
            settings.instance_connection_name or "",
            "pg8000",
            user=settings.db_user,
            password=None if settings.db_iam_auth else settings.db_pass,
            db=settings.db_name,
            enable_iam_auth=settings.db_iam_auth,
            ip_type=settings.db_ip_type,
            application_name="veritix-etl",
            startup_params=startup,
        ),
        loop,
    )
    try:
        return pending.result(seconds)
    except DriverError:
        raise
    except TimeoutError:
        pending.cancel()
        raise StoreUnavailableError(
            f"Cloud SQL: no connection to {settings.instance_connection_name} within {seconds:.0f} s. Check "
            f"that DB_IP_TYPE={settings.db_ip_type} fits the instance, and that its network can be reached from here."
        ) from None
    except Exception as error:  # noqa: BLE001 - the Connector and aiohttp raise all kinds
        raise StoreUnavailableError(_message_for(error, settings)) from None


def _message_for(error: BaseException, settings: Settings) -> str:
    status = getattr(error, "status", None)
    hint = _HINTS.get(status, f"check INSTANCE_CONNECTION_NAME and DB_IP_TYPE={settings.db_ip_type}")
    what = f"the Admin API answered {status}" if status else type(error).__name__
    return f"Cloud SQL: no connection to {settings.instance_connection_name} ({what}): {hint}"


_HINTS: dict[object, str] = {
    403: "the function's account needs roles/cloudsql.client, and the Cloud SQL Admin API must be enabled",
    404: "no such instance: check INSTANCE_CONNECTION_NAME",
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
