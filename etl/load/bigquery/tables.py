"""The two tables as BigQuery has them: how they are defined, and what one that is there already must not be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from etl.errors import ConfigurationError
from etl.load.bigquery.sql import TYPES
from etl.transform.tables import AMOUNT_DECIMALS, STAMP, Column, ColumnType

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField
    from google.cloud.bigquery import Table as BigQueryTable

_HOLDING: dict[ColumnType, tuple[str, ...]] = {
    ColumnType.TEXT: ("STRING",),
    ColumnType.INTEGER: ("INTEGER", "INT64", "NUMERIC", "BIGNUMERIC"),
    ColumnType.AMOUNT: ("NUMERIC", "BIGNUMERIC"),
    ColumnType.DATE: ("DATE",),
    ColumnType.TIME: ("TIMESTAMP",),
    ColumnType.FLAG: ("BOOLEAN", "BOOL"),
}
"""What columns of tables that others made may be. The service has two names for some types."""


class Definition(Protocol):
    """What defines a table: a summary's Table, or a StoredTable."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns, in their order."""

    @property
    def partition(self) -> str | None:
        """The column of type DATE that it is partitioned by."""

    @property
    def clustering(self) -> tuple[str, ...]:
        """The columns that it is clustered by."""


@dataclass(frozen=True)
class StoredTable:
    """A table that is no summary. One that `needs_partition` must not be without it: each run would scan all of it."""

    columns: tuple[Column, ...]
    partition: str | None = None
    clustering: tuple[str, ...] = ()
    needs_partition: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)


def define_table(path: str, table: Definition, partitions: str = "day") -> BigQueryTable:
    """A table as it is to be made; its `partitions` are days or months."""
    from google.cloud.bigquery import SchemaField, TimePartitioning
    from google.cloud.bigquery import Table as BigQueryTable

    schema = [
        SchemaField(column.name, TYPES[column.type], mode="NULLABLE" if column.nullable else "REQUIRED")
        for column in table.columns
    ]
    definition = BigQueryTable(path, schema=schema)
    if table.partition is not None:
        definition.time_partitioning = TimePartitioning(field=table.partition, type_=partitions.upper())
        definition.clustering_fields = list(table.clustering)
    return definition


def expirations(stored: BigQueryTable) -> list[str]:
    """The options by which BigQuery deletes the table, or its old days, in silence. A dataset may have defaults."""
    partitioning = stored.time_partitioning
    return [
        *(["expiration_timestamp"] if stored.expires is not None else []),
        *(["partition_expiration_days"] if partitioning and partitioning.expiration_ms is not None else []),
    ]


def keep_statement(path: str, options: list[str]) -> str:
    """Keep a table for ever, or its days."""
    return f"ALTER TABLE `{path}` SET OPTIONS ({', '.join(f'{option} = NULL' for option in options)})"


def add_column_statement(path: str, column: Column) -> str:
    """Add a column that may be null: others can't be added."""
    return f"ALTER TABLE `{path}` ADD COLUMN IF NOT EXISTS {column.name} {TYPES[column.type]}"


def check_tables(found: Iterable[tuple[Definition, str, BigQueryTable]]) -> None:
    """Raise ConfigurationError where stored tables can't hold their rows, or not for long: each with its path."""
    problems = [problem for table, path, stored in found for problem in _problems(table, path, stored)]
    if problems:
        raise ConfigurationError(
            f"{len(problems)} problem(s) with BigQuery's tables: {'; '.join(problems)}. Or rename such a table, and "
            "the next run makes a new one.",
            problems=problems,
        )


def _problems(table: Definition, path: str, stored: BigQueryTable) -> Iterator[str]:
    fields = {field.name: field for field in stored.schema}
    known = {column.name for column in table.columns}
    for column in table.columns:
        if column.name in fields:
            yield from _column_problems(column, path, fields[column.name])
        elif column is not STAMP:
            yield f"{path} has no column {column.name}: {add_column_statement(path, column)}"
    for name, field in fields.items():
        if field.mode == "REQUIRED" and name not in known:
            yield f"{path}.{name} is REQUIRED, and unknown here: ALTER TABLE `{path}` ALTER COLUMN {name} DROP NOT NULL"
    if options := expirations(stored):
        yield f"{path} has {' and '.join(options)}, and so loses rows in silence: {keep_statement(path, options)}"
    partition = stored.time_partitioning.field if stored.time_partitioning else None
    if isinstance(table, StoredTable) and table.needs_partition and partition != table.partition:
        yield (
            f"{path} isn't partitioned by {table.partition}, so that each run would scan all of it: "
            f"ALTER TABLE `{path}` RENAME TO {path.rpartition('.')[2]}_before"
        )
    if stored.require_partition_filter and partition != table.partition:
        yield (
            f"{path} refuses queries without a filter over {partition or 'its partition'}, which the run can't give: "
            f"ALTER TABLE `{path}` SET OPTIONS (require_partition_filter = FALSE)"
        )


def _column_problems(column: Column, path: str, field: SchemaField) -> Iterator[str]:
    needed = TYPES[column.type]
    if field.field_type not in _HOLDING[column.type] or field.mode == "REPEATED":
        what = field.field_type if field.mode != "REPEATED" else f"ARRAY<{field.field_type}>"
        before = f"{path.rpartition('.')[2]}_before"
        yield f"{path}.{column.name} is {what}, and must be {needed}: ALTER TABLE `{path}` RENAME TO {before}"
    elif column.type is ColumnType.AMOUNT and field.precision is not None and (field.scale or 0) < AMOUNT_DECIMALS:
        yield (
            f"{path}.{column.name} has {field.scale or 0} decimals, and must have {AMOUNT_DECIMALS}: "
            f"ALTER TABLE `{path}` ALTER COLUMN {column.name} SET DATA TYPE {field.field_type}"
        )
