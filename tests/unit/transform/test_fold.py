"""Records fold into sums that are exact, the same in any order, and the same by day as in all."""

from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import UpstreamError
from etl.records.fields import EventItem, EventRecord, SaleItem, TicketSaleRecord
from etl.records.plain_sales import row_of
from etl.records.reader import read_event, sale_reader
from etl.transform.fold import Summary, fold_events, fold_sales, summarise, transform_summary

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
TODAY = NOW.date()
_read_sale = sale_reader(TODAY, UTC)


def event(event_id: str, name: str | None = None) -> EventRecord:
    record = read_event(EventItem(id=event_id, name=name))
    assert isinstance(record, EventRecord)
    return record


def sale(event_id: str, day: int, quantity: int, total: str) -> TicketSaleRecord:
    record = _read_sale(
        SaleItem(event_id=event_id, quantity=quantity, total_amount=total, sale_date=f"2026-01-{day:02}")
    )
    assert isinstance(record, TicketSaleRecord)
    return record


def event_rows(summary: Summary) -> list[tuple[str, str | None, int, str]]:
    return [(e.event_id, e.event_name, e.total_tickets, str(e.total_revenue)) for e in summary.events]


def daily_rows(summary: Summary) -> list[tuple[str, str, int, str]]:
    return [(d.event_id, d.sale_date.isoformat(), d.tickets_sold, str(d.revenue)) for d in summary.daily()]


SUMMARIES = [
    pytest.param([], [], [], [], id="nothing"),
    pytest.param([event("e", "Ball")], [], [("e", "Ball", 0, "0E-9")], [], id="unsold"),
    pytest.param(
        [],
        [sale("e", 1, 2, "3")],
        [("e", None, 2, "3.000000000")],
        [("e", "2026-01-01", 2, "3.000000000")],
        id="unlisted",
    ),
    pytest.param(
        [event("b", "B"), event("a", "A")],
        [sale("b", 2, 1, "0.1"), sale("c", 1, 1, "5"), sale("b", 1, 1, "0.2"), sale("b", 2, 3, "-0.3")],
        [("a", "A", 0, "0E-9"), ("b", "B", 5, "0E-9"), ("c", None, 1, "5.000000000")],
        [
            ("b", "2026-01-01", 1, "0.200000000"),
            ("b", "2026-01-02", 4, "-0.200000000"),
            ("c", "2026-01-01", 1, "5.000000000"),
        ],
        id="in the order of event and day",
    ),
    pytest.param(
        [event("e", "E")],
        [sale("e", 1, 2, "20"), sale("e", 1, -2, "-20")],
        [("e", "E", 0, "0E-9")],
        [("e", "2026-01-01", 0, "0E-9")],
        id="a refund leaves a day of zeros",
    ),
    pytest.param(
        [event("5")],
        [sale("5", 1, 1, "12345678901234.123456789"), sale("5", 1, 1, "0.000000001")],
        [("5", None, 2, "12345678901234.123456790")],
        [("5", "2026-01-01", 2, "12345678901234.123456790")],
        id="to the last digit",
    ),
]


@pytest.mark.parametrize(("events", "sales", "summary", "daily"), SUMMARIES)
def test_summary(
    events: list[EventRecord],
    sales: list[TicketSaleRecord],
    summary: list[tuple[str, str | None, int, str]],
    daily: list[tuple[str, str, int, str]],
) -> None:
    """A row for every event that is listed or sold, and one for each of its days with sales."""
    found = transform_summary(iter(events), iter(sales), NOW)
    assert (event_rows(found), daily_rows(found)) == (summary, daily)
    assert found.scope == tuple(row[0] for row in summary)
    assert (found.daily_count, found.last_updated) == (len(daily), NOW)
    assert found.total_tickets == sum(row[2] for row in summary)
    assert found.total_revenue == sum(Decimal(row[3]) for row in summary)


NAMES = [
    pytest.param(["A", "B"], "B", id="the last"),
    pytest.param(["A", None], "A", id="the last that there is"),
    pytest.param(["A", None, "B", ""], "B", id="the last that isn't empty"),
    pytest.param([None, ""], None, id="none"),
]


@pytest.mark.parametrize(("names", "expected"), NAMES)
def test_event_listed_twice(names: list[str | None], expected: str | None) -> None:
    """An event that is listed twice is one event, with its last name that isn't empty."""
    found = transform_summary([event("e", name) for name in names], [], NOW)
    assert event_rows(found) == [("e", expected, 0, "0E-9")]


MILLION = 1_000_000
EXACT = [
    pytest.param([(MILLION, "0.1")], "100000.000000000", id="a million times 0.1"),
    pytest.param([(MILLION, "0.000000001")], "0.001000000", id="a million times the smallest"),
    pytest.param([(1, "12345678901234.123456789")], "12345678901234.123456789", id="23 digits"),
    pytest.param(
        [(1, "9" * 29), (1, "-" + "9" * 28), (1, "0.000000001")], "9" + "0" * 28 + ".000000001", id="38 digits"
    ),
    pytest.param([(1, "1e28"), (9, "1e28"), (1, "-0.000000001")], "9" * 29 + ".999999999", id="just below the limit"),
    pytest.param([(10, "1e28"), (20, "-1e28"), (11, "1e28")], "1" + "0" * 28 + ".000000000", id="only the sum counts"),
]


@pytest.mark.parametrize(("amounts", "total"), EXACT)
def test_money_is_exact(amounts: list[tuple[int, str]], total: str) -> None:
    """No digit is lost, however many amounts are added, however far apart they are."""
    sales = chain.from_iterable(repeat(sale("e", 1, 1, amount), times) for times, amount in amounts)
    found = transform_summary([], sales, NOW)
    tickets = sum(times for times, _ in amounts)
    assert daily_rows(found) == [("e", "2026-01-01", tickets, total)]
    assert event_rows(found) == [("e", None, tickets, total)]


BEYOND = [
    pytest.param([(1, 2**63 - 1, "0"), (1, 1, "0")], id="tickets"),
    pytest.param([(1, -(2**63), "0"), (1, -1, "0")], id="refunded tickets"),
    pytest.param([(1, 2**63 - 1, "0"), (2, 1, "0")], id="tickets of all days"),
    pytest.param([(1, 2**63 - 1, "0"), (1, 1, "0"), (2, -9, "0")], id="tickets of one day"),
    pytest.param([(1, 1, "9" * 29), (1, 1, "1")], id="revenue"),
    pytest.param([(1, 1, "-" + "9" * 29), (1, 1, "-1")], id="refunds"),
    pytest.param([(1, 1, "5e28"), (2, 1, "5e28")], id="revenue of all days"),
    pytest.param([(1, 1, "5e28"), (1, 1, "5e28"), (2, 1, "-9")], id="revenue of one day"),
]


@pytest.mark.parametrize("sales", BEYOND)
def test_sums_beyond_the_stores(sales: list[tuple[int, int, str]]) -> None:
    """A sum beyond int64 or 29 digits ends the run, and names the event."""
    with pytest.raises(UpstreamError, match="the sales of event 'big' add up to more than the stores can hold"):
        transform_summary([event("small")], [sale("small", 1, 1, "1"), *(sale("big", *s) for s in sales)], NOW)


def test_largest_sums() -> None:
    """The largest values that the stores hold are no overflow."""
    largest = [
        sale("e", 1, 2**63 - 2, "9" * 29),
        sale("e", 1, 1, "0.999999999"),
        sale("f", 1, -(2**63), "-" + "9" * 29),
    ]
    assert event_rows(transform_summary([], largest, NOW)) == [
        ("e", None, 2**63 - 1, "9" * 29 + ".999999999"),
        ("f", None, -(2**63), "-" + "9" * 29 + ".000000000"),
    ]


SALES = st.lists(
    st.builds(
        sale,
        st.sampled_from("abc"),
        st.integers(1, 4),
        st.integers(-(2**40), 2**40),
        st.decimals(-(10**20), 10**20, places=9).map(str),
    ),
    max_size=30,
)


@given(sales=SALES, listed=st.lists(st.sampled_from("abcd")), data=st.data())
def test_days_add_up_in_any_order(sales: list[TicketSaleRecord], listed: list[str], data: st.DataObject) -> None:
    """For any records, in any order and split: an event's days add up to its row, and both to plain fractions."""
    tickets: dict[tuple[str, date], int] = defaultdict(int)
    revenue: dict[tuple[str, date], Fraction] = defaultdict(Fraction)
    for record in sales:
        tickets[record.event_id, record.sale_date] += record.quantity
        revenue[record.event_id, record.sale_date] += Fraction(str(record.raw.total_amount))
    events = [event(name, name.upper()) for name in listed]
    found = transform_summary(events, sales, NOW)
    assert [(d.event_id, d.sale_date) for d in found.daily()] == sorted(tickets)
    assert [(d.tickets_sold, Fraction(d.revenue)) for d in found.daily()] == [
        (tickets[k], revenue[k]) for k in sorted(tickets)
    ]
    assert found.scope == tuple(sorted({*listed, *(key[0] for key in tickets)}))
    for row in found.events:
        days = [d for d in found.daily() if d.event_id == row.event_id]
        assert row.total_tickets == sum(d.tickets_sold for d in days)
        assert Fraction(row.total_revenue) == sum((Fraction(d.revenue) for d in days), Fraction())
    shuffled = data.draw(st.permutations(sales))
    cut = data.draw(st.integers(0, len(sales)))
    pages = (map(row_of, page) for page in (shuffled[:cut], [], shuffled[cut:]))
    again = summarise(fold_events(events), fold_sales(chain.from_iterable(pages)), NOW)
    assert (event_rows(again), daily_rows(again)) == (event_rows(found), daily_rows(found))
