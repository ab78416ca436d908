"""`/compare`, `python -m etl compare` and its `--heal`: real stores, and somebody has changed one by hand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.cloud.bigquery import Client
from werkzeug.test import TestResponse

from etl.__main__ import main
from etl.run.pipeline import run_etl_once
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.changes import Changes
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.application import application_client
from tests.support.oracle import bigquery_tables, postgres_tables

DAILY = "daily_ticket_sales"


@dataclass
class Stores:
    """Both, loaded by a run; `env` is set for the program."""

    upstream: TicketingApi
    postgres: EmbeddedPostgres
    database: str
    client: Client
    dataset: str
    env: dict[str, str]

    def get(self, path: str) -> TestResponse:
        """The function's answer."""
        with application_client() as client, pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            return client.get(path)

    def compare(self) -> Any:
        answer = self.get("/compare")
        assert answer.status_code == 200, answer.text
        return answer.json

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.postgres.run(statement, self.database)

    def query(self, statement: str) -> None:
        self.client.query_and_wait(statement.replace(DAILY, f"{self.dataset}.{DAILY}"), wait_timeout=30)

    def are_equal(self) -> bool:
        return postgres_tables(self.postgres, self.database) == bigquery_tables(self.client, self.dataset)


@pytest.fixture
def stores(
    postgres_server: EmbeddedPostgres,
    database: str,
    database_url: str,
    bigquery_emulator: BigQueryEmulator,
    bigquery_client: Client,
    bigquery_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stores]:
    with (
        TicketingApi(plain_events(10), plain_sales(200, events=10)) as api,
        BigQueryFront(bigquery_emulator.url) as front,
    ):
        env = {
            "NEST_API_BASE_URL": api.base_url,
            "DATABASE_URL": database_url,
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": "veritix-test",
            "BQ_DATASET": bigquery_dataset,
            "BIGQUERY_EMULATOR_HOST": front.url,
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        yield Stores(api, postgres_server, database, bigquery_client, bigquery_dataset, env)


def test_what_differs_is_listed(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    """A group that was changed, one that is missing, one too many; the shell says the same, and ends with 1."""
    assert stores.compare() == {"equal": True, "groups": 0, "differing": 0, "run_meanwhile": None, "differences": []}
    run_etl_once()
    assert stores.compare() == {"equal": True, "groups": 210, "differing": 0, "run_meanwhile": None, "differences": []}
    assert main(["compare"]) == 0
    assert "210 groups: equal" in capsys.readouterr().out

    first, second = stores.sql(f"SELECT event_id, sale_date, tickets_sold, revenue FROM {DAILY} ORDER BY 1, 2 LIMIT 2")
    where = f"WHERE event_id = '{first[0]}' AND sale_date = '{{}}'"
    stores.sql(f"UPDATE {DAILY} SET revenue = revenue + 0.000000001 {where.format(first[1])}")
    stores.query(f"DELETE FROM {DAILY} {where.format(second[1])}")
    stores.sql("UPDATE event_sales_summary SET total_tickets = 0 WHERE event_id = 'event-3'")
    stores.query(f"INSERT INTO {DAILY} (event_id, sale_date, tickets_sold, revenue) VALUES ('new', '2026-01-01', 1, 2)")
    found = stores.compare()
    assert (found["equal"], found["groups"], found["differing"]) == (False, 211, 4)
    changed, missing, extra = found["differences"][1:]
    assert found["differences"][0]["sale_date"] is None
    assert found["differences"][0]["postgres"]["tickets"] == 0
    assert (changed["event_id"], changed["sale_date"]) == (first[0], str(first[1]))
    assert changed["postgres"]["revenue"].endswith("000001")
    assert changed["bigquery"] == {"tickets": first[2], "revenue": f"{first[3]:f}"}
    assert (missing["missing_in"], missing["postgres"]) == (
        "bigquery",
        {"tickets": second[2], "revenue": f"{second[3]:f}"},
    )
    assert (extra["event_id"], extra["missing_in"]) == ("new", "postgres")
    assert main(["compare"]) == 1
    shown = capsys.readouterr().out
    assert "211 groups: 4 differ" in shown
    assert "new on 2026-01-01: PostgreSQL has none; BigQuery 1 tickets, 2" in shown
    assert main(["compare", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == found


def test_healing_without_kept_sales(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is marked: the next run compares all of it anyway."""
    run_etl_once()
    stores.sql(f"DELETE FROM {DAILY} WHERE event_id = 'event-3'")
    assert main(["compare", "--heal"]) == 1
    assert "nothing needs to be marked" in capsys.readouterr().out
    run_etl_once()
    assert main(["compare"]) == 0


@pytest.mark.parametrize("store", ["postgres", "bigquery"])
def test_healing_kept_sales(
    stores: Stores, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What differs is marked, and the next increment publishes it again, whatever the damage was to."""
    monkeypatch.setenv("ETL_SALES_STORE", store)
    monkeypatch.setenv("NEST_API_CHANGED_QUERY", "updated_after={since}")
    stores.upstream.changes = Changes()
    changed = [sale | {"updatedAt": "2026-11-20T08:00:00.000Z"} for sale in stores.upstream.sales]
    stores.upstream.sales = changed
    run_etl_once()
    stores.sql(f"DELETE FROM {DAILY} WHERE event_id = 'event-3'")
    stores.sql("UPDATE event_sales_summary SET total_tickets = 0 WHERE event_id = 'event-4'")
    stores.query(f"UPDATE {DAILY} SET tickets_sold = 99 WHERE event_id = 'event-5'")
    assert main(["compare", "--heal"]) == 1
    assert "groups are marked" in capsys.readouterr().out
    run_etl_once()
    assert main(["compare"]) == 0
    assert stores.are_equal()


def test_a_run_meanwhile_is_told(stores: Stores) -> None:
    """While a run is under way what differs may be its work; nothing is marked then."""
    run_etl_once()
    stores.sql("INSERT INTO etl_runs (run_id, started_at, trigger, status) VALUES ('r9', now(), 'http', 'running')")
    assert stores.compare()["run_meanwhile"] == "r9"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"BQ_ENABLED": "false"}, "there is one store only", id="no BigQuery"),
        pytest.param({"DATABASE_URL": ""}, "PostgreSQL isn't set up", id="no PostgreSQL"),
        pytest.param({"BQ_WRITE_MODE": "stream"}, "BQ_WRITE_MODE is stream", id="copies of rows"),
    ],
)
def test_what_cannot_be_compared(stores: Stores, settings: dict[str, str], said: str) -> None:
    """Is one clear error."""
    stores.env |= settings
    answer = stores.get("/compare")
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (500, "configuration_error")
    assert said in answer.json["detail"]
