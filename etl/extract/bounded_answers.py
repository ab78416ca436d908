"""HTTP answers whose every byte, the head's too, is waited for within the run's deadline.

A time-out bounds the silence between two bytes only. An upstream that sends a byte of a header now and then, or
`100 Continue` again and again, or a body whose unpacking gives nothing, would hold a run for ever: `http.client` and
urllib3 wait for all of these in loops of their own.
"""

from __future__ import annotations

import io
import socket
from functools import partial
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool

from etl.deadline import Deadline


class BoundedAdapter(HTTPAdapter):
    """Sends a session's requests; its answers raise what `Deadline.check` raises, wherever they are waited for."""

    def __init__(self, deadline: Deadline, **options: Any) -> None:
        self._response_class = staticmethod(partial(_BoundedResponse, deadline))
        super().__init__(**options)

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> HTTPConnectionPool:
        """The pool of a host, whose connections read their answers through ours."""
        pool: HTTPConnectionPool = super().get_connection_with_tls_context(*arguments, **options)  # type: ignore[assignment]
        if not hasattr(pool.ConnectionCls, "is_bounded"):
            ours = {"response_class": self._response_class, "is_bounded": True}
            pool.ConnectionCls = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), ours)
        return pool


class _BoundedResponse(HTTPResponse):
    def __init__(self, deadline: Deadline, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_BoundedReader(deadline, sock, self.fp.detach()))


class _BoundedReader(io.RawIOBase):
    """A socket's bytes; each `recv` waits no longer than the run has left."""

    def __init__(self, deadline: Deadline, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._deadline = deadline
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        patience = self._sock.gettimeout()
        self._sock.settimeout(self._deadline.bound(86_400.0 if patience is None else patience))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
