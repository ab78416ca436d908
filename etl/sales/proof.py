"""The count proof: as many sales are kept as the upstream declares, give or take what arrives meanwhile. Pure."""

from __future__ import annotations

from datetime import datetime

from etl.sales.state import Proof

Totals = tuple[int | None, int | None, int | None]
"""What the upstream declared right before an increment's first page, right after it, and after the last one."""
TRIFLE = 10
"""So many sales too many may be kept in any case, until it is known which of them are gone."""


def prove(kept: int, totals: Totals, max_ratio: float, now: datetime) -> Proof:
    """Judge a count. `completeness` is one of:

    `proved`: it lies between the totals. `unproved`: it is above them, by no more than `max_ratio` of it or 10: some
    sales are gone upstream, and it isn't known yet which. `failed`: it is below them, or above them by more.
    `undeclared`: the upstream declares no total.
    """
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return Proof(now, "undeclared", kept)
    proof = Proof(now, "proved", kept, min(known), max(known))
    if proof.off == 0:
        return proof
    is_bearable = 0 < proof.off <= max(TRIFLE, max_ratio * kept)
    return Proof(now, "unproved" if is_bearable else "failed", kept, proof.low, proof.high)
