"""The write mode `stream`, and changes between the two: what the documents' queries give, and what BigQuery refuses."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from etl.errors import StoreUnavailableError
from etl.transform.fold import Summary
from tests import ROOT
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.support.markdown import queries
from tests.support.summaries import DAYS, EVENTS, KEYS, MORNING, BigQueryStore, Rows, rows_of, summary_of

StoreMaker = Callable[..., BigQueryStore]

QUERIES = queries(ROOT / "docs" / "operations.md")
BEFORE = summary_of(
    {"a": "Aida", "b": None},
    [("a", "2026-01-01", 2, "20.50"), ("a", "2026-01-02", 1, "10"), ("b", "2026-01-01", 3, "3")],
)
AFTER = summary_of(
    {"a": None, "b": "Boris"},
    [("a", "2026-01-02", 5, "50"), ("a", "2026-01-03", 1, "1")],
    at=MORNING + timedelta(hours=1),
)
"""The first day of `a` and all of `b` are gone, `a` comes without its name."""
LATER = summary_of({"a": "Aida II"}, [("a", "2026-01-04", 1, "9")], at=MORNING + timedelta(hours=2))


@pytest.fixture
def front(bigquery_emulator: BigQueryEmulator) -> Iterator[BigQueryFront]:
    with BigQueryFront(bigquery_emulator.url) as front:
        yield front


@pytest.fixture
def stores(
    front: BigQueryFront, bigquery_emulator: BigQueryEmulator, bigquery_project: str, bigquery_dataset: str
) -> Iterator[dict[str, BigQueryStore]]:
    """One dataset in both write modes."""
    parts = (bigquery_emulator, bigquery_project, bigquery_dataset, front.url)
    with ExitStack() as stack:
        yield {mode: stack.enter_context(BigQueryStore(*parts, bq_write_mode=mode)) for mode in ("merge", "stream")}


def newest(store: BigQueryStore) -> dict[str, Rows]:
    """What the documents' queries give, without `last_updated`."""
    dataset = store.dataset.partition(".")[2]
    rows = {name: store.run(query.replace("veritix.", f"{dataset}.")) for name, query in QUERIES.items()}
    return {name: sorted((row[:4] for row in rows[name]), key=lambda row: row[: KEYS[name]]) for name in (EVENTS, DAYS)}


@dataclass
class Expected:
    """What a store in the mode `merge` would hold."""

    events: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    days: dict[str, Rows] = field(default_factory=dict)

    def load(self, summary: Summary) -> None:
        rows = rows_of(summary)
        for row in rows[EVENTS]:
            name = row[1] or (self.events[row[0]][1] if row[0] in self.events else None)
            self.events[row[0]] = (row[0], name, *row[2:])
            self.days[row[0]] = [day for day in rows[DAYS] if day[0] == row[0]]

    @property
    def tables(self) -> dict[str, Rows]:
        return {EVENTS: sorted(self.events.values()), DAYS: sorted(day for days in self.days.values() for day in days)}


def test_the_queries_give_what_merge_would_hold(stores: dict[str, BigQueryStore]) -> None:
    """Of copies the newest, without days that are gone; also of an event that comes no more, or has no days."""
    expected = Expected()
    for summary in (BEFORE, BEFORE, AFTER, LATER):
        stores["stream"].load(summary)
        expected.load(summary)
        assert newest(stores["stream"]) == expected.tables
    assert len(stores["stream"].rows(DAYS)) > len(expected.tables[DAYS])


def test_the_modes_may_change_at_any_time(front: BigQueryFront, stores: dict[str, BigQueryStore]) -> None:
    """Whatever the order, the queries give the newest, and after `merge` the tables themselves hold it.

    Between two changes BigQuery has time to let go of what was streamed.
    """
    chance, expected = random.Random(20_261_125), Expected()
    stores["stream"].load(BEFORE)
    expected.load(BEFORE)
    for hour in range(3, 12):
        mode = chance.choice(["merge", "stream"])
        summary = random_summary(chance, hour)
        front.tables.settle()
        stores[mode].load(summary)
        expected.load(summary)
        assert newest(stores[mode]) == expected.tables, (hour, mode)
        if mode == "merge":
            scope = summary.scope
            for name in (EVENTS, DAYS):
                held = [row for row in stores[mode].rows(name) if row[0] in scope]
                assert held == [row for row in expected.tables[name] if row[0] in scope], hour


def random_summary(chance: random.Random, hour: int) -> Summary:
    events = chance.sample("abcd", chance.randint(1, 3))
    return summary_of(
        {event: chance.choice([None, f"{event}{hour % 4}"]) for event in events},
        [
            (event, f"2026-01-{day:02d}", chance.choice([1, 2]), chance.choice(["9.99", "0", "-0.5"]))
            for event in events
            for day in chance.sample(range(1, 4), chance.randint(0, 3))
        ],
        at=MORNING + timedelta(hours=hour),
    )


@pytest.mark.parametrize("name", [EVENTS, DAYS])
def test_a_run_that_breaks_off_is_not_seen(front: BigQueryFront, stores: dict[str, BigQueryStore], name: str) -> None:
    """Wherever it ended, the queries give the last whole one's rows; so they do after the next `merge`."""
    stores["stream"].load(BEFORE)
    front.fail(400, path=f"{name}/insertAll")
    with pytest.raises(StoreUnavailableError, match="400"):
        stores["stream"].load(AFTER)
    assert newest(stores["stream"]) == rows_of(BEFORE)
    front.tables.settle()
    stores["merge"].load(BEFORE)
    assert (
        newest(stores["merge"]) == {table: stores["merge"].rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    )


def test_a_first_run_that_breaks_off_is_not_seen(front: BigQueryFront, stores: dict[str, BigQueryStore]) -> None:
    """Its days have no summary row, and never get one."""
    front.fail(400, path=f"{EVENTS}/insertAll")
    with pytest.raises(StoreUnavailableError, match="400"):
        stores["stream"].load(BEFORE)
    assert newest(stores["stream"]) == {EVENTS: [], DAYS: []}
    stores["stream"].load(AFTER)
    assert newest(stores["stream"]) == rows_of(AFTER)


def test_from_merge_to_stream(front: BigQueryFront, stores: dict[str, BigQueryStore]) -> None:
    """The first run adds the column, appends nothing and says when to come again; who comes too early hears why."""
    stores["merge"].load(BEFORE)
    assert stores["stream"].load(AFTER, dry_run=True).status == "dry_run"
    with pytest.raises(StoreUnavailableError, match=rf"{DAYS} had no column last_updated.*run again in 10 minutes"):
        stores["stream"].load(AFTER)
    with pytest.raises(StoreUnavailableError, match=r"no such field: last_updated.*passes by itself"):
        stores["stream"].load(AFTER)
    assert {table: stores["stream"].rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    front.tables.settle()
    stores["stream"].load(AFTER)
    expected = Expected()
    expected.load(BEFORE)
    expected.load(AFTER)
    assert newest(stores["stream"]) == expected.tables
    assert len([request for request in front.log if b"ADD COLUMN" in request.body]) == 1


def test_from_stream_to_merge(front: BigQueryFront, stores: dict[str, BigQueryStore]) -> None:
    """While BigQuery holds on to what was streamed, the error says that it passes; then a merge leaves one row of each.

    A second merge of the same has nothing to do with the days.
    """
    stores["stream"].load(BEFORE)
    with pytest.raises(StoreUnavailableError, match=r"streaming buffer.*passes by itself.*30 to 90 minutes"):
        stores["merge"].load(AFTER)
    assert {table: stores["merge"].rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    front.tables.settle()
    told, done = stores["merge"].load(BEFORE, dry_run=True), stores["merge"].load(BEFORE)
    assert told.changes[DAYS] == done.changes[DAYS]
    assert {table: stores["merge"].rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    assert {row[4] for row in stores["merge"].raw_rows(DAYS)} == {None}
    del front.log[:]
    stores["merge"].load(BEFORE)
    assert not [
        request for request in front.log if f"MERGE `{stores['merge'].dataset}.{DAYS}`".encode() in request.body
    ]


def test_the_last_name_that_came_is_kept(front: BigQueryFront, stores: dict[str, BigQueryStore]) -> None:
    """Of the copies' names, by the queries as by a merge that has none."""
    for hour, name in enumerate(["Boris", "Zaide", "Aida", None]):
        stores["stream"].load(summary_of({"a": name}, at=MORNING + timedelta(hours=hour)))
    assert newest(stores["stream"])[EVENTS][0][1] == "Aida"
    front.tables.settle()
    stores["merge"].load(summary_of({"a": None}, at=MORNING + timedelta(hours=9)))
    assert [row[1] for row in stores["merge"].rows(EVENTS)] == ["Aida"]


def test_what_an_earlier_version_has_streamed(front: BigQueryFront, stores: dict[str, BigQueryStore]) -> None:
    """Its days have nothing to tell them apart by: they are seen until their event comes again, and not after that."""
    stores["merge"].load(BEFORE)
    store = stores["stream"]
    rows = [
        dict(zip(("event_id", "sale_date", "tickets_sold", "revenue"), map(str, row), strict=True))
        for row in store.rows(DAYS)
    ]
    assert store.client.insert_rows_json(f"{store.dataset}.{DAYS}", rows, timeout=10) == []
    with pytest.raises(StoreUnavailableError, match="run again in 10 minutes"):
        store.load(LATER)
    assert newest(store) == rows_of(BEFORE)
    front.tables.settle()
    store.load(LATER)
    expected = Expected()
    expected.load(BEFORE)
    expected.load(LATER)
    assert newest(store) == expected.tables
