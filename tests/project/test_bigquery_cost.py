"""What kept sales in BigQuery cost a month, as the docs say it."""

import pytest

from tests import ROOT
from tests.project.bigquery_cost import (
    DAYS_A_MONTH,
    RUNS_A_DAY,
    SALES,
    SALES_A_GROUP,
    SHARE_OF_DAYS,
    SWEEPS_A_DAY,
    month_of,
    row_bytes,
    table_rows,
)

TEXT = (ROOT / "docs" / "increments.md").read_text()


def test_docs_have_the_costs_of_the_statements() -> None:
    """docs/increments.md has a month's costs as they follow from the statements and the tables' columns."""
    assert "\n".join(table_rows()) in TEXT
    assert f"a kept sale has {row_bytes('etl_ticket_sales')} bytes" in TEXT


@pytest.mark.parametrize("sales", SALES)
def test_the_formula_says_nearly_the_same(sales: int) -> None:
    """The docs' formula is within a tenth of what the statements scan."""
    month, kept = month_of(sales), row_bytes("etl_ticket_sales") * sales
    runs = RUNS_A_DAY * DAYS_A_MONTH
    formula = {
        "runs": runs * (2.5 * kept * SHARE_OF_DAYS + 77 * sales / SALES_A_GROUP + 0.3e9),
        "sweeps": SWEEPS_A_DAY * DAYS_A_MONTH * (3.7 * kept),
        "searches": runs * 0.35 * kept,
    }
    for what, scanned in formula.items():
        assert scanned == pytest.approx(getattr(month, what), rel=0.1, abs=0.05 * 2**40), what
