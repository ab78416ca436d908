"""What a number of kept sales proves beside the declared totals."""

from datetime import UTC, datetime

import pytest

from etl.sales.proof import Totals, prove

NOW = datetime(2026, 11, 26, tzinfo=UTC)
COUNTS = [
    pytest.param(100, (100, 100, 100), "proved", 0, id="the same"),
    pytest.param(101, (100, 100, 102), "proved", 0, id="some arrived meanwhile"),
    pytest.param(99, (101, 100, 98), "proved", 0, id="some went meanwhile"),
    pytest.param(99, (100, 100, 102), "failed", -1, id="one too few"),
    pytest.param(103, (100, 100, 102), "unproved", 1, id="one too many"),
    pytest.param(110, (100, 100, 100), "unproved", 10, id="ten too many"),
    pytest.param(111, (100, 100, 100), "failed", 11, id="eleven too many"),
    pytest.param(100_100, (100_000, 100_000, 100_000), "unproved", 100, id="a thousandth too many"),
    pytest.param(100_200, (100_000, 100_000, 100_000), "failed", 200, id="two thousandths too many"),
    pytest.param(100, (100, None, 100), "undeclared", 0, id="a total isn't declared"),
    pytest.param(0, (0, 0, 0), "proved", 0, id="none"),
]


@pytest.mark.parametrize(("kept", "totals", "completeness", "off"), COUNTS)
def test_count_proof(kept: int, totals: Totals, completeness: str, off: int) -> None:
    """As many as the totals say, give or take; a few too many are gone upstream, and one too few is one missed."""
    proof = prove(kept, totals, 0.001, NOW)
    assert (proof.completeness, proof.off) == (completeness, off)
