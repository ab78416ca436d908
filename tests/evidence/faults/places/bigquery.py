"""BigQuery itself: calls that are refused, jobs that fail, and jobs that never end."""

import json
from collections.abc import Callable
from typing import Any

from tests.doubles import fault_acts as acts
from tests.doubles.fault_proxy import FaultProxy, Trap
from tests.doubles.http_server import Answer, json_answer
from tests.doubles.moments import BIGQUERY
from tests.doubles.wire import Step
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play

_EVERY = {"bigquery": tuple(BIGQUERY)}
_QUERIES = {"bigquery": ("compare", "merge", "reconcile")}
_JOBS = {"bigquery": ("guard-tickets", "upload-summary", "upload-daily", *_QUERIES["bigquery"])}
_STREAMING = "UPDATE or DELETE statement over table would affect rows in the streaming buffer, which is not supported"
_REFUSALS: dict[str, tuple[int, str, str]] = {
    "forbidden": (403, "accessDenied", "Access Denied: Permission bigquery.tables.get denied"),
    "rate-limit": (403, "rateLimitExceeded", "Exceeded rate limits: too many table update operations for this table"),
    "quota": (403, "quotaExceeded", "Quota exceeded: Your project exceeded quota for load jobs"),
    "not-found": (404, "notFound", "Not found"),
    "conflict": (409, "duplicate", "Already Exists"),
    "too-many": (429, "rateLimitExceeded", "Too many requests"),
    "server-error": (500, "internalError", "An internal error occurred and the request could not be completed"),
    "unavailable": (503, "backendError", "Error encountered during execution. Retrying may solve the problem"),
}
_JOB_ERRORS = (
    ("invalidQuery", "Query error: made to fail"),
    ("invalidQuery", "Transaction is aborted due to concurrent update against table"),
    ("backendError", "Error encountered during execution"),
)


def _refuse(status: int, reason: str, message: str) -> Callable[[Play], None]:
    errors = [{"reason": reason, "message": message, "domain": "global"}]
    answer = json_answer({"error": {"code": status, "message": message, "errors": errors}}, status)
    act = acts.http_answer(lambda _: answer)
    return lambda play: play.trap(act, play.dice.choice([1, 1, None]))


def _job(play: Play, step: Step, status: dict[str, Any]) -> dict[str, Any]:
    """The resource of the job that a step asks for, in this state; what an upload is for was said at its beginning."""
    text = step.text
    if text.startswith("PUT "):
        text = next(said for said in reversed(_proxy(play).texts) if said.startswith("POST /upload"))
    asked = json.loads(text.split("\n", 1)[1])
    return {"kind": "bigquery#job", "id": "job", **asked, "status": status}


def _fail_job(*errors: tuple[str, str]) -> Callable[[Play], None]:
    def arm(play: Play) -> None:
        reason, message = play.dice.choice(errors)
        error = {"reason": reason, "message": message}
        status = {"state": "DONE", "errorResult": error, "errors": [error]}
        play.trap(acts.http_answer(lambda step: json_answer(_job(play, step, status))))

    return arm


def _never_end(play: Play) -> None:
    """The job is taken, and goes on for ever; whoever asks for it hears so."""

    def begin(step: Step) -> Answer:
        job = _job(play, step, {"state": "RUNNING"})
        job_id = job["jobReference"]["jobId"]
        waiting = {"kind": "bigquery#queryResponse", "jobReference": job["jobReference"], "jobComplete": False}
        answers = {
            f"^GET .*/queries/{job_id}": waiting,
            f"^GET .*/jobs/{job_id}": job,
            f"^POST .*/jobs/{job_id}/cancel": {"kind": "bigquery#jobCancelResponse", "job": job},
        }
        for pattern, answer in answers.items():
            _proxy(play).set(Trap(pattern, acts.http_answer(lambda _, said=answer: json_answer(said)), None))  # type: ignore[misc]
        return json_answer(job)

    play.trap(acts.http_answer(begin))


def _proxy(play: Play) -> FaultProxy:
    return play.bench.proxies[play.moment.place]


JOBS: dict[str, Kind] = {
    **{f"bigquery-{name}": Kind(_refuse(*refusal), _EVERY) for name, refusal in _REFUSALS.items()},
    "job-error": Kind(_fail_job(*_JOB_ERRORS), _JOBS),
    "streaming-buffer": Kind(_fail_job(("invalidQuery", _STREAMING)), _QUERIES),
    "job-never-ends": Kind(_never_end, _JOBS),
}
