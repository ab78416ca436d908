"""The upstream's data changes while a run reads it: what the run does about it, and what it says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from etl.errors import IncompleteExtractError
from etl.run.pipeline import run_etl_once
from etl.run.report import RunReport
from etl.settings import Settings
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES, TOTAL_PLACES
from tests.doubles.ticketing.envelopes import Envelope
from tests.doubles.ticketing.request_log import PageServed
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.oracle import postgres_tables, wanted_tables
from tests.support.store import Store
from tests.support.upstream import json_logs, logged

EVENTS = plain_events(6)
SALES = plain_sales(8, events=6, days=2)
"""Six at the start; 7 and 8 may come."""
Change = Callable[[list[Any]], object]
Numbers = tuple[int, int, int]
"""(distinct records that were read, the total on the first page, the total on the last)."""


@contextmanager
def upstream(
    changes: Mapping[int, Change], dataset: str = "ticket_sales", envelope: Envelope | str = "veritix"
) -> Iterator[TicketingApi]:
    """Pages of two; `changes` come after the n-th page of the dataset that is served, whichever reading it is of."""
    served = 0

    def on_page(page: PageServed) -> None:
        nonlocal served
        if page.dataset == dataset:
            served += 1
            changes.get(served, len)(api.datasets[dataset].items)

    shape = ENVELOPES[envelope] if isinstance(envelope, str) else envelope
    with TicketingApi(EVENTS, SALES[:6], envelope=shape, page_size=2, on_page=on_page) as api:
        yield api


def run(api: TicketingApi, database_url: str) -> RunReport:
    """One page after the other: which page comes when is not up to threads."""
    env = {"NEST_API_BASE_URL": api.base_url, "NEST_API_CONCURRENCY": "1", "DATABASE_URL": database_url}
    return run_etl_once(Settings.from_env(env))


def check_event(event: Mapping[str, Any], dataset: str, numbers: Numbers, run_id: str | None) -> None:
    """The whole log event of a reading that didn't add up; its text has all three numbers, and the usual cure."""
    distinct, first, last = numbers
    assert event == {
        "severity": "WARNING",
        "message": "ETL extract drift",
        "logger": "etl",
        "error": event["error"],
        "dataset": dataset,
        "distinct": distinct,
        "first_total": first,
        "last_total": last,
        "logging.googleapis.com/labels": {"run_id": run_id},
    }
    for words in (f"{dataset}: {distinct} distinct", f"{first} on the first", f"{last} on the last", "unique column"):
        assert words in event["error"]


def check_tables(server: EmbeddedPostgres, database: str, events: Sequence[Any], sale_ids: Sequence[int]) -> None:
    """Exactly these events and sales are counted, each once."""
    wanted = wanted_tables(server, events, [sale for sale in SALES if sale["id"] in sale_ids])
    assert postgres_tables(server, database) == wanted


def drop_first(items: list[Any]) -> None:
    items.pop(0)


def send_first_to_the_end(items: list[Any]) -> None:
    items.append(items.pop(0))


def make_up(items: list[Any]) -> None:
    send_first_to_the_end(items)
    items.append(SALES[6])


def reverse(items: list[Any]) -> None:
    items.reverse()


def append(number: int) -> Change:
    return lambda items: items.append(SALES[number - 1])


def push(number: int) -> Change:
    return lambda items: items.insert(0, SALES[number - 1])


REPAIRED: list[Any] = [
    pytest.param({1: drop_first}, (5, 6, 5), range(2, 7), id="a deletion pushes a sale past the reader"),
    pytest.param({1: reverse}, (4, 6, 6), range(1, 7), id="the order isn't stable"),
    pytest.param({1: send_first_to_the_end}, (5, 6, 6), range(1, 7), id="a sale moves to the end"),
    pytest.param({1: drop_first, 2: append(7)}, (6, 6, 6), range(2, 8), id="a new sale makes up for a deleted one"),
    pytest.param({1: make_up}, (6, 6, 7), range(1, 8), id="a new sale makes up for one that was skipped"),
]


@pytest.mark.parametrize(("changes", "numbers", "counted"), REPAIRED)
def test_one_more_reading_repairs_a_drift(
    database_url: str,
    postgres_server: EmbeddedPostgres,
    database: str,
    capsys: pytest.CaptureFixture[str],
    changes: Mapping[int, Change],
    numbers: Numbers,
    counted: Sequence[int],
) -> None:
    """A reading in which a sale may have been skipped is done once more, and the log says so with its numbers."""
    with upstream(changes) as api, json_logs():
        report = run(api, database_url)
    (event,) = logged(capsys, "ETL extract drift")
    check_event(event, "ticket_sales", numbers, report.run_id)
    assert (report.status, report.completeness["ticket_sales"]) == ("success", "proved")
    assert (report.sales_count, report.duplicates_count) == (len(counted), 0)
    check_tables(postgres_server, database, EVENTS, counted)


def test_events_are_read_once_more_too(
    database_url: str, postgres_server: EmbeddedPostgres, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An event that is pushed past the reader is found again; the sales, which didn't drift, are read once."""
    with upstream({1: drop_first}, "events") as api, json_logs():
        report = run(api, database_url)
        pages = [(seen.dataset, seen.page) for seen in api.requests]
    (event,) = logged(capsys, "ETL extract drift")
    check_event(event, "events", (5, 6, 5), report.run_id)
    # The second reading takes a total first; the last page of the sales is full, and asked for once more.
    events, sales = (1, 2, 3, 1, 1, 2, 3), (1, 2, 3, 3)
    assert pages == [("events", page) for page in events] + [("ticket_sales", page) for page in sales]
    check_tables(postgres_server, database, EVENTS[1:], range(1, 7))


REFUSED: list[Any] = [
    pytest.param({1: drop_first, 4: drop_first}, (4, 5, 4), id="the total falls each time"),
    pytest.param({1: reverse, 7: reverse}, (4, 6, 6), id="the total is right and the order never holds"),
    pytest.param({1: reverse, 3: drop_first, 6: drop_first}, (4, 5, 4), id="something else each time"),
]


@pytest.mark.parametrize(("changes", "numbers"), REFUSED)
def test_two_readings_that_drift_publish_nothing(
    postgres_server: EmbeddedPostgres, database_url: str, changes: Mapping[int, Change], numbers: Numbers
) -> None:
    """The run fails with the numbers of the second reading, and not a row is written."""
    with upstream({}) as api:
        run(api, database_url)
    store = Store(postgres_server, database_url)
    before = store.rows()
    assert len(before.events) == 6
    with upstream(changes) as api, pytest.raises(IncompleteExtractError) as caught:
        run(api, database_url)
    distinct, first, last = numbers
    found = {"dataset": "ticket_sales", "distinct": distinct, "first_total": first, "last_total": last}
    assert (caught.value.code, caught.value.details) == ("incomplete_extract", found)
    assert f"{distinct} distinct" in str(caught.value)
    assert store.rows() == before


NEW: list[Any] = [
    pytest.param({1: append(7)}, range(1, 8), 0, id="one at the end"),
    pytest.param({1: push(7)}, range(1, 7), 1, id="one in front"),
    pytest.param({1: push(7), 2: append(8)}, [*range(1, 7), 8], 1, id="one at each end"),
    pytest.param({3: append(7)}, range(1, 8), 0, id="one before the last page comes again"),
    pytest.param({4: append(7)}, range(1, 7), 0, id="one after the last page"),
]


@pytest.mark.parametrize(("changes", "counted", "duplicates"), NEW)
def test_new_sales_are_no_error(
    database_url: str,
    postgres_server: EmbeddedPostgres,
    database: str,
    capsys: pytest.CaptureFixture[str],
    changes: Mapping[int, Change],
    counted: Sequence[int],
    duplicates: int,
) -> None:
    """One reading does: all that were there count once, a new one at most once, now or in the next run."""
    with upstream(changes) as api, json_logs():
        report = run(api, database_url)
    assert logged(capsys, "ETL extract drift") == []
    assert (report.completeness["ticket_sales"], report.duplicates_count) == ("proved", duplicates)
    check_tables(postgres_server, database, EVENTS, counted)


DECLARED: list[Any] = [
    *(pytest.param(ENVELOPES["hasMore"].declaring(place), id=place) for place in TOTAL_PLACES),
    *(
        pytest.param(ENVELOPES[name], id=name)
        for name in ("veritix:wrapped", "nestjs-paginate", "nestjs-typeorm-paginate", "@nestjsx/crud")
    ),
]


@pytest.mark.parametrize("envelope", DECLARED)
def test_a_total_is_found_wherever_it_is_declared(
    database_url: str, postgres_server: EmbeddedPostgres, database: str, envelope: Envelope
) -> None:
    """Each envelope's own total, and no count of the page's items, shows that a sale was skipped."""
    with upstream({1: reverse}, envelope=envelope) as api:
        report = run(api, database_url)
    assert report.completeness == {"events": "proved", "ticket_sales": "proved"}
    check_tables(postgres_server, database, EVENTS, range(1, 7))


def test_without_a_total_nobody_can_know(
    database_url: str, postgres_server: EmbeddedPostgres, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is promised then: each sale that was served counts once, and the report says that nothing is proved."""
    with upstream({1: drop_first}, envelope="next_page") as api, json_logs():
        report = run(api, database_url)
    assert logged(capsys, "ETL extract drift") == []
    assert report.completeness == {"events": "undeclared", "ticket_sales": "undeclared"}
    check_tables(postgres_server, database, EVENTS, [1, 2, 4, 5, 6])
