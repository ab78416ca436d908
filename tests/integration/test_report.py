"""`GET /report` without a browser: what it shows of real stores, of silent ones, and of none; what it costs."""

import gzip
import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa
from werkzeug.test import TestResponse

from etl.load.postgres.database import engine_for
from etl.run.pipeline import RunOptions, run_etl_once
from etl.settings import Settings
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.application import application_client

MAX_BYTES = 150_000
SCRIPT = "<script>alert(1)</script>"
Env = dict[str, str]


@pytest.fixture
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi(plain_events(10), plain_sales(200, events=10)) as api:
        yield api


@pytest.fixture
def env(upstream: TicketingApi, database_url: str) -> Env:
    return {"NEST_API_BASE_URL": upstream.base_url, "DATABASE_URL": database_url}


@pytest.fixture
def bigquery_env(bigquery_emulator: BigQueryEmulator, bigquery_dataset: str) -> Iterator[Env]:
    with BigQueryFront(bigquery_emulator.url) as front:
        yield {
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": "veritix-test",
            "BQ_DATASET": bigquery_dataset,
            "BIGQUERY_EMULATOR_HOST": front.url,
        }


def get(env: Mapping[str, str], path: str = "/report?days=365") -> TestResponse:
    """The function's answer."""
    with application_client() as client, pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        return client.get(path)


def page(env: Mapping[str, str]) -> str:
    """Its text; the scripts and styles left out."""
    answer = get(env)
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    return re.sub(r"(?s)<(script|style)>.*?</\1>", "", answer.text)


def run(env: Mapping[str, str], **options: Any) -> None:
    run_etl_once(Settings.from_env(env), RunOptions(**options))


def test_before_anything_has_run(env: Env, bigquery_env: Env) -> None:
    """It says so in words, with a database that has no table and a dataset that isn't there."""
    shown = page(env | bigquery_env)
    assert "Nothing has run yet." in shown
    assert "No run is known." in shown
    assert "Nothing was sold in these days." in shown


def test_what_is_shown(env: Env, bigquery_env: Env, upstream: TicketingApi) -> None:
    """Runs with reason and remedy, both stores, best-selling events, and rejects by keys; every text escaped."""
    upstream.events[3]["name"] = SCRIPT
    upstream.sales.append({"id": SCRIPT, "event_id": "event-1", "quantity": "a value", "price": 1, SCRIPT: 2})
    run(env | bigquery_env)
    upstream.sales = upstream.sales[:20]
    with pytest.raises(Exception, match="fall"):
        run(env | bigquery_env)
    shown = page(env | bigquery_env)
    assert "The last run failed less than a minute ago with suspicious_extract." in shown
    assert "look at the upstream; if it is right: <code>force</code>" in shown
    assert "Both hold the same totals." in shown
    assert shown.count('<th scope="row">PostgreSQL</th>') == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<script" not in shown
    assert re.search(r"<code>\w+</code></th><td>ticket_sales</td>", shown)
    assert "a value" not in shown


def test_a_store_that_does_not_answer(env: Env, bigquery_env: Env) -> None:
    """The page shows the rest, and says which one it is: the other store's days instead of PostgreSQL's."""
    run(env | bigquery_env)
    without = unescape(page(env | bigquery_env | {"BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:9"}))
    assert "BigQuery doesn't answer, so what it holds isn't shown" in without
    assert 'data-tickets="' in without
    silent = unescape(page(env | bigquery_env | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}))
    assert "PostgreSQL doesn't answer" in silent
    assert 'data-tickets="' in silent
    assert "BigQuery</th>" in silent


def test_bigquery_alone(env: Env, bigquery_env: Env) -> None:
    """Days and events come from there, runs from this process."""
    alone = {"NEST_API_BASE_URL": env["NEST_API_BASE_URL"], **bigquery_env}
    run(alone)
    shown = page(alone)
    assert "Healthy." in shown
    assert 'data-tickets="' in shown
    assert "Event 1</th>" in shown


@pytest.mark.parametrize("store", ["postgres", "bigquery"])
def test_kept_sales_show_how_far_they_are(env: Env, bigquery_env: Env, store: str) -> None:
    """The sweep, the last count and what is pending, by store."""
    kept = {**env, **(bigquery_env if store == "bigquery" else {}), "ETL_SALES_STORE": store}
    run(kept)
    shown = page(kept)
    assert re.search(r"<dt>kept</dt><dd>200</dd>\s*<dt>sweep</dt><dd>ended ", shown)
    assert re.search(r"proved at .*: 200 kept, 200 declared", shown)
    assert "<dt>pending in PostgreSQL</dt><dd>0 groups</dd>" in shown


def test_a_success_of_long_ago_is_known(env: Env) -> None:
    """Also when more failures than the page shows came after it."""
    run(env)
    statement = (
        "INSERT INTO etl_runs (run_id, started_at, trigger, status, finished_at, error_code, error_text)"
        " SELECT 'f' || n, now() + n * interval '1 second', 'http', 'failed', now(), 'upstream_error', 'down'"
        " FROM generate_series(1, 60) AS n"
    )
    with engine_for(Settings.from_env(env)).begin() as connection:
        connection.exec_driver_sql(statement)
    shown = page(env)
    assert "with upstream_error. The numbers are from less than a minute ago." in shown
    assert shown.count('<li><a class="bar ') == 50


def test_copies_of_rows_are_never_summed(env: Env, bigquery_env: Env) -> None:
    """With BQ_WRITE_MODE=stream BigQuery isn't shown, and isn't compared."""
    streaming = env | bigquery_env | {"BQ_WRITE_MODE": "stream"}
    run(streaming)
    shown = page(streaming)
    assert "Healthy." in shown
    assert "BigQuery isn't shown: with <code>BQ_WRITE_MODE=stream</code>" in shown
    assert "BigQuery</th>" not in shown


def test_what_it_costs(env: Env, bigquery_env: Env) -> None:
    """At most 150 KB, a third of that packed, and six queries."""
    run(env | bigquery_env)
    statements: list[str] = []

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        answer = get(env | bigquery_env | {"ETL_SALES_STORE": "postgres"})
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    assert len(answer.data) <= MAX_BYTES
    assert len(gzip.compress(answer.data)) <= MAX_BYTES / 2
    asked = [statement for statement in statements if "set_config" not in statement]
    assert len(asked) + 1 <= 6, asked  # and one of BigQuery


def test_its_headers(env: Env) -> None:
    """Nothing is loaded from anywhere, framed, sent on or stored."""
    headers = get(env).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_other_ranges_are_refused(env: Env) -> None:
    """The error names those that exist."""
    answer = get(env, "/report?days=8")
    assert answer.json is not None
    assert (answer.status_code, answer.json["detail"]) == (400, "days is '8': choose one of 7, 30, 90, 365")
