"""BigQuery's statements, rows and comparisons, made from the table definitions. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from etl.load.store import MAX_EXAMPLES, TableChanges, example
from etl.transform.fold import Summary
from etl.transform.tables import STAMP, ColumnType, Table

T = TypeVar("T")
TYPES: dict[ColumnType, str] = {
    ColumnType.TEXT: "STRING",
    ColumnType.INTEGER: "INT64",
    ColumnType.AMOUNT: "NUMERIC",
    ColumnType.DATE: "DATE",
    ColumnType.TIME: "TIMESTAMP",
    ColumnType.FLAG: "BOOL",
}
MAX_DAYS_A_JOB = 4_000
"""Partitions that one job may modify. Source: BigQuery documentation, "Quotas and limits", partitioned tables."""
REQUEST_BYTES = 5_000_000
"""BigQuery takes 10 MB a request. So much of it is for ids or rows, as they are written in JSON."""
_STREAM_ROWS = 500


@dataclass(frozen=True)
class TableNames:
    """Where a table, its staging and the staged scope stand: quoted, ready for a statement.

    `has_stamps`: rows of the target may have a STAMP, from the write mode `stream`. A MERGE takes it away.
    """

    target: str
    staging: str
    scope: str
    has_stamps: bool = False

    def in_scope(self, table: Table) -> str:
        """The target's rows of the events in scope."""
        return f"SELECT * FROM {self.target} WHERE {self._is_in_scope(table)}"

    def delete_scope(self, table: Table) -> str:
        """Delete them."""
        return f"DELETE FROM {self.target} WHERE {self._is_in_scope(table)}"

    def _is_in_scope(self, table: Table) -> str:
        return f"event_id IN (SELECT event_id FROM {self.scope}){on_any_day(table)}"

    @property
    def is_stamped(self) -> str:
        """Whether a row `t` of the target has one."""
        return f"t.{STAMP.name} IS NOT NULL" if self.has_stamps else "FALSE"


def on_any_day(table: Table) -> str:
    """A filter that lets all rows pass, for a table of somebody's that refuses queries without one (its option
    `require_partition_filter`)."""
    return f" AND ({table.partition} IS NOT NULL OR {table.partition} IS NULL)" if table.partition else ""


def groups_query(table: Table, target: str) -> str:
    """What a table holds by event, and by day where it has days, in the order of `Group.key`."""
    day = table.partition or "CAST(NULL AS DATE)"
    return (
        f"SELECT event_id, {day} AS day, {table.tickets} AS tickets, {table.revenue} AS revenue FROM {target}"
        f" WHERE TRUE{on_any_day(table)} ORDER BY event_id, day"
    )


def published_totals_query(summary: str) -> str:
    """How many events there are, and what was sold in all."""
    return (
        "SELECT COUNT(*) AS events, IFNULL(SUM(total_tickets), 0) AS tickets,"
        f" IFNULL(SUM(total_revenue), 0) AS revenue FROM {summary}"
    )


def published_days_query(daily: str, since: date) -> str:
    """What was sold on each day from then on, in order."""
    return (
        f"SELECT sale_date, SUM(tickets_sold) AS tickets, SUM(revenue) AS revenue FROM {daily}"
        f" WHERE sale_date >= DATE '{since.isoformat()}' GROUP BY sale_date ORDER BY sale_date"
    )


def best_events_query(summary: str, number: int) -> str:
    """The events that have sold most tickets."""
    return (
        f"SELECT event_id, event_name, total_tickets, total_revenue FROM {summary}"
        f" ORDER BY total_tickets DESC, event_id LIMIT {number}"
    )


def changes_query(table: Table, named: TableNames) -> str:
    """One row: how the stored rows in scope differ from staging, the days on which they do, and copies."""
    days = "[]"
    if table.partition:
        touched = "kind <> 'unchanged' OR is_stamped"
        days = f"ARRAY(SELECT DISTINCT {table.partition} FROM compared WHERE {touched} ORDER BY 1)"
    keys = ", ".join(table.key)
    return f"""
        WITH compared AS (
          SELECT {", ".join(f"COALESCE(s.{key}, t.{key}) AS {key}" for key in table.key)},
                 CASE WHEN t.event_id IS NULL THEN 'inserted' WHEN s.event_id IS NULL THEN 'deleted'
                      WHEN {_differs(table)} THEN 'updated' ELSE 'unchanged' END AS kind,
                 {named.is_stamped} AS is_stamped
          FROM {named.staging} s FULL JOIN ({named.in_scope(table)}) t ON {_on_key(table)})
        SELECT COUNTIF(kind = 'inserted') AS inserted, COUNTIF(kind = 'updated') AS updated,
               COUNTIF(kind = 'deleted') AS deleted, COUNTIF(kind = 'unchanged') AS unchanged,
               {days} AS days,
               (SELECT COUNT(*) FROM {named.staging}) AS staged,
               (SELECT COUNT(*) FROM ({named.in_scope(table)})) AS stored,
               (SELECT COUNT(*) FROM (SELECT DISTINCT {keys} FROM ({named.in_scope(table)}))) AS stored_keys
        FROM compared"""


@dataclass(frozen=True)
class Changed:
    """What is to change in a table. `days` are those on which daily rows do, in their order.

    `has_copies` is whether a key stands in the scope more than once, as the write mode `stream` leaves it: no MERGE
    can make one row of them, so all of the scope is written anew.
    """

    changes: TableChanges
    days: list[date]
    has_copies: bool

    def statements(self, table: Table, named: TableNames) -> list[str]:
        """What makes the target hold what staging holds, for the scope."""
        if self.has_copies:
            return replace_statements(table, named)
        if table.partition is None:
            return [merge_statement(table, named)]
        starts = range(0, len(self.days), MAX_DAYS_A_JOB)
        parts = (self.days[start : start + MAX_DAYS_A_JOB] for start in starts)
        return [merge_statement(table, named, (days[0], days[-1])) for days in parts]


def read_changes(row: Mapping[str, Any]) -> Changed:
    """The row of `changes_query`, read."""
    if row["stored_keys"] < row["stored"]:
        return Changed(replaced(row["staged"], row["stored"]), [], has_copies=True)
    changes = TableChanges(row["inserted"], row["updated"], row["deleted"], row["unchanged"])
    return Changed(changes, row["days"], has_copies=False)


def replaced(staged: int, stored: int) -> TableChanges:
    """The counts where all of the scope is written anew."""
    return TableChanges(inserted=staged, deleted=stored)


def last_name(alias: str) -> str:
    """The name that an event's rows had last: the write mode `stream` leaves several."""
    return f"ANY_VALUE({alias}.event_name HAVING MAX IF({alias}.event_name IS NULL, NULL, {alias}.last_updated))"


def replace_statements(table: Table, named: TableNames) -> list[str]:
    """Delete what is in scope, and insert what is staged."""
    names = ", ".join(table.names)
    keep_names = (
        f"UPDATE {named.staging} s SET event_name = (SELECT {last_name('t')} FROM {named.target} t"
        " WHERE t.event_id = s.event_id) WHERE s.event_name IS NULL"
    )
    return [
        *([keep_names] if "event_name" in table.names else []),
        named.delete_scope(table),
        f"INSERT INTO {named.target} ({names}) SELECT {names} FROM {named.staging}",
    ]


def merge_statement(table: Table, named: TableNames, days: tuple[date, date] | None = None) -> str:
    """One MERGE: of all, or from the first to the last of these days.

    The bounds are constants in the merge condition: BigQuery prunes by nothing else. Rows that are to go come with
    the source, marked: a WHEN NOT MATCHED BY SOURCE would keep it from pruning.
    """
    span = f"{table.partition} BETWEEN DATE '{days[0]}' AND DATE '{days[1]}'" if days else ""
    names = ", ".join(table.names)
    keys = ", ".join(f"t.{key}" for key in table.key)
    writes = [f"{name} = {_new_value(name)}" for name in table.values]
    if named.has_stamps:
        writes.append(f"{STAMP.name} = NULL")
    gone = f"({named.in_scope(table)}) t LEFT JOIN {named.staging} s ON {_on_key(table)}"
    nothing = ", ".join(f"CAST(NULL AS {TYPES[c.type]})" for c in table.columns if c.name not in table.key)
    return f"""
        MERGE {named.target} t
        USING (
          SELECT {names}, FALSE AS gone FROM {named.staging} {f"WHERE {span}" if span else ""}
          UNION ALL
          SELECT {keys}, {nothing}, TRUE FROM {gone}
          WHERE s.event_id IS NULL {f"AND t.{span}" if span else ""}
        ) s
        ON {_on_key(table)} {f"AND t.{span}" if span else ""}
        WHEN MATCHED AND s.gone THEN DELETE
        WHEN MATCHED {"" if table.replaced else f"AND ({_differs(table)} OR {named.is_stamped})"} THEN
          UPDATE SET {", ".join(writes)}
        WHEN NOT MATCHED AND NOT s.gone THEN
          INSERT ({names}) VALUES ({", ".join(f"s.{name}" for name in table.names)})"""


def totals_query(table: Table, named: TableNames) -> str:
    """One row: what the target holds for the scope."""
    return (
        f"SELECT COUNT(*) AS n, IFNULL(SUM({table.tickets}), 0) AS tickets,"
        f" IFNULL(SUM({table.revenue}), 0) AS revenue FROM ({named.in_scope(table)})"
    )


def stored_tickets_query(target: str) -> str:
    """One row: tickets in all, and tickets and revenue of the events in @scope.

    In the write mode `stream` an event's newest row counts.
    """
    return f"""
        SELECT COALESCE(SUM(total_tickets), 0) AS total,
               COALESCE(SUM(IF(is_asked_for, total_tickets, 0)), 0) AS in_scope,
               COALESCE(SUM(IF(is_asked_for, total_revenue, 0)), 0) AS revenue
        FROM (SELECT total_tickets, total_revenue, event_id IN UNNEST(@scope) AS is_asked_for,
                     ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY last_updated DESC) AS age FROM {target})
        WHERE age = 1"""


def request_parts(values: Iterable[T], length_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Values in pieces that are each small enough for a request's parameter; at least one, which may be empty."""
    part: list[T] = []
    size = 0
    for value in values:
        length = length_of(value)
        if part and size + length > REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(value)
        size += length
    yield part


def scope_parts(scope: Iterable[str]) -> Iterator[list[str]]:
    """A scope as `request_parts`."""
    return request_parts(scope, lambda event_id: len(json.dumps({"value": event_id})) + len(", "))


def stored_rows_query(table: Table, target: str) -> str:
    """The target's rows of the events in @scope: key and compared columns, as text."""
    texts = ", ".join(f"CAST({name} AS STRING) AS {name}" for name in (*table.key, *table.compared))
    return f"SELECT {texts} FROM {target} WHERE event_id IN UNNEST(@scope){on_any_day(table)}"


def json_rows(table: Table, summary: Summary) -> Iterator[bytes]:
    """A Summary's rows as lines of JSON. Numbers go as text: as JSON numbers they would be rounded to doubles."""
    for row in table.rows(summary):
        yield json.dumps(dict(zip(table.names, row, strict=True)), ensure_ascii=False).encode() + b"\n"


def stream_chunks(table: Table, summary: Summary) -> Iterator[list[dict[str, str | None]]]:
    """A Summary's rows in pieces under the limits of insertAll (10 MB and 50,000 rows; 500 rows are advised)."""
    chunk: list[dict[str, str | None]] = []
    size = 0
    for row in table.rows(summary):
        sent = dict(zip(table.names, row, strict=True))
        length = len(json.dumps(sent))  # as the client writes it: beyond ASCII, a character takes 6 or 12 bytes
        if chunk and (len(chunk) == _STREAM_ROWS or size + length > REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(sent)
        size += length
    if chunk:
        yield chunk


def compare(table: Table, summary: Summary, stored: Iterator[tuple[str | None, ...]]) -> TableChanges:
    """Count what the MERGE would do, from the stored rows in scope (see `stored_rows_query`)."""
    width = len(table.key)
    columns = (*table.key, *table.compared)
    positions = [table.names.index(name) for name in columns]
    coming = {row[:width]: tuple(row[i] for i in positions) for row in table.rows(summary)}
    changes = TableChanges()
    staged, stored_count, keys = len(coming), 0, set()
    for old in stored:
        stored_count += 1
        keys.add(old[:width])
        new = coming.pop(old[:width], None)
        if new is None:
            changes.deleted += 1
        else:
            new = _with_old_name(columns, new, old)
            if _values(table, columns, new) == _values(table, columns, old):
                changes.unchanged += 1
                continue
            changes.updated += 1
        if len(changes.examples) < MAX_EXAMPLES:
            changes.examples.append(example(columns, table, old, new))
    if len(keys) < stored_count:
        return replaced(staged, stored_count)
    changes.inserted = len(coming)
    rest = MAX_EXAMPLES - len(changes.examples)
    changes.examples += [example(columns, table, None, new) for new in list(coming.values())[:rest]]
    return changes


def _with_old_name(
    columns: tuple[str, ...], new: tuple[str | None, ...], old: tuple[str | None, ...]
) -> tuple[str | None, ...]:
    pairs = zip(columns, new, old, strict=True)
    return tuple(before if name == "event_name" and value is None else value for name, value, before in pairs)


def _values(table: Table, columns: tuple[str, ...], row: tuple[str | None, ...]) -> tuple[object, ...]:
    """A row with its numbers as numbers: the stores don't write them alike."""
    numeric = {c.name for c in table.columns if c.type in (ColumnType.INTEGER, ColumnType.AMOUNT)}
    pairs = zip(columns, row, strict=True)
    return tuple(Decimal(value) if name in numeric and value is not None else value for name, value in pairs)


def _on_key(table: Table) -> str:
    return " AND ".join(f"t.{key} = s.{key}" for key in table.key)


def _new_value(name: str) -> str:
    """An event that came without a name keeps the one that the store has."""
    return "COALESCE(s.event_name, t.event_name)" if name == "event_name" else f"s.{name}"


def _differs(table: Table) -> str:
    return " OR ".join(f"{_new_value(name)} IS DISTINCT FROM t.{name}" for name in table.compared)
