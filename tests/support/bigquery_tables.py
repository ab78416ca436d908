"""The tables that statements of kept sales are about, as data: those that stay, the summaries, and what is staged."""

from etl.load.bigquery.sql import TYPES
from etl.load.bigquery.tables import Definition
from etl.sales.bigquery.tables import CHANGES, GROUPS, STAGED, TOTALS, Names, table_names
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY

DATASET, KEPT = "p.d", "etl_ticket_sales"
NAMES = Names.of(DATASET, KEPT, "summary", "daily")
DEFINITIONS: dict[str, Definition] = {
    **table_names(KEPT),
    "summary": EVENT_SALES_SUMMARY,
    "daily": DAILY_TICKET_SALES,
    "changes": CHANGES,
    "staged": STAGED,
    "groups": GROUPS,
    "totals": TOTALS,
}


def columns_of(name: str) -> dict[str, str]:
    """A table's columns with their types."""
    return {column.name: TYPES[column.type] for column in DEFINITIONS[name].columns}


def quoted(name: str) -> str:
    """Where a table stands, ready for a statement."""
    return f"`{DATASET}.{name}`"
