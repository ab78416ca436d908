"""What must hold of published totals: each sale that they count is one that the upstream had, and none is missing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.evidence.increments.world import World

Groups = dict[tuple[str, str], tuple[int, Decimal]]
"""(event id, day) -> tickets and revenue."""
Kept = dict[str, tuple[str | None, str | None, int | None, Decimal | None]]
"""Sale id -> event id, day, quantity and amount."""


def fold(sales: Iterable[Mapping[str, Any]]) -> Groups:
    """The totals of the upstream's list, worked out the plain way."""
    groups: Groups = {}
    for sale in sales:
        if isinstance(sale["quantity"], int):
            key = (sale["event_id"], sale["sale_date"][:10])
            tickets, revenue = groups.get(key, (0, Decimal()))
            groups[key] = (tickets + sale["quantity"], revenue + Decimal(sale["totalAmount"]))
    return groups


@dataclass(frozen=True)
class Published:
    """What a run left behind: the daily rows, the events' rows, and the sales that are kept."""

    daily: Groups
    events: dict[str, tuple[int, Decimal]]
    kept: Kept


def inner_faults(published: Published) -> list[str]:
    """Where the tables aren't the sums of the kept sales, or an event's row not the sum of its days."""
    faults = []
    sums: Groups = {}
    for event_id, day, quantity, amount in published.kept.values():
        if event_id is not None and day is not None and quantity is not None and amount is not None:
            tickets, revenue = sums.get((event_id, day), (0, Decimal()))
            sums[event_id, day] = (tickets + quantity, revenue + amount)
    if sums != published.daily:
        faults.append(f"the daily rows aren't the sums of the kept sales: {_difference(sums, published.daily)}")
    totals: dict[str, tuple[int, Decimal]] = {}
    for (event_id, _), (tickets, revenue) in published.daily.items():
        before = totals.get(event_id, (0, Decimal()))
        totals[event_id] = (before[0] + tickets, before[1] + revenue)
    shown = {event_id: total for event_id, total in published.events.items() if total != (0, Decimal())}
    if {event_id: total for event_id, total in totals.items() if total != (0, Decimal())} != shown:
        faults.append("an event's row isn't the sum of its days")
    return faults


def outer_faults(
    world: World, published: Published, began: datetime, lookback: timedelta, missing: int
) -> Counter[str]:
    """What the kept sales have that the upstream didn't have, or lack; `missing` sales may be, by the count proof."""
    faults: Counter[str] = Counter()
    horizon = began - lookback
    lacking = [
        sale_id
        for sale_id in world.versions
        if sale_id not in published.kept
        and world.state_at(sale_id, horizon) is not None
        and world.state_at(sale_id, world.now) is not None
    ]
    if len(lacking) > missing:
        faults[f"missing {lacking}"] = len(lacking)
    for sale_id, row in published.kept.items():
        seen = [version for at, version in world.versions[sale_id] if at >= horizon]
        seen.append(world.state_at(sale_id, horizon))
        if not any(version is not None and _as_kept(version) == row for version in seen):
            if _is_overtaken(world, sale_id):
                continue
            is_gone = world.state_at(sale_id, horizon) is None
            faults["ghost" if is_gone else f"stale {sale_id}"] += 1
    return faults


def _is_overtaken(world: World, sale_id: str) -> bool:
    """Whether a change of a sale committed after a later one: an answer with it can't be told from an old replica's."""
    times = [version["updatedAt"] for _, version in world.versions[sale_id] if version is not None]
    return times != sorted(times)


def _as_kept(sale: Mapping[str, Any]) -> tuple[str | None, str | None, int | None, Decimal | None]:
    if not isinstance(sale["quantity"], int):
        return (None, None, None, None)
    return (sale["event_id"], sale["sale_date"][:10], sale["quantity"], Decimal(sale["totalAmount"]))


def _difference(wanted: Groups, found: Groups) -> str:
    keys = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    return "; ".join(f"{key}: {wanted.get(key)} and {found.get(key)}" for key in keys[:5])
