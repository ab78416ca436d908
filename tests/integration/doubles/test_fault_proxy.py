"""The proxy of the fault suite: what becomes of a request at each fault, on either side of it."""

import time
from collections.abc import Iterator

import pytest
import requests

from tests.doubles import fault_acts as acts
from tests.doubles.fault_proxy import Act, FaultProxy, Trap
from tests.doubles.http_server import Answer, Request
from tests.doubles.http_stand_in import HttpStandIn
from tests.doubles.wire import HttpWire, PostgresWire

BODY = b"x" * 1000


class Part(HttpStandIn):
    """What stands behind it."""

    def respond(self, _: Request) -> Answer:
        return Answer(200, BODY)


@pytest.fixture
def part() -> Iterator[Part]:
    with Part() as part:
        yield part


@pytest.fixture
def proxy(part: Part) -> Iterator[FaultProxy]:
    with FaultProxy(int(part.url.rpartition(":")[2]), HttpWire) as proxy:
        yield proxy


def ask(proxy: FaultProxy, path: str = "/meant") -> str:
    """The status, or the error's name."""
    try:
        answer = requests.post(f"http://127.0.0.1:{proxy.port}{path}", data=BODY, timeout=1.5)
    except requests.RequestException as error:
        return type(error).__name__
    return f"{answer.status_code}"


FAULTS: dict[str, tuple[Act, str, int]] = {
    "reset": (acts.reset, "ConnectionError", 0),
    "close": (acts.close, "ConnectionError", 0),
    "refuse": (acts.refuse, "ConnectionError", 0),
    "stall": (acts.stall, "ReadTimeout", 0),
    "black hole": (acts.black_hole, "ReadTimeout", 0),
    "cut request": (acts.cut_request(0.5), "ConnectionError", 0),
    "cut answer": (acts.cut_answer(200), "ChunkedEncodingError", 1),
    "lost answer": (acts.lose_answer, "ConnectionError", 1),
    "duplicate": (acts.duplicate, "200", 2),
    "slow": (acts.slow, "200", 1),
    "another answer": (acts.http_answer(lambda _: Answer(503, b"no")), "503", 0),
}


@pytest.mark.parametrize(("act", "outcome", "arrived"), [pytest.param(*case, id=name) for name, case in FAULTS.items()])
def test_a_fault_strikes_the_step_that_is_meant(
    proxy: FaultProxy, part: Part, act: Act, outcome: str, arrived: int
) -> None:
    """Once, and no other; what the part gets of it is as told; and all is well once it is mended."""
    proxy.set(Trap(r"^POST /meant\n", act))
    assert ask(proxy, "/other") == "200"
    part.log.clear()
    assert ask(proxy) == outcome
    assert [request.body for request in part.log] == [BODY] * arrived
    proxy.mend()
    assert ask(proxy) == "200"


@pytest.mark.parametrize(
    ("act", "outcome"), [(acts.refuse, "ConnectionError"), (acts.black_hole, "ReadTimeout")], ids=["refuse", "hole"]
)
def test_some_faults_last(proxy: FaultProxy, act: Act, outcome: str) -> None:
    """Whatever is asked next meets them too."""
    proxy.set(Trap("/meant", act))
    assert [ask(proxy), ask(proxy, "/other")] == [outcome] * 2


def test_a_trap_may_wait_and_strike_more_than_once(proxy: FaultProxy) -> None:
    """After so many steps that fit, so many times; None: always."""
    proxy.set(Trap("/meant", acts.reset, times=2, skip=1))
    assert [ask(proxy) for _ in range(4)] == ["200", "ConnectionError", "ConnectionError", "200"]


def test_work_is_done_before_or_after_a_step(proxy: FaultProxy, part: Part) -> None:
    """Before: the part hasn't heard of it. After: it has, and the client is still to be told."""
    seen: list[int] = []
    started = time.monotonic()
    for act in (acts.before, acts.after, acts.amid):
        proxy.set(Trap("/meant", act(lambda: seen.append(len(part.log)))))
    assert [ask(proxy) for _ in range(3)] == ["200"] * 3
    assert seen == [0, 2, 3]
    assert time.monotonic() - started < 1


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + (len(body) + 4).to_bytes(4, "big") + body


def test_postgresql_is_read_message_by_message() -> None:
    """In whatever pieces they come: a statement counts when it is executed, and COMMIT tells what it commits."""
    sent = (1234).to_bytes(4, "big") + b"rest of the first packet"
    sent = (len(sent) + 4).to_bytes(4, "big") + sent
    sent += message("Q", b"begin transaction\0")
    sent += message("P", b"\0INSERT INTO t VALUES (1)\0\0\0") + message("E", b"\0" + bytes(4)) + message("S")
    sent += message("Q", b"COPY t FROM STDIN\0") + message("d", b"1\n") + message("c")
    sent += message("Q", b"commit\0")
    wire = PostgresWire()
    steps = [step for place in range(len(sent)) for step in wire.steps(sent[place : place + 1])]
    assert b"".join(step.data for step in steps) == sent
    assert [step.text for step in steps] == [
        "connect",
        "begin transaction",
        "parse of INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1)",
        "",
        "COPY t FROM STDIN",
        "rows of COPY t FROM STDIN",
        "end of COPY t FROM STDIN",
        "commit\nINSERT INTO t VALUES (1)\nCOPY t FROM STDIN",
    ]
