"""What a trap does to the step that springs it: the network's faults, other answers, and things done meanwhile."""

import asyncio
import json
import struct
import threading
from collections.abc import Callable

from tests.doubles.fault_proxy import Act, Link
from tests.doubles.http_server import Answer
from tests.doubles.postgres_proxy import RefusedError, error_message
from tests.doubles.tcp_proxy import closing, connect
from tests.doubles.wire import Step

SLOW_SECONDS = 0.01


async def reset(link: Link, _: Step) -> None:
    """RST instead of an answer; the server never sees the step."""
    link.reset()


async def close(_: Link, __: Step) -> None:
    """FIN instead of an answer."""
    raise ConnectionResetError


async def refuse(link: Link, _: Step) -> None:
    """Every connection is cut, and none is taken."""
    await asyncio.get_running_loop().run_in_executor(None, link.proxy.refuse)


async def stall(link: Link, _: Step) -> None:
    """This connection says nothing any more."""
    await link.swallow()


async def black_hole(link: Link, _: Step) -> None:
    """From here on nothing there says anything any more."""
    link.proxy.is_black_hole = True
    await link.swallow()


async def lose_answer(link: Link, step: Step) -> None:
    """The work is done, and no answer comes."""
    link.held = []
    await link.forward(step.whole)
    await link.answered.wait()
    link.reset()


async def slow(link: Link, step: Step) -> None:
    """Answers drip from here on."""
    link.pause_seconds = SLOW_SECONDS
    await link.forward(step.data)


async def duplicate(link: Link, step: Step) -> None:
    """The request arrives twice: the copy first, whose answer nobody sees."""
    await deliver(link, step)
    await link.forward(step.data)


async def deliver(link: Link, step: Step) -> None:
    """Send a request on a connection of its own, and wait until it is done."""
    reader, writer = await connect(link.proxy.target)
    async with closing(writer):
        writer.write(step.data)
        await reader.read(1)


def cut_request(share: float) -> Act:
    """The server gets a part of the step, and the client nothing."""

    async def act(link: Link, step: Step) -> None:
        await link.forward(step.data[: max(1, int(len(step.data) * share))])
        link.reset()

    return act


def cut_answer(size: int) -> Act:
    """The client gets that many bytes of the answer."""

    async def act(link: Link, step: Step) -> None:
        link.budget = size
        await link.forward(step.data)

    return act


def late(release: threading.Event, done: threading.Event) -> Act:
    """The client's connection breaks; the request arrives all the same, but only after `release`."""

    async def act(link: Link, step: Step) -> None:
        async def arrive() -> None:
            await asyncio.get_running_loop().run_in_executor(None, release.wait)
            await deliver(link, step)
            done.set()

        link.proxy.keep(arrive())
        link.reset()

    return act


def before(work: Callable[[], object], *, pass_on: bool = True) -> Act:
    """Something is done right before the step; it is passed on, or lost."""

    async def act(link: Link, step: Step) -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)
        if not pass_on:
            link.reset()
        await link.forward(step.data)

    return act


def after(work: Callable[[], object]) -> Act:
    """Something happens when the step is done, and before the client hears of it."""

    async def act(link: Link, step: Step) -> None:
        link.held = []
        await link.forward(step.whole)
        await link.answered.wait()
        await asyncio.get_running_loop().run_in_executor(None, work)
        await link.release()

    return act


def amid(work: Callable[[], object]) -> Act:
    """Something is done when the client has half of the body that answers its HTTP request."""

    async def act(link: Link, step: Step) -> None:
        link.held = []
        await link.forward(step.data)
        while not (body := b"".join(link.held).partition(b"\r\n\r\n")[2]):
            link.answered.clear()
            await link.answered.wait()
        answer = b"".join(link.held)
        cut = len(answer) - len(body) // 2
        link.held = [answer[cut:]]
        await link.answer(answer[:cut])
        await asyncio.get_running_loop().run_in_executor(None, work)
        await link.release()

    return act


def http_answer(make: Callable[[Step], Answer]) -> Act:
    """Another answer; the server never sees the request."""

    async def act(link: Link, step: Step) -> None:
        answer = make(step)
        body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        headers = {"Content-Length": str(len(body)), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} Fault", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await link.answer("\r\n".join(lines).encode() + body)

    return act


def sql_error(sqlstate: str, message: str) -> Act:
    """PostgreSQL refuses the statement. Where the protocol lets us, the real server raises the error itself."""
    raising = f"DO $$BEGIN RAISE EXCEPTION {json.dumps(message)!s} USING ERRCODE = '{sqlstate}'; END$$"
    raising = raising.replace('"', "'")

    async def act(link: Link, step: Step) -> None:
        if step.type == "Q":
            body = raising.encode() + b"\0"
            await link.forward(b"Q" + struct.pack("!I", len(body) + 4) + body)
        elif step.type in ("d", "c"):
            link.held = []  # the server's own words for a COPY that is broken off
            body = message.encode() + b"\0"
            await link.forward(b"f" + struct.pack("!I", len(body) + 4) + body)
            await link.answered.wait()
            link.held = None
            await link.answer(error_message(RefusedError(sqlstate, message), "ERROR"))
        else:
            await link.answer(error_message(RefusedError(sqlstate, message), "ERROR"))

    return act
