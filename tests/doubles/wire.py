"""What goes by in a connection, step by step: PostgreSQL's messages and HTTP requests, as a proxy sees them."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

_LENGTH = struct.Struct("!I")
_FLUSH = b"H\0\0\0\4"
_ANSWERS = frozenset(b"CEZGR")
"""Message types that end what a client waits for: done, error, ready, copy away, authentication."""


@dataclass(frozen=True)
class Step:
    """A piece of what a client sends, and what it does by it: a statement, or a request with its body.

    Without a `text` it does nothing by itself. `type` is the message's in PostgreSQL's protocol.
    """

    text: str
    data: bytes
    type: str = ""

    @property
    def whole(self) -> bytes:
        """With what makes the server answer it at once."""
        return self.data + (_FLUSH if self.type in ("E", "c") else b"")


class Wire(Protocol):
    """Reads along in one connection."""

    def steps(self, sent: bytes) -> Iterator[Step]:
        """The steps that are complete with this; the rest is kept."""

    def is_answered(self, came: bytes) -> bool:
        """Whether with this the last step's work is done on the other side."""


@dataclass
class PostgresWire:
    """A statement's step is the message that executes it; parsing it, which locks its tables, is one before.

    A COMMIT's text goes on with what it commits.
    """

    _sent: bytes = b""
    _came: bytes = b""
    _started: bool = False
    _statement: str = ""
    _transaction: list[str] = field(default_factory=list)

    def steps(self, sent: bytes) -> Iterator[Step]:
        self._sent += sent
        while (step := self._next()) is not None:
            yield step

    def _next(self) -> Step | None:
        start = 1 if self._started else 0  # the first packet has no type
        if len(self._sent) < start + _LENGTH.size:
            return None
        end = start + _LENGTH.unpack_from(self._sent, start)[0]
        if len(self._sent) < end:
            return None
        message, self._sent = self._sent[:end], self._sent[end:]
        if not self._started:
            self._started = True
            return Step("connect", message)
        kind = chr(message[0])
        return Step(self._text(kind, message[5:]), message, kind)

    def _text(self, kind: str, body: bytes) -> str:
        if kind == "Q":
            return self._execute(body.rstrip(b"\0").decode())
        if kind == "P":
            self._statement = body.split(b"\0")[1].decode()
            return f"parse of {self._statement}"
        if kind == "E":
            return self._execute(self._statement)
        copying = {"d": "rows of ", "c": "end of "}.get(kind)
        return copying + self._transaction[-1] if copying else ""

    def _execute(self, statement: str) -> str:
        word = statement.split(maxsplit=1)[0].lower()
        if word == "commit":
            statement = "\n".join([statement, *self._transaction])
        if word in ("begin", "commit", "rollback"):
            self._transaction.clear()
        else:
            self._transaction.append(statement)
        return statement

    def is_answered(self, came: bytes) -> bool:
        self._came += came
        found = False
        while len(self._came) >= 5 and len(self._came) > (size := _LENGTH.unpack_from(self._came, 1)[0]):
            found = found or self._came[0] in _ANSWERS
            self._came = self._came[1 + size :]
        return found


_BODY_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass
class HttpWire:
    """A step is a whole request; its text is method, target and, on the next line, the body."""

    _sent: bytes = b""

    def steps(self, sent: bytes) -> Iterator[Step]:
        self._sent += sent
        while (head := self._sent.find(b"\r\n\r\n")) >= 0:
            length = _BODY_LENGTH.search(self._sent[: head + 2])
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._sent) < end:
                return
            request, self._sent = self._sent[:end], self._sent[end:]
            method, target = request.split(b" ", 2)[:2]
            yield Step(f"{method.decode()} {target.decode()}\n{request[head + 4 :].decode(errors='replace')}", request)

    def is_answered(self, came: bytes) -> bool:
        return bool(came)  # none of the servers here says a word before the work is done
