"""Which rows a request asks for, from its query."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.doubles.ticketing.cursors import Order, QueryError, find_cursor, sort_rows
from tests.doubles.ticketing.envelopes import Envelope


@dataclass
class Dataset:
    """What one path serves. `items` are JSON values, or bytes that hold the exact JSON text of one.
    `order=None`: as listed."""

    items: list[Any]
    envelope: Envelope
    order: Order | None = None


@dataclass(frozen=True)
class Position:
    """Where a page starts among the `total` rows, and how many rows it may have."""

    number: int
    start: int
    limit: int
    total: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.limit)


def read_limit(query: Mapping[str, str], envelope: Envelope) -> int:
    """The page size that the paginator grants. Raises QueryError (400) where it refuses one."""
    asked = next((query[name] for name in envelope.limit_names if name in query), None)
    if asked is None:
        return envelope.default_limit
    valid = asked.isascii() and asked.isdigit() and int(asked) > 0
    refuses = envelope.over_cap == "refuse"
    if not valid:
        if refuses:
            raise QueryError(400, "limit must be a positive number")
        return envelope.default_limit
    if envelope.cap is not None and int(asked) > envelope.cap:
        if refuses:
            raise QueryError(400, f"limit must not be greater than {envelope.cap}")
        return envelope.cap
    return int(asked)


def read_number(query: Mapping[str, str], envelope: Envelope) -> int:
    """Which page is asked for, from 1. Raises QueryError for a number that isn't one: 400, or 500 as a negative offset
    makes."""
    least = envelope.first_number if envelope.unit == "page" else 0
    asked = query.get(envelope.ask, str(least))
    digits = asked.removeprefix("-")
    if digits.isascii() and digits.isdigit() and int(asked) >= least:
        return int(asked) - least + 1 if envelope.unit == "page" else int(asked) // read_limit(query, envelope) + 1
    status, message = (
        (400, "page must be a positive number") if envelope.over_cap == "refuse" else (500, "Internal server error")
    )
    raise QueryError(status, message)


def check_names(query: Mapping[str, str], envelope: Envelope) -> None:
    """Raises QueryError (400) for a parameter that a strict envelope doesn't know."""
    unknown = [name for name in query if name not in {envelope.ask, *envelope.limit_names}]
    if envelope.strict_query and unknown:
        raise QueryError(400, f"property {unknown[0]} should not exist")


class Pager:
    """Finds pages. Numbers those that are asked for by cursor too: it remembers which cursors it handed out."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, name: str, query: Mapping[str, str], envelope: Envelope) -> int:
        """The number of the page asked for. Raises QueryError."""
        check_names(query, envelope)
        if envelope.is_counted:
            return read_number(query, envelope)
        return self._numbers.get((name, query.get(envelope.ask, "")), 1)

    def find(self, dataset: Dataset, query: Mapping[str, str], number: int) -> tuple[Sequence[Any], Position]:
        """The rows in the order in which they are served, and the page asked for. Raises QueryError."""
        envelope, order = dataset.envelope, dataset.order
        rows = sort_rows(dataset.items, order, envelope, self._dice)
        if not envelope.ask:
            return rows, Position(1, 0, max(1, len(rows)), len(rows))
        limit = read_limit(query, envelope)
        if envelope.unit == "page":
            start = (number - 1) * limit
        elif envelope.unit == "row":
            start = int(query.get(envelope.ask, "0"))
        else:
            token = query.get(envelope.ask)
            start = find_cursor(token, rows, order, envelope.cursor_rule) if token else 0
        if start >= len(rows) > 0 and envelope.past_end != "empty":
            if envelope.past_end == "missing":
                raise QueryError(404, "Invalid page.")
            number = -(-len(rows) // limit)
            start = (number - 1) * limit
        return rows, Position(number, start, limit, len(rows))

    def hand_out(self, name: str, token: str, number: int) -> None:
        self._numbers.setdefault((name, token), number)
