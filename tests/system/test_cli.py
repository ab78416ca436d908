"""`python -m etl` as somebody at a shell, a cron job and a terminal meet it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests import ROOT
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.sandbox.function import child_env
from tests.support.function import is_json_object
from tests.support.oracle import postgres_tables, wanted_tables
from tests.support.waiting import BUSY_SECONDS, wait_until

COMMAND = [sys.executable, "-m", "etl"]
SECRET = "token-77aa10"


@pytest.fixture
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi(plain_events(10), plain_sales(200, events=10), page_size=50, token=SECRET) as api:
        yield api


@pytest.fixture
def env(upstream: TicketingApi, database_url: str) -> dict[str, str]:
    """The sample upstream and an empty database, and nothing else."""
    named = {"NEST_API_BASE_URL": upstream.base_url, "NEST_API_TOKEN": SECRET, "DATABASE_URL": database_url}
    return {**child_env(), **named}


def etl(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One run without a terminal."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def split(output: str) -> tuple[list[dict[str, Any]], str]:
    """The log lines, and the report after them."""
    lines = output.splitlines(keepends=True)
    count = next((place for place, line in enumerate(lines) if not is_json_object(line)), len(lines))
    return [json.loads(line) for line in lines[:count]], "".join(lines[count:])


REPORT = """\
run {run_id}: {status} in [0-9.]+ s
  read    10 events, 200 ticket sales \\(0 read twice, 0 rejected, 0 undated\\)
  totals  500 tickets, 5250[0.]* revenue, 10 events, 200 daily rows
  postgres  event_sales_summary: {events}
  postgres  daily_ticket_sales: {daily}
  stages  extract [0-9.]+ s.*
"""


def test_without_a_terminal(
    upstream: TicketingApi, env: dict[str, str], postgres_server: EmbeddedPostgres, database: str
) -> None:
    """The log goes to stdout line by line, a readable report follows, and the exit code says how it went."""
    counts = "{} inserted, 0 updated, 0 deleted, {} unchanged"
    dry = etl(env, "--dry-run")
    log, report = split(dry.stdout)
    assert (dry.returncode, dry.stderr) == (0, "")
    words = {"status": "dry_run", "daily": counts.format(200, 0), "events": counts.format(10, 0)}
    run_id = log[0]["logging.googleapis.com/labels"]["run_id"]
    assert re.fullmatch(REPORT.format(run_id=run_id, **words), report), report
    assert postgres_server.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database) == []

    wet = etl(env)
    log, report = split(wet.stdout)
    assert (wet.returncode, wet.stderr) == (0, "")
    run_id = log[0]["logging.googleapis.com/labels"]["run_id"]
    assert re.fullmatch(REPORT.format(run_id=run_id, **{**words, "status": "success"}), report), report
    messages = [line["message"] for line in log]
    assert messages == [
        "ETL job started",
        *["ETL extract attempt"] * 6,
        "ETL extract completed",
        "ETL load completed",
        "ETL job completed",
    ]
    assert postgres_tables(postgres_server, database) == wanted_tables(postgres_server, upstream.events, upstream.sales)
    assert postgres_server.run("SELECT run_id, trigger, status FROM etl_runs", database) == [(run_id, "cli", "success")]


def test_runs_that_fail(upstream: TicketingApi, env: dict[str, str]) -> None:
    """Exit code 1, and on stderr one line with code and reason; `--force` overrides a guard."""
    nothing = etl(child_env())
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr.startswith("failed: configuration_error: 2 problem(s) in the settings: NEST_API_BASE_URL is ")
    assert nothing.stderr.count("\n") == 1
    assert etl(env).returncode == 0
    upstream.sales = upstream.sales[:50]
    shrunk = etl(env)
    log, report = split(shrunk.stdout)
    assert (shrunk.returncode, report) == (1, "")
    remedy = "far fewer tickets, or far less revenue, than a store has: look at the upstream; if it is right: force."
    assert shrunk.stderr == f"failed: suspicious_extract: {log[-1]['error']} What to do: {remedy}\n"
    assert etl(env, "--force").returncode == 0


def test_a_look_at_runs_and_rejects(upstream: TicketingApi, env: dict[str, str]) -> None:
    """Runs newest first, a failure with its reason; rejects by reason with an example's keys, and one of them whole."""
    assert etl(env, "runs").stdout == "no run yet\n"
    assert etl(env, "rejects").stdout == "no rejected records\n"
    upstream.sales.append({"id": "odd", "event_id": "event-1", "quantity": "many", "price": "1"})
    assert etl(env, "run").returncode == 0
    upstream.sales = upstream.sales[:50]
    assert etl(env).returncode == 1
    runs = etl(env, "runs", "--limit", "2")
    assert runs.returncode == 0
    first, reason, second = runs.stdout.splitlines()
    assert re.fullmatch(r"\S+ \S+  failed  +\S+ s  cli +50 sales", first), first
    assert reason.startswith("    suspicious_extract: ")
    assert re.fullmatch(r"\S+ \S+  success  +\S+ s  cli +200 sales", second), second
    shown = json.loads(etl(env, "runs", "--json").stdout)
    assert [run["status"] for run in shown["runs"]] == ["failed", "success"]
    reasons = etl(env, "rejects").stdout.splitlines()
    assert re.fullmatch(r"ticket_sales: \w+: 1 records, seen 1 times since .*", reasons[0]), reasons
    example = re.fullmatch(r"    e\.g\. id (\d+), keys: event_id, id, price, quantity", reasons[1])
    assert example is not None, reasons
    record = json.loads(etl(env, "rejects", "--show", example[1], "--json").stdout)
    assert json.loads(record["text"])["id"] == "odd"
    assert '"many"' not in "".join(reasons)
    missing = etl(env, "rejects", "--show", "999999")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("failed: not_found: no rejected record has the id 999999")


def test_a_report_in_json(upstream: TicketingApi, env: dict[str, str]) -> None:
    """It stands alone on stdout; the log goes to stderr."""
    ran = etl(env, "sweep", "--json")
    assert ran.returncode == 0
    report = json.loads(ran.stdout)
    assert (report["status"], report["sales_count"]) == ("success", len(upstream.sales))
    assert json.loads(ran.stderr.splitlines()[-1])["message"] == "ETL job completed"


def test_help_has_examples(env: dict[str, str]) -> None:
    """Of each command; a command that isn't known is a usage error."""
    shown = etl(env, "--help")
    assert shown.returncode == 0
    for command in ("run", "sweep", "compare", "runs", "rejects"):
        assert f"    {command} " in shown.stdout
    assert "python -m etl rejects --show 17" in shown.stdout
    assert etl(env, "nonsense").returncode == 2


def test_colours_only_on_a_terminal(upstream: TicketingApi, env: dict[str, str]) -> None:
    """And not where NO_COLOR is set."""
    del upstream.sales[:]
    assert etl(env).returncode == 0
    assert "\x1b[32msuccess\x1b[0m" in on_a_terminal(env, "runs")[1]
    assert "\x1b[" not in on_a_terminal({**env, "NO_COLOR": "1"}, "runs")[1]
    assert "\x1b[" not in etl(env, "runs").stdout


def on_a_terminal(env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """(exit code, what was shown) of a run on a pseudo-terminal of 100 columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    child = subprocess.Popen([*COMMAND, *arguments], env=env, cwd=ROOT, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end, as Linux tells it
        while piece := os.read(ours, 65_536):
            shown += piece
    os.close(ours)
    return child.wait(timeout=30), shown.decode()


@pytest.mark.parametrize(
    ("envelope", "bar"),
    [
        pytest.param("veritix", r"ticket sales: 100%\|.*\| 200/200 \[.*records/s, pages=4\]", id="with a total"),
        pytest.param("pagination.has_more", r"ticket sales: 200 records \[.*records/s, pages=4\]", id="without"),
    ],
)
def test_on_a_terminal(upstream: TicketingApi, env: dict[str, str], envelope: str, bar: str) -> None:
    """A progress line a dataset in place of the log; warnings still show, as plain text."""
    for dataset in upstream.datasets.values():
        dataset.envelope = ENVELOPES[envelope].sized(50)
    upstream.latency_seconds = 0.15
    upstream.events.append(7)
    env = {**env, "ETL_MAX_REJECT_RATIO": "0.5", "NO_COLOR": "1"}
    code, shown = on_a_terminal(env)
    assert code == 0, shown
    lines = [line for part in shown.splitlines() for line in part.split("\r")]
    assert re.search(bar, shown), shown
    assert len({line for line in lines if line.startswith("ticket sales:")}) > 1, shown  # it moves
    assert not [line for line in lines if is_json_object(line)]
    assert "warning: ETL records rejected" in shown
    assert re.search(r"run \S+: success in .*\r\n  read    10 events, 200 ticket sales ", shown), shown


def test_a_sweep_over_several_runs(upstream: TicketingApi, env: dict[str, str]) -> None:
    """With kept sales a run that is out of time says how far it is; the next one's bar goes on from there."""
    upstream.datasets["ticket_sales"].envelope = ENVELOPES["veritix"].sized(10)
    upstream.latency_seconds = 0.2
    env = {**env, "ETL_SALES_STORE": "postgres", "NEST_API_CONCURRENCY": "1", "ETL_DEADLINE_SECONDS": "3"}
    code, shown = on_a_terminal(env)
    assert code == 0, shown
    so_far = re.search(r"sweep +(\d+) records of 200 on \d+ pages since \S+: nothing is published yet", shown)
    assert so_far is not None, shown
    assert re.search(r"run \S+: \x1b\[36mreading\x1b\[0m in ", shown), shown
    code, shown = on_a_terminal({**env, "ETL_DEADLINE_SECONDS": "60"})
    assert code == 0, shown
    [first, *_] = re.findall(r"sweep: .*\| (\d+)/200 \[.*<.*records/s", shown)
    assert int(so_far[1]) <= int(first) <= int(so_far[1]) + 20, shown  # the page that it goes on from is read again
    assert "kept    200 ticket sales: proved\r\n" in shown, shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_in_mid_run(
    upstream: TicketingApi,
    env: dict[str, str],
    postgres_server: EmbeddedPostgres,
    database: str,
    number: signal.Signals,
) -> None:
    """The run is recorded as failed, its lease given back, and the process ends, though the upstream hangs."""
    upstream.faults.append(Fault("hang", dataset="ticket_sales", page=2))
    child = subprocess.Popen(COMMAND, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: any(request.fault == "hang" for request in upstream.requests))
        assert child.poll() is None
        child.send_signal(number)
        ended = "SELECT status, error_code FROM etl_runs"
        wait_until(lambda: postgres_server.run(ended, database) == [("failed", "terminated")])
        assert postgres_server.run("SELECT run_id FROM etl_lease", database) == [(None,)]
        errors = child.communicate(timeout=BUSY_SECONDS)[1]
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 1
    assert errors.startswith("failed: terminated: ")
    assert errors.count("\n") == 1
