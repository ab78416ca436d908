"""What a row of the table comes to, and how the table is shown and written."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.sandbox import screen

MIB = 1 << 20


class LeftOutError(Exception):
    """A row can't be measured here. The message says what is missing, and how to get it."""


@dataclass(frozen=True)
class Finding:
    """What was measured, in words, as a number to set against the target's, and all that it comes from."""

    value: str
    number: float
    is_met: bool
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    row: str
    what: str
    target: str
    value: str
    verdict: str
    reason: str = ""
    number: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def spread(seconds: Sequence[float]) -> dict[str, float | list[float]]:
    """Measurements of the same thing: each, and their median."""
    return {"median": round(median(seconds), 4), "each": [round(second, 4) for second in seconds]}


def show(lines: Sequence[Line], scale: float) -> None:
    """One table on the terminal."""
    machine = _machine()
    screen.table(
        f"Benchmarks of {machine['date']}: {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}, scale {scale:g}",
        ("row", "what", "measured", "target", "verdict"),
        [(line.row, line.what, line.value, line.target, line.verdict) for line in lines],
    )
    for reason in dict.fromkeys(line.reason for line in lines if line.reason):
        rows = ", ".join(line.row for line in lines if line.reason == reason)
        print(f"\nLeft out ({rows}): {reason}")
    print("\nRatios are what counts: both sides of each were measured in this run, on this machine, in turns.")
    if scale != 1:
        print("The targets are for scale 1: what a run costs at its start and end weighs more in a small one.")


def show_for_readme(lines: Sequence[Line]) -> None:
    """The table of docs/performance.md."""
    print("\n| what | measured |\n| --- | --- |")
    for line in lines:
        print(f"| {line.what} | {line.value} |")


def write(lines: Sequence[Line], scale: float, path: Path) -> None:
    """The same as JSON, with every single measurement. Seconds and bytes throughout."""
    content: Mapping[str, Any] = {**_machine(), "scale": scale, "rows": [asdict(line) for line in lines]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
    }
