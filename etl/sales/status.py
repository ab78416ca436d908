"""How the kept sales stand, for whoever looks: it makes nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

from etl.deadline import Deadline
from etl.sales.state import SalesState
from etl.settings import Settings

Groups = Sequence[tuple[str, date | None]]
"""Events' days, or events as a whole."""


@dataclass(frozen=True)
class SalesStatus:
    """The state, and by store how many groups and events that store may not hold yet; None: all of them."""

    state: SalesState
    pending: dict[str, int | None]


def sales_status(settings: Settings, state: SalesState, pending: Mapping[str, int]) -> SalesStatus:
    """The status of the stores in the settings, from what is counted as pending in them."""
    counted = {store: pending.get(store, 0) if state.holds(store) else None for store in settings.stores}
    return SalesStatus(state, counted)


def read_sales_status(settings: Settings, deadline: Deadline) -> SalesStatus | None:
    """The status; None where no sale has been kept yet. Raises StoreUnavailableError where the store refuses."""
    if settings.etl_sales_store == "none":
        return None
    if settings.etl_sales_store == "bigquery":
        from etl.sales.bigquery.store import read_status

        return read_status(settings, deadline)
    from etl.load.postgres.database import engine_for, transaction
    from etl.sales.postgres.store import status_in

    with transaction(engine_for(settings), deadline) as connection:
        return status_in(connection, settings)


def mark_pending(settings: Settings, groups: Groups, deadline: Deadline) -> None:
    """Note that no store may hold these events' days (None: their totals), so that the next run publishes them."""
    if settings.etl_sales_store == "bigquery":
        from etl.sales.bigquery.store import BigQuerySales

        BigQuerySales(settings, deadline, f"heal-{uuid4().hex[:8]}").mark_pending(groups)
        return
    from etl.load.postgres.database import engine_for
    from etl.sales.postgres.publication import mark_pending_in

    mark_pending_in(engine_for(settings), groups, settings.stores, deadline)
