"""Made-up events and ticket sales: believable ones for the sandbox, plain ones for tests. Same seed, same data."""

import random
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

EVENTS = 300
SALES = 20_000
REFUNDS = 400
SPAN_DAYS = 150
"""The sales lie in this many days; the last one is the day before `today`."""

_UNSOLD = 6
"""Events that are listed and not sold yet."""

_UNLISTED = 5
"""Events that were sold and are listed no more."""

_HEADS = (
    "Amber",
    "Silver",
    "Velvet",
    "Paper",
    "Hollow",
    "Golden",
    "Northern",
    "Electric",
    "Quiet",
    "Crimson",
    "Wandering",
    "Broken",
    "Neon",
    "Midnight",
    "Copper",
)
_TAILS = (
    "Lanterns",
    "Foxes",
    "Harbour",
    "Orchard",
    "Echoes",
    "Rivers",
    "Parade",
    "Machines",
    "Sparrows",
    "Collective",
    "Tides",
    "Letters",
)
_PLAYS = (
    "Hamlet",
    "The Cherry Orchard",
    "A Doll's House",
    "Tartuffe",
    "Woyzeck",
    "Blood Wedding",
    "The Seagull",
    "Peer Gynt",
    "Señora Carrar's Rifles",
)
_CLUBS = ("Rovers", "Wanderers", "Athletic", "United", "City", "Albion", "Harriers", "Rangers")
_TOWNS = ("Lisbon", "Porto", "Málaga", "Lyon", "Genoa", "Vienna", "Zürich", "Kraków", "Malmö", "Leeds", "Ghent", "Brno")
_KINDS = ("concert", "theatre", "match")
_BASE_CENTS = {
    "concert": (3500, 4500, 5900, 7500),
    "theatre": (2200, 2800, 3600),
    "match": (1800, 2500, 4000),
}
_TIERS = (("standard", 100), ("plus", 150), ("vip", 240))


@dataclass(frozen=True)
class _Sale:
    """A sale before it gets its number, which follows the time of sale."""

    at: datetime
    event_id: str
    tier: str
    quantity: int
    unit_cents: int
    total_cents: int
    refund_of: "_Sale | None" = None


def sample_events(seed: int) -> list[dict[str, Any]]:
    """About 300 events with uuid ids and different names."""
    dice = random.Random(f"events {seed}")
    events: dict[str, dict[str, Any]] = {}
    while len(events) < EVENTS:
        kind = dice.choice(_KINDS)
        name = _name(kind, dice)
        events[name] = {
            "id": _uuid(dice),
            "name": name,
            "category": kind,
            "capacity": dice.choice((180, 400, 900, 2500, 12000)),
            "basePrice": _decimal(dice.choice(_BASE_CENTS[kind])),
            "status": "published",
        }
    return list(events.values())


def sample_sales(seed: int, today: date) -> list[dict[str, Any]]:
    """20,000 sales of those events, oldest first, numbered from 1: amounts as decimal strings, times in UTC.

    Some are refunds (negative), some of events that are listed no more. The oldest state no total amount.
    """
    dice = random.Random(f"sales {seed}")
    first_day = today - timedelta(days=SPAN_DAYS)
    catalogue = [(event["id"], round(float(event["basePrice"]) * 100)) for event in sample_events(seed)]
    catalogue += [(_uuid(dice), 2500) for _ in range(_UNLISTED)]
    weights = [1 / (place + 8) for place in range(EVENTS - _UNSOLD)] + [0.0] * _UNSOLD + [1 / EVENTS] * _UNLISTED
    opens = {event_id: dice.randrange(SPAN_DAYS - 20) for event_id, _ in catalogue}
    sold = [
        _sell(dice, event_id, cents, first_day + timedelta(days=_sale_day(dice, opens[event_id])))
        for event_id, cents in dice.choices(catalogue, weights, k=SALES - REFUNDS)
    ]
    end = datetime.combine(today, time.min, UTC)
    refundable = [sale for sale in sold if sale.at < end - timedelta(days=10)]
    refunds = [_refund(dice, sale) for sale in dice.sample(refundable, REFUNDS)]
    return _numbered([*sold, *refunds], datetime.combine(first_day, time.min, UTC) + timedelta(days=14))


def _numbered(sales: list[_Sale], totals_since: datetime) -> list[dict[str, Any]]:
    in_order = sorted(sales, key=lambda sale: sale.at)
    numbers = {id(sale): number for number, sale in enumerate(in_order, 1)}
    return [
        {
            "id": number,
            "eventId": sale.event_id,
            "tier": sale.tier,
            "quantity": sale.quantity,
            "unitPrice": _decimal(sale.unit_cents),
            "totalAmount": _decimal(sale.total_cents) if sale.at >= totals_since else None,
            "currency": "EUR",
            "buyerEmail": f"buyer{number % 7919}@example.com",
            "refundOf": numbers.get(id(sale.refund_of)),
            "createdAt": _iso(sale.at),
        }
        for number, sale in enumerate(in_order, 1)
    ]


def _sell(dice: random.Random, event_id: str, base_cents: int, day: date) -> _Sale:
    tier, percent = dice.choices(_TIERS, (80, 15, 5))[0]
    quantity = dice.choices((1, 2, 3, 4, 5, 6, 8), (25, 45, 10, 12, 4, 3, 1))[0]
    unit_cents = base_cents * percent // 100
    total_cents = quantity * unit_cents
    if quantity >= 5:
        total_cents = total_cents * 90 // 100  # a group pays a tenth less
    moment = int(dice.triangular(0, 86_400_000, 68_400_000)) % 86_400_000  # most in the evening
    at = datetime.combine(day, time.min, UTC) + timedelta(milliseconds=moment)
    return _Sale(at, event_id, tier, quantity, unit_cents, total_cents)


def _refund(dice: random.Random, sale: _Sale) -> _Sale:
    at = sale.at + timedelta(milliseconds=dice.randrange(3_600_000, 9 * 86_400_000))
    return _Sale(at, sale.event_id, sale.tier, -sale.quantity, sale.unit_cents, -sale.total_cents, sale)


def _sale_day(dice: random.Random, opens: int) -> int:
    """Most tickets go soon after an event opens for sale."""
    day = opens + int(dice.expovariate(1 / 25))
    return day if day < SPAN_DAYS else dice.randrange(opens, SPAN_DAYS)


def _name(kind: str, dice: random.Random) -> str:
    town = dice.choice(_TOWNS)
    if kind == "concert":
        return f"{dice.choice(_HEADS)} {dice.choice(_TAILS)}, live in {town}"
    if kind == "theatre":
        return f"{dice.choice(_PLAYS)} ({town})"
    home, away = dice.sample(_CLUBS, 2)
    return f"{town} {home} v {dice.choice(_TOWNS)} {away}"


def _uuid(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def _decimal(cents: int) -> str:
    """Cents as TypeORM sends a decimal column: "-12.50"."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def plain_events(n: int) -> list[dict[str, Any]]:
    """`event-0`, `event-1`, ..., each with a name."""
    return [{"id": f"event-{number}", "name": f"Event {number}"} for number in range(n)]


def plain_sales(
    n: int, *, events: int = 50, days: int = 30, first_day: date = date(2026, 1, 1), first_id: int = 1
) -> list[dict[str, Any]]:
    """`n` sales with ids from `first_id`, spread evenly over `plain_events(events)` and `days` days; times in UTC.

    Sale `i` has quantity 1 + i % 4, and price 10.00 + (i % 100) / 100 as a JSON float.
    """
    stamps = [f"{first_day + timedelta(days=day)}T12:00:00.000Z" for day in range(days)]
    prices = [round(10 + cents / 100, 2) for cents in range(100)]
    return [
        {
            "id": i,
            "event_id": f"event-{i % events}",
            "quantity": 1 + i % 4,
            "price": prices[i % 100],
            "sale_date": stamps[i // events % days],
        }
        for i in range(first_id, first_id + n)
    ]
