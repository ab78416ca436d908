"""What must hold before anything is loaded. Pure; each raises the error that says what was wrong."""

from __future__ import annotations

import json

from etl.errors import SchemaDriftError, SuspiciousExtractError, TooManyRejectsError
from etl.extract import Tally
from etl.items import KEYS_SHOWN, shown_keys
from etl.records import CANDIDATES, UNREADABLE, EventItem, SaleItem
from etl.stores import StoredTickets
from etl.transform import Summary

OVERRIDE = "If that is right, run once with force=true."
_ITEM_TYPES: dict[str, type[EventItem] | type[SaleItem]] = {"events": EventItem, "ticket_sales": SaleItem}


def check_rejects(tally: Tally, max_ratio: float) -> None:
    """Raise TooManyRejectsError where too large a share of what was read can't be used, or has no readable date."""
    unusable = tally.rejected + tally.dates[UNREADABLE]
    if not tally.read or unusable / tally.read <= max_ratio:
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


def check_schema(tally: Tally, found_before: dict[str, str]) -> None:
    """Raise SchemaDriftError where a field that the last successful run found is in no record any more."""
    if not tally.accepted and not tally.rejected:
        return
    lost = {name: key for name, key in found_before.items() if name in fields_not_found(tally)}
    if not lost:
        return
    shown = ", ".join(f"{name} (it was under {key!r})" for name, key in lost.items())
    raise SchemaDriftError(
        f"{tally.dataset}: no record has {shown} any more; the records now have {', '.join(tally.keys_seen)}. If a key "
        f"was renamed, name it back or add it to the candidates. {OVERRIDE}",
        dataset=tally.dataset,
        fields_lost=lost,
        keys_seen=tally.keys_seen,
    )


def check_shrink(summary: Summary, tallies: dict[str, Tally], stored: StoredTickets, max_ratio: float) -> None:
    """Raise SuspiciousExtractError where far less comes than the store has: an empty answer, or half of one."""
    empty = [name for name, tally in tallies.items() if not tally.accepted]
    if empty and stored.total > 0:
        raise SuspiciousExtractError(
            f"the upstream sent no {' and no '.join(empty)}, and the store has {stored.total} tickets. Look at the "
            f"upstream. {OVERRIDE}",
            stored_tickets=stored.total,
            new_tickets=summary.total_tickets,
        )
    if stored.in_scope > 0 and (stored.in_scope - summary.total_tickets) / stored.in_scope > max_ratio:
        raise SuspiciousExtractError(
            f"the tickets of the events that were read fall from {stored.in_scope} to {summary.total_tickets}, by more "
            f"than ETL_MAX_SHRINK_RATIO={max_ratio:g} allows. Look at the upstream. {OVERRIDE}",
            stored_tickets=stored.in_scope,
            new_tickets=summary.total_tickets,
        )
