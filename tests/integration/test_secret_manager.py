"""The function reads the API token from Secret Manager whole, or with an error that says what to do."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.deadline import Deadline
from etl.errors import ConfigurationError, DeadlineExceededError, UpstreamError
from etl.extract.secret_manager import read_secret
from etl.extract.token import Token
from tests.doubles.http_server import Answer, Request
from tests.doubles.http_stand_in import HANG, LOSE_ANSWER
from tests.doubles.secret_manager import SecretManagerStandIn
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_sales
from tests.support.upstream import FakeDeadline, client, extraction, read_once
from tests.support.waiting import takes_at_most

SECRET = "projects/p-1/secrets/api-token"
LATEST = f"{SECRET}/versions/latest"


@pytest.fixture
def secrets() -> Iterator[SecretManagerStandIn]:
    """Secret Manager with one secret of two versions."""
    with SecretManagerStandIn() as stand_in:
        stand_in.add_version(SECRET, b"t0ken-1")
        stand_in.add_version(SECRET, b" t0ken-2\r\n")
        yield stand_in


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's back-off is drawn by lot: always draw next to nothing."""
    monkeypatch.setattr("random.uniform", lambda *_: 0.01)


def read(secrets: SecretManagerStandIn, name: str = LATEST) -> str:
    return read_secret(name, secrets.endpoint, Deadline(60))


VERSIONS = [
    pytest.param("1", "t0ken-1", id="by number"),
    pytest.param("2", "t0ken-2", id="without blanks around it"),
    pytest.param("latest", "t0ken-2", id="latest"),
]


@pytest.mark.parametrize(("version", "token"), VERSIONS)
def test_a_version_is_read(secrets: SecretManagerStandIn, version: str, token: str) -> None:
    """The version that is named, with one request and without anybody's credentials."""
    assert read(secrets, f"{SECRET}/versions/{version}") == token
    (request,) = secrets.log
    assert (request.method, request.path) == ("GET", f"/v1/{SECRET}/versions/{version}:access")
    assert "authorization" not in request.headers


MISTAKES: list[tuple[str, str, Callable[[SecretManagerStandIn], object]]] = [
    ("no such secret", "projects/p-1/secrets/other/versions/latest", lambda _: None),
    ("no such version", f"{SECRET}/versions/3", lambda _: None),
    ("disabled", LATEST, lambda s: s.set_state(f"{SECRET}/versions/2", "DISABLED")),
    ("destroyed", LATEST, lambda s: s.set_state(f"{SECRET}/versions/2", "DESTROYED")),
    ("no right to it", LATEST, lambda s: s.fail(403)),
    ("no credentials", LATEST, lambda s: s.fail(401)),
    ("not a token", LATEST, lambda s: s.add_version(SECRET, b"t0ken-\xff\x00")),
]


@pytest.mark.parametrize(("name", "spoil"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_mistakes_of_whoever_set_it_up(
    secrets: SecretManagerStandIn, name: str, spoil: Callable[[SecretManagerStandIn], object]
) -> None:
    """They are asked for once, and the error names the secret and not what is in it."""
    spoil(secrets)
    with pytest.raises(ConfigurationError) as caught:
        read(secrets, name)
    assert name in str(caught.value)
    assert "t0ken" not in str(caught.value)
    assert len(secrets.log) == 1


def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where this machine has no Google credentials, the error says so, and not that the program is at fault."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="credentials") as caught:
        read_secret(LATEST, None, Deadline(20))
    assert LATEST in str(caught.value)


def test_a_damaged_payload(secrets: SecretManagerStandIn) -> None:
    """The checksum is verified: a damaged token isn't used."""
    secrets.corrupt(f"{SECRET}/versions/2")
    with pytest.raises(UpstreamError, match=f"{LATEST} arrived damaged") as caught:
        read(secrets)
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b'{"payload": {"da'], ids=["HTML", "cut short"])
def test_an_answer_that_is_none(body: bytes) -> None:
    """A 200 that something in between has made, or spoilt, is an error that names the secret."""

    class Spoilt(SecretManagerStandIn):
        def respond(self, _: Request) -> Answer:
            return Answer(200, body, {"Content-Type": "application/json"})

    with Spoilt() as secrets, pytest.raises(UpstreamError, match=f"answer for {LATEST} can't be read"):
        read(secrets)


@pytest.mark.parametrize("fault", [500, 503, 429, LOSE_ANSWER])
def test_passing_faults(secrets: SecretManagerStandIn, fault: int | str) -> None:
    """A server error, a throttled request and a lost answer are tried again."""
    secrets.fail(fault, times=2)
    assert read(secrets) == "t0ken-2"
    assert len(secrets.log) == 3


@pytest.mark.parametrize("fault", [503, LOSE_ANSWER, HANG])
def test_lasting_faults(secrets: SecretManagerStandIn, fault: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end in an error that names the secret, in bounded time."""
    monkeypatch.setattr("etl.extract.secret_manager._TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr("etl.extract.secret_manager._TOTAL_SECONDS", 0.3)
    secrets.fail(fault, times=1000)
    with takes_at_most(0.3), pytest.raises(UpstreamError, match=f"Secret Manager can't be reached for {LATEST}"):
        read(secrets)


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that refuses connections is an error like any other, in bounded time."""
    monkeypatch.setattr("etl.extract.secret_manager._TOTAL_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with takes_at_most(0.3), pytest.raises(UpstreamError, match="Secret Manager can't be reached"):
        read_secret(LATEST, endpoint, Deadline(60))


def test_the_deadline_bounds_it(secrets: SecretManagerStandIn) -> None:
    """Secret Manager can't hold a run past its deadline, and isn't asked after it."""
    secrets.fail(HANG, times=10)
    with takes_at_most(0.3), pytest.raises(DeadlineExceededError):
        read_secret(LATEST, secrets.endpoint, Deadline(0.3))
    asked = len(secrets.log)
    over = FakeDeadline(5)
    over.now = 5.0
    with pytest.raises(DeadlineExceededError):
        read_secret(LATEST, secrets.endpoint, over)
    assert len(secrets.log) == asked


def test_a_token_that_is_replaced_in_mid_run(secrets: SecretManagerStandIn) -> None:
    """The secret is read on first use, and once more when the upstream has stopped taking the token."""
    deadline = Deadline(20)
    token = Token(lambda: read_secret(LATEST, secrets.endpoint, deadline), can_renew=True)
    with (
        TicketingApi(sales=plain_sales(5), page_size=2, token="t0ken-2") as upstream,
        client(upstream.base_url, token=token, deadline=deadline, env={"NEST_API_CONCURRENCY": "1"}) as api,
    ):
        assert secrets.log == []
        assert len(read_once(extraction(api)).records) == 5
        assert len(secrets.log) == 1
        upstream.token = "t0ken-3"
        secrets.add_version(SECRET, b"t0ken-3")
        assert len(read_once(extraction(api)).records) == 5
        assert len(secrets.log) == 2
        assert [seen.status for seen in upstream.requests] == [200] * 3 + [401] + [200] * 3
        upstream.token = "t0ken-4"
        secrets.add_version(SECRET, b"t0ken-4")
        with pytest.raises(UpstreamError, match=r"answered 401.*Check the token"):
            read_once(extraction(api))
        assert len(secrets.log) == 2
