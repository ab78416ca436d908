"""What a run leaves in the ledger: how it ended, tried more than once, and nothing that is too old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from tenacity import Retrying, retry_if_exception, wait_exponential

from etl.deadline import Deadline
from etl.errors import DeadlineExceededError, EtlError, StoreUnavailableError, as_etl_error
from etl.extract.tally import RejectedItem
from etl.logs import log_error, log_warning
from etl.run.ledger import Ledger, Run

RECORDING_SECONDS = 15.0
"""How long the ledger may take to note how a run ended; less where the run's own time is up."""
FORGETTING_SECONDS = 5.0
"""How long a run may wait at its end until what is too old is deleted."""
_FIRST_PAUSE_SECONDS = 0.2


class Recorder:
    """Writes a run's end. `rejects` gives the records that the run has set aside so far."""

    def __init__(
        self, ledger: Ledger, deadline: Deadline, now: Callable[[], datetime], rejects: Callable[[], list[RejectedItem]]
    ) -> None:
        self._ledger = ledger
        self._deadline = deadline
        self._now = now
        self._rejects = rejects

    def record_failure(self, run: Run, error: EtlError, seconds: float) -> bool:
        """Write that the run failed, and why; else as `record`."""
        return self.record(replace(run, status="failed", error_code=error.code, error_text=str(error)), seconds)

    def record(self, run: Run, seconds: float) -> bool:
        """Write how the run ended, and give the lease back; more than once, if need be. Whether that was done.

        A ledger that can't be written is said in the log: it must not hide the outcome.
        """
        ended = replace(run, finished_at=self._now(), duration_seconds=seconds)
        deadline = self._deadline.last_try(RECORDING_SECONDS)
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_exponential(_FIRST_PAUSE_SECONDS),
            stop=lambda state: state.upcoming_sleep >= deadline.left(),
            sleep=deadline.sleep,
            reraise=True,
        )
        rejects: Sequence[RejectedItem] = self._rejects()
        try:
            # A connection that falls silent must leave time for another one.
            retrying(lambda: self._ledger.finish(ended, rejects, Deadline(deadline.remaining_or_raise() / 2)))
        except Exception as error:  # noqa: BLE001 - whatever it is
            failure = as_etl_error(error)
            log_error("ETL run not recorded", error=str(failure), **failure.log_fields)
            return False
        return True

    def forget(self, days: int) -> None:
        """Delete what is older. The run has ended: whatever comes of this doesn't change it."""
        try:
            seconds = self._deadline.bound(FORGETTING_SECONDS)
        except EtlError:
            return  # its time is up: the next run does it
        try:
            self._ledger.forget(days, Deadline(seconds))
        except Exception as error:  # noqa: BLE001 - whatever it is
            failure = as_etl_error(error)
            log_warning("ETL old records not deleted", error=str(failure), **failure.log_fields)


def _may_pass(error: BaseException) -> bool:
    """Whether another try may do: a database may just be starting again, but a right or a table stays missing."""
    if not isinstance(error, (StoreUnavailableError, DeadlineExceededError)):
        return False
    return not str(error.details.get("sqlstate")).startswith("42")
