"""Routes, parameters and errors of the HTTP function, through the framework's own application."""

import json
import re
from collections.abc import Iterator
from typing import Any

import flask.testing
import pytest
import werkzeug.test

from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.processes import free_port
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.application import application_client

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
Client = flask.testing.FlaskClient


@pytest.fixture
def client() -> Iterator[Client]:
    with application_client() as client:
        yield client


@pytest.fixture
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi(plain_events(3), plain_sales(28), page_size=10) as api:
        yield api


@pytest.fixture
def configured(client: Client, upstream: TicketingApi, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The function with an upstream and an empty database."""
    monkeypatch.setenv("NEST_API_BASE_URL", upstream.base_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return client


def body_of(answer: werkzeug.test.TestResponse) -> dict[str, Any]:
    body: dict[str, Any] = answer.get_json()
    return body


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


JSON = "application/json"


@pytest.mark.parametrize(
    ("query", "body", "content_type", "words"),
    [
        pytest.param("dry=true", b"", None, ["'dry'", "dry_run", "force"], id="unknown name"),
        pytest.param("Dry_Run=true", b"", None, ["'Dry_Run'"], id="other case"),
        pytest.param("dry_run=maybe", b"", None, ["dry_run", "'maybe'", "true or false"], id="maybe"),
        pytest.param("dry_run=", b"", None, ["dry_run", "true or false"], id="empty value"),
        pytest.param("force=2", b"", None, ["force", "'2'"], id="number"),
        pytest.param("dry_run=true&dry_run=false", b"", None, ["dry_run", "more than once"], id="twice in the query"),
        pytest.param("dry_run=true", b'{"dry_run": true}', JSON, ["dry_run", "more than once"], id="query and body"),
        pytest.param(
            "", b'{"dry_run": true, "dry_run": false}', JSON, ["dry_run", "more than once"], id="twice in JSON"
        ),
        pytest.param("", b'{"dry_run": null}', JSON, ["dry_run"], id="null"),
        pytest.param("", b'{"dry_run": 1}', JSON, ["dry_run", "'1'"], id="JSON number"),
        pytest.param("", b'{"dry_run": [true]}', JSON, ["dry_run"], id="JSON list as a value"),
        pytest.param("", b'{"until": "2026-01-01"}', JSON, ["'until'"], id="unknown JSON name"),
        pytest.param("", b"[]", JSON, ["a JSON object"], id="a list"),
        pytest.param("", b'"true"', JSON, ["a JSON object"], id="a string"),
        pytest.param("", b"null", JSON, ["a JSON object"], id="null as a body"),
        pytest.param("", b"{", JSON, ["valid JSON"], id="valid JSON"),
        pytest.param("", b"\xff\xfe{", JSON, ["valid JSON"], id="no text"),
        pytest.param("", b"[" * 60_000, JSON, ["valid JSON"], id="nested too deeply"),
        pytest.param("", b'{"force": ' + b"9" * 5000 + b"}", JSON, ["true"], id="a long number"),
        pytest.param("", b"dry_run=true", "application/x-www-form-urlencoded", ["valid JSON"], id="a form"),
        pytest.param("", b"--x--", "multipart/form-data; boundary=x", ["valid JSON"], id="a multipart form"),
        pytest.param("", b" " * 65_537, JSON, ["65536"], id="too large"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_call_that_is_not_understood(
    client: Client,
    capsys: pytest.CaptureFixture[str],
    method: str,
    query: str,
    body: bytes,
    content_type: str | None,
    words: list[str],
) -> None:
    """It is a 400 that says what was wrong, before any setting is looked at, and one log line."""
    answer = client.open("/", method=method, query_string=query, data=body, content_type=content_type)
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    detail = body_of(answer)["detail"]
    assert body_of(answer) == {
        "type": "about:blank",
        "title": "bad request",
        "status": 400,
        "code": "bad_request",
        "detail": detail,
    }
    assert [word for word in words if word not in detail] == [], detail
    (line,) = log_lines(capsys)
    assert (line["severity"], line["message"], line["code"], line["error"]) == (
        "WARNING",
        "ETL request refused",
        "bad_request",
        detail,
    )


@pytest.mark.parametrize(
    ("method", "query", "body", "dry_run", "force"),
    [
        pytest.param("POST", "", b"", False, False, id="nothing"),
        pytest.param("POST", "", b"  ", False, False, id="blanks"),
        pytest.param("POST", "", b"{}", False, False, id="an empty object"),
        pytest.param("GET", "dry_run=TRUE", b"", True, False, id="upper case"),
        pytest.param("GET", "dry_run=1&force=no", b"", True, False, id="one and no"),
        pytest.param("POST", "force=on", b'{"dry_run": "yes"}', True, True, id="query and body"),
        pytest.param("POST", "", b'{"dry_run": true, "force": false}', True, False, id="JSON booleans"),
        pytest.param("POST", "", b'\xef\xbb\xbf{"dry_run": true}', True, False, id="a byte order mark"),
    ],
)
def test_a_call_that_is_understood(
    configured: Client, method: str, query: str, body: bytes, dry_run: bool, force: bool
) -> None:
    """Parameters come in the query or as JSON, whatever the content type says; without any it is a plain run."""
    answer = configured.open("/", method=method, query_string=query, data=body, content_type="text/plain")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert (body_of(answer)["dry_run"], body_of(answer)["force"]) == (dry_run, force)
    assert body_of(answer)["status"] == ("dry_run" if dry_run else "success")


def test_amounts_are_plain_decimals(configured: Client, upstream: TicketingApi) -> None:
    """Free tickets come to 0.000000000, wherever an answer names an amount."""
    upstream.sales = [{"id": 1, "event_id": "event-1"}, {"id": 2, "event_id": "event-2", "price": "0.0000001"}]
    for query in ("dry_run=true", ""):
        answer = configured.post("/", query_string=query)
        assert body_of(answer)["total_revenue"] == "0.000000100"
        assert re.findall("[0-9]E[+-]?[0-9]", answer.text) == []
    assert answer.text.count('"revenue": "0.000000100"') == 2


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("PUT", "/", "GET, POST", id="PUT /"),
        pytest.param("HEAD", "/", "GET, POST", id="HEAD /"),
        pytest.param("OPTIONS", "/", "GET, POST", id="OPTIONS /"),
        pytest.param("POST", "/health", "GET", id="POST /health"),
        pytest.param("DELETE", "/runs", "GET", id="DELETE /runs"),
        pytest.param("PATCH", "/metrics", "GET", id="PATCH /metrics"),
        *(pytest.param("GET", path, None, id=f"GET {path}") for path in ("/nope", "/healthz", "/runs/", "/health/x")),
    ],
)
def test_paths_and_methods_that_are_not_there(client: Client, method: str, path: str, allow: str | None) -> None:
    """405 names the methods, in the answer's `Allow` too; 404 names the paths. Nothing is run."""
    answer = client.open(path, method=method)
    code, status = ("not_found", 404) if allow is None else ("method_not_allowed", 405)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert answer.headers.get("Allow") == allow
    if method != "HEAD":
        assert (body_of(answer)["code"], body_of(answer)["status"]) == (code, status)
        assert path in body_of(answer)["detail"]


def test_health_needs_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers without settings, and with wrong ones."""
    assert (client.get("/health").status_code, client.get("/health").json) == (200, {"status": "ok"})
    monkeypatch.setenv("DATABASE_URL", "mysql://")
    assert client.get("/health").json == {"status": "ok"}


GOOD = {"NEST_API_BASE_URL": "https://api.example.com", "DATABASE_URL": "postgresql://u:pw-7c1e@127.0.0.1/db"}


@pytest.mark.parametrize(
    ("env", "problems"),
    [
        pytest.param({}, ["NEST_API_BASE_URL is missing", "no destination is set"], id="nothing"),
        pytest.param({"DATABASE_URL": "postgresql://u@h/d"}, ["NEST_API_BASE_URL is missing"], id="no upstream"),
        pytest.param({**GOOD, "BQ_ENABLED": "yes please"}, ["BQ_ENABLED is 'yes please'"], id="yes please"),
        pytest.param({**GOOD, "ETL_TIMEZONE": "Mars/Olympus"}, ["ETL_TIMEZONE is 'Mars/Olympus'"], id="no time zone"),
        pytest.param({**GOOD, "DATABASE_URL": "mysql://u:pw-7c1e@h/d"}, ["DATABASE_URL "], id="MySQL"),
        pytest.param({**GOOD, "DATABASE_URL": "sqlite:////tmp/pw-7c1e"}, ["DATABASE_URL "], id="SQLite"),
        pytest.param({**GOOD, "BQ_ENABLED": "true"}, ["BQ_PROJECT_ID is missing"], id="no project"),
        pytest.param(
            {**GOOD, "ETL_DEADLINE_SECONDS": "soon", "ETL_MAX_REJECT_RATIO": "5%", "NEST_API_TOKEN": "pw-7c1e pw"},
            ["NEST_API_TOKEN ", "ETL_MAX_REJECT_RATIO is '5%'", "ETL_DEADLINE_SECONDS is 'soon'"],
            id="three at once",
        ),
        pytest.param(
            {"NEST_API_BASE_URL": "https://a.example", "INSTANCE_CONNECTION_NAME": "p:r:i"},
            ["DB_USER is missing", "DB_NAME is missing", "DB_PASS is missing"],
            id="half an instance",
        ),
    ],
)
def test_settings_that_are_wrong(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    env: dict[str, str],
    problems: list[str],
) -> None:
    """One configuration_error names each of them, in the answer and in the log, and shows no secret."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for method, path in (("POST", "/"), ("GET", "/runs"), ("GET", "/metrics")):
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
        assert body_of(answer)["code"] == "configuration_error"
        found = body_of(answer)["problems"]
        assert len(found) == len(problems)
        assert all(any(said.startswith(problem) for said in found) for problem in problems), found
        assert all(said in body_of(answer)["detail"] for said in found)
        output = capsys.readouterr().out
        assert "pw-7c1e" not in answer.text + output
        (line,) = [json.loads(text) for text in output.splitlines()]
        assert (line["severity"], line["code"], line["error"]) == (
            "ERROR",
            "configuration_error",
            body_of(answer)["detail"],
        )


def test_a_database_that_nobody_listens_for(
    configured: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs, `/runs` and `/metrics` answer 503, and no password shows; `/health` is as ever."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://etl:pw-7c1e@127.0.0.1:{free_port()}/veritix")
    for path in ("/", "/runs", "/metrics"):
        answer = configured.get(path)
        assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
        assert body_of(answer)["code"] == "load_failed"
        assert "DATABASE_URL" in body_of(answer)["detail"]
        assert ("run_id" in body_of(answer)) == (path == "/")
        lines = log_lines(capsys)
        assert (lines[-1]["severity"], lines[-1]["code"]) == ("ERROR", "load_failed")
        assert "pw-7c1e" not in answer.text + str(lines)
    assert configured.get("/health").status_code == 200


def test_before_the_first_run(configured: Client) -> None:
    """`/runs` is empty and `/metrics` counts from zero, and looking makes no table."""
    for _ in range(2):
        assert body_of(configured.get("/runs")) == {"runs": []}
        metrics = configured.get("/metrics").text
        samples = [line for line in metrics.splitlines() if not line.startswith("#")]
        assert samples == ['etl_jobs_total{status="success"} 0.0', 'etl_jobs_total{status="failed"} 0.0']


def test_runs_are_the_last_twenty_newest_first(
    configured: Client, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    """Times are ISO 8601 with their offset."""
    run_id = body_of(configured.post("/"))["run_id"]
    postgres_server.run(
        "INSERT INTO etl_runs (run_id, started_at, trigger, status)"
        " SELECT 'old-' || n, '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 day', 'http', 'failed'"
        " FROM generate_series(1, 30) AS n",
        database_url.partition("@/")[2].partition("?")[0],
    )
    runs = body_of(configured.get("/runs"))["runs"]
    assert [run["run_id"] for run in runs] == [run_id, *(f"old-{n}" for n in range(30, 11, -1))]
    assert runs[1]["started_at"] == "2026-01-31T00:00:00+00:00"


def test_a_fault_of_the_program(
    configured: Client, postgres_server: EmbeddedPostgres, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever nobody thought of (here: a ledger row that was tampered with) is an internal_error without details."""
    assert configured.post("/").status_code == 200
    database = database_url.partition("@/")[2].partition("?")[0]
    postgres_server.run("UPDATE etl_runs SET fields_found = '[\"private-3e1\"]'", database)
    capsys.readouterr()
    answer = configured.post("/")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    output = capsys.readouterr().out
    (line,) = [line for line in map(json.loads, output.splitlines()) if line["severity"] == "ERROR"]
    assert (line["message"], line["code"], line["error"]) == (
        "ETL job failed",
        "internal_error",
        body_of(answer)["detail"],
    )
    assert not [word for word in ("Traceback", "private-3e1") if word in answer.text + output]
    check_frames(line, "_Runner.execute")
    assert "frames" not in body_of(answer)
    run_id = body_of(answer)["run_id"]
    row = postgres_server.run(f"SELECT status, error_code FROM etl_runs WHERE run_id = '{run_id}'", database)
    assert row == [("failed", "internal_error")]


def check_frames(line: dict[str, Any], outermost: str) -> None:
    """An unexpected error's log line has each frame, from one of the program's on to the one that its message names."""
    head, *frames = line["frames"]
    assert re.fullmatch("[A-Za-z]+Error:", head)
    assert [frame for frame in frames if not re.fullmatch(r"[\w/.<>]+:[0-9]+ [\w.<>]+", frame)] == []
    assert frames[0].endswith(f" {outermost}")
    ours = [frame.split(" ")[0] for frame in frames if frame.startswith(("etl/", "main.py:"))]
    assert f"an unexpected {head[:-1]} at {ours[-1]}: " in line["error"]
    assert len(ours) > 1


def test_a_fault_of_the_program_outside_a_run(
    configured: Client, postgres_server: EmbeddedPostgres, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The routes that only look tell it in the same way (here: a time that is none)."""
    assert configured.post("/").status_code == 200
    postgres_server.run(
        "UPDATE etl_runs SET finished_at = 'infinity'", database_url.partition("@/")[2].partition("?")[0]
    )
    capsys.readouterr()
    answer = configured.get("/metrics")
    assert (answer.status_code, body_of(answer)["code"]) == (500, "internal_error")
    (line,) = log_lines(capsys)
    assert (line["message"], line["error"]) == ("ETL request failed", body_of(answer)["detail"])
    check_frames(line, "run_etl")
    assert "infinity" not in str(line)


def test_a_deadline_that_passes(configured: Client, upstream: TicketingApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging upstream ends the run at its deadline: 504, a failed run in the ledger, and the lease is free again."""
    monkeypatch.setenv("ETL_DEADLINE_SECONDS", "1")
    upstream.faults.append(Fault("hang", dataset="ticket_sales", page=2))
    answer = configured.post("/")
    assert (answer.status_code, body_of(answer)["code"]) == (504, "deadline_exceeded")
    assert "ETL_DEADLINE_SECONDS" in body_of(answer)["detail"]
    (run,) = body_of(configured.get("/runs"))["runs"]
    assert (run["run_id"], run["status"], run["error_code"]) == (
        body_of(answer)["run_id"],
        "failed",
        "deadline_exceeded",
    )
    assert 1 <= run["duration_seconds"] < 5
    monkeypatch.setenv("ETL_DEADLINE_SECONDS", "60")
    assert configured.post("/").status_code == 200


@pytest.mark.parametrize(
    ("headers", "project", "trace", "span"),
    [
        pytest.param(
            {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"},
            "p-1",
            f"projects/p-1/traces/{TRACE_ID}",
            "00f067aa0ba902b7",
            id="W3C",
        ),
        pytest.param(
            {"X-Cloud-Trace-Context": f"{TRACE_ID}/1;o=1"},
            "p-1",
            f"projects/p-1/traces/{TRACE_ID}",
            "0000000000000001",
            id="Google",
        ),
        pytest.param({"X-Cloud-Trace-Context": TRACE_ID}, None, TRACE_ID, None, id="bare, without a project"),
        pytest.param({"traceparent": "nonsense"}, "p-1", None, None, id="nonsense"),
        pytest.param({}, "p-1", None, None, id="none"),
    ],
)
def test_traces(
    configured: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    headers: dict[str, str],
    project: str | None,
    trace: str | None,
    span: str | None,
) -> None:
    """A run's lines carry the request's trace in the form that Cloud Logging links."""
    if project:
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    capsys.readouterr()
    assert configured.get("/", query_string="dry_run=1", headers=headers).status_code == 200
    lines = log_lines(capsys)
    assert len(lines) == 3 + 1 + 3  # started, extracted, completed; one page of events, three of sales
    for line in lines:
        assert line.get("logging.googleapis.com/trace") == trace
        assert line.get("logging.googleapis.com/spanId") == span


def test_log_level(configured: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`LOG_LEVEL` bounds what is logged."""
    monkeypatch.setenv("LOG_LEVEL", "warning")
    capsys.readouterr()
    assert configured.post("/").status_code == 200
    assert log_lines(capsys) == []
