"""The stores of one run, asked and loaded one after the other: one that fails doesn't keep the other from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from etl.deadline import Deadline
from etl.errors import ConfigurationError, DeadlineExceededError, EtlError, LoadFailedError, StoreUnavailableError
from etl.load.store import STORE_NAMES, LoadResult, StoredTickets

_FAILURES = (StoreUnavailableError, ConfigurationError, DeadlineExceededError)
"""What a store may fail with. Anything else is a fault of the program, and ends the run."""


class Stores:
    """`failures` are the errors so far, by store."""

    def __init__(self, deadline: Deadline) -> None:
        self.failures: dict[str, EtlError] = {}
        self._deadline = deadline

    def ask(self, questions: Mapping[str, Callable[[Deadline], StoredTickets]]) -> dict[str, StoredTickets]:
        """What each store holds. One that doesn't say so fails, and isn't loaded: no guard has looked at it."""
        held: dict[str, StoredTickets] = {}
        for name, ask in questions.items():
            # The other one is to be loaded all the same.
            deadline = Deadline(self._deadline.remaining_or_raise() / len(questions))
            try:
                held[name] = ask(deadline)
            except _FAILURES as error:
                self.failures[name] = error if deadline.left() else self._late(name, deadline, error)
        return held

    def _late(self, name: str, deadline: Deadline, error: EtlError) -> EtlError:
        said = str(error)
        if self._deadline.left():
            said = f"{STORE_NAMES[name]} didn't say within {deadline.seconds:.0f} s what it holds"
        return DeadlineExceededError(said)

    def load(self, name: str, load: Callable[[], LoadResult]) -> LoadResult:
        """Load a store, unless it has failed already."""
        if name not in self.failures:
            try:
                return load()
            except _FAILURES as error:
                self.failures[name] = error
        return LoadResult(name, "failed", error=str(self.failures[name]))

    def raise_failures(self, results: Mapping[str, LoadResult]) -> None:
        """Raise one error for all that failed, if any did: DeadlineExceededError where time was the reason.

        A store may be given up shortly before the deadline, where the next step would have come too late.
        """
        if not self.failures:
            return
        is_late = any(isinstance(failure, DeadlineExceededError) for failure in self.failures.values())
        reasons = "; ".join(map(str, self.failures.values()))
        statuses = {name: result.status for name, result in results.items()}
        raise (DeadlineExceededError if is_late else LoadFailedError)(reasons, stores=statuses)
