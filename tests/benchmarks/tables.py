"""The function's tables in an embedded PostgreSQL: brought to a known state before a run, and checked after it."""

from typing import Any

import pg8000.native
import sqlalchemy as sa

from etl.postgres import metadata
from tests.benchmarks.workload import Workload, event_name
from tests.sandbox.postgres import EmbeddedPostgres
from tests.sandbox.processes import SandboxError

_CHANGED_PERCENT = 2
"""Of yesterday's daily rows, how many have other values."""

_MADE_ONCE = (
    "CREATE SCHEMA workload",
    "CREATE TABLE workload.daily (LIKE daily_ticket_sales)",
    "CREATE TABLE workload.names (event_id text, event_name text)",
)
_YESTERDAY = f"""
    INSERT INTO daily_ticket_sales
    SELECT event_id, sale_date, tickets_sold + changed, revenue + 12.5 * changed
    FROM (
      SELECT *, (abs(hashtext(event_id || sale_date)) % 100 < {_CHANGED_PERCENT})::int AS changed FROM workload.daily
    )
    ORDER BY 1, 2
"""
_SUMS = """
    SELECT event_id, event_name,
           coalesce(sum(tickets_sold), 0) AS total_tickets, coalesce(sum(revenue), 0) AS total_revenue
    FROM workload.names LEFT JOIN {daily} USING (event_id) GROUP BY 1, 2
"""
_WRONG = """
    SELECT count(*) FROM (
      SELECT event_id, sale_date, tickets_sold * {copies} AS tickets, revenue * {copies} AS revenue FROM workload.daily
    ) w FULL JOIN daily_ticket_sales t USING (event_id, sale_date)
    WHERE (w.tickets, w.revenue) IS DISTINCT FROM (t.tickets_sold, t.revenue)
    UNION ALL
    SELECT count(*) FROM ({sums}) w FULL JOIN event_sales_summary t USING (event_id)
    WHERE (w.event_name, w.total_tickets * {copies}, w.total_revenue * {copies})
          IS DISTINCT FROM (t.event_name, t.total_tickets, t.total_revenue)
"""


class Tables:
    """The function's tables in a database of their own, and beside them what a workload comes to."""

    def __init__(self, postgres: EmbeddedPostgres, workload: Workload) -> None:
        self._postgres = postgres
        self.database = postgres.create_database()
        engine = sa.create_engine(self.url)
        metadata.create_all(engine)
        engine.dispose()
        for statement in _MADE_ONCE:
            self.sql(statement)
        with workload.results.open("rb") as rows:
            self._copy("workload.daily", rows)
        names = (f"evt-{event:04d}\t{event_name(event)}\n".encode() for event in range(workload.events))
        self._copy("workload.names", names)
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

    def hold_yesterday(self) -> None:
        """What the run of the day before has left: every row, 2% of the daily ones with other values."""
        self.empty()
        self.sql(_YESTERDAY)
        sums = _SUMS.format(daily="daily_ticket_sales")
        self.sql(f"INSERT INTO event_sales_summary SELECT s.*, now() - interval '1 day' FROM ({sums}) s ORDER BY 1")
        self.settle()

    def settle(self) -> None:
        """What autovacuum and the checkpointer do between two runs; here nobody else does it."""
        self.sql("VACUUM ANALYZE event_sales_summary, daily_ticket_sales")
        self.sql("CHECKPOINT")

    def check(self, copies: int = 1) -> None:
        """Raises SandboxError unless both tables hold exactly what the workload comes to, `copies` times."""
        wrong = [
            count for (count,) in self.sql(_WRONG.format(copies=copies, sums=_SUMS.format(daily="workload.daily")))
        ]
        if any(wrong):
            raise SandboxError(f"after the run {wrong[0]} daily rows and {wrong[1]} summary rows are wrong")

    @property
    def daily_rows(self) -> int:
        """How many daily rows the workload comes to."""
        return int(self.sql("SELECT count(*) FROM workload.daily")[0][0])

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

    def _copy(self, table: str, rows: Any) -> None:
        connection = pg8000.native.Connection("postgres", database=self.database, unix_sock=str(self._postgres.socket))
        try:
            connection.run(f"COPY {table} FROM STDIN", stream=rows)
        finally:
            connection.close()
