"""What a store is to be brought to, as it is handed over from one store to the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple


class PendingRow(NamedTuple):
    """An event, or one of its days: then `sales` is how many count there, and the sums are theirs.

    An event's row has the name, None where it isn't listed with one, and no day.
    """

    event_id: str
    event_name: str | None
    sale_date: date | None
    tickets: int | None
    revenue: Decimal | None
    sales: int | None


@dataclass(frozen=True)
class Pending:
    """What a store may not hold yet; with `is_everything` all that there is."""

    rows: Iterator[PendingRow]
    is_everything: bool
