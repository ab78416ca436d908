"""A stand-in for Cloud SQL: the admin API and the TLS proxy on port 3307, in front of the embedded PostgreSQL."""

import re
import ssl
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.doubles.certificates import HOUR, CertificateAuthority, pem
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HttpStandIn, google_error
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.postgres_proxy import Arrival, PostgresProxy, RefusedError, Route
from tests.doubles.processes import SandboxError

PROXY_PORT = 3307
"""Where the connectors go, whatever the instance."""

_LOOPBACK = [f"127.0.0.{last}" for last in range(1, 20)]  # macOS has the first one only
_CALL = re.compile(r"/sql/v1beta4/projects/([^/]+)/instances/([^/:]+)(/connectSettings|:generateEphemeralCert)")


class CloudSqlStandIn(HttpStandIn):
    """One instance. The real Connector reaches it with `sqladmin_api_endpoint=admin_endpoint`.

    Its proxy listens on the first loopback address whose port 3307 is free. `ip_types` are the kinds of address
    that the instance has: PRIMARY (the connector's PUBLIC), PRIVATE, PSC. `iam_users`: access token -> database
    user; with such a token a client logs in as that user, by no password. Without, it needs its role's password.
    Certificates live for `client_lifetime` and `server_lifetime`; below zero they have expired.
    `port` is the database's for logins by password, if something stands before it.
    `log` holds the API's requests, `proxy.arrivals` the logins.
    """

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        *,
        instance_connection_name: str = "veritix-test:europe-west1:veritix",
        ip_types: Sequence[str] = ("PRIMARY",),
        iam_users: Mapping[str, str] | None = None,
        client_lifetime: timedelta = HOUR,
        server_lifetime: timedelta = HOUR,
        port: int | None = None,
    ) -> None:
        super().__init__()
        self.instance_connection_name = instance_connection_name
        self._project, self._region, self._instance = instance_connection_name.rsplit(":", 2)
        self._postgres = postgres
        self._port = port
        self._ip_types = ip_types
        self._iam_users = dict(iam_users or {})
        self.client_lifetime = client_lifetime
        self._issued: dict[int, str | None] = {}
        self._authority = CertificateAuthority("Cloud SQL server CA")
        self._clients = CertificateAuthority("Cloud SQL client CA")
        name = f"{self._project}:{self._instance}"
        tls = self._authority.server_context(name, [name], lifetime=server_lifetime, clients=self._clients)
        self.proxy = _listen(tls, self._route)

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.proxy.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)

    @property
    def admin_endpoint(self) -> str:
        return self.url

    def respond(self, request: Request) -> Answer:
        call = _CALL.fullmatch(request.path)
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return google_error(401, "Request is missing required authentication credential.")
        if call is None or call.group(1, 2) != (self._project, self._instance):
            return google_error(404, "The Cloud SQL instance does not exist.")
        if call[3] == "/connectSettings":
            return json_answer(self._settings())
        return self._certify(request.json)

    def _settings(self) -> dict[str, Any]:
        numbered = [kind for kind in self._ip_types if kind != "PSC"]
        return {
            "kind": "sql#connectSettings",
            "backendType": "SECOND_GEN",
            "databaseVersion": "POSTGRES_18",
            "region": self._region,
            "serverCaCert": {"kind": "sql#sslCert", "cert": self._authority.pem},
            "ipAddresses": [{"type": kind, "ipAddress": self.proxy.host} for kind in numbered],
            **({"pscEnabled": True, "dnsName": f"{self.proxy.host}."} if "PSC" in self._ip_types else {}),
        }

    def _certify(self, asked: dict[str, str]) -> Answer:
        key = load_pem_public_key(asked["public_key"].encode())
        if not isinstance(key, rsa.RSAPublicKey):
            return google_error(400, "public_key: not an RSA key.")
        user = None
        if "access_token" in asked:
            user = self._iam_users.get(asked["access_token"])
            if user is None:
                return google_error(403, "The access token stands for no database user.")
        certificate = self._clients.issue("ephemeral", key, self.client_lifetime)
        self._issued[certificate.serial_number] = user
        return json_answer({"ephemeralCert": {"kind": "sql#sslCert", "cert": pem(certificate)}})

    def _route(self, arrival: Arrival) -> str | int:
        """By password over TCP; as an IAM user through the socket, which asks for none."""
        serial = None if arrival.certificate is None else arrival.certificate.serial_number
        if serial not in self._issued:
            raise RefusedError("28000", "the client certificate is not one of this instance")
        user = self._issued[serial]
        if user is None:
            return self._port or self._postgres.port
        if user != arrival.user:
            raise RefusedError("28000", f'Cloud SQL IAM user authentication failed for user "{arrival.user}"')
        return str(self._postgres.socket)


def _listen(tls: ssl.SSLContext, route: Route) -> PostgresProxy:
    for host in _LOOPBACK:
        try:
            return PostgresProxy(tls, route, negotiated=False, host=host, port=PROXY_PORT)
        except OSError:  # taken, or no such address here
            continue
    raise SandboxError(f"Port {PROXY_PORT}, which the Cloud SQL connector wants, is taken on every loopback address.")
