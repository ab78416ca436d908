"""The function's tables in an embedded PostgreSQL: brought to a known state before a run, and checked after it."""

from contextlib import closing
from typing import Any

import sqlalchemy as sa

from etl.load.postgres.load import metadata
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks.workload import Workload, Workloads

_RESULTS = ("CREATE SCHEMA {name}", "CREATE TABLE {name}.daily (LIKE daily_ticket_sales)")
"""What a workload comes to stands in a schema of its name."""
_NAMES = "CREATE TABLE names (event_id text, event_name text)"
_DAILY = "SELECT event_id, sale_date, tickets_sold * {copies}, revenue * {copies} FROM {name}.daily"
_SUMS = """
    SELECT event_id, event_name, coalesce(sum(tickets_sold), 0) * {copies} AS total_tickets,
           coalesce(sum(revenue), 0) * {copies} AS total_revenue
    FROM names LEFT JOIN {name}.daily USING (event_id) GROUP BY 1, 2
"""
_WRONG = f"""
    SELECT count(*) FROM ({_DAILY}) w (event_id, sale_date, tickets, revenue)
    FULL JOIN daily_ticket_sales t USING (event_id, sale_date)
    WHERE (w.tickets, w.revenue) IS DISTINCT FROM (t.tickets_sold, t.revenue)
    UNION ALL
    SELECT count(*) FROM ({_SUMS}) w FULL JOIN event_sales_summary t USING (event_id)
    WHERE (w.event_name, w.total_tickets, w.total_revenue)
          IS DISTINCT FROM (t.event_name, t.total_tickets, t.total_revenue)
"""


class Tables:
    """The function's tables in a database of their own, and beside them what the workloads of a kind come to."""

    def __init__(self, postgres: EmbeddedPostgres, workloads: Workloads) -> None:
        self._postgres = postgres
        self._schemas = {workloads.first.results: "first", workloads.changed.results: "changed"}
        self.database = postgres.create_database()
        engine = sa.create_engine(self.url)
        metadata.create_all(engine)
        engine.dispose()
        for results, name in self._schemas.items():
            for statement in _RESULTS:
                self.sql(statement.format(name=name))
            with results.open("rb") as rows:
                self._copy(f"{name}.daily", rows)
        self.sql(_NAMES)
        self._copy("names", (f"{event}\t{name}\n".encode() for event, name in workloads.first.event_names().items()))
        self.sql("VACUUM ANALYZE")

    @property
    def url(self) -> str:
        return self._postgres.url(self.database)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self._postgres.run(statement, self.database)

    def empty(self) -> None:
        """As after the very first `CREATE TABLE`."""
        self.sql("TRUNCATE event_sales_summary, daily_ticket_sales")
        self.settle()

    def hold(self, workload: Workload) -> None:
        """As yesterday's run over a workload has left them."""
        self.empty()
        words = self._words(workload)
        self.sql(f"INSERT INTO daily_ticket_sales {_DAILY.format_map(words)} ORDER BY 1, 2")
        sums = _SUMS.format_map(words)
        self.sql(f"INSERT INTO event_sales_summary SELECT s.*, now() - interval '1 day' FROM ({sums}) s ORDER BY 1")
        self.settle()

    def settle(self) -> None:
        """What autovacuum and the checkpointer do between two runs; here nobody else does it."""
        self.sql("VACUUM ANALYZE event_sales_summary, daily_ticket_sales")
        self.sql("CHECKPOINT")

    def check(self, workload: Workload) -> None:
        """Raises SandboxError unless both tables hold exactly what a workload comes to."""
        wrong = [count for (count,) in self.sql(_WRONG.format_map(self._words(workload)))]
        if any(wrong):
            raise SandboxError(f"after the run {wrong[0]} daily rows and {wrong[1]} summary rows are wrong")

    def daily_rows(self, workload: Workload) -> int:
        """How many daily rows a workload comes to."""
        return int(self.sql("SELECT count(*) FROM {name}.daily".format_map(self._words(workload)))[0][0])

    def wal_bytes(self) -> int:
        """How much the server has logged so far."""
        return int(self.sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")[0][0])

    def daily_writers(self) -> set[str]:
        """The transactions that wrote the daily rows."""
        return {writer for (writer,) in self.sql("SELECT DISTINCT xmin::text FROM daily_ticket_sales")}

    def daily_rows_not_by(self, writers: set[str]) -> int:
        """How many daily rows other transactions than these wrote."""
        rows = self.sql("SELECT xmin::text, count(*) FROM daily_ticket_sales GROUP BY 1")
        return sum(count for writer, count in rows if writer not in writers)

    def _words(self, workload: Workload) -> dict[str, Any]:
        return {"name": self._schemas[workload.results], "copies": workload.copies}

    def _copy(self, table: str, rows: Any) -> None:
        with closing(self._postgres.connect(self.database)) as connection:
            connection.run(f"COPY {table} FROM STDIN", stream=rows)
