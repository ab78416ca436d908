"""An HTTP stand-in with a log and faults: what the stand-ins for Google's APIs share."""

import threading
from types import TracebackType
from typing import Self

from tests.doubles.http_server import Answer, HttpServer, Reply, Request, json_answer, nothing

CANONICAL = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def google_error(status: int, message: str, code: str | None = None) -> Answer:
    """An error as Google's APIs write it. `code` is the canonical one; None: the usual one of that status."""
    code = code or CANONICAL.get(status, "UNKNOWN")
    return json_answer({"error": {"code": status, "status": code, "message": message}}, status)


HANG, LOSE_ANSWER = "hang", "lose the answer"


class HttpStandIn:
    """Answers by `respond`, which a subclass writes. Use as a context manager.

    `log` holds the requests in their order of arrival, unless `keeps_log` is False. What goes wrong in the stand-in
    itself is raised at the end.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.log: list[Request] = []
        self.keeps_log = True
        self._faults: list[tuple[int | str, str]] = []
        self._lock = threading.Lock()
        self._server = HttpServer(self._reply, host, port)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._server.stop()
        if kind is None and self.errors:
            raise self.errors[0]

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong in the stand-in itself."""
        return self._server.errors

    def fail(self, kind: int | str, times: int = 1, path: str = "") -> None:
        """The next `times` requests whose target contains `path` fail.

        `kind` is an HTTP status to answer with, HANG, or LOSE_ANSWER: the work is done, the connection breaks.
        """
        self._faults.extend([(kind, path)] * times)

    def recover(self) -> None:
        """No further request fails."""
        with self._lock:
            self._faults.clear()

    def respond(self, request: Request) -> Answer:
        raise NotImplementedError

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            if self.keeps_log:
                self.log.append(request)
            fault = next((fault for fault in self._faults if fault[1] in request.target), None)
            if fault is not None:
                self._faults.remove(fault)
        if fault is None:
            return Reply(self.respond(request))
        kind, _ = fault
        if kind == HANG:
            return Reply(Answer(0), nothing("hang"))
        if kind == LOSE_ANSWER:
            return Reply(self.respond(request), nothing("close"))
        return Reply(google_error(int(kind), f"made to fail with {kind}"))
