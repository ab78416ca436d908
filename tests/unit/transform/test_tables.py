"""The two tables have the customer's columns and keys, and a Summary's rows are told exactly."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.transform.fold import fold_sales, summarise
from etl.transform.tables import (
    DAILY_TICKET_SALES,
    EVENT_SALES_SUMMARY,
    STAMP,
    STREAMED_TABLES,
    TABLES,
    ColumnType,
    amount_text,
)

NANO = 10**9


def test_columns() -> None:
    """Names, order and types are the contract's; only a name may be null."""
    text, integer, amount = ColumnType.TEXT, ColumnType.INTEGER, ColumnType.AMOUNT
    assert {table.name: [(c.name, c.type, c.nullable) for c in table.columns] for table in TABLES} == {
        "event_sales_summary": [
            ("event_id", text, False),
            ("event_name", text, True),
            ("total_tickets", integer, False),
            ("total_revenue", amount, False),
            ("last_updated", ColumnType.TIME, False),
        ],
        "daily_ticket_sales": [
            ("event_id", text, False),
            ("sale_date", ColumnType.DATE, False),
            ("tickets_sold", integer, False),
            ("revenue", amount, False),
        ],
    }


def test_keys_and_what_is_compared() -> None:
    """A row is found by its key, changed by its name, tickets or revenue, and summed by tickets and revenue."""
    events, daily = EVENT_SALES_SUMMARY, DAILY_TICKET_SALES
    assert (events.key, daily.key) == (("event_id",), ("event_id", "sale_date"))
    assert events.values == ("event_name", "total_tickets", "total_revenue", "last_updated")
    assert daily.values == ("tickets_sold", "revenue")
    assert events.compared == ("event_name", "total_tickets", "total_revenue")
    assert daily.compared == ("tickets_sold", "revenue")
    assert [(t.tickets, t.revenue) for t in TABLES] == [("total_tickets", "total_revenue"), ("tickets_sold", "revenue")]
    assert (events.replaced, events.partition, daily.replaced, daily.partition) == (True, None, False, "sale_date")


def test_rows() -> None:
    """Rows are text per column, null for a missing name, in the order of the key."""
    names = {"b": "B\t\\N\n", "a": None}
    sales = [
        ("b", date(2026, 1, 2), 1, 5 * NANO),
        ("é", date(1, 1, 1), 2**63 - 1, 10**38 - 1),
        ("b", date(2025, 12, 31), -2, -1),
    ]
    summary = summarise(names, fold_sales(sales), datetime(2026, 11, 23, 6, 0, 0, 123456, UTC))
    updated = "2026-11-23T06:00:00.123456+00:00"
    assert list(EVENT_SALES_SUMMARY.rows(summary)) == [
        ("a", None, "0", "0.000000000", updated),
        ("b", "B\t\\N\n", "-1", "4.999999999", updated),
        ("é", None, "9223372036854775807", "9" * 29 + ".999999999", updated),
    ]
    assert list(DAILY_TICKET_SALES.rows(summary)) == [
        ("b", "2025-12-31", "-2", "-0.000000001"),
        ("b", "2026-01-02", "1", "5.000000000"),
        ("é", "0001-01-01", "9223372036854775807", "9" * 29 + ".999999999"),
    ]
    assert all(len(row) == len(table.names) for table in TABLES for row in table.rows(summary))


def test_streamed_rows() -> None:
    """Of the write mode `stream` the days come before the events, and have the run's time as well."""
    daily, events = STREAMED_TABLES
    assert events is EVENT_SALES_SUMMARY
    assert (daily.columns, daily.key) == ((*DAILY_TICKET_SALES.columns, STAMP), DAILY_TICKET_SALES.key)
    assert (STAMP.name, STAMP.type, STAMP.nullable) == ("last_updated", ColumnType.TIME, True)
    now = datetime(2026, 11, 23, 6, tzinfo=UTC)
    sales = [("a", date(2026, 1, 1), 1, NANO), ("b", date(2026, 1, 2), 2, NANO)]
    summary = summarise({}, fold_sales(sales), now)
    assert list(daily.rows(summary)) == [(*row, now.isoformat()) for row in DAILY_TICKET_SALES.rows(summary)]


def test_time_keeps_its_offset() -> None:
    """`last_updated` has its offset, so that no store takes it for local time."""
    now = datetime(2026, 11, 23, 6, tzinfo=timezone(timedelta(hours=-3)))
    ((*_, updated),) = EVENT_SALES_SUMMARY.rows(summarise({"a": None}, fold_sales([]), now))
    assert updated == "2026-11-23T06:00:00-03:00"


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (NANO, "1.000000000"),
        (-NANO - 1, "-1.000000001"),
        (12345678901234123456789, "12345678901234.123456789"),
    ],
)
def test_amount_text(nano: int, text: str) -> None:
    """A number of 10^-9 is written with all its nine decimals."""
    assert amount_text(nano) == text


@given(st.integers(-(10**38), 10**38))
def test_amount_text_is_exact(nano: int) -> None:
    """The text stands for the number, digit for digit, with nine decimals and no idle zero before."""
    text = amount_text(nano)
    assert int(text.replace(".", "")) == nano
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)\.[0-9]{9}", text)
