"""Make tables, and give those of an earlier version what they lack; or tell an operator which statements do that."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from etl.errors import StoreUnavailableError
from etl.load.postgres.database import sqlstate_of

_LOCK = 0x76657269747531  # "veritu1": two runs at once must not both make the same
_NO_RIGHT = "42501"
_THERE = sa.text(
    "SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE n.nspname = current_schema() AND c.relname = ANY(:names)"
)


def upgrade(connection: sa.Connection, tables: sa.MetaData, *, explain_new: bool = False) -> None:
    """Make what is missing: everything in a new database, and in one of an earlier version what that one didn't have.

    Needs rights to do so only where something is missing. Where it may not change an earlier version's tables (with
    `explain_new`: nor make new ones), it raises StoreUnavailableError with the statements for their owner. A table's
    `info["rights"]` are what the user needs on it.
    """
    if not _additions(connection, tables):
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    statements = _additions(connection, tables)  # another run may have made it meanwhile
    is_new = not _there(connection, tables)
    user, schema = connection.execute(sa.text("SELECT quote_ident(current_user), quote_ident(current_schema())")).one()
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        if (is_new and not explain_new) or sqlstate_of(error) != _NO_RIGHT:
            raise
        grants = [f"GRANT {table.info['rights']} ON {table.name} TO {user}" for table in tables.sorted_tables]
        todo = [f"SET search_path TO {schema}", *statements, *grants]
        what = "tables are missing" if is_new else "tables of an earlier version lack something"
        raise StoreUnavailableError(
            f"PostgreSQL: {what}, and user {user} may not add {'them' if is_new else 'it'} (SQLSTATE {_NO_RIGHT}): let "
            f"their owner run, once: {'; '.join(todo)};",
            sqlstate=_NO_RIGHT,
        ) from None


def _there(connection: sa.Connection, tables: sa.MetaData) -> dict[str, set[str]]:
    """Which of the tables and indexes there are, with their columns."""
    indexes = [index.name for table in tables.sorted_tables for index in table.indexes]
    there: dict[str, set[str]] = {}
    for name, column in connection.execute(_THERE, {"names": [*tables.tables, *indexes]}):
        there.setdefault(name, set()).add(column)
    return there


def _additions(connection: sa.Connection, tables: sa.MetaData) -> list[str]:
    """The statements that make the rest. An index that an operator has dropped is made again where it is unique."""
    there = _there(connection, tables)
    made: list[sa.schema.ExecutableDDLElement | str] = []
    for table in tables.sorted_tables:
        new = [column for column in table.columns if column.name not in there.get(table.name, ())]
        if table.name not in there:
            made.append(CreateTable(table))
        elif not all(column.nullable or column.server_default is not None for column in new):
            continue  # no version has made this one: whatever reads it will say so
        elif new:
            columns = (CreateColumn(column).compile(dialect=connection.dialect) for column in new)
            made.append(f"ALTER TABLE {table.name} " + ", ".join(f"ADD COLUMN {column}" for column in columns))
        made += [
            CreateIndex(index)
            for index in sorted(table.indexes, key=lambda index: str(index.name))
            if index.name not in there and (index.unique or set(index.columns) & set(new))
        ]
    texts = (step if isinstance(step, str) else str(step.compile(dialect=connection.dialect)) for step in made)
    return [" ".join(text.split()) for text in texts]
