"""How changes are asked for, and what can't be an answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.errors import ConfigurationError
from etl.extract.sale_pages import ReadSale
from etl.records.fields import Rejected
from etl.sales.changes import ChangeFilter, most_recent, upstream_clock

NOON = datetime(2026, 11, 26, 12, 0, 0, 250_000, UTC)
HOUR = timedelta(hours=1)
WRITTEN = [
    pytest.param("updated_after={since}", "iso", (("updated_after", "2026-11-26T12:00:00.250Z"),), id="ISO 8601"),
    pytest.param("since={since}", "unix", (("since", "1795694400"),), id="Unix seconds"),
    pytest.param("since={since}", "unix_ms", (("since", "1795694400250"),), id="Unix milliseconds"),
    pytest.param(
        "filter=updatedAt||$gte||{since}&sort=updatedAt,DESC&deep=",
        "iso",
        (("filter", "updatedAt||$gte||2026-11-26T12:00:00.250Z"), ("sort", "updatedAt,DESC"), ("deep", "")),
        id="more than one parameter",
    ),
]


def read(changed_at: datetime | None, sale_id: str = "1") -> ReadSale:
    return ReadSale(Rejected("price_not_a_number", sale_id), changed_at, None)


@pytest.mark.parametrize(("template", "form", "query"), WRITTEN)
def test_the_moment_is_written_as_the_settings_say(template: str, form: str, query: Any) -> None:
    """`{since}` becomes the moment, and the rest of the query stays."""
    assert ChangeFilter(template, form, None).query(NOON) == query


ANSWERS = [
    pytest.param(NOON, None, id="at the moment"),
    pytest.param(NOON - timedelta(milliseconds=900), None, id="cut to seconds"),
    pytest.param(NOON + HOUR, None, id="later"),
    pytest.param(NOON - timedelta(seconds=2), "changed before, at 2026-11-26T11:59:58.250Z", id="before"),
    pytest.param(None, "without a time of change", id="without a time"),
]


@pytest.mark.parametrize(("changed_at", "said"), ANSWERS)
def test_a_sale_that_changed_before_proves_an_ignored_filter(changed_at: datetime | None, said: str | None) -> None:
    """The error has the request, and what to do about it."""
    changes = ChangeFilter("filter.updatedAt=$gte:{since}", "iso", None)
    if said is None:
        changes.check([read(changed_at)], NOON)
        return
    with pytest.raises(ConfigurationError, match=said) as caught:
        changes.check([read(NOON), read(changed_at)], NOON)
    assert "/ticket-sales?filter.updatedAt=$gte:2026-11-26T12:00:00.250Z" in str(caught.value)


RECENT = [("a", NOON + HOUR), ("b", NOON + HOUR), ("c", NOON + HOUR), ("d", NOON - HOUR)]


@pytest.mark.parametrize(
    ("recent", "came", "is_refused"),
    [
        pytest.param(RECENT, set(), True, id="none of three"),
        pytest.param(RECENT, {"d"}, True, id="only one that needn't come"),
        pytest.param(RECENT, {"b"}, False, id="one of them"),
        pytest.param(RECENT[1:], set(), False, id="none of two"),
    ],
)
def test_known_changes_have_to_come_again(recent: Any, came: set[str], is_refused: bool) -> None:
    """Fewer than three that don't come may have been deleted."""
    changes = ChangeFilter("since={since}", "iso", "lastModified")
    if is_refused:
        with pytest.raises(ConfigurationError, match="brought none of 3 sales"):
            changes.check_recent(recent, came, NOON)
    else:
        changes.check_recent(recent, came, NOON)


CLOCKS = [
    pytest.param("Thu, 26 Nov 2026 12:00:10 GMT", NOON + timedelta(seconds=9.75), False, id="seconds apart"),
    pytest.param("Thu, 26 Nov 2026 11:00:00 GMT", NOON - timedelta(seconds=3600.25), True, id="an hour behind"),
    pytest.param("Thu, 26 Nov 2026 13:00:00 GMT", NOON, True, id="an hour ahead"),
    pytest.param("yesterday", NOON, False, id="unreadable"),
    pytest.param(None, NOON, False, id="none"),
]


@pytest.mark.parametrize(("date", "moment", "is_off"), CLOCKS)
def test_the_upstreams_clock(date: str | None, moment: datetime, is_off: bool) -> None:
    """The earlier one counts where the two are more than half the lookback apart."""
    told, off = upstream_clock(date, NOON, HOUR)
    assert (told, off is not None) == (moment, is_off)


def test_the_last_changes_are_remembered() -> None:
    """Twenty of them, the newest of each sale, none from the future."""
    sales = [read(NOON - timedelta(seconds=number), str(number)) for number in range(30)]
    recent = most_recent([("0", NOON - HOUR)], [*sales, read(NOON + HOUR, "99"), read(None, "98")], NOON)
    assert [sale_id for sale_id, _ in recent] == [str(number) for number in range(20)]
    assert recent[0] == ("0", NOON)
