"""`make run` and `make serve`, as processes."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from tests import ROOT
from tests.doubles.processes import local_session
from tests.support.waiting import BUSY_SECONDS

SETTINGS = (
    "NEST_API_",
    "DATABASE_URL",
    "INSTANCE_",
    "DB_",
    "BQ_",
    "BIGQUERY_",
    "SECRET_MANAGER_",
    "CLOUD_SQL_",
    "ETL_",
)


def sandbox(*arguments: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox", *arguments],
        cwd=ROOT,
        env={**bare, **env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def nobody_listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))) != 0


def test_run_shows_the_same_totals_from_both_stores_and_leaves_nothing() -> None:
    """The whole way from the sample API to both stores; then every port is closed and every directory gone."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own lie too deep for a socket, and closed to others
        Path(directory).chmod(0o755)
        run = sandbox("run", env={"TMPDIR": directory})
        output, _ = run.communicate(timeout=120)
        assert list(Path(directory).iterdir()) == []
    assert run.returncode == 0, output
    assert re.search(r"^  read +300 events, 20,000 ticket sales$", output, re.MULTILINE)
    totals = dict(
        re.findall(r"^  (tickets|daily rows|revenue|daily revenue) +([\d,.]+ +[\d,.]+)$", output, re.MULTILINE)
    )
    assert len(totals) == 4
    assert all(len(set(both.split())) == 1 for both in totals.values())
    assert totals["revenue"] == totals["daily revenue"]
    started = re.findall(r"^  (?:Ticketing API|PostgreSQL|BigQuery|Function) +(\S+)", output, re.MULTILINE)
    assert [nobody_listens(url) for url in started] == [True] * 4


def test_run_says_which_step_failed_and_why_without_a_secret() -> None:
    """With parts that the environment names and that aren't there: exit code 1, the code, and no password."""
    env = {
        "NEST_API_BASE_URL": "http://127.0.0.1:9",
        "DATABASE_URL": "postgresql://sandy:gehe1m@127.0.0.1:9/none",
        "BQ_ENABLED": "false",
    }
    run = sandbox("run", env=env)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert re.search(r"^Failed: POST / was answered 503 load_failed: ", output, re.MULTILINE)
    for name in env:
        assert f"not started: the environment sets {name}\n" in output
    assert "gehe1m" not in output


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_serve_without_a_sandbox_serves_the_bare_function_until_it_is_stopped(end: signal.Signals) -> None:
    """Nothing configured: one `configuration_error`. Stopped: nobody listens any more."""
    with sandbox("serve", "--sandbox", "no", env={}) as serve:
        assert serve.stdout is not None
        lines = iter(serve.stdout.readline, "")
        url = next(line.split()[1] for line in lines if line.startswith("  Function"))
        answer: requests.Response = local_session().post(f"{url}/", timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (500, "configuration_error")
        next(line for line in lines if "log:" in line)
        serve.send_signal(end)
        serve.wait(timeout=BUSY_SECONDS)
    assert serve.returncode == (0 if end == signal.SIGINT else 128 + end)
    assert nobody_listens(url)
