"""Load a Summary into PostgreSQL: COPY into staging, set-based upserts, one transaction."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from pg8000.exceptions import Error as DriverError
from sqlalchemy.dialects import postgresql

from etl.deadline import Deadline
from etl.errors import ConfigurationError, StoreUnavailableError
from etl.load.postgres.database import message_for, sqlstate_of, transaction
from etl.load.postgres.staging import copy_rows
from etl.load.store import MAX_EXAMPLES, LoadResult, ScopeTotals, StoredTickets, TableChanges, example, expected_totals
from etl.logs import log_warning
from etl.transform.fold import Summary
from etl.transform.tables import AMOUNT_DECIMALS, EVENT_SALES_SUMMARY, TABLES, Column, ColumnType, Table

_UNTRANSLATABLE = "22P05"
_CREATE_LOCK = 0x7665726974  # "verit": two first runs at once must not both create the tables
_TYPES: dict[ColumnType, sa.types.TypeEngine[Any]] = {
    ColumnType.TEXT: sa.Text(),
    ColumnType.INTEGER: sa.BigInteger(),
    ColumnType.AMOUNT: sa.Numeric(38, 9),
    ColumnType.DATE: sa.Date(),
    ColumnType.TIME: sa.DateTime(timezone=True),
}
_HOLDING: dict[ColumnType, tuple[str, ...]] = {
    ColumnType.TEXT: ("text", "character varying", "character", "citext"),
    ColumnType.INTEGER: ("bigint", "integer", "smallint", "numeric"),
    ColumnType.AMOUNT: ("numeric",),
    ColumnType.DATE: ("date", "timestamp without time zone", "timestamp with time zone"),
    ColumnType.TIME: ("timestamp without time zone", "timestamp with time zone"),
}
"""What columns of tables that others made may be: types that hold a value exactly, refuse it, or round its decimals."""
metadata = sa.MetaData()
for _table in TABLES:
    sa.Table(
        _table.name,
        metadata,
        *(
            sa.Column(column.name, _TYPES[column.type], primary_key=column.name in _table.key, nullable=column.nullable)
            for column in _table.columns
        ),
        # Rows that every run writes anew need room on their page: else each one moves, and its index entry with it.
        postgresql_with={"fillfactor": 50} if _table.replaced else {},
    )


def _create_tables(connection: sa.Connection) -> None:
    """Create what is missing. Needs the right to create only where something is."""
    names = set(sa.inspect(connection).get_table_names())
    if not names.issuperset(metadata.tables):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_LOCK)))
        metadata.create_all(connection)


def check_tables(engine: sa.Engine, deadline: Deadline) -> None:
    """Raise ConfigurationError where a table that is there already can't hold a Summary."""
    with transaction(engine, deadline) as connection:
        _check_types(_column_types(connection))


def prepare_tables(connection: sa.Connection, *, dry_run: bool) -> list[str]:
    """Create the tables that aren't there, check the others, and say which columns round amounts. Returns these."""
    _create_tables(connection)
    types = _column_types(connection)
    _check_types(types)
    rounded = _rounded_columns(types)
    if rounded and not dry_run:
        log_warning(
            "Postgres amounts rounded",
            database="postgres",
            columns=rounded,
            error="these columns were made with fewer than 9 decimals, so that amounts are rounded on their way in; "
            "change their type to numeric(38,9) to keep them exact",
        )
    return rounded


Types = dict[str, dict[str, str]]
"""Table -> column -> type, as PostgreSQL names it; of a domain the type beneath it."""


def _column_types(connection: sa.Connection) -> Types:
    """What the tables look like; one that isn't there is not among them."""
    names = ", ".join(f"('{table.name}')" for table in TABLES)
    found = connection.exec_driver_sql(
        f"""SELECT t.name, a.attname, CASE WHEN y.typtype = 'd' THEN format_type(y.typbasetype, y.typtypmod)
                                          ELSE format_type(a.atttypid, a.atttypmod) END
            FROM (VALUES {names}) AS t(name) JOIN pg_attribute a ON a.attrelid = to_regclass(t.name)
            JOIN pg_type y ON y.oid = a.atttypid WHERE a.attnum > 0 AND NOT a.attisdropped"""
    )
    types: Types = {}
    for table, column, name in found:
        types.setdefault(table, {})[column] = name
    return types


def _check_types(types: Types) -> None:
    problems = [
        problem
        for table in TABLES
        if (stored := types.get(table.name))
        for column in table.columns
        if (problem := _problem(table, column, stored.get(column.name)))
    ]
    if problems:
        raise ConfigurationError(
            f"{len(problems)} problem(s) with PostgreSQL's tables: {'; '.join(problems)}. Or rename such a table, and "
            "the next run makes a new one.",
            problems=problems,
        )


def _problem(table: Table, column: Column, found: str | None) -> str | None:
    """What is wrong with a column of this type (None: there is no such column), and the statement that mends it."""
    name, needed = column.name, _ddl_type(column)
    if found is None:
        return f"{table.name} has no column {name}: ALTER TABLE {table.name} ADD COLUMN {name} {needed}"
    if re.sub(r"\(.*?\)", "", found) in _HOLDING[column.type]:
        return None
    change = f"ALTER TABLE {table.name} ALTER COLUMN {name} TYPE {needed} USING {name}::{needed}"
    return f"{table.name}.{name} is {found}, and must be {needed}: {change}"


def _ddl_type(column: Column) -> str:
    return _TYPES[column.type].compile(postgresql.dialect()).lower().replace(", ", ",")  # type: ignore[no-untyped-call]


def load_postgres(
    summary: Summary,
    engine: sa.Engine,
    deadline: Deadline,
    *,
    dry_run: bool = False,
    before_commit: Callable[[sa.Connection, LoadResult], None] = lambda _connection, _result: None,
) -> LoadResult:
    """Make PostgreSQL hold exactly the Summary for the events in its scope, or tell what that would change.

    One transaction, which a dry run rolls back. `before_commit` runs in it, last.
    Raises StoreUnavailableError where the database refuses, or holds something else after the load than the Summary.
    """
    started = time.perf_counter()
    result = LoadResult("postgres", "dry_run" if dry_run else "success")
    with transaction(engine, deadline) as connection:
        rounded = prepare_tables(connection, dry_run=dry_run)
        for table in TABLES:
            _stage(connection, table, summary, deadline)
        _keep_names(connection)
        # In this order a day finds its event, where somebody has made a foreign key of that. No event is ever deleted.
        for table in TABLES:
            result.changes[table.name] = _apply(connection, table, dry_run=dry_run)
        if dry_run:
            connection.rollback()
        else:
            _reconcile(connection, summary, rounded, result)
            before_commit(connection, result)
    result.seconds = time.perf_counter() - started
    return result


def stored_tickets(engine: sa.Engine, scope: tuple[str, ...], deadline: Deadline) -> StoredTickets:
    """What PostgreSQL holds, in all and in scope; 0 where there is no table yet."""
    with transaction(engine, deadline) as connection:
        if not sa.inspect(connection).has_table(EVENT_SALES_SUMMARY.name):
            return StoredTickets(0, 0, Decimal())
        total, in_scope, revenue = connection.execute(
            _STORED_TICKETS, {"scope": json.dumps(scope, ensure_ascii=False)}
        ).one()
    return StoredTickets(int(total), int(in_scope), Decimal(revenue))


# The ids go as JSON: in an array pg8000 takes those that are spelt `null` or `Null` for no id at all.
_STORED_TICKETS = sa.text(
    "SELECT coalesce(sum(t.total_tickets), 0),"
    " coalesce(sum(t.total_tickets) FILTER (WHERE s.event_id IS NOT NULL), 0),"
    " coalesce(sum(t.total_revenue) FILTER (WHERE s.event_id IS NOT NULL), 0)"
    f" FROM {EVENT_SALES_SUMMARY.name} t"
    " LEFT JOIN (SELECT json_array_elements_text(CAST(:scope AS json)) AS event_id) s"
    " ON s.event_id = CAST(t.event_id AS text)"
)


def _staging(table: Table) -> str:
    return f"etl_staging_{table.name}"


def _stage(connection: sa.Connection, table: Table, summary: Summary, deadline: Deadline) -> None:
    """COPY the Summary's rows into a temporary table of the target's own column types."""
    staging = _staging(table)
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {staging} (LIKE {table.name}) ON COMMIT DROP")
    is_text = [column.type is ColumnType.TEXT or column.nullable for column in table.columns]
    try:
        copy_rows(connection, staging, table.names, table.rows(summary), deadline, is_text)
    except DriverError as error:
        if (state := sqlstate_of(error)) != _UNTRANSLATABLE:
            raise
        raise StoreUnavailableError(_with_place(message_for(error), table, summary), sqlstate=state) from None
    connection.exec_driver_sql(f"ANALYZE {staging}")


def _with_place(refusal: str, table: Table, summary: Summary) -> str:
    """What the server says of a character that the database's encoding lacks, and where that stands.

    The server tells its bytes only.
    """
    character = bytes.fromhex("".join(re.findall(r"\b0x([0-9a-f]{2})\b", refusal))).decode(errors="replace")
    for row in table.rows(summary) if len(character) == 1 else ():
        for name, value in zip(table.names, row, strict=True):
            if character in (value or ""):
                point = f"U+{ord(character):04X}"
                return f"{refusal}. It is {character!r} ({point}), in {table.name}.{name} of the event {row[0]!r:.200}"
    return refusal


def _keep_names(connection: sa.Connection) -> None:
    """An event that came without a name keeps the one that the store has."""
    name = EVENT_SALES_SUMMARY.name
    connection.exec_driver_sql(
        f"UPDATE {_staging(EVENT_SALES_SUMMARY)} s SET event_name = t.event_name FROM {name} t"
        " WHERE t.event_id = s.event_id AND s.event_name IS NULL AND t.event_name IS NOT NULL"
    )


def _apply(connection: sa.Connection, table: Table, *, dry_run: bool) -> TableChanges:
    """Insert and update what is there, delete what no longer is; only count it in a dry run."""
    changes = TableChanges()
    stored_before = connection.exec_driver_sql(f"SELECT count(*) FROM {_in_scope(table)}").scalar_one()
    old = ", ".join(f"t.{name}" for name in table.compared)
    new = ", ".join(f"s.{name}" for name in table.compared)
    is_new, differs = f"t.{table.key[0]} IS NULL", f"({old}) IS DISTINCT FROM ({new})"
    changed = (
        f"SELECT s.*, {is_new} AS is_new, {differs} AS differs"
        f" FROM {_staging(table)} s LEFT JOIN {table.name} t ON {_on_key(table)}"
        + ("" if table.replaced else f" WHERE {is_new} OR {differs}")
    )
    upsert = (
        f"INSERT INTO {table.name} ({', '.join(table.names)}) SELECT {', '.join(table.names)} FROM changed"
        f" ORDER BY {', '.join(table.key)} ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in table.values)
    )
    parts = [f"changed AS ({changed})"] + ([] if dry_run else [f"upserted AS ({upsert})"])
    staged = f"(SELECT count(*) FROM {_staging(table)})"
    inserted, updated, rows = connection.exec_driver_sql(
        f"WITH {', '.join(parts)} SELECT count(*) FILTER (WHERE is_new),"
        f" count(*) FILTER (WHERE NOT is_new AND differs), {staged} FROM changed"
    ).one()
    changes.inserted, changes.updated, changes.unchanged = inserted, updated, rows - inserted - updated
    if stored_before > rows - inserted:  # else nothing can be gone, and needn't be looked for
        changes.deleted = _delete(connection, table, dry_run=dry_run)
    if dry_run:
        changes.examples = _examples(connection, table, f"{is_new} OR {differs}")
    return changes


def _in_scope(table: Table) -> str:
    """The target's rows of the Summary's events, as `t`, for a FROM."""
    return f"{table.name} t WHERE t.event_id IN (SELECT event_id FROM {_staging(EVENT_SALES_SUMMARY)})"


def _gone(table: Table) -> str:
    """Those of them that the Summary doesn't have."""
    return f"{_in_scope(table)} AND NOT EXISTS (SELECT 1 FROM {_staging(table)} s WHERE {_on_key(table)})"


def _on_key(table: Table) -> str:
    return " AND ".join(f"t.{name} = s.{name}" for name in table.key)


def _delete(connection: sa.Connection, table: Table, *, dry_run: bool) -> int:
    if dry_run:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {_gone(table)}").scalar_one())
    return connection.exec_driver_sql(f"DELETE FROM {_gone(table)}").rowcount


def _examples(connection: sa.Connection, table: Table, is_changed: str) -> list[dict[str, Any]]:
    """Up to 20 rows that would change, as text: what they are now, and what they would be."""
    columns = (*table.key, *table.compared)
    old = ", ".join(f"t.{name}::text" for name in columns)
    new = ", ".join(f"s.{name}::text" for name in columns)
    order = ", ".join(map(str, range(1, len(table.key) + 1)))
    changed = connection.exec_driver_sql(
        f"SELECT {new}, {old} FROM {_staging(table)} s LEFT JOIN {table.name} t ON {_on_key(table)}"
        f" WHERE {is_changed} ORDER BY {order} LIMIT {MAX_EXAMPLES}"
    ).all()
    rest = MAX_EXAMPLES - len(changed)
    gone = connection.exec_driver_sql(f"SELECT {old} FROM {_gone(table)} ORDER BY {order} LIMIT {rest}").all()
    width = len(columns)
    return [example(columns, table, tuple(row[width:]), tuple(row[:width])) for row in changed] + [
        example(columns, table, tuple(row), None) for row in gone
    ]


def _reconcile(connection: sa.Connection, summary: Summary, rounded: list[str], result: LoadResult) -> None:
    """Read back what the tables hold for the scope; raises where it isn't the Summary."""
    started = time.perf_counter()
    for table, expected in expected_totals(summary):
        stored = _totals(connection, table, _in_scope(table))
        if rounded:
            expected = _totals(connection, table, _staging(table))
        result.reconciled[table.name] = stored
        if stored != expected:
            raise StoreUnavailableError(
                f"PostgreSQL: {table.name} holds {stored} after the load, and should hold {expected}; nothing was "
                "changed. Look for a trigger or a rule on the table."
            )
    result.reconcile_seconds = time.perf_counter() - started


def _totals(connection: sa.Connection, table: Table, source: str) -> ScopeTotals:
    rows, tickets, revenue = connection.exec_driver_sql(
        f"SELECT count(*), coalesce(sum({table.tickets}), 0), coalesce(sum({table.revenue}), 0) FROM {source}"
    ).one()
    return ScopeTotals(rows, int(tickets), revenue)


def amount_scales(connection: sa.Connection) -> dict[str, int]:
    """How many decimals each table's amounts have; a table that isn't there is not among them."""
    return _amount_scales(_column_types(connection))


def _amount_scales(types: Types) -> dict[str, int]:
    """Tables of the earlier Veritix ETL have fewer than 9; a plain numeric has as many as any."""
    found = {
        table.name: re.fullmatch(r"numeric\(\d+,(-?\d+)\)", types[table.name][table.revenue])
        for table in TABLES
        if table.name in types
    }
    return {name: int(scale[1]) if scale else AMOUNT_DECIMALS for name, scale in found.items()}


def _rounded_columns(types: Types) -> list[str]:
    """Amount columns with fewer than 9 decimals."""
    scales = _amount_scales(types)
    return [f"{table.name}.{table.revenue}" for table in TABLES if scales[table.name] < AMOUNT_DECIMALS]
