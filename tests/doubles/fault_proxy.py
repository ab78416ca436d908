"""A proxy in front of a real part, that reads along and breaks what goes by at a given step."""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from tests.doubles.tcp_proxy import TcpProxy, closing, connect, either, open_streams
from tests.doubles.wire import Step, Wire

_PIECE = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Trap:
    """Acts on steps whose text has `pattern` in it: on the first `times` (None: on all) after `skip`."""

    pattern: str
    act: "Act"
    times: int | None = 1
    skip: int = 0
    sprung: threading.Event = field(default_factory=threading.Event)

    def takes(self, text: str) -> bool:
        if self.times == 0 or not text or not re.search(self.pattern, text):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        self.sprung.set()
        return True


class Link:
    """One client's connection to the part behind the proxy."""

    def __init__(
        self,
        proxy: "FaultProxy",
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.proxy = proxy
        self.wire = proxy.wire()
        self.answered = asyncio.Event()
        self.budget: int | None = None
        """How many more bytes of answers get through, before the connection is reset."""
        self.pause_seconds = 0.0
        """After each eighth of an answer."""
        self.held: list[bytes] | None = None
        """Answers that are kept back; None: none is."""
        self._client, self._out = client
        self._server, self._up = server

    async def requests(self) -> None:
        """What the client sends, with what the traps make of it."""
        while sent := await self._client.read(_PIECE):
            if self.proxy.is_black_hole:
                await self.swallow()
            for step in self.wire.steps(sent):
                trap = self.proxy.trap_for(step.text)
                if trap is not None:
                    self.answered.clear()
                    await trap.act(self, step)
                else:
                    await self.forward(step.data)

    async def answers(self) -> None:
        """What the server answers."""
        while came := await self._server.read(_PIECE):
            is_answered = self.wire.is_answered(came)
            if self.held is not None:
                self.held.append(came)
            else:
                await self.answer(came)
            if is_answered:
                self.answered.set()

    async def forward(self, data: bytes) -> None:
        """On to the server."""
        self._up.write(data)
        await self._up.drain()

    async def answer(self, data: bytes) -> None:
        """Back to the client."""
        size = len(data) if not self.pause_seconds else max(1, len(data) // 8)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._out.write(piece if self.budget is None else piece[: self.budget])
            await self._out.drain()
            if self.budget is not None:
                self.budget -= len(piece)
                if self.budget <= 0:
                    self.reset()
            await asyncio.sleep(self.pause_seconds)

    async def release(self) -> None:
        """Let the answers through that were held."""
        held, self.held = self.held or [], None
        for data in held:
            await self.answer(data)

    def reset(self) -> None:
        """End it with RST."""
        self._out.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._out.transport.abort()
        raise ConnectionResetError

    async def swallow(self) -> None:
        """Nothing goes either way any more, until the client gives up."""
        self.held = []
        while await self._client.read(_PIECE):
            pass
        raise ConnectionResetError


Act = Callable[[Link, Step], Awaitable[None]]
"""What becomes of a step: passing it on is up to the act."""


class FaultProxy(TcpProxy):
    """In front of a port on 127.0.0.1, or of a unix socket's path."""

    def __init__(self, target: int | str, wire: Callable[[], Wire]) -> None:
        super().__init__()
        self.wire = wire
        self.is_black_hole = False
        self.texts: list[str] = []
        """What went by since `mend`."""
        self.target = target
        self._traps: list[Trap] = []
        self._spoilt: set[asyncio.Task[None]] = set()
        self._is_refusing = False
        self._kept: list[asyncio.Task[None]] = []

    def set(self, trap: Trap) -> None:
        """Lay a trap."""
        self._traps.append(trap)

    def keep(self, work: Coroutine[None, None, None]) -> None:
        """Go on with something after its connection has ended."""
        self._kept.append(self._loop.create_task(work))

    def trap_for(self, text: str) -> Trap | None:
        if text:
            self.texts.append(text)
        trap = next((trap for trap in self._traps if trap.takes(text)), None)
        task = asyncio.current_task()
        if trap is not None and task is not None:
            self._spoilt.add(task)
        return trap

    def refuse(self) -> None:
        self._is_refusing = True
        super().refuse()

    def mend(self) -> None:
        """No trap and no fault any more; what hangs is cut, and what goes well goes on."""
        self._traps.clear()
        self.texts.clear()
        if self._is_refusing:
            self._is_refusing = False
            self.accept()
        self._do(self._cut(list(self._clients if self.is_black_hole else self._spoilt)))
        self.is_black_hole = False
        self._spoilt.clear()

    async def serve(self, connection: socket.socket) -> None:
        client = await open_streams(connection)
        async with closing(client[1]):
            server = await connect(self.target)
            async with closing(server[1]):
                link = Link(self, client, server)
                if self.is_black_hole:
                    await link.swallow()
                await either(link.requests(), link.answers())
