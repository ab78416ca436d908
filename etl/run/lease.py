"""Keep a run's lease while the run lives, and give it back when the platform ends the process."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from etl.deadline import Deadline
from etl.errors import AlreadyRunningError, TerminatedError, as_etl_error
from etl.logs import log_error, log_warning
from etl.run.ledger import RENEW_SECONDS, Ledger

_POLL_SECONDS = 0.25
_CALL_SECONDS = 15.0


class LeaseKeeper:
    """A thread beside the run: renews the lease every 20 s, and looks whether the process is being terminated.

    On either bad news it cancels the run's deadline, so that the run ends at its next step. On termination it also
    calls `on_termination`: the run itself may be stuck in a wait that outlasts the process.
    """

    def __init__(
        self,
        ledger: Ledger,
        deadline: Deadline,
        is_terminating: Callable[[], bool],
        on_termination: Callable[[TerminatedError], object],
    ) -> None:
        self._ledger = ledger
        self._deadline = deadline
        self._is_terminating = is_terminating
        self._on_termination = on_termination
        self._terminated: TerminatedError | None = None
        self._stopped = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._watch,), name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()
        if self._terminated is not None:
            raise self._terminated  # whatever the run came to, this is what the ledger says: the answer must agree

    def _watch(self) -> None:
        renew_at = time.monotonic() + RENEW_SECONDS
        while not self._stopped.wait(_POLL_SECONDS):
            if self._is_terminating():
                error = TerminatedError("the platform ended this instance in mid-run; the next run does it again")
                self._terminated = error
                self._deadline.cancel(error)
                self._report(error)
                return
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + RENEW_SECONDS
                self._renew()

    def _report(self, error: TerminatedError) -> None:
        try:
            self._on_termination(error)
        except Exception as failure:  # noqa: BLE001 - nobody else would hear of it
            known = as_etl_error(failure)
            log_error("ETL termination not recorded", error=str(known), **known.log_fields)

    def _renew(self) -> None:
        try:
            self._ledger.renew(self._deadline.last_try(_CALL_SECONDS))
        except AlreadyRunningError as error:
            self._deadline.cancel(error)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            # The next renewal may do; if none does, the check in the load's transaction tells.
            known = as_etl_error(error)
            log_warning("ETL lease not renewed", error=str(known), **known.log_fields)
