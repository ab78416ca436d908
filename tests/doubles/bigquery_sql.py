"""A second opinion on statements, independent of the emulator: what BigQuery would refuse, read by sqlglot."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, TokenError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

MAX_DAYS = 4_000
"""Partitions that one statement may modify. Source: BigQuery documentation, "Quotas and limits"."""
FUNCTIONS = frozenset(
    {
        *("ANY_VALUE", "ARRAY", "CAST", "COALESCE", "CONCAT", "COUNT", "COUNTIF", "ERROR", "IF", "IFNULL", "MAX"),
        *("MIN", "REGEXP_REPLACE", "ROW_NUMBER", "SUM", "TIMESTAMP_DIFF", "UNNEST"),
    }
)
"""The functions that statements may call: of others nothing is known here. Source: BigQuery documentation, "Functions,
operators, and conditionals"."""
_BEFORE_PARENTHESES = frozenset(
    {
        *("AND", "AS", "BETWEEN", "BY", "FROM", "IN", "INSERT", "JOIN", "NOT", "ON", "OPTIONS", "OR", "OVER", "SELECT"),
        *("THEN", "USING", "VALUES", "WHEN", "WHERE"),
    }
)
RESERVED = frozenset(
    {
        *("ALL", "AND", "ANY", "ARRAY", "AS", "ASC", "ASSERT_ROWS_MODIFIED", "AT", "BETWEEN", "BY", "CASE", "CAST"),
        *("COLLATE", "CONTAINS", "CREATE", "CROSS", "CUBE", "CURRENT", "DEFAULT", "DEFINE", "DESC", "DISTINCT", "ELSE"),
        *("END", "ENUM", "ESCAPE", "EXCEPT", "EXCLUDE", "EXISTS", "EXTRACT", "FALSE", "FETCH", "FOLLOWING", "FOR"),
        *("FROM", "FULL", "GROUP", "GROUPING", "GROUPS", "HASH", "HAVING", "IF", "IGNORE", "IN", "INNER", "INTERSECT"),
        *("INTERVAL", "INTO", "IS", "JOIN", "LATERAL", "LEFT", "LIKE", "LIMIT", "LOOKUP", "MERGE", "NATURAL", "NEW"),
        *("NO", "NOT", "NULL", "NULLS", "OF", "ON", "OR", "ORDER", "OUTER", "OVER", "PARTITION", "PRECEDING", "PROTO"),
        *("QUALIFY", "RANGE", "RECURSIVE", "RESPECT", "RIGHT", "ROLLUP", "ROWS", "SELECT", "SET", "SOME", "STRUCT"),
        *("TABLESAMPLE", "THEN", "TO", "TREAT", "TRUE", "UNBOUNDED", "UNION", "UNNEST", "USING", "WHEN", "WHERE"),
        *("WINDOW", "WITH", "WITHIN"),
    }
)
"""Words that are no names unless they are quoted. Source: BigQuery documentation, "Lexical structure and syntax"."""
_BLOCKS = re.compile(r"\b(BEGIN|COMMIT) TRANSACTION;")
_NUMBERS = {"INT64", "BIGINT", "INT", "NUMERIC", "DECIMAL", "BIGNUMERIC", "BIGDECIMAL", "FLOAT64", "DOUBLE"}
_FAMILIES = {
    "STRING": "STRING",
    "TEXT": "STRING",
    "VARCHAR": "STRING",
    "BOOL": "BOOL",
    "BOOLEAN": "BOOL",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "TIMESTAMPTZ": "TIMESTAMP",
    "ARRAY": "ARRAY",
    **dict.fromkeys(_NUMBERS, "a number"),
}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_ANYTHING = "anything"
"""The type of NULL, and of ERROR()."""


class WrongStatementError(ValueError):
    """What is wrong with a statement, in words."""


class UnknownTableError(WrongStatementError):
    """There is no such table."""


@dataclass(frozen=True)
class KnownTable:
    """A table's columns with their types, and the column that it is partitioned by."""

    columns: Mapping[str, str]
    partition: str | None = None


def check_script(
    script: str, table_at: Callable[[str], KnownTable | None], parameters: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Raise WrongStatementError where a statement of a script is one that BigQuery refuses, or that nobody should ask
    of it. `table_at` knows tables by their paths; `parameters` are as the API has them, of their values only the types
    count.

    - Every function is in FUNCTIONS, every column is there once, and no name is RESERVED.
    - Like is compared with like, in joins, unions, assignments, insertions; a type that can't be told is refused.
    - An INSERT has as many values as columns.
    - An UPDATE or DELETE has a WHERE; one of a partitioned table, as a MERGE, has a condition on the partitions
      alone, of constants, and lists no more than MAX_DAYS of them.
    """
    _check_words(script)
    try:
        statements = [one for one in sqlglot.parse(_BLOCKS.sub("", script), read="bigquery") if one is not None]
    except (ParseError, TokenError) as error:
        raise WrongStatementError(f"it doesn't parse: {error}") from None
    checker = _Checker(table_at, {one["name"]: one["parameterType"] for one in parameters})
    for statement in statements:
        checker.check(statement)


def conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    """The parts of a condition that must all hold."""
    if isinstance(condition, (exp.Where, exp.Paren)):
        yield from conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from conjuncts(condition.left)
        yield from conjuncts(condition.right)
    elif condition is not None:
        yield condition


def is_over(condition: exp.Expr, column: str, table: str) -> bool:
    """Whether a condition is of one column of a table and constants alone."""
    columns = {(one.table, one.name) for one in condition.find_all(exp.Column)}
    return bool(columns) and columns <= {(table, column), ("", column)} and condition.find(exp.Query) is None


def _check_words(script: str) -> None:
    for token, following in pairwise(sqlglot.tokenize(script, read="bigquery")):
        word = token.text.upper()
        is_name = token.token_type.name not in ("IDENTIFIER", "STRING") and re.fullmatch(r"[A-Z_]+", word)
        if is_name and following.text == "(" and word not in FUNCTIONS | _BEFORE_PARENTHESES:
            raise WrongStatementError(f"nothing is known of the function {token.text}")


class _Checker:
    def __init__(self, table_at: Callable[[str], KnownTable | None], types: Mapping[str, Mapping[str, Any]]) -> None:
        self._table_at = table_at
        self._types = types

    def check(self, statement: exp.Expr) -> None:
        """One statement."""
        _check_names(statement)
        statement = statement.transform(partial(_as_typed, self._types))
        match statement:
            case exp.Query():
                self._annotated(statement)
            case exp.Insert():
                self._check_insert(statement)
            case exp.Merge():
                self._check_merge(statement)
            case exp.Update() | exp.Delete():
                self._check_modified(statement, statement.args.get("where"))
            case exp.Alter():
                self._known(statement.this)
            case exp.TruncateTable():
                self._known(statement)
            case _:
                raise WrongStatementError(f"nothing is known of {statement.sql('bigquery')[:80]}")

    def _known(self, target: exp.Expr) -> KnownTable:
        table = target.find(exp.Table)
        path = ".".join(part.name for part in table.parts) if table is not None else target.sql("bigquery")
        known = self._table_at(path)
        if known is None:
            raise UnknownTableError(f"there is no table {path}")
        return known

    def _annotated(self, query: exp.Expr) -> exp.Query:
        """A query whose columns have their tables and types; all that must be alike in it is compared."""
        ctes = {cte.alias for cte in query.find_all(exp.CTE)}
        schema = MappingSchema(dialect="bigquery")
        for table in query.find_all(exp.Table):
            if not (len(table.parts) == 1 and table.name in ctes):
                schema.add_table(table.copy(), dict(self._known(table).columns), dialect="bigquery")
        try:
            qualified = qualify(query.copy(), schema=schema, dialect="bigquery", expand_alias_refs=False)
            annotated = annotate_types(qualified, schema=schema, dialect="bigquery")
        except OptimizeError as error:
            raise WrongStatementError(str(error)) from None
        for node in annotated.walk():
            for ours, theirs in _pairs_in(node):
                _check_alike(node, ours, theirs)
        assert isinstance(annotated, exp.Query)
        return annotated

    def _check_insert(self, statement: exp.Insert) -> None:
        names = [column.name for column in statement.this.expressions]
        query = self._annotated(statement.expression)
        _check_width(names, query.selects)
        _check_assigned(self._known(statement.this), zip(names, query.selects, strict=True))

    def _check_merge(self, statement: exp.Merge) -> None:
        """All of its expressions, as columns of a join of target and source."""
        known = self._known(statement.this)
        _check_partitions(known, statement.args["on"], statement.this.alias)
        names: list[str] = []
        values: list[exp.Expr] = []
        conditions: list[exp.Expr] = [statement.args["on"]]
        for when in statement.args["whens"].expressions:
            conditions += [when.args["condition"]] if when.args.get("condition") else []
            then = when.args["then"]
            if isinstance(then, exp.Update):
                names += [one.this.name for one in then.expressions]
                values += [one.expression for one in then.expressions]
            elif isinstance(then, exp.Insert):
                _check_width(then.this.expressions, then.expression.expressions)
                names += [one.name for one in then.this.expressions]
                values += then.expression.expressions
        source = exp.Select().from_(statement.this.copy()).join(statement.args["using"].copy(), join_type="cross")
        selects = (*values, *(exp.Paren(this=condition.copy()) for condition in conditions))
        query = self._annotated(source.select(*(one.copy() for one in selects)))
        _check_assigned(known, zip(names, query.selects, strict=False))

    def _check_modified(self, statement: exp.Update | exp.Delete, where: exp.Where | None) -> None:
        if where is None:
            raise WrongStatementError(f"{statement.key.upper()} must have a WHERE clause")
        known = self._known(statement.this)
        _check_partitions(known, where.this, statement.this.alias)
        assignments = statement.expressions if isinstance(statement, exp.Update) else []
        source = exp.Select().from_(statement.this.copy()).where(where.this.copy())
        query = self._annotated(source.select(*(one.expression.copy() for one in assignments), "1 AS one"))
        _check_assigned(known, zip((one.this.name for one in assignments), query.selects, strict=False))


def _pairs_in(node: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """The expressions that must be alike."""
    match node:
        case exp.Between():
            yield from ((node.this, node.args["low"]), (node.this, node.args["high"]))
        case exp.In():
            yield from ((node.this, other) for other in node.expressions or node.args["query"].this.selects)
        case exp.SetOperation():
            left, right = (side.selects for side in (node.left, node.right) if isinstance(side, exp.Query))
            if len(left) != len(right):
                raise WrongStatementError(f"a set operation of {len(left)} and {len(right)} columns")
            yield from zip(left, right, strict=True)
        case exp.Coalesce():
            yield from ((node.this, other) for other in node.expressions)
        case exp.If() if node.args.get("false") is not None:
            yield node.args["true"], node.args["false"]
        case _ if isinstance(node, _COMPARISONS):
            yield node.this, node.expression


def _check_names(statement: exp.Expr) -> None:
    for name in statement.find_all(exp.Identifier):
        if not name.quoted and name.name.upper() in RESERVED:
            raise WrongStatementError(f"{name.name} is a reserved word")


def _as_typed(types: Mapping[str, Mapping[str, Any]], node: exp.Expr) -> exp.Expr:
    """A node with parameters as NULLs of their types, and arrays of them as queries."""
    match node:
        case exp.In() if isinstance(node.args.get("unnest"), exp.Unnest):
            query = _items(types, node.args["unnest"].expressions[0], "item")
            return exp.In(this=node.this, query=exp.Subquery(this=query))
        case exp.Unnest() if isinstance(node.expressions[0], exp.Parameter):
            alias = node.alias_or_name or next(iter(node.alias_column_names), "items")
            return exp.Subquery(this=_items(types, node.expressions[0], alias), alias=exp.TableAlias(this=alias))
        case exp.Parameter():
            return _null(_type_of(types, node))
    return node


def _items(types: Mapping[str, Mapping[str, Any]], array: exp.Parameter, name: str) -> exp.Select:
    """A query of an array's columns; `name` is that of an item which has none."""
    item = _type_of(types, array)["arrayType"]
    columns = item.get("structTypes") or [{"name": name, "type": item}]
    return exp.Select().select(*(exp.alias_(_null(one["type"]), one["name"]) for one in columns))


def _type_of(types: Mapping[str, Mapping[str, Any]], parameter: exp.Parameter) -> Mapping[str, Any]:
    name = parameter.this.name
    if name not in types:
        raise WrongStatementError(f"there is no parameter {name}")
    return types[name]


def _null(kind: Mapping[str, Any]) -> exp.Expr:
    return exp.cast(exp.null(), kind["type"], dialect="bigquery")


def _check_partitions(known: KnownTable, condition: exp.Expr, alias: str) -> None:
    """A condition on a partitioned table has a part that is of the partitions and constants alone, or is never true."""
    if known.partition is None:
        return
    parts = list(conjuncts(condition))
    own = [part for part in parts if is_over(part, known.partition, alias)]
    if not own and not any(isinstance(part, exp.Boolean) and not part.this for part in parts):
        raise WrongStatementError(f"no condition on {known.partition} alone, by constants: all partitions are scanned")
    listed = max((len(one.expressions) for part in own for one in part.find_all(exp.In)), default=0)
    if listed > MAX_DAYS:
        raise WrongStatementError(f"{listed} partitions are modified, and {MAX_DAYS} may be")


def _check_width(names: Sequence[object], values: Sequence[object]) -> None:
    if len(names) != len(values):
        raise WrongStatementError(f"{len(values)} values for {len(names)} columns")


def _check_assigned(known: KnownTable, assigned: Iterable[tuple[str, exp.Expr]]) -> None:
    for name, value in assigned:
        if name not in known.columns:
            raise WrongStatementError(f"there is no column {name}")
        kind, family = known.columns[name], _family(value)
        if family not in (_ANYTHING, _FAMILIES[kind]):
            raise WrongStatementError(f"{name} is {kind}, and is given {family}: {value.sql('bigquery')[:200]}")


def _check_alike(where: exp.Expr, ours: exp.Expr, theirs: exp.Expr) -> None:
    families = {_family(ours), _family(theirs)} - {_ANYTHING}
    if len(families) > 1:
        raise WrongStatementError(f"{' and '.join(sorted(families))} don't go together: {where.sql('bigquery')[:200]}")


def _family(expression: exp.Expr) -> str:
    node = expression.unalias()
    while isinstance(node, exp.Paren):
        node = node.this
    is_error = isinstance(node, exp.Anonymous) and node.name.upper() == "ERROR"
    kind = node.type.this.name if node.type is not None and isinstance(node.type.this, exp.DataType.Type) else "UNKNOWN"
    if is_error or isinstance(node, exp.Null) or kind == "NULL":
        return _ANYTHING
    if kind not in _FAMILIES:
        raise WrongStatementError(f"the type of {node.sql('bigquery')[:200]} can't be told ({kind})")
    return _FAMILIES[kind]
