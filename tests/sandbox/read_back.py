"""What the stores hold after a run, read through the real clients."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import sqlalchemy as sa
from google.api_core.exceptions import GoogleAPIError
from sqlalchemy.exc import SQLAlchemyError

from etl.load.bigquery.client import client_for
from etl.load.postgres.database import engine_for
from etl.settings import Settings
from tests.doubles.processes import SandboxError

Row = tuple[Any, ...]
Ask = Callable[[str], list[Row]]
"""Runs a query in which {summary} and {daily} stand for the two tables."""

SECONDS = 60.0

BEST_SELLERS = """
    SELECT COALESCE(event_name, event_id), total_tickets, total_revenue
    FROM {summary} ORDER BY total_tickets DESC, event_id LIMIT 10
"""
TOTALS: dict[str, tuple[type[int | Decimal], str]] = {
    "events": (int, "SELECT COUNT(*) FROM {summary}"),
    "tickets": (int, "SELECT COALESCE(SUM(total_tickets), 0) FROM {summary}"),
    "revenue": (Decimal, "SELECT COALESCE(SUM(total_revenue), 0) FROM {summary}"),
    "daily rows": (int, "SELECT COUNT(*) FROM {daily}"),
    "daily tickets": (int, "SELECT COALESCE(SUM(tickets_sold), 0) FROM {daily}"),
    "daily revenue": (Decimal, "SELECT COALESCE(SUM(revenue), 0) FROM {daily}"),
}
"""PostgreSQL's sums of integers are of type numeric: so the statement names the type."""


def stores(settings: Settings) -> dict[str, Ask]:
    """How to ask each store that the settings name."""
    asks: dict[str, Ask] = {}
    if settings.uses_postgres:
        asks["PostgreSQL"] = partial(_ask, "PostgreSQL", _ask_postgres, settings)
    if settings.uses_bigquery:
        asks["BigQuery"] = partial(_ask, "BigQuery", _ask_bigquery, settings)
    return asks


def totals(ask: Ask) -> dict[str, int | Decimal]:
    return {name: kind(ask(query)[0][0]) for name, (kind, query) in TOTALS.items()}


def _ask(store: str, ask: Callable[[Settings, str], list[Row]], settings: Settings, query: str) -> list[Row]:
    try:
        return ask(settings, query)
    except (SQLAlchemyError, GoogleAPIError, OSError) as error:
        raise SandboxError(f"Reading back from {store}: {error}") from error


def _ask_postgres(settings: Settings, query: str) -> list[Row]:
    with engine_for(settings).connect() as connection:
        rows = connection.execute(sa.text(query.format(summary="event_sales_summary", daily="daily_ticket_sales")))
        return [tuple(row) for row in rows]


def _ask_bigquery(settings: Settings, query: str) -> list[Row]:
    dataset = f"{settings.bq_project_id}.{settings.bq_dataset}"
    tables = {
        "summary": f"`{dataset}.{settings.bq_table_event_summary}`",
        "daily": f"`{dataset}.{settings.bq_table_daily_sales}`",
    }
    job = client_for(settings).query(query.format(**tables), timeout=SECONDS, job_retry=None)
    return [tuple(row.values()) for row in job.result(timeout=SECONDS, job_retry=None)]
