"""What a run with kept sales has to say of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SalesReport:
    """What a run has done with the kept sales. `found` is what a sweep found that no increment had brought."""

    completeness: str | None = None
    kept: int = 0
    off: int = 0
    """By how many sales too many are kept; below 0: too few."""
    width: int = 0
    """How far apart the totals are between which the count must lie."""
    increment_pages: int = 0
    sweep_pages: int = 0
    sweep_ended: bool = False
    found: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    """Sales that the last sweep missed and that are kept all the same, until it is known that they are gone."""
    progress: dict[str, Any] | None = None
