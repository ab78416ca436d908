"""What kept sales in BigQuery cost a month: an estimate from the statements and the tables' columns.

`python -m tests.project.bigquery_cost` prints the table of docs/increments.md.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.schema import MappingSchema

from etl.sales.bigquery import sql
from tests.doubles.bigquery_sql import conjuncts, is_over
from tests.support.bigquery_tables import DEFINITIONS, KEPT, NAMES, columns_of, quoted

BYTES = {"INT64": 8, "NUMERIC": 16, "DATE": 8, "TIMESTAMP": 8, "BOOL": 1}
"""Source: BigQuery documentation, "Estimate and control costs", data type sizes. A STRING has 2 and its UTF-8 bytes."""
TEXT_BYTES = {"sale_id": 36, "event_id": 36, "old_sale_id": 36, "old_event_id": 36, "event_name": 24, "store": 8}
"""Estimates: ids are UUIDs. Texts that aren't named here are nearly always NULL, which takes nothing."""
LEAST_BYTES = 10_000_000
"""What a query is billed at least, for each table that it names."""
FREE_GIB, GIB_PRICE = 10, 0.02
FREE_TIB, TIB_PRICE = 1, 6.25
"""US dollars a month. Source: BigQuery pricing, US multi-region, active logical storage and on-demand queries."""
RUNS_A_DAY, SWEEPS_A_DAY, DAYS_A_MONTH = 96, 1, 30
SHARE_OF_DAYS = 0.02
"""Of all sales, those on the days that a run's changes touch: 20 of three years' days."""
SALES_A_GROUP, SALES_AN_EVENT = 20, 2_000
SALES = (1_000_000, 100_000_000, 1_000_000_000)
DAYS = [date(2026, 1, 1)]
_KINDS = {column: kind for name in DEFINITIONS for column, kind in columns_of(name).items()}
_CHANGED, _STAGED, _GROUPS, _TOTALS = map(quoted, ("changes", "staged", "groups", "totals"))


def run_statements(*, needs_search: bool) -> list[str]:
    """One run with one slice of changes; `needs_search` where creation times don't prove ids new."""
    source = sql.Source(NAMES, NAMES.sales, sql.pending_rows(NAMES), sql.all_events(NAMES), DAYS)
    compare = sql.insert_changes(NAMES, _CHANGED, sql.staged_rows(_STAGED), DAYS)
    return [
        sql.published_query(NAMES),
        compare,
        sql.changes_query(_CHANGED),
        *([sql.elsewhere_query(NAMES, _CHANGED)] if needs_search else []),
        *sql.apply_changes(NAMES, _CHANGED, DAYS, has_dateless=False),
        sql.insert_pending(NAMES, _CHANGED),
        sql.insert_groups(source, _GROUPS),
        sql.insert_totals(source, _GROUPS, _TOTALS),
        sql.publication_query(_GROUPS, _TOTALS),
        *sql.publish_statements(NAMES, _GROUPS, _TOTALS, DAYS),
    ]


def sweep_statements() -> list[str]:
    """One sweep that finds changes on some days; its slices are but rows put aside."""
    return [
        sql.empty(NAMES.swept),
        sql.insert_changes(NAMES, _CHANGED, sql.swept_rows(NAMES), None),
        *sql.apply_changes(NAMES, _CHANGED, DAYS, has_dateless=False),
        sql.unseen_query(NAMES, 1_000),
        sql.merge_missed(NAMES),
        sql.counts_query(NAMES),
    ]


@dataclass(frozen=True)
class Month:
    """Bytes and US dollars."""

    stored: int
    runs: int
    searches: int
    sweeps: int

    @property
    def storage_price(self) -> float:
        """Of what is stored."""
        return max(0.0, self.stored / 2**30 - FREE_GIB) * GIB_PRICE

    def query_price(self, *, needs_search: bool) -> float:
        """Of what is scanned."""
        scanned = self.runs + self.sweeps + (self.searches if needs_search else 0)
        return max(0.0, scanned / 2**40 - FREE_TIB) * TIB_PRICE


def month_of(sales: int) -> Month:
    """A month with so many kept sales."""
    rows = {KEPT: sales, f"{KEPT}_swept": sales, "daily": sales // SALES_A_GROUP}
    rows |= dict.fromkeys(("summary", f"{KEPT}_events"), sales // SALES_AN_EVENT)
    plain, searched = (_scanned(run_statements(needs_search=needs), rows) for needs in (False, True))
    runs = RUNS_A_DAY * DAYS_A_MONTH
    return Month(
        sum(count * row_bytes(name) for name, count in rows.items()),
        runs * plain,
        runs * (searched - plain),
        SWEEPS_A_DAY * DAYS_A_MONTH * _scanned(sweep_statements(), rows),
    )


def row_bytes(name: str) -> int:
    """A row's bytes, by the columns of its table."""
    return sum(map(_size, columns_of(name)))


def _scanned(statements: list[str], rows: dict[str, int]) -> int:
    total = 0
    for statement in statements:
        parts: Counter[str] = Counter()
        for name, columns, is_bounded in _reads(statement):
            share = SHARE_OF_DAYS if is_bounded else 1.0
            parts[name] += round(rows.get(name, 0) * share * sum(_size(column) for column in columns))
        total += sum(max(LEAST_BYTES, size) for size in parts.values())
    return total


def _reads(statement: str) -> Iterator[tuple[str, set[str], bool]]:
    """The tables that a statement reads: their columns, and whether on some days alone. What is changed is read whole:
    "Partitioned tables: q' + t'". Source: BigQuery documentation, "DML statement size calculation"."""
    parsed = sqlglot.parse_one(statement, read="bigquery")
    queries: list[exp.Expr] = [parsed]
    if isinstance(parsed, exp.Insert):
        queries = [parsed.expression]
    elif isinstance(parsed, exp.Merge):
        queries = [parsed.args["using"].this]
    elif isinstance(parsed, exp.Delete):
        queries = [
            query for query in parsed.args["where"].find_all(exp.Query) if query.find_ancestor(exp.Query) is None
        ]
    if isinstance(parsed, (exp.Merge, exp.Delete)):
        name = parsed.this.name
        condition = parsed.args["on"] if isinstance(parsed, exp.Merge) else parsed.args["where"].this
        yield name, set(columns_of(name)), _is_bounded(condition, name, parsed.this.alias)
    schema = MappingSchema({"p": {"d": {name: columns_of(name) for name in DEFINITIONS}}}, dialect="bigquery")
    for query in queries:
        qualified = qualify(query.copy(), schema=schema, dialect="bigquery", validate_qualify_columns=False)
        for scope in traverse_scope(qualified):
            for alias, source in scope.sources.items():
                if isinstance(source, exp.Table):
                    columns = {column.name for column in scope.columns if column.table == alias}
                    where = scope.expression.args.get("where")
                    yield source.name, columns & set(columns_of(source.name)), _is_bounded(where, source.name, alias)


def _is_bounded(condition: exp.Expr | None, name: str, alias: str) -> bool:
    partition = DEFINITIONS[name].partition
    return partition is not None and any(
        is_over(part, partition, alias) and part.find(exp.In, exp.Between) is not None for part in conjuncts(condition)
    )


def _size(column: str) -> int:
    kind = _KINDS[column]
    if kind == "STRING":
        return TEXT_BYTES[column] + 2 if column in TEXT_BYTES else 0
    return BYTES[kind]


def table_rows() -> Iterator[str]:
    """The table of docs/increments.md."""
    for sales in SALES:
        month = month_of(sales)
        yield (
            f"| {sales:,} | {month.stored / 2**30:,.1f} GiB | {month.runs / 2**40:,.2f} TiB"
            f" | {month.sweeps / 2**40:,.2f} TiB | {month.searches / 2**40:,.2f} TiB"
            f" | ${month.storage_price + month.query_price(needs_search=False):,.0f}"
            f" | ${month.storage_price + month.query_price(needs_search=True):,.0f} |"
        )


if __name__ == "__main__":
    print("\n".join(table_rows()))
    print(f"{row_bytes(KEPT)} bytes a sale")
