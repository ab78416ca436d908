"""The database that a test plays runs in, and its rows."""

from dataclasses import dataclass
from typing import Any

from etl.database_url import parse_database_url
from etl.load.postgres import load as postgres
from etl.load.postgres.database import engine_for
from etl.run import ledger_tables
from etl.settings import Settings
from tests.doubles.postgres import EmbeddedPostgres

EARLIER = (
    "INSERT INTO event_sales_summary VALUES ('gone', 'An earlier event', 7, 70, '2025-01-01Z')",
    "INSERT INTO event_sales_summary VALUES ('e0', 'An earlier name', 9, 90, '2025-01-01Z')",
    "INSERT INTO daily_ticket_sales VALUES ('gone', '2025-01-01', 7, 70), ('e0', '2025-01-01', 9, 90)",
)
"""What the tables hold before a history."""
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Stored:
    """The rows of both tables, each with the transaction that wrote it: a row that was written again has changed."""

    events: list[Row]
    daily: list[Row]


class Store:
    """The database that histories are played in."""

    def __init__(self, server: EmbeddedPostgres, database_url: str) -> None:
        self.server = server
        self.url = parse_database_url(database_url)
        self._engine = engine_for(Settings(nest_api_base_url="", database_url=self.url))
        with self._engine.begin() as connection:
            postgres.metadata.create_all(connection)
            ledger_tables.metadata.create_all(connection)

    def reset(self) -> None:
        """Make all tables of the ETL what they are before a history."""
        names = ", ".join([*postgres.metadata.tables, *ledger_tables.metadata.tables])
        self.change(f"TRUNCATE {names}", *EARLIER)

    def change(self, *statements: str) -> None:
        """Run SQL in one transaction."""
        with self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self) -> Stored:
        """Both tables, in the order of their keys."""
        with self._engine.connect() as connection:
            return Stored(
                *(
                    [
                        tuple(row)
                        for row in connection.exec_driver_sql(f"SELECT t.*, t.xmin::text FROM {name} t ORDER BY 1, 2")
                    ]
                    for name in ("event_sales_summary", "daily_ticket_sales")
                )
            )
