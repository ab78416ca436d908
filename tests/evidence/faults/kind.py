"""A kind of fault, as the tables in `places` list them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.evidence.faults.play import Play


def call_once(play: Play) -> None:
    """The usual way to run it."""
    play.call()


@dataclass(frozen=True)
class Kind:
    """`arm` lays the trap. `moments`: where -> when. `variant` is the function's.

    `lasts`: whether the fault goes on until it is mended, so that a ledger behind it can't be written.
    `harmless`: whether one run must succeed all the same.
    `needs_tables`: whether it can't meet a first run, which finds none.
    `breaks`: whether our own code may be broken by it, so that `internal_error` is a right answer.
    """

    arm: Callable[[Play], None]
    moments: Mapping[str, tuple[str, ...]]
    variant: str = "direct"
    call: Callable[[Play], None] = call_once
    lasts: bool = False
    harmless: bool = False
    needs_tables: bool = False
    breaks: bool = False
