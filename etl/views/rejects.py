"""The rejected records that PostgreSQL keeps: why, how many, and one of them whole. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import NotFoundError
from etl.load.postgres.database import transaction
from etl.run.ledger_tables import REJECTED_RECORDS


@dataclass(frozen=True)
class RejectReason:
    """How many different records a reason has, how often they were seen, and the last one's id and keys."""

    dataset: str
    reason: str
    records: int
    times: int
    since: datetime | None
    example_id: int
    example_keys: tuple[str, ...]


@dataclass(frozen=True)
class RejectedRecord:
    """One record as the upstream sent it; `text` is its JSON, or what is kept of it."""

    dataset: str
    reason: str
    run_id: str
    text: str


def read_reasons(engine: sa.Engine, deadline: Deadline) -> list[RejectReason]:
    """By dataset and reason, the most frequent first; none where nothing was ever rejected."""
    with transaction(engine, deadline) as connection:
        if not sa.inspect(connection).has_table(REJECTED_RECORDS.name):
            return []
        return reasons_in(connection)


def reasons_in(connection: sa.Connection) -> list[RejectReason]:
    """The same within a transaction of the caller's."""
    return [
        RejectReason(row.dataset, row.reason, row.records, row.times, row.since, row.id, tuple(row.keys or ()))
        for row in connection.execute(_REASONS)
    ]


def read_record(engine: sa.Engine, record_id: int, deadline: Deadline) -> RejectedRecord:
    """One of them. Raises NotFoundError where there is none with this id."""
    with transaction(engine, deadline) as connection:
        row = None
        if sa.inspect(connection).has_table(REJECTED_RECORDS.name):
            text = sa.func.coalesce(sa.cast(REJECTED_RECORDS.c.record, sa.Text), REJECTED_RECORDS.c.record_text)
            columns = (REJECTED_RECORDS.c.dataset, REJECTED_RECORDS.c.reason, REJECTED_RECORDS.c.run_id, text)
            row = connection.execute(sa.select(*columns).where(REJECTED_RECORDS.c.id == record_id)).first()
    if row is None:
        raise NotFoundError(f"no rejected record has the id {record_id}: `python -m etl rejects` lists their ids")
    return RejectedRecord(*row)


_REASONS = sa.text(
    "SELECT g.*, (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys("
    "CASE WHEN jsonb_typeof(e.record) = 'object' THEN e.record ELSE '{}' END) AS k) AS keys"
    " FROM (SELECT dataset, reason, count(*) AS records, CAST(sum(times_seen) AS bigint) AS times,"
    f" min(first_seen_at) AS since, max(id) AS id FROM {REJECTED_RECORDS.name} GROUP BY dataset, reason) g"
    f" JOIN {REJECTED_RECORDS.name} e ON e.id = g.id ORDER BY g.records DESC, g.dataset, g.reason"
)
