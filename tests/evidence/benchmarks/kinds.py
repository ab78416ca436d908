"""W1 and W2: what the sales of a workload are like. Each sale comes from a seed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import count
from random import Random
from typing import NamedTuple

SEED = 7
FIRST_ID = 100_000_000
"""The first three digits are the same in all ids of W1: a copy of its sales gets others, and no id comes twice."""

_FIRST_DAY = date(2026, 1, 1)
_CHANNELS = ("web", "app", "box", "reseller")


class Sale(NamedTuple):
    """`identifier` is its JSON, and `rest` the JSON of what no run looks at."""

    identifier: str
    event: int
    day: date
    second: int
    quantity: int
    price_cents: int
    total_cents: int
    rest: str

    def with_one_ticket_more(self) -> Sale:
        return self._replace(quantity=self.quantity + 1, total_cents=self.total_cents + self.price_cents)


@dataclass(frozen=True)
class Kind:
    """`sale` makes a sale: its number, how many events there are, and the dice."""

    name: str
    sale: Callable[[int, int, Random], Sale]
    event_id: Callable[[int], str]
    amount_text: Callable[[int], str]

    def sales(self, events: int) -> Iterator[Sale]:
        """Without an end, and the same ones each time."""
        dice = Random(SEED)
        return (self.sale(number, events, dice) for number in count())

    def json(self, sale: Sale) -> str:
        """A sale of some 260 bytes. Its id comes first, so that copies can be made of it."""
        time = f"{sale.second // 3600:02d}:{sale.second // 60 % 60:02d}:{sale.second % 60:02d}.000Z"
        return (
            f'{{"id":{sale.identifier},"event_id":"{self.event_id(sale.event)}",'
            f'"quantity":{sale.quantity},"price":{self.amount_text(sale.price_cents)},'
            f'"total_amount":{self.amount_text(sale.total_cents)},"sale_date":"{sale.day}T{time}",{sale.rest}}}'
        )


def _w1_sale(number: int, events: int, dice: Random) -> Sale:
    """A number for an id, and any day: most of the events sell on each."""
    event, day = dice.randrange(events), _FIRST_DAY + timedelta(dice.randrange(45))
    quantity, total = dice.randrange(1, 6), dice.randrange(500, 90_000)
    second, price = dice.randrange(86_400), dice.randrange(500, 20_000)
    return Sale(str(FIRST_ID + number), event, day, second, quantity, price, total, _rest(second, dice))


def _w2_sale(_: int, events: int, dice: Random) -> Sale:
    """A UUID for an id, a total that is a multiple of the price, and one of the event's own 60 days of the year."""
    identifier = f'"{uuid.UUID(int=dice.getrandbits(128), version=4)}"'
    event = dice.randrange(events)
    day = _first_day(event) + timedelta(dice.randrange(60))
    quantity, price = dice.randrange(1, 6), 100 * dice.randrange(5, 200) + dice.choice((0, 50, 95, 99))
    second = dice.randrange(86_400)
    return Sale(identifier, event, day, second, quantity, price, quantity * price, _rest(second, dice))


@cache
def _first_day(event: int) -> date:
    return _FIRST_DAY + timedelta(Random(event).randrange(365 - 60 + 1))


def _rest(second: int, dice: Random) -> str:
    return (
        f'"channel":"{dice.choice(_CHANNELS)}","currency":"EUR","seat":"{dice.choice("ABCDEF")}{second % 40}",'
        f'"buyer_id":{dice.randrange(1_000_000)},"reference":"{dice.getrandbits(128):032x}","is_resale":false'
    )


@cache
def _uuid_of(event: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"event {event}"))


def _as_javascript(cents: int) -> str:
    """Such as 79.99, 79.5, 79."""
    return f"{cents / 100:.15g}"


W1 = Kind("w1", _w1_sale, lambda event: f"evt-{event:04d}", lambda cents: str(cents / 100))
W2 = Kind("w2", _w2_sale, _uuid_of, _as_javascript)
KINDS = {kind.name: kind for kind in (W1, W2)}
