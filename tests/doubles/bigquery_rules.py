"""What BigQuery knows of a table and the emulator doesn't: what it must not be asked, and when it goes by itself."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import exp

from tests.doubles.bigquery_sql import KnownTable, conjuncts, is_over
from tests.doubles.http_server import Answer, Request, json_answer

_TABLES = re.compile(r"/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables")
_TABLE = re.compile(rf"{_TABLES.pattern}/([^/]+)")
_INSERT_ALL = re.compile(rf"{_TABLE.pattern}/insertAll")
_SET_OPTIONS = re.compile(r"\s*ALTER TABLE `([^`]+)` SET OPTIONS \((.*)\)")
_ADD_COLUMN = re.compile(r"\s*ALTER TABLE `([^`]+)` ADD COLUMN (?:IF NOT EXISTS )?(\w+) (\w+)")
_CHANGED = re.compile(r"\b(?:MERGE|UPDATE|DELETE FROM|TRUNCATE TABLE)\s+`([^`]+)`")
_COMMIT = "COMMIT TRANSACTION;"
_DAY_MS = 86_400_000
_STANDARD = {"INTEGER": "INT64", "BOOLEAN": "BOOL", "FLOAT": "FLOAT64"}
"""The API's other names of types."""


@dataclass
class _Table:
    """`options` are the table's by their names in SQL: those that aren't set are missing."""

    options: dict[str, int | bool] = field(default_factory=dict)
    partition: str | None = None
    granularity: str = "DAY"
    is_streamed: bool = False
    new_columns: set[str] = field(default_factory=set)


class TableRules:
    """Tables by their paths (`project.dataset.table`), as requests make and change them.

    - A dataset's default expirations become those of its new tables, and a table keeps its own. (The emulator
      remembers neither.)
    - Where a table has `require_partition_filter`, each reading and changing statement needs a filter.
    - Rows that were streamed can't be changed, and a column that was added isn't known to streaming, until `settle`.
    - Streaming refuses fields that the table doesn't have. (The emulator answers with a 500.)
    - An added column is in the schema. (The emulator's schema and its database know nothing of each other.)
    - A transaction may leave no table with more than `max_partitions`. (The emulator has no partitions.)

    The texts are BigQuery's. `forward` asks the emulator.
    """

    def __init__(self, forward: Callable[[Request], Answer]) -> None:
        self._forward = forward
        self._tables: dict[str, _Table] = {}
        self.max_partitions: int | None = None

    def settle(self) -> None:
        """90 minutes go by."""
        for table in self._tables.values():
            table.is_streamed = False
            table.new_columns.clear()

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request for a table; None: nothing special about it."""
        if request.method == "POST" and (found := _TABLES.fullmatch(request.path)):
            return self._create(request, *found.groups())
        if request.method == "GET" and (found := _TABLE.fullmatch(request.path)):
            return self._with_options(".".join(found.groups()), self._forward(request))
        if request.method == "POST" and (found := _INSERT_ALL.fullmatch(request.path)):
            return self._stream(request, ".".join(found.groups()))
        return None

    def refusal(self, query: str) -> Answer | None:
        """Why BigQuery doesn't run a query."""
        for path in _CHANGED.findall(query):
            if self._of(path).is_streamed:
                return invalid_query(
                    f"UPDATE or DELETE statement over table {path} would affect rows in the streaming buffer, which is "
                    "not supported"
                )
        for path, table in self._tables.items():
            column = table.partition or "_PARTITION_LOAD_TIME"
            if table.options.get("require_partition_filter") and path in query and lacks_filter(query, path, column):
                name = path.rpartition(".")[2]
                return invalid_query(
                    f"Cannot query over table '{name}' without a filter over column(s) '{column}' that can be used for "
                    "partition elimination"
                )
        return None

    def with_limits(self, script: str) -> str:
        """A script that fails where a table that it changes would have too many partitions."""
        if self.max_partitions is None or _COMMIT not in script:
            return script
        changed = {path for path in _CHANGED.findall(script) if self._of(path).partition is not None}
        checks = "".join(
            f"SELECT IF((SELECT COUNT(DISTINCT DATE_TRUNC({self._of(path).partition}, {self._of(path).granularity}))"
            f" FROM `{path}`) > {self.max_partitions}, ERROR('Too many partitions produced by query, allowed"
            f" {self.max_partitions}, query produces at least {self.max_partitions + 1} partitions'), 0);\n"
            for path in sorted(changed)
        )
        return script.replace(_COMMIT, checks + _COMMIT)

    def note(self, query: str) -> None:
        """What a query has changed about a table."""
        if found := _SET_OPTIONS.match(query):
            options = self._of(found[1]).options
            for name, value in re.findall(r"(\w+) = (\w+)", found[2]):
                options.pop(name, None)
                if value not in ("NULL", "FALSE"):
                    options[name] = True if value == "TRUE" else int(value)
        if found := _ADD_COLUMN.match(query):
            self._add_to_schema(found[1], found[2], found[3])

    def known(self, path: str) -> KnownTable | None:
        """A table's columns. Whether partitions are scanned is a matter of cost: BigQuery doesn't refuse that."""
        answer = self._forward(_get(*path.split(".")))
        if answer.status != 200:
            return None
        fields = _content(answer)["schema"]["fields"]
        return KnownTable({field["name"]: _STANDARD.get(field["type"], field["type"]) for field in fields})

    def _of(self, path: str) -> _Table:
        return self._tables.setdefault(path, _Table())

    def _create(self, request: Request, project: str, dataset: str) -> Answer:
        body = request.json
        answer = self._forward(request)
        if answer.status != 200:
            return answer
        path = f"{project}.{dataset}.{body['tableReference']['tableId']}"
        defaults = _content(self._forward(_get(project, dataset)))
        partitioning = body.get("timePartitioning")
        kinds = partitioning or {}
        table = self._tables[path] = _Table(partition=kinds.get("field"), granularity=kinds.get("type", "DAY"))
        days, life = defaults.get("defaultPartitionExpirationMs"), defaults.get("defaultTableExpirationMs")
        if "expirationTime" in body:
            table.options["expiration_timestamp"] = int(body["expirationTime"])
        elif partitioning and days:
            table.options["partition_expiration_days"] = int(days) // _DAY_MS
        elif life:
            table.options["expiration_timestamp"] = int(time.time() * 1000) + int(life)
        if body.get("requirePartitionFilter"):
            table.options["require_partition_filter"] = True
        return self._with_options(path, answer)

    def _with_options(self, path: str, answer: Answer) -> Answer:
        if answer.status != 200:
            return answer
        body, options = _content(answer), self._of(path).options
        if "expiration_timestamp" in options:
            body["expirationTime"] = str(options["expiration_timestamp"])
        if "partition_expiration_days" in options:
            body["timePartitioning"]["expirationMs"] = str(options["partition_expiration_days"] * _DAY_MS)
        if "require_partition_filter" in options:
            body["requirePartitionFilter"] = True
        return json_answer(body)

    def _stream(self, request: Request, path: str) -> Answer:
        project, dataset, name = path.split(".")
        table = self._of(path)
        fields = _content(self._forward(_get(project, dataset, name)))["schema"]["fields"]
        known = {one["name"] for one in fields} - table.new_columns
        unknown = [row["json"].keys() - known for row in request.json["rows"]]
        if any(unknown):
            errors = [{"index": index, "errors": [_row_error(names)]} for index, names in enumerate(unknown)]
            return json_answer({"kind": "bigquery#tableDataInsertAllResponse", "insertErrors": errors})
        table.is_streamed = True
        return self._forward(request)

    def _add_to_schema(self, path: str, name: str, kind: str) -> None:
        project, dataset, table = path.split(".")
        get = _get(project, dataset, table)
        fields = _content(self._forward(get))["schema"]["fields"]
        if name in [one["name"] for one in fields]:
            return
        fields.append({"name": name, "type": kind, "mode": "NULLABLE"})
        body = json.dumps({"schema": {"fields": fields}}).encode()
        self._forward(Request("PATCH", get.target, {"content-type": "application/json"}, body))
        self._of(path).new_columns.add(name)


def lacks_filter(query: str, path: str, column: str) -> bool:
    """Whether a script reads or changes a table somewhere without a filter over this column alone."""
    script = re.sub(r"(BEGIN|COMMIT) TRANSACTION;", "", query)
    return any(
        ".".join(part.name for part in table.parts) == path and not _is_filtered(table, column)
        for statement in sqlglot.parse(script, read="bigquery")
        if statement is not None
        for table in statement.find_all(exp.Table)
    )


def _is_filtered(table: exp.Table, column: str) -> bool:
    statement = table.find_ancestor(exp.Schema, exp.Select, exp.Merge, exp.Update, exp.Delete)
    if statement is None or isinstance(statement, exp.Schema):  # ALTER TABLE, INSERT INTO: it isn't read
        return True
    condition = statement.args.get("on" if isinstance(statement, exp.Merge) else "where")
    name = table.alias
    return any(is_over(part, column, name) for part in conjuncts(condition))


def _row_error(unknown: set[str]) -> dict[str, str]:
    if not unknown:
        return {"reason": "stopped", "location": "", "debugInfo": "", "message": ""}
    name = min(unknown)
    return {"reason": "invalid", "location": name, "debugInfo": "", "message": f"no such field: {name}."}


def _get(*parts: str) -> Request:
    path = "/bigquery/v2" + "".join(
        f"/{kind}/{part}" for kind, part in zip(("projects", "datasets", "tables"), parts, strict=False)
    )
    return Request("GET", path, {}, b"")


def _content(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def invalid_query(message: str) -> Answer:
    """BigQuery's answer to a query that it doesn't run."""
    error = {"reason": "invalidQuery", "location": "query", "message": message}
    return json_answer(
        {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message, "errors": [error]}}, 400
    )
