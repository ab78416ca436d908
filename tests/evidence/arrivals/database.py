"""An upstream whose sales stand in a real PostgreSQL, and grow while they are read: two statements a page, as most do.

    python -m tests.evidence.arrivals.database --runs 20 --sales 100000 --rate 20

Each run has to succeed, and to publish what lies between the sales at its start and those at its end, in every group.
"""

import argparse
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import pg8000.native

from etl.database_url import parse_database_url
from etl.errors import EtlError
from etl.logs import configure_logs
from etl.run.pipeline import RunOptions, run_etl_once
from etl.settings import Settings
from tests.doubles.http_server import HttpServer, Reply, Request, json_answer
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import Statements
from tests.support.oracle import postgres_tables

PAGE_SIZE = 100
EVENTS = 50
_TABLE = """CREATE TABLE sale (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL, quantity int NOT NULL, total_amount numeric(12, 2) NOT NULL,
    created_at timestamptz NOT NULL, sold_on date NOT NULL);
    CREATE INDEX ON sale (created_at DESC)"""
_INSERT = f"""INSERT INTO sale (event_id, quantity, total_amount, sold_on, created_at)
    SELECT 'e' || n % {EVENTS}, n % 4 + 1, n % 90, date '2026-01-01' + (n % 200)::int,
        clock_timestamp() - (CAST(:last AS bigint) - n) * interval '1 ms'
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"""
_ROWS = """SELECT id, event_id, quantity, total_amount::text, sold_on::text FROM sale
    ORDER BY created_at DESC LIMIT :size OFFSET :start"""
_GROUPS = "SELECT event_id, sold_on, sum(quantity) FROM sale GROUP BY 1, 2"
_NAMES = ("id", "eventId", "quantity", "totalAmount", "saleDate")

Groups = dict[tuple[str, date], int]


class DatabaseUpstream:
    """Serves the table's sales newest first, `PAGE_SIZE` a page; `rate` more arrive each second."""

    def __init__(
        self, server: EmbeddedPostgres, count: int, rate: float, statements: Statements, seed: int = 0
    ) -> None:
        self._server = server
        self._database = server.create_database()
        self._statements = statements
        self._rate = rate
        self._dice = random.Random(seed)
        self._last = count
        self._local = threading.local()
        self._connections: list[pg8000.native.Connection] = []
        self._stopped = threading.Event()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._http = HttpServer(self._respond)
        for statement in _TABLE.split(";"):
            self._sql(statement)
        self._sql(_INSERT, first=1, last=count)
        self._sql("ANALYZE sale")

    @property
    def base_url(self) -> str:
        return self._http.url

    def groups(self) -> Groups:
        """Tickets by event and day, as they are now."""
        return {(event, day): tickets for event, day, tickets in self._sql(_GROUPS)}

    @contextmanager
    def serve(self) -> Iterator["DatabaseUpstream"]:
        """With its writer, until the end of the `with`."""
        self._http.start()
        self._writer.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._writer.join()
            self._http.stop()
            for connection in self._connections:
                connection.close()
            self._server.drop_database(self._database)

    def _sql(self, statement: str, **parameters: Any) -> list[Any]:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._server.connect(self._database)
            self._connections.append(self._local.connection)
        return list(self._local.connection.run(statement, **parameters) or ())

    def _write(self) -> None:
        while not self._stopped.wait(self._dice.expovariate(self._rate)):
            self._last += 1
            self._sql(_INSERT, first=self._last, last=self._last)

    def _respond(self, request: Request) -> Reply:
        if request.path == "/events":
            return Reply(json_answer({"data": [{"id": f"e{n}", "name": f"Event {n}"} for n in range(EVENTS)]}))
        return Reply(json_answer(self._page(int(request.query.get("page", "1")))))

    def _page(self, number: int) -> dict[str, Any]:
        if self._statements == "total, rows":
            total = self._count()
        rows = self._sql(_ROWS, size=PAGE_SIZE, start=(number - 1) * PAGE_SIZE)
        if self._statements == "rows, total":
            total = self._count()
        sales = [dict(zip(_NAMES, row, strict=True)) for row in rows]
        pages = -(-total // PAGE_SIZE)
        return {"data": sales, "total": total, "page": number, "limit": PAGE_SIZE, "totalPages": pages}

    def _count(self) -> int:
        return int(self._sql("SELECT count(*) FROM sale")[0][0])


def play(server: EmbeddedPostgres, upstream: DatabaseUpstream, database: str) -> list[str]:
    """One run into a database, and what is wrong with it."""
    settings = Settings(nest_api_base_url=upstream.base_url, database_url=parse_database_url(server.url(database)))
    before = upstream.groups()
    try:
        report = run_etl_once(settings, RunOptions())
    except EtlError as error:
        return [f"{error.code}: {error}"]
    after = upstream.groups()
    published = {(event, day): tickets for event, day, tickets, _ in postgres_tables(server, database).daily}
    groups = [group for group in after if not before.get(group, 0) <= published.get(group, 0) <= after[group]]
    faults = [f"{group}: {before.get(group)} before, {published.get(group)} published" for group in groups]
    return faults + [f"it is {report.completeness}"] * (report.completeness["ticket_sales"] != "proved")


def main(argv: Sequence[str]) -> int:
    """0 if every run succeeded and was right."""
    parser = argparse.ArgumentParser(prog="database_upstream", description="Reads a table that grows.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--sales", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=20.0, help="sales that arrive each second")
    asked = parser.parse_args(argv)
    configure_logs("CRITICAL")
    wrong = 0
    with EmbeddedPostgres() as server:
        database = server.create_database()
        statements: tuple[Statements, ...] = ("rows, total", "total, rows")
        for number in range(asked.runs):
            upstream = DatabaseUpstream(server, asked.sales, asked.rate, statements[number % 2], number)
            started = time.monotonic()
            with upstream.serve():
                faults = play(server, upstream, database)
            print(f"run {number + 1}: {faults or 'right'} in {time.monotonic() - started:.1f} s", flush=True)
            wrong += bool(faults)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
