"""Jobs are bounded and run once, and BigQuery's errors come out as messages for people."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError
from google.cloud.bigquery import ScalarQueryParameter

from etl.deadline import Deadline, within
from etl.errors import ConfigurationError, DeadlineExceededError, EtlError, StoreUnavailableError, TerminatedError
from etl.load.bigquery.client import Jobs, client_for, explained_errors
from etl.settings import Settings
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HANG, LOSE_ANSWER
from tests.support.waiting import takes_at_most

PROJECT = "veritix-test"


class EndlessFront(BigQueryFront):
    """A front whose query jobs with an id of ours never end; a poll is answered after a moment, as the service does."""

    POLL_SECONDS = 0.1

    def respond(self, request: Request) -> Answer:
        if "veritix-etl" not in request.target and b"veritix-etl" not in request.body:
            return super().respond(request)
        reference = {"projectId": PROJECT, "jobId": "veritix-etl-r1-merge", "location": "US"}
        job: dict[str, Any] = {"jobReference": reference, "configuration": {"query": {"query": "SELECT 1"}}}
        job |= {"status": {"state": "RUNNING"}, "statistics": {}}
        if request.path.endswith("/cancel"):
            return json_answer({"kind": "bigquery#jobCancelResponse", "job": job})
        if "/queries/" in request.path:
            time.sleep(self.POLL_SECONDS)
            return json_answer({"jobReference": reference, "jobComplete": False})
        return json_answer(job)


@pytest.fixture
def front(bigquery_emulator: BigQueryEmulator) -> Iterator[BigQueryFront]:
    with BigQueryFront(bigquery_emulator.url) as front:
        yield front


def settings_for(endpoint: str | None, **others: Any) -> Settings:
    return Settings(
        "http://upstream", bq_enabled=True, bq_project_id=PROJECT, bigquery_emulator_host=endpoint, **others
    )


def jobs_at(endpoint: str, deadline: Deadline | None = None, run_id: str = "r1") -> Jobs:
    return Jobs(client_for(settings_for(endpoint)), deadline or Deadline(30), run_id)


def test_one_client_per_settings_that_connects_to_nothing() -> None:
    """The same settings get the same client; another project, location or endpoint another one."""
    one = settings_for("http://127.0.0.1:1")
    others = [settings_for("http://127.0.0.1:2"), settings_for("http://127.0.0.1:1", bq_location="EU")]
    assert client_for(one) is client_for(settings_for("http://127.0.0.1:1"))
    clients = [client_for(settings) for settings in (one, *others)]
    assert len({id(client) for client in clients}) == 3
    assert [(client.project, client.location) for client in clients] == [
        (PROJECT, "US"),
        (PROJECT, "US"),
        (PROJECT, "EU"),
    ]


def test_a_missing_package_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """BQ_ENABLED without the package says what to install."""
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    with pytest.raises(ConfigurationError, match=r"google-cloud-bigquery.*requirements.txt"):
        client_for(settings_for("http://127.0.0.1:3"))


def test_without_an_endpoint_the_real_credentials_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Where there are none, as here, the message says so; anonymous ones are for loopback addresses only."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    for endpoint in (None, "https://bigquery.example.com"):
        with pytest.raises(StoreUnavailableError, match=r"DefaultCredentialsError.*account"), explained_errors():
            client_for(settings_for(endpoint))


def test_a_query_gives_its_rows(bigquery_emulator: BigQueryEmulator) -> None:
    """With parameters, and as often as it is asked."""
    jobs = jobs_at(bigquery_emulator.url)
    for word in ("one", "it's"):
        rows = jobs.query("SELECT @word AS word, 2 AS n", [ScalarQueryParameter("word", "STRING", word)])
        assert [tuple(row.values()) for row in rows] == [(word, 2)]


def test_a_step_runs_once_a_run(front: BigQueryFront) -> None:
    """Its job id comes of run and step; the same step again gets the first job's rows, also after a lost answer."""
    front.fail(LOSE_ANSWER, path="jobs?prettyPrint")
    jobs = jobs_at(front.url, run_id="20260131T060000Z-1a2b")
    for number in (1, 2):
        assert [row["n"] for row in jobs.query(f"SELECT {number} AS n", step="count")] == [1]
    assert [row["n"] for row in jobs_at(front.url, run_id="r2").query("SELECT 3 AS n", step="count")] == [3]
    ids = [request.json["jobReference"]["jobId"] for request in front.log if request.method == "POST"]
    assert ids == ["veritix-etl-20260131T060000Z-1a2b-count"] * 3 + ["veritix-etl-r2-count"]


def test_a_job_that_is_said_to_be_there_and_is_not(front: BigQueryFront) -> None:
    """The run doesn't wait for it: also a query that only reads fails at once."""
    front.fail(409, path="jobs?prettyPrint")
    with takes_at_most(0), pytest.raises(StoreUnavailableError, match="404"), explained_errors():
        list(jobs_at(front.url).query("SELECT 1"))


def test_a_job_that_never_ends_is_cancelled_at_the_deadline(bigquery_emulator: BigQueryEmulator) -> None:
    """The run gets DeadlineExceededError when its time is up, and the job a `cancel`."""
    with EndlessFront(bigquery_emulator.url) as front:
        with (
            takes_at_most(1, at_least=1),
            pytest.raises(DeadlineExceededError, match="veritix-etl-r1-merge"),
            explained_errors(),
        ):
            jobs_at(front.url, Deadline(1)).query("SELECT 1", step="merge")
        cancels = [request.path for request in front.log if request.method == "POST"][1:]
        assert cancels == [f"/bigquery/v2/projects/{PROJECT}/jobs/veritix-etl-r1-merge/cancel"]


def test_a_service_that_falls_silent_while_a_job_is_waited_for(front: BigQueryFront) -> None:
    """The run goes on to its deadline, and no longer: the client's own patience is 2 minutes."""
    front.fail(HANG, times=9, path="/queries/veritix")
    deadline = Deadline(1)
    with (
        takes_at_most(1, at_least=1),
        pytest.raises(StoreUnavailableError),
        explained_errors(),
        within(deadline),
    ):
        jobs_at(front.url, deadline).query("SELECT 1", step="merge")


def test_a_job_that_cannot_be_cancelled_hides_nothing(
    bigquery_emulator: BigQueryEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome is still that the time is up."""
    monkeypatch.setattr("etl.load.bigquery.client.BRIEF_SECONDS", 0.3)
    with EndlessFront(bigquery_emulator.url) as front:
        front.fail(503, times=99, path="/cancel")
        with takes_at_most(0.5 + 0.3), pytest.raises(DeadlineExceededError), explained_errors():
            jobs_at(front.url, Deadline(0.5)).query("SELECT 1", step="merge")


def test_a_cancelled_run_starts_no_job(front: BigQueryFront) -> None:
    """What cancelled the deadline is raised as it is."""
    deadline = Deadline(30)
    deadline.cancel(TerminatedError("the instance ends"))
    with pytest.raises(TerminatedError, match="the instance ends"), explained_errors():
        jobs_at(front.url, deadline).query("SELECT 1", step="merge")
    assert front.log == []


def google(kind: Callable[..., Exception], message: str | None, *reasons: str) -> Exception:
    return kind(message, errors=[{"reason": reason, "message": message} for reason in reasons])


def exhausted(cause: Exception) -> Exception:
    """What the client raises when it has tried for long enough."""
    retry_error: Callable[..., Exception] = api.RetryError
    return retry_error("Timeout of 60.0s exceeded", cause)


CREDENTIALS_ERROR: Callable[..., Exception] = RefreshError
ERRORS: dict[str, tuple[Exception, list[str]]] = {
    "403": (
        google(api.Forbidden, "Access Denied: Table p:d.t", "accessDenied"),
        ["403 (accessDenied)", "Access Denied: Table p:d.t", "roles/bigquery.dataEditor", "roles/bigquery.jobUser"],
    ),
    "404": (google(api.NotFound, "Not found: Dataset p:d", "notFound"), ["404 (notFound)", "p:d", "BQ_DATASET"]),
    "429": (google(api.TooManyRequests, "Quota", "a", "b", "a"), ["429 (a, b)", "Quota", "run less often"]),
    "429 retried": (
        exhausted(google(api.TooManyRequests, "Quota exceeded", "rateLimitExceeded")),
        ["429 (rateLimitExceeded)", "Quota exceeded", "run less often"],
    ),
    "streamed": (
        google(
            api.BadRequest,
            "UPDATE or DELETE statement over table p.d.t would affect rows in the streaming buffer, which is not",
            "invalidQuery",
        ),
        ["400 (invalidQuery)", "p.d.t", "passes by itself", "30 to 90 minutes"],
    ),
    "filter": (
        google(
            api.BadRequest, "Cannot query over table 't' without a filter over column(s) 'd' that can", "invalidQuery"
        ),
        ["'t'", "SET OPTIONS (require_partition_filter = FALSE)"],
    ),
    "500": (google(api.InternalServerError, "boom\nSELECT secret"), ["500", "boom"]),
    "no message": (google(api.BadGateway, None), ["502", "no message"]),
    "long": (google(api.BadRequest, "x" * 5000), ["400", "x" * 300]),
    "connection": (
        exhausted(ConnectionError("http://user:SELECT secret@x")),
        ["RetryError", "BQ_PROJECT_ID"],
    ),
    "socket": (ConnectionResetError("SELECT secret"), ["ConnectionResetError", "reached"]),
    "credentials": (CREDENTIALS_ERROR("SELECT secret"), ["RefreshError", "account"]),
}


@pytest.mark.parametrize(("error", "words"), [pytest.param(*case, id=name) for name, case in ERRORS.items()])
def test_errors_are_explained(error: Exception, words: list[str]) -> None:
    """Status, reasons, the first line of the message and a hint; no statement, and none of a library's own text."""
    with pytest.raises(StoreUnavailableError) as caught, explained_errors():
        raise error
    assert [word for word in words if word not in str(caught.value)] == []
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert caught.value.__suppress_context__


def test_our_own_errors_pass_as_they_are() -> None:
    """An EtlError from inside is not explained again."""
    with pytest.raises(EtlError) as caught, explained_errors():
        raise DeadlineExceededError("time is up")
    assert type(caught.value) is DeadlineExceededError
