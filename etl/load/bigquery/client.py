"""BigQuery's client for one run: jobs that are bounded, that a lost answer doesn't start twice, and clear errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as JobTimeoutError
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from etl.deadline import LATE_SECONDS, Deadline, current
from etl.errors import ConfigurationError, StoreUnavailableError
from etl.logs import log_info, log_warning
from etl.settings import Settings, is_local_endpoint

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

CALL_SECONDS = 60.0
BRIEF_SECONDS = 5.0
MAX_GENERATIONS = 3
"""So often a job is begun whose failure may pass."""
_PASSING = frozenset(
    [
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
    ]
)
"""The reasons of such failures. Source: BigQuery documentation, "Error messages"."""
_CONFLICT = "concurrent update"
"""What BigQuery says of a transaction that another one has been quicker than."""
_clients: dict[tuple[str | None, ...], Client] = {}


def client_for(settings: Settings) -> Client:
    """The process's client for these settings; made on the first call."""
    try:
        from google.cloud.bigquery import Client
    except ImportError:
        raise ConfigurationError(
            "BQ_ENABLED is true, but google-cloud-bigquery isn't installed: install requirements.txt"
        ) from None
    from google.auth.credentials import AnonymousCredentials

    key = (settings.bq_project_id, settings.bq_location, settings.bigquery_emulator_host)
    if key not in _clients:
        endpoint = settings.bigquery_emulator_host
        _clients[key] = Client(
            project=settings.bq_project_id,
            location=settings.bq_location,
            credentials=AnonymousCredentials() if is_local_endpoint(endpoint) else None,  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": endpoint} if endpoint else None,
        )
        _bound_calls(_clients[key])
    return _clients[key]


def _bound_calls(client: Client) -> None:
    """The client itself waits for 2 minutes for a word on a query's end, whatever time-out it is given."""
    send = client._http.send

    def send_in_time(request: Any, *, timeout: float | None = None, **options: Any) -> Any:
        deadline = current()
        left = CALL_SECONDS if deadline is None else deadline.left() or LATE_SECONDS
        return send(request, timeout=min(timeout or CALL_SECONDS, left), **options)

    client._http.send = send_in_time


class Jobs:
    """Starts jobs and waits for them, within the run's deadline. A job id is made of the run's id and the step."""

    def __init__(self, client: Client, deadline: Deadline, run_id: str) -> None:
        self._client = client
        self._deadline = deadline
        self._run_id = run_id

    def query(
        self,
        query: str,
        parameters: list[Any] | None = None,
        *,
        step: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[Any]:
        """Run a query to its end, and give its rows, so many held at a time. One that writes names its `step`."""
        from google.cloud.bigquery import QueryJobConfig

        # Given an id by us, also a query that only reads: the client looks for 10 minutes for the job of one that it
        # has given an id itself, where BigQuery says that there is one already.
        def start(job_id: str) -> Any:
            return self._client.query(
                query,
                job_id=job_id,
                job_config=QueryJobConfig(query_parameters=parameters or []),
                retry=self.retry(),
                job_retry=None,  # a job id is burnt once its job has failed
                timeout=self.bound(),
            )

        return iter(self._run(start, step or f"read-{uuid4().hex}", job_retry=None, page_size=page_size))

    def load(self, start: Callable[[str], Any], step: str) -> None:
        """Run a load job to its end; `start` begins it under the id that it is given."""
        self._run(lambda job_id: self.retry()(start)(job_id), step)

    def job_id(self, step: str, generation: int = 1) -> str:
        """The same for the same run, step and generation: the id of a job that has failed is burnt."""
        return f"veritix-etl-{self._run_id}-{step}" + (f"-{generation}" if generation > 1 else "")

    def retry(self) -> Any:
        """The client's own retry, for 60 s or what is left: its default is 10 minutes."""
        from google.cloud.bigquery import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self.bound())

    def bound(self) -> float:
        """Seconds for one call."""
        return self._deadline.bound(CALL_SECONDS)

    def brief(self) -> dict[str, Any]:
        """Bounds for a call that is only tried, also after the run's end: the client's own go on for 10 minutes."""
        from google.cloud.bigquery import DEFAULT_RETRY

        seconds = self._deadline.last_try(BRIEF_SECONDS).remaining_or_raise()
        return {"retry": DEFAULT_RETRY.with_timeout(seconds), "timeout": seconds}

    def _run(self, start: Callable[[str], Any], step: str, **options: Any) -> Any:
        """A job's result; where it fails for a reason that passes, of the next generation's."""
        from google.api_core.exceptions import GoogleAPICallError

        generation = 1
        while True:
            job_id = self.job_id(step, generation)
            try:
                return self._finish(self._submit(job_id, partial(start, job_id)), **options)
            except GoogleAPICallError as error:
                if generation == MAX_GENERATIONS or not _is_passing(error):
                    raise
                log_warning("BigQuery job repeated", job=job_id, error=(error.message or "").splitlines()[0][:300])
            self._deadline.sleep(2.0 ** (generation - 1))
            generation += 1

    def _submit(self, job_id: str, submit: Callable[[], Any]) -> Any:
        from google.api_core.exceptions import Conflict

        try:
            return submit()
        except Conflict:
            # This run has started it before: the answer was lost, not the job.
            return self._client.get_job(job_id, retry=self.retry(), timeout=self.bound())

    def _finish(self, job: Any, **options: Any) -> Any:
        """Wait for a job's end; one that goes on past the run's deadline is cancelled."""
        try:
            return job.result(timeout=self._deadline.remaining_or_raise(), retry=self.retry(), **options)
        except JobTimeoutError:
            tidy_up("BigQuery job not cancelled", lambda: job.cancel(**self.brief()), job=job.job_id)
            raise self._deadline.exceeded(f"BigQuery's job {job.job_id} had not ended") from None


def _is_passing(error: Any) -> bool:
    reasons = {item.get("reason") for item in error.errors if isinstance(item, dict)}
    return bool(reasons & _PASSING) or _CONFLICT in (error.message or "")


def tidy_up(failure: str, call: Callable[[], object], **fields: str) -> None:
    """Try to tidy up; where that fails, say `failure` in the log: nothing depends on it."""
    from google.api_core.exceptions import GoogleAPIError

    try:
        call()
    except (GoogleAPIError, OSError) as error:
        log_info(failure, error=type(error).__name__, **fields)


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn what the client raises into a StoreUnavailableError for people. No SQL, no rows."""
    from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, RetryError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        last = error.cause if isinstance(error, RetryError) else error
        if isinstance(last, GoogleAPICallError):
            raise StoreUnavailableError(_message_for(last.code, last.message, last.errors)) from None
        raise StoreUnavailableError(
            f"BigQuery can't be reached, or doesn't answer ({type(error).__name__}). Check BQ_PROJECT_ID, the "
            "function's account, and BigQuery's status."
        ) from None


def _message_for(code: int | None, message: str | None, errors: Any) -> str:
    reasons = ", ".join(sorted({str(error.get("reason")) for error in errors if isinstance(error, dict)}))
    said = (message or "no message").splitlines()[0][:300]
    answer = f"BigQuery answered {code}" + (f" ({reasons})" if reasons else "") + f": {said}"
    hints = [hint for words, hint in _HINTS_BY_WORDS.items() if words in (message or "")]
    hints += [_HINTS[code]] if code in _HINTS and not hints else []
    return ". ".join([answer, *hints])


_HINTS: dict[int, str] = {
    403: "Its account needs roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project",
    404: "Check BQ_PROJECT_ID, BQ_DATASET and BQ_LOCATION",
    429: "Too many jobs or table changes: run less often",
}
_HINTS_BY_WORDS: dict[str, str] = {
    "partitions": "BigQuery takes 4,000 days a statement and 10,000 a table. For sales of more days write "
    "BQ_PARTITION_BY=month, and rename the table that is partitioned by days: the next run makes a new one",
    "streaming buffer": "That passes by itself: rows that the write mode `stream` has sent can't be changed for 30 to "
    "90 minutes. The first run after that merges all",
    "without a filter over column": "Allow that: ALTER TABLE ... SET OPTIONS (require_partition_filter = FALSE)",
}
