"""Two stores' groups are paired in order, and compared as each store holds them."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.load.store import Group
from etl.views.comparison import Pair, pair_groups

DAY = date(2026, 11, 20)
GROUPS = st.builds(
    Group,
    st.sampled_from(["", "a", "B", "é", "\U0001f3ab", "event-10", "event-9"]),
    st.none() | st.integers(0, 3).map(lambda number: DAY + timedelta(number)),
    st.integers(-2, 2),
    st.decimals(-3, 3, places=2),
)
SORTED = st.lists(GROUPS, unique_by=lambda group: group.key).map(lambda groups: sorted(groups, key=lambda g: g.key))


@given(SORTED, SORTED)
def test_each_group_is_paired_once(ours: list[Group], theirs: list[Group]) -> None:
    """Whatever either store lacks; in the order of the keys."""
    pairs = list(pair_groups(ours, theirs))
    assert [pair.postgres for pair in pairs if pair.postgres] == ours
    assert [pair.bigquery for pair in pairs if pair.bigquery] == theirs
    keys = [(pair.day is not None, pair.event_id, pair.day or date.min) for pair in pairs]
    assert keys == sorted({group.key for group in [*ours, *theirs]})
    assert all(pair.postgres.key == pair.bigquery.key for pair in pairs if pair.postgres and pair.bigquery)


def pair(ours: str | None, theirs: str | None, tickets: int = 1) -> Pair:
    """A pair with these amounts; the second store has so many tickets."""
    held = [
        None if amount is None else Group("e", DAY, sold, Decimal(amount))
        for amount, sold in ((ours, 1), (theirs, tickets))
    ]
    return Pair("e", DAY, *held)


@pytest.mark.parametrize(
    ("compared", "scale", "differ"),
    [
        pytest.param(pair("1.50", "1.5"), 9, False, id="the same, written otherwise"),
        pytest.param(pair("1.50", "1.500000001"), 9, True, id="the ninth decimal"),
        pytest.param(pair("1.50", "1.504999999"), 2, False, id="rounded down"),
        pytest.param(pair("1.51", "1.505"), 2, False, id="a half, rounded away from zero"),
        pytest.param(pair("-1.51", "-1.505"), 2, False, id="a negative half"),
        pytest.param(pair("1.50", "1.505"), 2, True, id="not as it rounds"),
        pytest.param(pair("1.50", "1.50", tickets=2), 9, True, id="tickets"),
        pytest.param(pair(None, "0"), 9, True, id="missing in PostgreSQL"),
        pytest.param(pair("0", None), 9, True, id="missing in BigQuery"),
    ],
)
def test_differences(compared: Pair, scale: int, differ: bool) -> None:
    """Numbers count, not how they are written; amounts are compared as the narrower store can hold them."""
    assert compared.differs(scale) is differ
