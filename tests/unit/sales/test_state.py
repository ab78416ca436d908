"""What is remembered from run to run."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.extract.next_page import PageRequest
from etl.extract.pages import Bookmark
from etl.extract.paging_words import Sign, Word
from etl.sales.state import MAX_FRESH_DAYS, Counts, Increment, Proof, SalesState, Sweep, fingerprint, from_json, to_json
from etl.settings import Settings

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_the_state_survives_as_text() -> None:
    """Nothing is lost, not even of a page to go on from."""
    request = PageRequest(3, "page", "3", None, 1, 9, (Sign("meta.count", 3, Word.COUNT, more=True),), led_by="page")
    bookmark = Bookmark(request, 200, has_totals=False)
    state = SalesState(
        "f",
        counts=Counts(3, 1, 1, 0, 12, Decimal("1.500000000")),
        watermark=NOON,
        increment=Increment(NOON, NOON, bookmark),
        sweep=Sweep(2, NOON, bookmark, 10, 3, 7),
        proof=Proof(NOON, "unproved", 3, 1, 2),
        recent=(("a", NOON),),
        published={"postgres": 1},
    )
    assert from_json(to_json(state)) == state


def test_what_is_pending_is_pending_in_every_store() -> None:
    """In each that holds this generation; an event as a whole comes first, and a publication takes all of it away."""
    state = SalesState("f", 2, published={"bigquery": 2, "postgres": 2, "former": 1})
    days = (date(2026, 1, 2), None, date(2026, 1, 1))
    pending = state.with_pending(iter(days)).with_pending([date(2026, 1, 2)])
    in_order = (None, date(2026, 1, 1), date(2026, 1, 2))
    assert pending.pending_days == {"bigquery": in_order, "postgres": in_order}
    assert pending.published_in("postgres", NOON).pending_days == {"bigquery": in_order}


def test_which_days_have_fresh_sales() -> None:
    """Those with sales created since; the newest of a day counts, and too many days are forgotten at once."""
    state = SalesState("f").with_fresh({date(2026, 1, 1): NOON, date(2026, 1, 2): NOON - HOUR}, NOON - 2 * HOUR)
    assert state.with_fresh({date(2026, 1, 1): NOON - HOUR}, NOON - HOUR).fresh_days == {
        date(2026, 1, 1): NOON,
        date(2026, 1, 2): NOON - HOUR,
    }
    assert state.with_fresh({}, NOON).fresh_days == {date(2026, 1, 1): NOON}
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(MAX_FRESH_DAYS + 1)]
    crowded = state.with_fresh(dict.fromkeys(days, NOON), NOON)
    assert (crowded.fresh_days, crowded.fresh_since) == ({}, NOON + timedelta(microseconds=1))


DUE = [
    pytest.param(None, None, True, id="none has ended"),
    pytest.param(NOON - 23 * HOUR, None, False, id="not yet"),
    pytest.param(NOON - 24 * HOUR, None, True, id="a day later"),
    pytest.param(NOON - 6 * HOUR, 1, True, id="some are gone: a quarter of it later"),
    pytest.param(NOON - 5 * HOUR, 1, False, id="some are gone: not yet"),
]


@pytest.mark.parametrize(("swept_at", "off", "is_due"), DUE)
def test_when_a_sweep_is_due(swept_at: datetime | None, off: int | None, is_due: bool) -> None:
    """So long after the last one as the settings say."""
    proof = None if off is None else Proof(NOON, "unproved", 10 + off, 10, 10)
    assert SalesState("f", swept_at=swept_at, proof=proof).is_sweep_due(NOON, 24) is is_due


OUTDATED = ("NEST_API_BASE_URL", "NEST_API_CHANGED_QUERY", "NEST_API_CHANGED_FIELD", "ETL_TIMEZONE")
CURRENT = ("ETL_LOOKBACK_SECONDS", "ETL_SWEEP_HOURS", "NEST_API_PAGE_SIZE", "NEST_API_TOKEN")
OTHER = {
    "NEST_API_BASE_URL": "https://other.example.com",
    "NEST_API_CHANGED_QUERY": "since={since}",
    "NEST_API_CHANGED_FIELD": "lastModified",
    "ETL_TIMEZONE": "Europe/Berlin",
    "ETL_LOOKBACK_SECONDS": "60",
    "ETL_SWEEP_HOURS": "1",
    "NEST_API_PAGE_SIZE": "7",
    "NEST_API_TOKEN": "another",
}


@pytest.mark.parametrize(("name", "is_outdated"), [(name, name in OUTDATED) for name in (*OUTDATED, *CURRENT)])
def test_what_makes_kept_sales_outdated(name: str, is_outdated: bool) -> None:
    """Another upstream, query or zone; not how often or how far back it is read."""
    env = {
        "NEST_API_BASE_URL": "https://api.example.com",
        "DATABASE_URL": "postgresql://etl@db/etl",
        "ETL_SALES_STORE": "postgres",
    }
    before, after = (fingerprint(Settings.from_env(given)) for given in (env, env | {name: OTHER[name]}))
    assert (before != after) is is_outdated
