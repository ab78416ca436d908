"""Groups add up like a plain dict of sums, however many events have sales on a day, and take little memory for it."""

import tracemalloc
from collections import defaultdict
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from etl.records.plain_sales import SaleRow
from etl.transform.groups import Groups

FIRST_DAY = date(2026, 1, 1)
LIMITS = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 10**38 - 1, 1 - 10**38])
ROWS = st.lists(
    st.tuples(
        st.integers(0, 40).map(str),
        st.integers(0, 3).map(lambda days: FIRST_DAY - timedelta(days)),
        st.integers(-(2**63), 2**63 - 1) | LIMITS.filter(lambda number: -(2**63) <= number < 2**63),
        st.integers(1 - 10**38, 10**38 - 1) | LIMITS,
    ),
    max_size=120,
)


def taken(rows: list[SaleRow]) -> list[tuple[date, dict[str, tuple[int, int]]]]:
    groups = Groups()
    groups.add(iter(rows[:50]))
    groups.add(iter(rows[50:]))
    return [(day, {event: (tickets, nano) for event, tickets, nano in totals}) for day, totals in groups.take()]


@given(ROWS)
def test_sums(rows: list[SaleRow]) -> None:
    """Of each event and day that has a sale, to the last digit and also where they come to 0; days in their order."""
    sums: defaultdict[date, dict[str, tuple[int, int]]] = defaultdict(dict)
    for event_id, day, quantity, nano in rows:
        tickets, revenue = sums[day].get(event_id, (0, 0))
        sums[day][event_id] = (tickets + quantity, revenue + nano)
    assert taken(rows) == sorted(sums.items())


def test_many_events_on_few_days_and_few_on_many() -> None:
    """Days that all events sell on, days of one event each, and events that come late, beside each other."""
    days = [FIRST_DAY + timedelta(number) for number in range(300)]
    rows = [(f"e{event}", day, 1, event) for day in days[:3] for event in range(500)]
    rows += [(f"late{number}", day, 2, number) for number, day in enumerate(days)]
    rows += [(f"e{event}", days[1], -1, -event) for event in range(0, 500, 7)]
    found = dict(taken(rows))
    assert [len(found[day]) for day in days] == [501, 501, 501] + [1] * 297
    assert found[days[1]]["e7"] == (0, 0)
    assert found[days[1]]["e8"] == (1, 8)
    assert found[days[299]] == {"late299": (2, 299)}


def test_memory() -> None:
    """A day on which few of the events sell takes no room for the others."""
    rows = ((f"e{number}", FIRST_DAY + timedelta(number % 5_000), 1, 10**12) for number in range(20_000))
    groups = Groups()
    tracemalloc.start()
    try:
        groups.add(rows)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 20_000 * 400
    assert sum(1 for _, totals in groups.take() for _ in totals) == 20_000
