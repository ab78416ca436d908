"""The second opinion on statements: it lets pass what BigQuery runs, and finds what only the emulator forgives."""

from typing import Any

import pytest

from tests.doubles.bigquery_sql import KnownTable, WrongStatementError, check_script

SALES = KnownTable(
    {"sale_id": "STRING", "day": "DATE", "quantity": "INT64", "amount": "NUMERIC", "changed_at": "TIMESTAMP"}, "day"
)
EVENTS = KnownTable({"event_id": "STRING", "name": "STRING", "is_listed": "BOOL"})
TABLES = {"p.d.sales": SALES, "p.d.events": EVENTS}


def parameter(name: str, kind: dict[str, Any] | str) -> dict[str, Any]:
    return {"name": name, "parameterType": {"type": kind} if isinstance(kind, str) else kind, "parameterValue": {}}


ROWS = {
    "type": "ARRAY",
    "arrayType": {
        "type": "STRUCT",
        "structTypes": [
            {"name": "event_id", "type": {"type": "STRING"}},
            {"name": "day", "type": {"type": "DATE"}},
        ],
    },
}
PARAMETERS = [
    parameter("id", "STRING"),
    parameter("count", "INT64"),
    parameter("since", "TIMESTAMP"),
    parameter("ids", {"type": "ARRAY", "arrayType": {"type": "STRING"}}),
    parameter("rows", ROWS),
]
MANY_DAYS = ", ".join(f"DATE '{2000 + n // 336}-{n // 28 % 12 + 1:02}-{n % 28 + 1:02}'" for n in range(4_001))


@pytest.mark.parametrize(
    "script",
    {
        "columns": "SELECT s.sale_id, e.name FROM `p.d.sales` s JOIN `p.d.events` e ON e.event_id = s.sale_id",
        "numbers": "SELECT sale_id FROM `p.d.sales` WHERE amount > quantity AND quantity = @count",
        "null": "SELECT sale_id FROM `p.d.sales` WHERE sale_id IS DISTINCT FROM NULL",
        "array": "SELECT sale_id FROM `p.d.sales` WHERE sale_id IN UNNEST(@ids)",
        "array of rows": "SELECT r.event_id FROM UNNEST(@rows) r JOIN `p.d.sales` s ON s.day = r.day",
        "error": "SELECT IF(is_listed, TRUE, ERROR('no')) FROM `p.d.events`",
        "insert": "INSERT INTO `p.d.sales` (sale_id, amount) SELECT event_id, 1 FROM `p.d.events`",
        "update": "UPDATE `p.d.sales` SET quantity = 1 WHERE day = DATE '2026-01-01' AND sale_id = @id",
        "delete": "DELETE FROM `p.d.events` WHERE TRUE",
        "truncate": "TRUNCATE TABLE `p.d.sales`",
        "delete on any day": "DELETE FROM `p.d.sales` WHERE sale_id = @id AND (day IS NOT NULL OR day IS NULL)",
        "merge": """
            MERGE `p.d.sales` t USING (SELECT event_id, DATE '2026-01-01' AS day FROM `p.d.events`) s
            ON t.sale_id = s.event_id AND t.day IN (DATE '2026-01-01') WHEN MATCHED THEN DELETE
            WHEN NOT MATCHED THEN INSERT (sale_id, day) VALUES (s.event_id, s.day)""",
        "transaction": "BEGIN TRANSACTION;\nDELETE FROM `p.d.events` WHERE is_listed;\nCOMMIT TRANSACTION;",
        "reserved, but quoted": "SELECT event_id AS `rows` FROM `p.d.events`",
    }.items(),
    ids=lambda case: case[0],
)
def test_what_bigquery_runs_passes(script: tuple[str, str]) -> None:
    """Right statements of each kind."""
    check_script(script[1], TABLES.get, PARAMETERS)


WRONG = {
    "syntax": ("SELECT FROM WHERE", "doesn't parse"),
    "table": ("SELECT a FROM `p.d.other`", "no table p.d.other"),
    "column": ("SELECT price FROM `p.d.sales`", "price"),
    "column of two": ("SELECT day FROM `p.d.sales` s JOIN `p.d.sales` t ON s.sale_id = t.sale_id", "day"),
    "column in a condition": ("SELECT sale_id FROM `p.d.sales` WHERE price > 1", "price"),
    "alias in a condition": ("SELECT quantity + 1 AS more FROM `p.d.sales` WHERE more > 1", "more"),
    "parameter": ("SELECT sale_id FROM `p.d.sales` WHERE sale_id = @other", "no parameter other"),
    "function": ("SELECT NVL(sale_id, 'x') FROM `p.d.sales`", "function NVL"),
    "function of another dialect": ("SELECT DATE_TRUNC('day', day) FROM `p.d.sales`", "function DATE_TRUNC"),
    "reserved word": ("SELECT sale_id AS rows FROM `p.d.sales`", "rows is a reserved word"),
    "reserved alias": ("WITH groups AS (SELECT sale_id FROM `p.d.sales`) SELECT sale_id FROM groups", "groups"),
    "text and number": ("SELECT sale_id FROM `p.d.sales` WHERE sale_id = 1", "STRING and a number"),
    "day and time": ("SELECT sale_id FROM `p.d.sales` WHERE day < changed_at", "DATE and TIMESTAMP"),
    "day and parameter": ("SELECT sale_id FROM `p.d.sales` WHERE day >= @since", "DATE and TIMESTAMP"),
    "distinct": ("SELECT sale_id FROM `p.d.sales` WHERE amount IS DISTINCT FROM day", "DATE and a number"),
    "between": ("SELECT sale_id FROM `p.d.sales` WHERE day BETWEEN 1 AND 2", "DATE and a number"),
    "in": ("SELECT sale_id FROM `p.d.sales` WHERE quantity IN (SELECT event_id FROM `p.d.events`)", "STRING"),
    "in an array": ("SELECT sale_id FROM `p.d.sales` WHERE quantity IN UNNEST(@ids)", "STRING and a number"),
    "join": ("SELECT 1 FROM `p.d.sales` s JOIN `p.d.events` e ON e.is_listed = s.quantity", "BOOL and a number"),
    "rows": ("SELECT 1 FROM UNNEST(@rows) r JOIN `p.d.sales` s ON s.changed_at = r.day", "DATE and TIMESTAMP"),
    "row's column": ("SELECT r.name FROM UNNEST(@rows) r", "name"),
    "coalesce": ("SELECT COALESCE(sale_id, 0) FROM `p.d.sales`", "STRING and a number"),
    "if": ("SELECT IF(quantity > 1, day, sale_id) FROM `p.d.sales`", "DATE and STRING"),
    "union": ("SELECT sale_id FROM `p.d.sales` UNION ALL SELECT is_listed FROM `p.d.events`", "BOOL and STRING"),
    "union of unlike width": (
        "SELECT sale_id FROM `p.d.sales` UNION ALL SELECT event_id, name FROM `p.d.events`",
        "1 and 2 columns",
    ),
    "insert of unlike width": ("INSERT INTO `p.d.events` (event_id, name) SELECT 'a'", "1 values for 2 columns"),
    "insert of another type": (
        "INSERT INTO `p.d.sales` (sale_id, day) SELECT event_id, name FROM `p.d.events`",
        "day is DATE, and is given STRING",
    ),
    "insert into no column": ("INSERT INTO `p.d.events` (id) SELECT 'a'", "no column id"),
    "update without where": ("UPDATE `p.d.events` SET name = 'x'", "UPDATE must have a WHERE"),
    "update with another type": (
        "UPDATE `p.d.events` SET is_listed = 1 WHERE TRUE",
        "is_listed is BOOL, and is given a number",
    ),
    "delete without where": ("DELETE FROM `p.d.events`", "DELETE must have a WHERE"),
    "delete on all days": ("DELETE FROM `p.d.sales` WHERE sale_id = @id", "no condition on day"),
    "delete on days of a query": (
        "DELETE FROM `p.d.sales` WHERE day IN (SELECT DATE '2026-01-01')",
        "no condition on day",
    ),
    "merge on all days": (
        "MERGE `p.d.sales` t USING `p.d.events` s ON t.sale_id = s.event_id WHEN MATCHED THEN DELETE",
        "no condition on day",
    ),
    "merge on the source's days": (
        (
            "MERGE `p.d.sales` t USING (SELECT sale_id, day FROM `p.d.sales` WHERE day IS NULL) s"
            " ON t.day = s.day WHEN MATCHED THEN DELETE"
        ),
        "no condition on day",
    ),
    "merge on too many days": (
        (
            "MERGE `p.d.sales` t USING `p.d.events` s ON t.sale_id = s.event_id"
            f" AND t.day IN ({MANY_DAYS}) WHEN MATCHED THEN DELETE"
        ),
        "4001 partitions",
    ),
    "merge of another type": (
        (
            "MERGE `p.d.events` t USING `p.d.sales` s ON t.event_id = s.sale_id"
            " WHEN MATCHED THEN UPDATE SET name = s.quantity"
        ),
        "name is STRING, and is given a number",
    ),
    "merge of unlike width": (
        (
            "MERGE `p.d.events` t USING `p.d.sales` s ON t.event_id = s.sale_id"
            " WHEN NOT MATCHED THEN INSERT (event_id, name) VALUES (s.sale_id)"
        ),
        "1 values for 2 columns",
    ),
    "merge on unlike types": (
        "MERGE `p.d.events` t USING `p.d.sales` s ON t.event_id = s.quantity WHEN MATCHED THEN DELETE",
        "STRING and a number",
    ),
    "second statement": ("DELETE FROM `p.d.events` WHERE TRUE;\nDELETE FROM `p.d.events`;", "must have a WHERE"),
    "kind of statement": ("DROP TABLE `p.d.events`", "nothing is known of DROP"),
}


@pytest.mark.parametrize(("script", "wrong"), WRONG.values(), ids=WRONG)
def test_what_bigquery_refuses_is_found(script: str, wrong: str) -> None:
    """Wrong statements of each kind, with what is wrong."""
    with pytest.raises(WrongStatementError, match=wrong):
        check_script(script, TABLES.get, PARAMETERS)
