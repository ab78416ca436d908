"""A proxy that adds to the emulator what BigQuery does: job ids are good once, requests have a limit. It logs them."""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.doubles.bigquery_parameters import with_parameters
from tests.doubles.bigquery_rules import TableRules, invalid_query
from tests.doubles.bigquery_sql import UnknownTableError, WrongStatementError, check_script
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HttpStandIn, google_error

_JOBS = re.compile(r"/bigquery/v2/projects/[^/]+/jobs")
_JOB = re.compile(r"/bigquery/v2/projects/[^/]+/jobs/(?P<id>[^/]+)")
_QUERIES = re.compile(r"/bigquery/v2/projects/[^/]+/queries")
_UPLOAD = re.compile(r"/(?:resumable/)?upload/bigquery/v2/projects/[^/]+/jobs")
_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+)")
_STEP_OR_DAY = re.compile(r"_\d+_(?=\w+`)|\d{4}-\d\d-\d\d")
_OWN_JOBS = "veritix-etl-"
_GZIP = b"\x1f\x8b"
REQUEST_BYTES = 10_000_000
_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class BigQueryFront(HttpStandIn):
    """In front of the emulator at the address `backend`. Its `url` takes the emulator's place.

    - A job's id is good once; the second time is a 409, and the job can be fetched by its id. (The emulator runs a
      query again, and gives load jobs ids of its own.)
    - A request of more than `request_bytes`, other than an upload, is a 413. (The emulator takes any.)
    - A script may have parameters. (The emulator takes them in single statements.)
    - A query of the function's that `check_script` finds wrong is a 400. (The emulator forgives much.)
    - `log` holds every request, and so what the emulator forgets, such as a table's `expirationTime`.
    - `location` is where tables say that they are. (The emulator says nothing.)
    - `tables` are the rules that tables bring with them.
    - `fail(LOSE_ANSWER, path=...)` lets the work be done and then breaks the connection; a status or HANG does
      as in `HttpStandIn`.
    """

    def __init__(self, backend: str, request_bytes: int = REQUEST_BYTES) -> None:
        super().__init__()
        self._request_bytes = request_bytes
        self.location: str | None = None
        self._backend = backend
        self._pool = urllib3.PoolManager(retries=False, maxsize=8)
        self._taken: set[str] = set()
        self._failing: list[str] = []
        self._loaded: dict[str, Any] = {}
        self._uploads: dict[str, str] = {}
        self._bodies: dict[str, bytes] = {}
        self._checked: set[str] = set()
        self.tables = TableRules(self._forward)

    def respond(self, request: Request) -> Answer:
        if _UPLOAD.fullmatch(request.path):
            return self._begin_load(request) if request.method == "POST" else self._go_on_loading(request)
        if len(request.body) > self._request_bytes:
            return google_error(413, "Request Too Large")
        if _JOBS.fullmatch(request.path) and request.method == "POST":
            return self._insert(request)
        asked = _JOB.fullmatch(request.path)
        if asked is not None and request.method == "GET" and asked["id"] in self._loaded:
            return json_answer(self._loaded[asked["id"]])
        if _QUERIES.fullmatch(request.path) and request.method == "POST":
            return self._query(request, request.json["query"])
        return self._moved(self.tables.answer(request) or self._forward(request))

    def _moved(self, answer: Answer) -> Answer:
        if self.location is None or answer.status != 200 or not isinstance(answer.body, bytes) or not answer.body:
            return answer
        content = json.loads(answer.body)
        return json_answer(
            {**content, "location": self.location} if content.get("kind") == "bigquery#table" else content
        )

    def _insert(self, request: Request) -> Answer:
        job_id = _job_id(request)
        if not self._take(job_id):
            return _duplicate(job_id)
        if self._failing:
            return json_answer(self._failed(request.json, self._failing.pop(0)))
        return self._query(request, request.json["configuration"]["query"]["query"])

    def fail_jobs(self, *reasons: str) -> None:
        """The next queries begin as jobs, and fail for these reasons: their ids are burnt."""
        self._failing += reasons

    def _failed(self, job: dict[str, Any], reason: str) -> dict[str, Any]:
        error = {"reason": reason, "message": f"made to fail with {reason}"}
        failed = {**job, "kind": "bigquery#job", "status": {"state": "DONE", "errorResult": error, "errors": [error]}}
        self._loaded[job["jobReference"]["jobId"]] = failed
        return failed

    def _query(self, request: Request, query: str) -> Answer:
        if refusal := self.tables.refusal(query) or self._wrong(request, query):
            return refusal
        answer = self._forward(_as_single_statements(request, self.tables.with_limits))
        self.tables.note(query)
        return answer

    def _wrong(self, request: Request, query: str) -> Answer | None:
        """What is wrong with a query; one that differs from an earlier one by staging or days alone is as right."""
        shape = _STEP_OR_DAY.sub("", query)
        is_own = request.json.get("jobReference", {}).get("jobId", "").startswith(_OWN_JOBS)
        if not is_own or shape in self._checked:
            return None
        try:
            check_script(query, self.tables.known, _asked(request.json).get("queryParameters", ()))
        except UnknownTableError:
            return None  # the emulator says so with a 404
        except WrongStatementError as error:
            return invalid_query(str(error))
        self._checked.add(shape)
        return None

    def _begin_load(self, request: Request) -> Answer:
        answer = self._forward(request)
        upload = urlsplit(answer.headers.get("location", "")).query
        for upload_id in parse_qs(upload).get("upload_id", []):
            self._uploads[upload_id] = _job_id(request)
        return answer

    def _go_on_loading(self, request: Request) -> Answer:
        """The job is there once the last byte has come. (The emulator takes one piece, and no compressed file.)"""
        upload_id = request.query["upload_id"]
        job_id = self._uploads[upload_id]
        if job_id in self._taken:
            return _duplicate(job_id)
        sent = _RANGE.fullmatch(request.headers.get("content-range", ""))
        first, last, total = (int(sent[name]) for name in ("first", "last", "total")) if sent else (0, -1, 0)
        body = self._bodies.get(upload_id, b"")[:first] + request.body
        if last + 1 < total:
            self._bodies[upload_id] = body
            return Answer(308, b"", {"range": f"bytes=0-{last}"})
        self._bodies.pop(upload_id, None)
        if body.startswith(_GZIP):
            body = gzip.decompress(body)
        headers = {**request.headers, "content-range": f"bytes 0-{len(body) - 1}/{len(body)}"}
        answer = self._forward(Request(request.method, request.target, headers, body))
        if answer.status != 200:
            return answer
        self._take(job_id)
        assert isinstance(answer.body, bytes)
        job = json.loads(answer.body)
        job["jobReference"]["jobId"] = job_id
        self._loaded[job_id] = job
        return json_answer(job)

    def _take(self, job_id: str) -> bool:
        with self._lock:
            is_new = job_id not in self._taken
            self._taken.add(job_id)
            return is_new

    def _forward(self, request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON}
        answer = self._pool.request(
            request.method,
            self._backend + request.target,
            body=request.body,
            headers=headers,  # with the client's own Host: the emulator makes the upload's address of it
            decode_content=False,
        )
        kept = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, answer.data, {name: kept[name] for name in kept if name not in _NOT_PASSED_ON})


def _as_single_statements(request: Request, with_limits: Callable[[str], str]) -> Request:
    """A script without parameters, as the emulator takes it; nor does it know the type of an empty array of structs."""
    body = request.json
    asked = _asked(body)
    parameters = asked.pop("queryParameters", None)
    asked["query"] = with_limits(asked["query"])
    is_script = asked["query"].rstrip().endswith(";")
    if not parameters or not (is_script or any("arrayType" in one["parameterType"] for one in parameters)):
        return request
    asked["query"] = with_parameters(asked["query"], parameters)
    asked.pop("parameterMode", None)
    return Request(request.method, request.target, request.headers, json.dumps(body).encode())


def _asked(body: Any) -> Any:
    """The query's part of a request that begins one."""
    return body["configuration"]["query"] if "configuration" in body else body


def _job_id(request: Request) -> str:
    return str(request.json["jobReference"]["jobId"])


def _duplicate(job_id: str) -> Answer:
    return google_error(409, f"Already Exists: Job {job_id}")
