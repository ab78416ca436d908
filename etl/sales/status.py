"""How the kept sales stand, for whoever looks: it makes nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.load.postgres.database import transaction
from etl.sales.postgres import read_state
from etl.sales.state import SalesState
from etl.sales.tables import PENDING, STATE


@dataclass(frozen=True)
class SalesStatus:
    """The state, and by store how many groups and events that store may not hold yet; None: all of them."""

    state: SalesState
    pending: dict[str, int | None]


def read_sales_status(engine: sa.Engine, stores: Iterable[str], deadline: Deadline) -> SalesStatus | None:
    """The status for these stores; None where no sale has been kept yet. Raises as `transaction` does."""
    with transaction(engine, deadline) as connection:
        return status_in(connection, stores) if sa.inspect(connection).has_table(STATE.name) else None


def status_in(connection: sa.Connection, stores: Iterable[str]) -> SalesStatus | None:
    """The same within a transaction of the caller's, where the tables are there."""
    state = read_state(connection)
    if state is None:
        return None
    counted = sa.select(PENDING.c.store, sa.func.count().label("groups")).group_by(PENDING.c.store)
    pending = {row.store: row.groups for row in connection.execute(counted)}
    return SalesStatus(state, {store: pending.get(store, 0) if state.holds(store) else None for store in stores})
