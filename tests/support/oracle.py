"""What both stores must hold, worked out in SQL over the upstream's items; and what they do hold."""

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from google.cloud.bigquery import Client

from tests.doubles.postgres import EmbeddedPostgres

EventRow = tuple[str, str | None, int, Decimal]
DailyRow = tuple[str, date, int, Decimal]


class Tables(NamedTuple):
    """Rows in the order of their keys, without `last_updated`."""

    events: list[EventRow]
    daily: list[DailyRow]

    def of(self, other: "Tables") -> "Tables":
        """Only the rows of the events that `other` speaks of."""
        scope = {row[0] for row in other.events}
        return Tables([row for row in self.events if row[0] in scope], [row for row in self.daily if row[0] in scope])


# Reads the items of `sample_data` only, in a few plain words: it must not share the program's way to think.
_SALES = """
WITH sale AS (
  SELECT COALESCE(s->>'event_id', s->>'eventId') AS event_id, (s->>'quantity')::bigint AS quantity,
         COALESCE((s->>'totalAmount')::numeric, (s->>'quantity')::int * COALESCE(s->>'unitPrice', s->>'price')::numeric)
           AS amount,
         (COALESCE(s->>'sale_date', s->>'createdAt')::timestamptz AT TIME ZONE :zone)::date AS day
  FROM jsonb_array_elements(:sales) AS s),
event AS (SELECT e->>'id' AS event_id, e->>'name' AS name FROM jsonb_array_elements(:events) AS e)
"""
_EVENTS_WANTED = f"""{_SALES}
SELECT event_id, max(name), COALESCE(sum(quantity), 0)::bigint, COALESCE(sum(amount), 0)
FROM event FULL JOIN sale USING (event_id) GROUP BY event_id ORDER BY event_id"""
_DAILY_WANTED = f"""{_SALES}
SELECT event_id, day, sum(quantity)::bigint, sum(amount) FROM sale GROUP BY event_id, day ORDER BY event_id, day"""


def wanted_tables(postgres: EmbeddedPostgres, events: Sequence[Any], sales: Sequence[Any], zone: str = "UTC") -> Tables:
    """The two summaries of events and sales as `sample_data` makes them, each id once."""
    parameters = {"events": json.dumps(list(events)), "sales": json.dumps(list(sales)), "zone": zone}
    with closing(postgres.connect()) as connection:
        return Tables(
            [tuple(row) for row in connection.run(_EVENTS_WANTED, **parameters) or ()],
            [tuple(row) for row in connection.run(_DAILY_WANTED, **parameters) or ()],
        )


def postgres_tables(postgres: EmbeddedPostgres, database: str) -> Tables:
    """What PostgreSQL holds."""
    events = "SELECT event_id, event_name, total_tickets, total_revenue FROM event_sales_summary ORDER BY event_id"
    daily = "SELECT event_id, sale_date, tickets_sold, revenue FROM daily_ticket_sales ORDER BY event_id, sale_date"
    return Tables(_rows(postgres.run(events, database)), _rows(postgres.run(daily, database)))


def bigquery_tables(
    client: Client,
    dataset: str,
    event_summary: str = "event_sales_summary",
    daily_sales: str = "daily_ticket_sales",
) -> Tables:
    """What BigQuery holds."""
    queries = (
        f"SELECT event_id, event_name, total_tickets, total_revenue FROM {dataset}.{event_summary} ORDER BY event_id",
        f"SELECT event_id, sale_date, tickets_sold, revenue FROM {dataset}.{daily_sales} ORDER BY event_id, sale_date",
    )
    rows = [[row.values() for row in client.query(query).result(timeout=30)] for query in queries]
    return Tables(_rows(rows[0]), _rows(rows[1]))


def _rows(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [tuple(row) for row in rows]
