"""The Secret Manager stand-in, as the real client sees it."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import google_crc32c
import pytest
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound, ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.cloud.secretmanager import SecretManagerServiceClient
from google.cloud.secretmanager_v1.types import SecretPayload
from requests.exceptions import ReadTimeout

from tests.doubles.http_stand_in import HANG
from tests.doubles.secret_manager import SecretManagerStandIn

SECRET = "projects/p/secrets/token"


@pytest.fixture
def stand_in() -> Iterator[SecretManagerStandIn]:
    with SecretManagerStandIn() as stand_in:
        yield stand_in


def access(stand_in: SecretManagerStandIn, version: str, timeout: float = 10.0) -> SecretPayload:
    client = SecretManagerServiceClient(
        transport="rest",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": stand_in.endpoint},
    )
    return client.access_secret_version(name=version, retry=None, timeout=timeout).payload


def test_latest_is_the_newest_version(stand_in: SecretManagerStandIn) -> None:
    """A number stays what it was; each payload has its checksum."""
    first = stand_in.add_version(SECRET, b"one")
    assert access(stand_in, f"{SECRET}/versions/latest").data == b"one"
    stand_in.add_version(SECRET, "zw\u00f6lf".encode())
    newest = access(stand_in, f"{SECRET}/versions/latest")
    assert newest.data.decode() == "zw\u00f6lf"
    assert newest.data_crc32c == google_crc32c.value(newest.data)
    assert access(stand_in, first).data == b"one"


@pytest.mark.parametrize(
    ("version", "error"),
    [
        pytest.param("projects/p/secrets/other/versions/latest", NotFound, id="no such secret"),
        pytest.param(f"{SECRET}/versions/9", NotFound, id="no such version"),
        pytest.param(f"{SECRET}/versions/1", BadRequest, id="disabled"),
    ],
)
def test_what_is_not_there_is_an_error(
    stand_in: SecretManagerStandIn, version: str, error: type[GoogleAPICallError]
) -> None:
    """As the service answers it."""
    stand_in.set_state(stand_in.add_version(SECRET, b"one"), "DISABLED")
    with pytest.raises(error):
        access(stand_in, version)


def test_a_corrupt_version_has_a_wrong_checksum(stand_in: SecretManagerStandIn) -> None:
    """The client doesn't check it: whoever reads the payload must."""
    version = stand_in.add_version(SECRET, b"one")
    stand_in.corrupt(version)
    payload = access(stand_in, version)
    assert payload.data_crc32c != google_crc32c.value(payload.data)


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (503, ServiceUnavailable)])
def test_it_fails_as_often_as_asked(
    stand_in: SecretManagerStandIn, status: int, error: type[GoogleAPICallError]
) -> None:
    """Then it answers again; all of it is in the log."""
    version = stand_in.add_version(SECRET, b"one")
    stand_in.fail(status, times=2)
    for _ in range(2):
        with pytest.raises(error):
            access(stand_in, version)
    assert access(stand_in, version).data == b"one"
    assert [request.path for request in stand_in.log] == [f"/v1/{version}:access"] * 3


def test_it_can_hang(stand_in: SecretManagerStandIn) -> None:
    """The client's own time-out ends the wait, and the stand-in closes all the same."""
    version = stand_in.add_version(SECRET, b"one")
    stand_in.fail(HANG)
    with pytest.raises(ReadTimeout):
        access(stand_in, version, timeout=0.2)


@pytest.mark.parametrize("sent", [b'Content-Length: 20\r\n\r\n{"half', b"Content-Len"], ids=["body", "headers"])
def test_a_request_that_breaks_off_is_none(stand_in: SecretManagerStandIn, sent: bytes) -> None:
    """What came of it isn't looked at, and nothing is answered."""
    address = urlsplit(stand_in.url)
    with socket.create_connection((address.hostname, address.port or 0)) as client:
        client.sendall(b"POST /v1/x HTTP/1.1\r\n" + sent)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert stand_in.log == []
