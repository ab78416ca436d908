"""How rows are sorted, and how a cursor leads back into them. Pure, apart from the dice for ties."""

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.doubles.ticketing.envelopes import CursorRule, Envelope

Rank = tuple[int, float, str]
"""A JSON value's place in any sort: numbers, then strings, then all else (PostgreSQL puts nulls last too)."""


class QueryError(Exception):
    """A query that the upstream refuses, with the status that it answers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Order:
    """Sorted by a field. `unstable_ties`: rows that share it come in another order at every request,
    as with a sort that has no unique tie-break; else in the order in which they are listed."""

    key: str
    descending: bool = False
    unstable_ties: bool = False


def rank(item: Any, key: str) -> Rank:
    value = item.get(key) if isinstance(item, dict) else None
    if isinstance(value, int | float):
        return (0, value, "")
    return (1, 0, value) if isinstance(value, str) else (2, 0, "")


def sort_rows(rows: Sequence[Any], order: Order | None, envelope: Envelope, dice: random.Random) -> Sequence[Any]:
    """The rows as served. A cursor that continues after a row needs a total order: there `id` breaks ties."""
    if order is None:
        return rows
    if envelope.ask and not envelope.is_counted and envelope.cursor_rule == "row":
        return sorted(rows, key=lambda r: (rank(r, order.key), rank(r, "id")), reverse=order.descending)
    listed = dice.sample(rows, len(rows)) if order.unstable_ties else rows
    return sorted(listed, key=lambda r: rank(r, order.key), reverse=order.descending)


def encode_cursor(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def offset_cursor(start: int) -> str:
    return encode_cursor({"offset": start})


def cursor_after(rows: Sequence[Any], end: int, order: Order | None) -> str:
    """The cursor that a page hands out whose last row is `rows[end - 1]`."""
    if order is None or not 0 < end <= len(rows):
        return offset_cursor(end)
    last = rows[end - 1]
    return encode_cursor({"after": rank(last, order.key), "id": rank(last, "id")})


def find_cursor(token: str, rows: Sequence[Any], order: Order | None, rule: CursorRule) -> int:
    """The index of the first row that a cursor asks for. Raises QueryError (500, as real ones do) for garbage."""
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if "offset" in content:
            return int(content["offset"])
        key, row_id = tuple(content["after"]), tuple(content["id"])
    except (ValueError, KeyError, TypeError):
        raise QueryError(500, "Internal server error") from None
    if order is None:
        raise QueryError(500, "Internal server error")
    again = rule == "key_again" and order.key != "id"
    last = (key, row_id) if rule == "row" else (key,)
    for index, row in enumerate(rows):
        here = (rank(row, order.key), rank(row, "id"))[: len(last)]
        beyond = here < last if order.descending else here > last
        if beyond or (again and here == last):
            return index
    return len(rows)
