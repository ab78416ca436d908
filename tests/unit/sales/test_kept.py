"""What is kept of a sale."""

from datetime import UTC, date, datetime

import pytest

from etl.extract.sale_pages import ReadSale
from etl.records.fields import MISSING, SENT, Rejected, SaleItem, TicketSaleRecord
from etl.sales.kept import Copies, KeptSale, kept_sales

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
LONG = "x" * 1001


def record(sale_id: str | None, date_source: str = SENT) -> TicketSaleRecord:
    return TicketSaleRecord(sale_id, "e1", 2, 10_500_000_000, date(2026, 11, 25), date_source, SaleItem())


def unusable(sale_id: str, reason: str) -> KeptSale:
    return KeptSale(sale_id, None, None, None, None, False, NOON, reason)


ROWS = [
    pytest.param(
        ReadSale(record("1"), NOON, None),
        KeptSale("1", "e1", "2026-11-25", 2, "10.500000000", False, NOON, None),
        id="a sale",
    ),
    pytest.param(
        ReadSale(record("1", MISSING), None, None),
        KeptSale("1", "e1", "2026-11-25", 2, "10.500000000", True, None, None),
        id="undated, and without a time of change",
    ),
    pytest.param(
        ReadSale(Rejected("price_not_a_number", "1"), NOON, None), unusable("1", "price_not_a_number"), id="unusable"
    ),
]


@pytest.mark.parametrize(("read", "row"), ROWS)
def test_a_row(read: ReadSale, row: KeptSale) -> None:
    """A sale that counts has its group and sums, one that can't be used its reason."""
    assert list(kept_sales([read], Copies())) == [row]


def test_records_without_an_id_are_numbered() -> None:
    """The same content twice is two rows; another reading gives both the same keys again."""
    read = [ReadSale(record(None), NOON, text) for text in ("{}", "{}", "[1]")]
    rows = list(kept_sales(read, Copies()))
    assert [row.reason for row in rows] == ["sale_id_missing"] * 3
    assert len({row.sale_id for row in rows}) == 3
    assert rows == list(kept_sales(read, Copies()))


@pytest.mark.parametrize("sale_id", [LONG, "nul\0", "\ud800"], ids=["too long", "a NUL", "a lone surrogate"])
def test_an_id_that_no_table_holds(sale_id: str) -> None:
    """It is kept under its hash, and is unusable; another such id has another hash."""
    first, other = kept_sales([ReadSale(record(key), NOON, None) for key in (sale_id, sale_id + "y")], Copies())
    assert first.reason == other.reason == "sale_id_not_text"
    assert first.sale_id != other.sale_id
    assert first.sale_id.isascii()
    assert len(first.sale_id) < 100
