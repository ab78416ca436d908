"""What a user would write with dlt: REST source, PostgreSQL destination, the two summaries by SQL.

Runs on the Python of an environment that has dlt[postgres]: python dlt_pipeline.py URL DSN DIRECTORY prints the
seconds that it took, imports not counted, and how many sales and daily rows came of it.
"""

import json
import sys
import time

import dlt  # type: ignore[import-not-found]  # it has an environment of its own
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]

_SUMMARIES = (
    """CREATE TABLE daily_ticket_sales AS
       SELECT event_id, sale_date::date AS sale_date, sum(quantity) AS tickets_sold, sum(total_amount) AS revenue
       FROM ticket_sales GROUP BY 1, 2""",
    """CREATE TABLE event_sales_summary AS
       SELECT e.id AS event_id, e.name AS event_name, coalesce(sum(s.quantity), 0) AS total_tickets,
              coalesce(sum(s.total_amount), 0) AS total_revenue, now() AS last_updated
       FROM events e LEFT JOIN ticket_sales s ON s.event_id = e.id GROUP BY 1, 2""",
)


def main(url: str, dsn: str, directory: str) -> None:
    source = rest_api_source(
        {
            "client": {
                "base_url": url,
                "paginator": {"type": "page_number", "base_page": 1, "total_path": "pagination.total_pages"},
            },
            "resource_defaults": {"primary_key": "id", "write_disposition": "replace"},
            "resources": [
                {"name": "events", "endpoint": {"path": "events", "data_selector": "data"}},
                {"name": "ticket_sales", "endpoint": {"path": "ticket-sales", "data_selector": "data"}},
            ],
        }
    )
    pipeline = dlt.pipeline(
        "benchmark", pipelines_dir=directory, destination=dlt.destinations.postgres(dsn), dataset_name="sales"
    )
    started = time.perf_counter()
    pipeline.run(source)
    with pipeline.sql_client() as client:
        for statement in _SUMMARIES:
            client.execute_sql(statement)
        seconds = time.perf_counter() - started
        counts = [
            client.execute_sql(f"SELECT count(*) FROM {name}")[0][0] for name in ("ticket_sales", "daily_ticket_sales")
        ]
    print(json.dumps({"seconds": seconds, "sales": counts[0], "daily_rows": counts[1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
