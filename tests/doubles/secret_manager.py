"""A stand-in for Secret Manager's REST API: what `access_secret_version` of the real client needs."""

import base64
import re
from dataclasses import dataclass

import google_crc32c

from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HttpStandIn, google_error

_ACCESS = re.compile(r"/v1/(?P<secret>projects/[^/]+/secrets/[^/]+)/versions/(?P<version>[^/:]+):access")


@dataclass
class _Version:
    payload: bytes
    state: str = "ENABLED"
    intact: bool = True


class SecretManagerStandIn(HttpStandIn):
    """Secrets with versions, numbered from 1. A secret exists once it has a version.

    The real client reaches it with `transport="rest"`, `client_options={"api_endpoint": endpoint}` and
    anonymous credentials.
    """

    def __init__(self) -> None:
        super().__init__()
        self._secrets: dict[str, list[_Version]] = {}

    @property
    def endpoint(self) -> str:
        return self.url

    def add_version(self, secret: str, payload: bytes) -> str:
        """`secret`: `projects/P/secrets/S`. Returns the new version's name; `latest` now means this one."""
        with self._lock:
            versions = self._secrets.setdefault(secret, [])
            versions.append(_Version(payload))
            return f"{secret}/versions/{len(versions)}"

    def set_state(self, version: str, state: str) -> None:
        """`version`: a version's name, by its number. `state`: ENABLED, DISABLED or DESTROYED."""
        self._version(version).state = state

    def corrupt(self, version: str) -> None:
        """From now on, the checksum of this version (a number, or `latest`) doesn't fit its payload."""
        self._version(version).intact = False

    def respond(self, request: Request) -> Answer:
        asked = _ACCESS.fullmatch(request.path)
        if asked is None or request.method != "GET":
            return google_error(404, f"{request.method} {request.path} is not known here.")
        versions = self._secrets.get(asked["secret"], [])
        number = str(len(versions)) if asked["version"] == "latest" else asked["version"]
        name = f"{asked['secret']}/versions/{number}"
        if not number.isdecimal() or not 1 <= int(number) <= len(versions):
            return google_error(404, f"Secret Version [{name}] not found.")
        return _access(name, versions[int(number) - 1])

    def _version(self, name: str) -> _Version:
        secret, _, number = name.rpartition("/versions/")
        return self._secrets[secret][-1 if number == "latest" else int(number) - 1]


def _access(name: str, version: _Version) -> Answer:
    if version.state != "ENABLED":
        message = f"Secret Version [{name}] is in {version.state} state."
        return google_error(400, message, "FAILED_PRECONDITION")
    checksum = google_crc32c.value(version.payload) ^ (0 if version.intact else 1)
    data = base64.b64encode(version.payload).decode()
    return json_answer({"name": name, "payload": {"data": data, "dataCrc32c": str(checksum)}})
