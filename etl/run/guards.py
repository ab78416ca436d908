"""What must hold before anything is loaded. Pure; each raises the error that says what was wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from etl.errors import SchemaDriftError, SuspiciousExtractError, TooManyRejectsError
from etl.extract.items import KEYS_SHOWN, shown_keys
from etl.extract.tally import Tally
from etl.load.store import STORE_NAMES, StoredTickets
from etl.records.fields import CANDIDATES, UNREADABLE, EventItem, SaleItem
from etl.records.values import from_nano
from etl.transform.fold import Days

OVERRIDE = "If that is right, run once with force=true."
TRIFLE = 10
"""So many records, or tickets, prove nothing: no guard stops a run for them."""
UNLIKELY = 1e-6
"""What is less likely than this isn't put down to chance."""
_ITEM_TYPES: dict[str, type[EventItem] | type[SaleItem]] = {"events": EventItem, "ticket_sales": SaleItem}


def check_rejects(tally: Tally, max_ratio: float) -> None:
    """Raise TooManyRejectsError where too large a share of what was read can't be used, or has no readable date."""
    unusable = tally.rejected + tally.dates[UNREADABLE]
    if unusable <= TRIFLE or unusable / tally.read <= max_ratio:
        return
    reasons = dict(tally.reasons)
    if tally.dates[UNREADABLE]:
        reasons["sale_date_unreadable"] = tally.dates[UNREADABLE]
    keys = sorted({key for reject in tally.rejects[:100] for key in _keys(reject.text)} or tally.keys_seen)[:KEYS_SHOWN]
    shown = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    raise TooManyRejectsError(
        f"{tally.dataset}: {unusable} of {tally.read} records can't be used, more than ETL_MAX_REJECT_RATIO="
        f"{max_ratio:g} allows ({shown}). They have the keys {', '.join(keys) or 'none'}. {OVERRIDE}",
        dataset=tally.dataset,
        reasons=reasons,
        keys_seen=keys,
    )


def _keys(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return shown_keys(value) if isinstance(value, dict) else []


def fields_not_found(tally: Tally) -> list[str]:
    """The fields that no record of a dataset has, under any of their keys."""
    return [name for name in CANDIDATES[_ITEM_TYPES[tally.dataset]] if name not in tally.fields_found]


@dataclass(frozen=True)
class FieldFound:
    """A field that `had` records had under a `key`, of the `read` ones in which it was looked for."""

    key: str
    had: int
    read: int

    @classmethod
    def from_json(cls, value: Any) -> FieldFound:
        """As the ledger keeps it; rows of earlier versions have the key alone, of a field that some record had."""
        return cls(value, 1, 1) if isinstance(value, str) else cls(**value)

    def chance_of_none(self, records: int) -> float:
        """How likely it is that none of so many records has the field, if it is as usual as it was."""
        # One record with it and one without it are added, so that a few records tell little of the others.
        return float(((self.read - self.had + 1) / (self.read + 2)) ** records)


def check_schema(tally: Tally, found_before: Mapping[str, FieldFound], recounted: int | None = None) -> None:
    """Raise SchemaDriftError where no record has a field any more that records had at the last success.

    With kept sales only those are evidence that may change a sum: `recounted` of them.
    """
    lost = _lost(tally, found_before, recounted)
    if not lost:
        return
    shown = ", ".join(f"{name} (it was under {field.key!r})" for name, field in lost.items())
    raise SchemaDriftError(
        f"{tally.dataset}: no record has {shown} any more; the records now have {', '.join(tally.keys_seen)}. If a key "
        f"was renamed, name it back or add it to the candidates. {OVERRIDE}",
        dataset=tally.dataset,
        fields_lost={name: field.key for name, field in lost.items()},
        keys_seen=tally.keys_seen,
    )


def fields_to_keep(
    tally: Tally, found_before: Mapping[str, FieldFound], recounted: int | None = None
) -> dict[str, FieldFound]:
    """What the next run's `check_schema` is to go by.

    Of a field that no record has, and chance explains that, it is what was known before: else a small shop's first
    records without it would make the guard forget it, before there are enough of them to tell.
    """
    now = {
        name: FieldFound(key, tally.fields_had[name], tally.looked_for(name))
        for name, key in tally.fields_found.items()
        if tally.fields_had[name]
    }
    lost = _lost(tally, found_before, recounted)
    still_open = {
        name: field
        for name, field in found_before.items()
        if name not in lost and (tally.looked_for(name) or not tally.read)
    }
    return still_open | now


def _lost(tally: Tally, found_before: Mapping[str, FieldFound], recounted: int | None = None) -> dict[str, FieldFound]:
    """The fields that records had, and that none has now, though enough could have it."""

    def evidence(name: str) -> int:
        looked_for = tally.looked_for(name)
        return looked_for if recounted is None else min(looked_for, recounted)

    return {
        name: field
        for name, field in found_before.items()
        if not tally.fields_had[name] and field.chance_of_none(evidence(name)) < UNLIKELY
    }


class Totals(Protocol):
    """What is to be published, as far as a guard looks at it: a Summary, or the sums of all kept sales."""

    @property
    def total_tickets(self) -> int:
        """Tickets of all events."""

    @property
    def total_revenue(self) -> Decimal:
        """Revenue of all events."""

    @property
    def groups(self) -> Callable[[], Iterator[tuple[str, Days]]]:
        """Gives each event's days."""


def check_shrink(
    summary: Totals,
    tallies: Mapping[str, Tally],
    held: Mapping[str, StoredTickets],
    max_ratio: float,
    *,
    empty_before: Container[str] = (),
) -> None:
    """Raise SuspiciousExtractError where far less comes than a store has: an empty answer, or half of one.

    `held` is what each store has; the one with the most tickets is looked at first. `empty_before` are the datasets in
    which there was nothing at the last success either.
    """
    empty = [name for name, tally in tallies.items() if not tally.accepted and name not in empty_before]
    for database, stored in sorted(held.items(), key=lambda item: item[1].total, reverse=True):
        store = STORE_NAMES[database]
        if empty and stored.total > TRIFLE:
            what = f"the upstream sent no {' and no '.join(empty)}, and {store} has {stored.total} tickets"
            raise _suspicious(what, summary, database, stored, stored.total)
        if fall := _fall(summary, stored, max_ratio):
            what = f"{store}: the {fall}, by more than ETL_MAX_SHRINK_RATIO={max_ratio:g} allows"
            raise _suspicious(what, summary, database, stored, stored.in_scope)


def _suspicious(
    what: str, summary: Totals, database: str, stored: StoredTickets, tickets: int
) -> SuspiciousExtractError:
    return SuspiciousExtractError(
        f"{what}. Look at the upstream. {OVERRIDE}",
        store=database,
        stored_tickets=tickets,
        new_tickets=summary.total_tickets,
        stored_revenue=_text(stored.revenue),
        new_revenue=_text(summary.total_revenue),
    )


def _fall(summary: Totals, stored: StoredTickets, max_ratio: float) -> str | None:
    """In words, what of the events in scope falls by too large a share, and by more than a trifle."""
    tickets, revenue = stored.in_scope, stored.revenue
    new_tickets, new_revenue = summary.total_tickets, summary.total_revenue
    tickets_fall = tickets - new_tickets > TRIFLE and _share(tickets, new_tickets) > max_ratio
    revenue_falls = _tickets_unpaid(summary, stored) > TRIFLE and _share(revenue, new_revenue) > max_ratio
    if not (tickets_fall or revenue_falls):
        return None
    # Where refunds have eaten up most of what was sold, a few more of them are a large share of the rest. What they are
    # measured by is then what is sold.
    sold, earned = _sold(summary)
    if tickets_fall and _share(tickets, new_tickets, sold) > max_ratio:
        return f"tickets of the events that were read fall from {tickets} to {new_tickets}"
    if revenue_falls and _share(revenue, new_revenue, earned) > max_ratio:
        return f"revenue of the events that were read falls from {_text(revenue)} to {_text(new_revenue)}"
    return None


def _share(before: Decimal | int, now: Decimal | int, turnover: Decimal | int = 0) -> float:
    """By which share of what it was (or of the turnover, where that is more) a sum falls; 0 where there was none."""
    if not (Decimal(before).is_finite() and before > 0):
        return 0.0
    return float(Decimal(before - now) / Decimal(max(before, turnover)))


def _tickets_unpaid(summary: Totals, stored: StoredTickets) -> float:
    """To how many tickets, at the average price, a fall in revenue comes, besides those that are gone themselves."""
    lost = min(_share(stored.revenue, summary.total_revenue), 1.0)
    return stored.in_scope * lost - max(stored.in_scope - summary.total_tickets, 0)


def _sold(summary: Totals) -> tuple[int, Decimal]:
    """Tickets and revenue of an event's days on which more was sold than refunded."""
    days = [(tickets, nano) for _, days in summary.groups() for _, tickets, nano in days]
    return sum(max(tickets, 0) for tickets, _ in days), from_nano(sum(max(nano, 0) for _, nano in days))


def _text(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
