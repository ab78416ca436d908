"""What totals tell of the records that arrive while a list is read, and that busy upstreams are read all the same."""

from dataclasses import replace
from typing import Any

import pytest

from etl.extract.arrivals import Arrivals
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import Statements
from tests.evidence.arrivals.database import DatabaseUpstream
from tests.evidence.arrivals.database import play as play_database
from tests.evidence.arrivals.play import KINDS, Kind, play, play_many

Seen = tuple[int, int, int | None, list[int]]
"""A page: when its request began and ended, its total, and which totals would explain its repeats."""

TOTALS: list[Any] = [
    pytest.param(None, [(1, 2, 10, []), (3, 4, 10, [])], (False, 0), id="they stand still"),
    pytest.param(None, [(1, 2, 10, []), (3, 4, 12, [])], (False, 0), id="they grow"),
    pytest.param(None, [(1, 2, 10, []), (3, 4, 9, [])], (True, 0), id="they fall"),
    pytest.param(11, [(1, 2, 10, [])], (True, 0), id="they fall below what was declared before"),
    pytest.param(None, [(1, 4, 10, []), (3, 6, 9, [])], (False, 0), id="they differ while both were under way"),
    pytest.param(None, [(1, 4, 10, []), (3, 6, 9, []), (5, 8, 9, [])], (True, 0), id="they fall over two pages"),
    pytest.param(None, [(1, 2, 10, []), (3, 4, None, []), (5, 6, 9, [])], (True, 0), id="they fall past one without"),
    pytest.param(None, [(1, 2, 10, []), (3, 4, 10, [10])], (False, 0), id="a repeat that its own total explains"),
    pytest.param(None, [(1, 2, 10, []), (3, 4, 10, [11]), (5, 6, 11, [])], (False, 0), id="that the next one explains"),
    pytest.param(None, [(1, 2, 10, []), (3, 4, 10, [12]), (5, 6, 11, [])], (False, 1), id="that the next one doesn't"),
    pytest.param(
        None,
        [(1, 2, 10, []), (3, 6, 10, [12]), (5, 8, 12, []), (7, 10, 11, [])],
        (False, 1),
        id="by a late one",
    ),
    pytest.param(None, [(1, 2, 10, []), (3, 4, 10, [11, 12])], (False, 2), id="that nothing explains in the end"),
]


@pytest.mark.parametrize(("floor", "pages", "found"), TOTALS)
def test_totals(floor: int | None, pages: list[Seen], found: tuple[bool, int]) -> None:
    """Only a total that was counted surely later may not be smaller, or explain how far a record has moved."""
    arrivals = Arrivals(floor)
    for began, ended, total, needed in pages:
        arrivals.add(began, ended, total, needed)
    assert arrivals.is_open is (bool(pages[-1][3]) and found[1] > 0)
    arrivals.close()
    assert (arrivals.has_fallen, arrivals.jumps) == found


def test_at_least() -> None:
    """At a request's beginning there were at least as many as the largest total declared before."""
    assert Arrivals().least(1) is None
    arrivals = Arrivals(5)
    assert arrivals.least(1) == 5
    for began, ended, total in [(1, 4, 8), (2, 5, 7)]:
        arrivals.add(began, ended, total)
    assert [arrivals.least(began) for began in (3, 4, 5, 6, 7)] == [5, 5, 8, 8, 8]


def test_busy_upstreams_are_read() -> None:
    """At any rate, order and way to count, every run succeeds and counts each sale that was there, once."""
    score = play_many([1], pages=25)
    assert not score.failing, "\n".join(score.failing)
    assert len(score.counts) == 72
    assert sum(counts["readings"] for counts in score.counts.values()) < 1.5 * len(KINDS)


FULL_LAST_PAGES = [kind for kind in KINDS if kind.rate == 0.3 and kind.signal == "page count" and kind.concurrency == 1]


@pytest.mark.parametrize("kind", FULL_LAST_PAGES, ids=str)
def test_a_last_page_that_is_full(kind: Kind) -> None:
    """What is pushed off a full last page, after the total was counted, is read too: one run ends there in three."""
    for seed in range(6):
        played = play(kind, seed, pages=4, page_size=3)
        assert (played.missing, played.doubled, played.error) == (0, 0, None), seed


def test_a_reader_that_takes_totals_for_a_snapshot_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that holds a page's rows against its own total fails on most of these upstreams."""
    monkeypatch.setattr(Arrivals, "add", strict_add)
    kinds = [replace(kind, rate=0.3) for kind in KINDS if kind.rate == 0.3 and kind.order == "newest first"]
    assert len(play_many([1], kinds, pages=25).failing) >= len(kinds) // 2


def strict_add(self: Arrivals, _: int, ended: int, total: int | None, needed: Any = ()) -> None:
    self.jumps += sum(number > (total or 0) for number in needed)
    self._ended.append((ended, total or 0))


STATEMENTS: tuple[Statements, ...] = ("rows, total", "total, rows")


@pytest.mark.parametrize("statements", STATEMENTS)
def test_a_table_that_grows(postgres_server: EmbeddedPostgres, statements: Statements) -> None:
    """A run is right over a real database, with 200 arrivals a second, and rows and total without a transaction."""
    database = postgres_server.create_database()
    upstream = DatabaseUpstream(postgres_server, 3_000, 200.0, statements, 1)
    with upstream.serve():
        assert play_database(postgres_server, upstream, database) == []
        assert sum(upstream.groups().values()) > 7_500
    postgres_server.drop_database(database)
