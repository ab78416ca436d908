"""Every repeat within the window is found at once, every farther one is counted at the end, for 8 bytes an id."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.seen_ids import WINDOW, SeenIds

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
    """A batch is told which of its ids are new; None where all are."""
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


def test_memory() -> None:
    """An id beyond the window takes little more than 8 bytes."""
    ids = 200_000
    seen = SeenIds(window=1_000)
    tracemalloc.start()
    try:
        for start in range(0, ids, 1_000):
            seen.add([f"sale-{number}" for number in range(start, start + 1_000)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10 * ids
    assert seen.count() == (ids, 0)
