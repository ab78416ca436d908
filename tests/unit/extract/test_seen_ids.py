"""Every repeat within the window is found at once, every farther one is counted at the end, for 8 bytes an id."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.extract.seen_ids import WINDOW, SeenIds

Batches = list[list[str | None]]
CASES = [
    pytest.param([["a", "b"], ["c"]], [None, None], (3, 0), id="all new"),
    pytest.param([[]], [None], (0, 0), id="nothing"),
    pytest.param([["a", "a"]], [[True, False]], (1, 0), id="twice in a batch"),
    pytest.param([["a", "b"], ["b", "c"]], [None, [False, True]], (3, 0), id="twice in two batches"),
    pytest.param([["a"], ["a"], ["a"]], [None, [False], [False]], (1, 0), id="three times"),
    pytest.param([[None, None], [None, "a"]], [None, None], (1, 0), id="no id is always new"),
    pytest.param([["a"], [None, "a", None]], [None, [True, False, True]], (1, 0), id="no id beside a repeat"),
    pytest.param([["5", "05", "5.0", ""]], [None], (4, 0), id="ids are compared as text"),
]


@pytest.mark.parametrize(("batches", "flags", "count"), CASES)
def test_repeats(batches: Batches, flags: list[list[bool] | None], count: tuple[int, int]) -> None:
    """A batch hears which of its ids are new; None where all are."""
    seen = SeenIds()
    assert [seen.add(batch) for batch in batches] == flags
    assert seen.count() == count


def test_window() -> None:
    """The last `window` ids are compared as they are; a repeat from before twice as many is a far one."""
    seen = SeenIds(window=10)
    for number in range(40):
        assert seen.add([str(number)]) is None
    assert seen.add([str(number) for number in range(30, 40)]) == [False] * 10
    assert seen.add([str(number) for number in range(5)]) is None
    assert seen.count() == (40, 5)
    assert WINDOW == 100_000


def test_ids_that_are_counted_elsewhere() -> None:
    """Repeats within the window are found all the same, and nothing is noted of those before."""
    seen = SeenIds(window=10, is_counted=True)
    for number in range(40):
        assert seen.add([str(number)]) is None
    assert seen.add(["39", "40"]) == [False, True]
    assert seen.count() == (0, 0)


ROWS: list[Any] = [
    pytest.param([(["a", "b"], 0, 10), (["b", "c"], 2, 11)], [11], id="pushed back by a row"),
    pytest.param([(["a", "b"], 0, 10), (["c", "b"], 2, 10)], [12], id="pushed back by two"),
    pytest.param([(["a", "b"], 0, 10), (["b", "c"], 0, 10)], [9], id="moved to the front"),
    pytest.param([(["a", "b"], 0, 10), (["c", "a", "b"], 2, 10)], [13, 13], id="two moved to the back"),
    pytest.param([(["a", "b"], 0, 9), (["c", "d"], 2, 9), (["e", "a"], 4, 9)], [14], id="from the window before"),
    pytest.param([(["a", "a"], 0, 10)], [11], id="twice on a page"),
    pytest.param([(["a", None], 0, 9), ([None, "b"], 5, 9)], [], id="no id"),
    pytest.param([(["a"], None, 0), (["a"], 5, 9), (["a"], None, 0)], [], id="no row"),
]


@pytest.mark.parametrize(("batches", "needed"), ROWS)
def test_rows(batches: list[tuple[list[str | None], int | None, int]], needed: list[int]) -> None:
    """Of each record that comes again it is known how many there must be, if new ones in front have pushed it there."""
    seen = SeenIds(window=3)
    for ids, row, least in batches:
        seen.add(ids, row, least)
    assert seen.take_needed() == needed
    assert seen.take_needed() == []


@given(st.lists(st.lists(st.sampled_from([None, *"abcdefghij"]), max_size=6), max_size=12), st.integers(1, 12))
def test_any_ids(batches: Batches, window: int) -> None:
    """For any ids: no new one is refused, no repeat within the window is let through, and the distinct are counted."""
    seen, new_ids = SeenIds(window), list[str]()
    for batch in batches:
        flags = seen.add(batch)
        for identifier, is_new in zip(batch, flags or [True] * len(batch), strict=True):
            if identifier is None:
                assert is_new
            elif is_new:
                assert identifier not in new_ids[-window:]
                new_ids.append(identifier)
            else:
                assert identifier in new_ids
    distinct, far_repeats = seen.count()
    assert (distinct, distinct + far_repeats) == (len(set(new_ids)), len(new_ids))


def test_long_ids() -> None:
    """Ids as long as a page are told apart, found again and counted as any others, and take no more memory."""
    seen = SeenIds(window=1_000)
    tracemalloc.start()
    try:
        for number in range(100):
            assert seen.add([f"{number:10000}", None, str(number), "\ud800" * 50 + str(number)]) is None
        assert seen.add([f"{3:10000}", "99", "new", "\ud800" * 50 + "4"]) == [False, False, True, False]
        assert tracemalloc.get_traced_memory()[0] < 80_000
    finally:
        tracemalloc.stop()
    assert seen.count() == (301, 0)


def test_memory() -> None:
    """Of ids that the window has passed nothing is kept but their hashes, which have memory of their own."""
    window, windows = 20_000, 6
    seen, held = SeenIds(window), list[int]()
    tracemalloc.start()
    try:
        for start in range(0, window * windows, 1_000):
            seen.add([f"sale-{number:06}" for number in range(start, start + 1_000)], start)
            if (start + 1_000) % window == 0:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[-1] - held[1] < window * (windows - 2)
    assert seen.count() == (window * windows, 0)
