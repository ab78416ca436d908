"""What the machine allows: a run's result with the bare libraries, in its three unavoidable parts, each alone.

It is exact, as a run is, and trusts whatever it gets: no page is proved, no record judged, no store compared.

python -m tests.evidence.benchmarks.floor PART ... prints the seconds of one part. Parts and what they take:
`fetch` URL PAGES, `fold` DIRECTORY PAGES, `load` DIRECTORY SOCKET DATABASE, `load-changed` (the same), `keep` DIRECTORY
PAGES SOCKET DATABASE.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pg8000.native
import urllib3

_CHUNK_ROWS = 2_000
_TABLES = {
    "daily_ticket_sales": (("event_id", "sale_date"), ("tickets_sold", "revenue")),
    "event_sales_summary": (("event_id",), ("event_name", "total_tickets", "total_revenue", "last_updated")),
}
Row = tuple[Any, ...]
Groups = dict[tuple[str, str], tuple[int, Decimal]]
_NOTHING = Decimal()


class _Sale(msgspec.Struct, gc=False):
    """The six fields that a sale has to have."""

    id: int | str
    event_id: str
    quantity: int
    price: Decimal
    total_amount: Decimal
    sale_date: str


class _Page(msgspec.Struct, gc=False):
    data: list[_Sale]


def fetch(url: str, pages: str) -> float:
    """Every page, one after the other, on one connection."""
    http = urllib3.PoolManager()
    started = time.perf_counter()
    for target in ("events", *(f"ticket-sales?page={number}" for number in range(1, int(pages) + 1))):
        answer = http.request("GET", f"{url}/{target}")
        if answer.status != 200 or not answer.data:
            raise SystemExit(f"{url}/{target} was answered {answer.status}")
    return time.perf_counter() - started


def fold(directory: str, pages: str) -> float:
    """Every page into typed objects, and these into the sums by event and day: each id once, amounts as decimals.

    Reading the files doesn't count.
    """
    return fold_pages(Path(directory), int(pages))[0]


def fold_pages(directory: Path, pages: int) -> tuple[float, Groups]:
    """The seconds, and tickets and revenue by event and day."""
    decoder = msgspec.json.Decoder(_Page)
    seen: set[int | str] = set()
    groups: Groups = {}
    seconds = 0.0
    for number in range(1, pages + 1):
        body = Path(directory, "sales", f"{number}.json").read_bytes()
        started = time.perf_counter()
        for sale in decoder.decode(body).data:
            if sale.id in seen:
                continue
            seen.add(sale.id)
            key = sale.event_id, sale.sale_date[:10]
            tickets, revenue = groups.get(key, (0, _NOTHING))
            groups[key] = tickets + sale.quantity, revenue + sale.total_amount
        seconds += time.perf_counter() - started
    return seconds, groups


def load(directory: str, socket: str, database: str, *, only_changed: bool = False) -> float:
    """COPY into temporary tables and upsert from there: every row, or only those that are new or differ.

    These are looked for by a join. A condition of DO UPDATE would lock, which is to write, the rows that it leaves.
    """
    rows = _results(Path(directory))
    with closing(pg8000.native.Connection("postgres", database=database, unix_sock=socket)) as connection:
        started = time.perf_counter()
        connection.run("BEGIN")
        for table, (key, values) in _TABLES.items():
            connection.run(f"CREATE TEMPORARY TABLE staged (LIKE {table})")
            connection.run("COPY staged FROM STDIN", stream=_copy_text(rows[table]))
            connection.run("ANALYZE staged")
            changed = (
                f" LEFT JOIN {table} t ON ({_list('t', key)}) = ({_list('s', key)})"
                f" WHERE t.event_id IS NULL OR ({_list('t', values)}) IS DISTINCT FROM ({_list('s', values)})"
            )
            connection.run(
                f"INSERT INTO {table} SELECT s.* FROM staged s{changed * only_changed}"
                f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET "
                + ", ".join(f"{name} = excluded.{name}" for name in values)
            )
            connection.run("DROP TABLE staged")
        connection.run("COMMIT")
        return time.perf_counter() - started


def keep(directory: str, pages: str, socket: str, database: str) -> float:
    """Every page into typed objects, these into a table with the indexes of kept sales, its sums into the others."""
    decoder = msgspec.json.Decoder(_Page)

    def lines() -> Iterator[str]:
        for number in range(1, int(pages) + 1):
            sales = decoder.decode(Path(directory, "sales", f"{number}.json").read_bytes()).data
            yield "".join(
                f"{sale.id}\t{sale.event_id}\t{sale.sale_date[:10]}\t{sale.quantity}\t{sale.total_amount}\n"
                for sale in sales
            )

    events = json.loads(Path(directory, "events.json").read_bytes())["data"]
    with closing(pg8000.native.Connection("postgres", database=database, unix_sock=socket)) as connection:
        started = time.perf_counter()
        connection.run("BEGIN")
        for statement in _KEEP:
            connection.run(statement)
        connection.run("COPY floor_events FROM STDIN", stream=_copy_text([(one["id"], one["name"]) for one in events]))
        connection.run("COPY floor_sales FROM STDIN", stream=lines())
        for statement in _SUMS:
            connection.run(statement)
        connection.run("COMMIT")
        return time.perf_counter() - started


_KEEP = (
    "DROP TABLE IF EXISTS floor_sales, floor_events",
    "CREATE TABLE floor_events (event_id text, event_name text)",
    (
        'CREATE TABLE floor_sales (sale_id text COLLATE "C" PRIMARY KEY, event_id text COLLATE "C", sale_date date,'
        " quantity bigint, amount numeric(38,9))"
    ),
    "CREATE INDEX ON floor_sales (event_id, sale_date)",
)
_SUMS = (
    (
        "INSERT INTO daily_ticket_sales SELECT event_id, sale_date, sum(quantity), sum(amount) FROM floor_sales"
        " GROUP BY event_id, sale_date"
    ),
    (
        "INSERT INTO event_sales_summary SELECT e.event_id, e.event_name, coalesce(sum(d.tickets_sold), 0),"
        " coalesce(sum(d.revenue), 0), now() FROM floor_events e LEFT JOIN daily_ticket_sales d USING (event_id)"
        " GROUP BY e.event_id, e.event_name"
    ),
)


def _list(table: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{name}" for name in names)


def _results(directory: Path) -> dict[str, list[Row]]:
    """The rows as a program holds them: values, not text."""
    now = datetime.now(UTC)
    events = json.loads((directory / "events.json").read_bytes())["data"]
    totals: dict[str, tuple[int, int]] = {event["id"]: (0, 0) for event in events}
    daily: list[Row] = []
    for line in (directory / "results.tsv").read_text().splitlines():
        event_id, day, sold, revenue = line.split("\t")
        tickets, cents = int(sold), int(revenue.replace(".", ""))
        daily.append((event_id, day, tickets, cents / 100))
        totals[event_id] = (totals[event_id][0] + tickets, totals[event_id][1] + cents)
    summary: list[Row] = [
        (event["id"], event["name"], totals[event["id"]][0], totals[event["id"]][1] / 100, now) for event in events
    ]
    return {"daily_ticket_sales": daily, "event_sales_summary": summary}


def _copy_text(rows: list[Row]) -> Iterator[str]:
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield "".join("\t".join(map(str, row)) + "\n" for row in rows[start : start + _CHUNK_ROWS])


PARTS: dict[str, Callable[..., float]] = {
    "fetch": fetch,
    "fold": fold,
    "keep": keep,
    "load": load,
    "load-changed": partial(load, only_changed=True),
}

if __name__ == "__main__":
    print(PARTS[sys.argv[1]](*sys.argv[2:]))
