"""A shop whose sales are kept: an upstream with a clock, the stores, and runs of the real ETL in this process."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import uuid4

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import Client, QueryJobConfig

from etl import run_etl_once
from etl.deadline import Deadline
from etl.errors import EtlError
from etl.run.pipeline import RunOptions
from etl.run.report import RunReport
from etl.settings import Settings
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.support.oracle import Tables, bigquery_tables, postgres_tables, wanted_tables

START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
PAGINATE = "filter.updatedAt=$gte:{since}&sortBy=updatedAt:DESC"
Sale = dict[str, Any]


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sale(number: int, changed: datetime, **fields: Any) -> Sale:
    """A sale of 1 to 3 tickets, of one of five events, on one of seven days."""
    made = {
        "id": f"sale-{number}",
        "event_id": f"event-{number % 5}",
        "quantity": 1 + number % 3,
        "totalAmount": f"{10 + number}.50",
        "sale_date": text(START - timedelta(days=number % 7)),
        "createdAt": text(START - timedelta(days=3, seconds=number)),
        "updatedAt": text(changed),
    }
    return made | fields


class ShopDeadline(Deadline):
    """Goes by the shop's clock; a wait moves it on."""

    def __init__(self, seconds: float, shop: "Shop") -> None:
        self._shop = shop
        super().__init__(seconds, lambda: (shop.now - START).total_seconds())

    def sleep(self, seconds: float) -> None:
        if seconds < self.remaining_or_raise():
            self._shop.now += timedelta(seconds=seconds)
            seconds = 0.0
        super().sleep(seconds)


@dataclass
class Warehouse:
    """A dataset, the client that looks into it, and what stands before it in the function's way."""

    client: Client
    dataset: str
    front: BigQueryFront

    @classmethod
    def open(cls, front: BigQueryFront, project: str = "veritix-test") -> Self:
        """A dataset that doesn't exist yet."""
        client = Client(
            project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": front.url},
        )
        return cls(client, f"test_{uuid4().hex[:12]}", front)

    def close(self) -> None:
        self.client.delete_dataset(self.dataset, delete_contents=True, not_found_ok=True, timeout=30)
        self.client.close()  # type: ignore[no-untyped-call]

    @property
    def env(self) -> dict[str, str]:
        """The settings that lead here."""
        return {
            "BQ_ENABLED": "true",
            "BQ_PROJECT_ID": self.client.project,
            "BQ_DATASET": self.dataset,
            "BIGQUERY_EMULATOR_HOST": self.front.url,
        }

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        config = QueryJobConfig(default_dataset=f"{self.client.project}.{self.dataset}")
        return [tuple(row.values()) for row in self.client.query(statement, job_config=config).result(timeout=30)]


@dataclass
class Shop:
    """An upstream with a clock that each request moves on, the stores, and the settings of the function.

    The sales are kept in the warehouse where there is one, else in PostgreSQL.
    """

    api: TicketingApi
    postgres: EmbeddedPostgres
    database: str
    warehouse: Warehouse | None = None
    env: dict[str, str] = field(default_factory=dict)
    now: datetime = START
    request_seconds: float = 0.1

    def run(self, **options: Any) -> RunReport:
        """A run that doesn't fail; a quarter of an hour later than the last one."""
        self.now += timedelta(minutes=15)
        self.api.requests.clear()
        return run_etl_once(
            Settings.from_env(self.env),
            RunOptions(now=lambda: self.now, start_deadline=lambda seconds: ShopDeadline(seconds, self), **options),
        )

    def refused(self, code: str, **options: Any) -> EtlError:
        """The error of a run that fails."""
        with pytest.raises(EtlError) as caught:
            self.run(**options)
        assert caught.value.code == code, caught.value
        return caught.value

    def change(self, sale_id: str, **fields: Any) -> None:
        """Edit a sale: its time of change is now."""
        self.api.sales = [
            item | {"updatedAt": text(self.now)} | fields if item["id"] == sale_id else item for item in self.api.sales
        ]

    def delete(self, *sale_ids: str) -> None:
        self.api.sales = [item for item in self.api.sales if item["id"] not in sale_ids]

    def is_right(self) -> bool:
        """Whether every store's tables are the sums of the upstream's list."""
        return all(tables == self.wanted() for tables in self.tables().values())

    def tables(self) -> dict[str, Tables]:
        """What each store has published."""
        tables = {}
        if "DATABASE_URL" in self.env:
            tables["postgres"] = postgres_tables(self.postgres, self.database)
        if self.warehouse is not None:
            tables["bigquery"] = bigquery_tables(self.warehouse.client, self.warehouse.dataset)
        return tables

    def wanted(self, zone: str = "UTC") -> Tables:
        return wanted_tables(self.postgres, self.api.events, self.api.sales, zone)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement in the words that both databases know, where the sales are kept."""
        if self.warehouse is not None:
            return self.warehouse.sql(statement)
        return self.postgres.run(statement, self.database)

    def snapshot(self, table: str) -> list[tuple[Any, ...]]:
        """The rows of a table, with all that tells that one has been written again."""
        columns = "t.*" if self.warehouse is not None else "xmin::text, t.*"
        return sorted(self.sql(f"SELECT {columns} FROM {table} t"), key=repr)

    @property
    def is_published(self) -> bool:
        """Whether there are totals where the sales are kept."""
        if self.warehouse is not None:
            return self.sql("SELECT COUNT(*) FROM event_sales_summary") != [(0,)]
        return self.sql("SELECT to_regclass('event_sales_summary')") != [(None,)]

    def pending_stores(self) -> list[str]:
        """The stores that may not hold all of it yet."""
        table = "etl_ticket_sales_pending" if self.warehouse is not None else "etl_pending_groups"
        return [store for (store,) in self.sql(f"SELECT DISTINCT store FROM {table} ORDER BY store")]

    def expire_cursor(self) -> None:
        """Let the upstream forget the place from which the sweep is to go on."""
        if self.warehouse is not None:
            pattern, table = 'r\'"value":"[^"]+"\'', "etl_ticket_sales_state"
        else:
            pattern, table = '\'"value":"[^"]+"\'', "etl_sales_state"
        self.sql(f'UPDATE {table} SET state = regexp_replace(state, {pattern}, \'"value":"expired"\') WHERE TRUE')

    def asked(self, part: str) -> list[str]:
        """The requests of the last run with this in their targets."""
        return [seen.target for seen in self.api.requests if part in seen.target]
