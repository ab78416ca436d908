"""What the ledger in PostgreSQL forgets: runs and rejected records that are too old, a few at each run's end."""

from __future__ import annotations

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.load.postgres.database import transaction
from etl.logs import log_info
from etl.run.ledger_tables import DIGEST, REJECTED_RECORDS, RUNS

MAX_ROWS = 10_000
"""Rows that one run deletes or adopts, at most."""
_ROWS_AT_ONCE = 1_000
"""In one transaction, so that a slow database gets on too."""
_OLD = "clock_timestamp() - make_interval(days => CAST(:days AS integer))"
_ADOPT = sa.text(
    f"WITH early AS (DELETE FROM {REJECTED_RECORDS.name} WHERE id IN (SELECT id FROM {REJECTED_RECORDS.name}"
    " WHERE digest IS NULL LIMIT :rows FOR UPDATE SKIP LOCKED) RETURNING *),"
    f" told AS (SELECT e.run_id, dataset, reason, record, record_text, {DIGEST} AS digest,"
    f" coalesce(finished_at, started_at, now()) AS seen_at FROM early e LEFT JOIN {RUNS.name} USING (run_id)),"
    f" adopted AS (INSERT INTO {REJECTED_RECORDS.name} AS kept"
    " (run_id, dataset, reason, record, record_text, digest, first_seen_at, last_seen_at, times_seen)"
    " SELECT DISTINCT ON (digest) run_id, dataset, reason, record, record_text, digest,"
    " min(seen_at) OVER same, max(seen_at) OVER same, count(*) OVER same"
    f" FROM told WHERE seen_at >= {_OLD} WINDOW same AS (PARTITION BY digest) ORDER BY digest, seen_at DESC"
    " ON CONFLICT (digest) DO UPDATE SET times_seen = kept.times_seen + excluded.times_seen,"
    " first_seen_at = least(kept.first_seen_at, excluded.first_seen_at),"
    " last_seen_at = greatest(kept.last_seen_at, excluded.last_seen_at),"
    " run_id = CASE WHEN kept.last_seen_at < excluded.last_seen_at THEN excluded.run_id ELSE kept.run_id END)"
    f" SELECT count(*), count(*) FILTER (WHERE seen_at < {_OLD}) FROM told"
)
"""An earlier version kept the same reject again at each run: together they become one. Those that are too old go."""
_FORGET_REJECTS = sa.text(
    f"DELETE FROM {REJECTED_RECORDS.name} WHERE id IN (SELECT id FROM {REJECTED_RECORDS.name}"
    f" WHERE last_seen_at < {_OLD} LIMIT :rows FOR UPDATE SKIP LOCKED)"
)
_FORGET_RUNS = sa.text(
    f"DELETE FROM {RUNS.name} WHERE run_id IN (SELECT run_id FROM {RUNS.name} r"
    f" WHERE started_at < {_OLD} AND coalesce(finished_at, started_at) < {_OLD} AND status <> 'running'"
    f" AND NOT EXISTS (SELECT FROM {REJECTED_RECORDS.name} j WHERE j.run_id = r.run_id AND digest IS NULL)"
    f" AND run_id IS DISTINCT FROM (SELECT run_id FROM {RUNS.name} WHERE status = 'success'"
    " ORDER BY finished_at DESC LIMIT 1) LIMIT :rows FOR UPDATE SKIP LOCKED)"
)
"""But for the last success, which the next run is compared with, and those whose rejects have no time of their own.
When a run began its function's clock has told, which may be wrong; when it ended, the database's."""


def forget(engine: sa.Engine, days: int, deadline: Deadline) -> None:
    """Delete runs that ended, and rejected records that were last seen, more than `days` ago."""
    runs = rejects = 0
    for _ in range(MAX_ROWS // _ROWS_AT_ONCE):
        with transaction(engine, deadline) as connection:
            left, bounds = _ROWS_AT_ONCE, {"days": days}
            adopted, too_old = connection.execute(_ADOPT, {**bounds, "rows": left}).one()
            left -= adopted
            deleted = connection.execute(_FORGET_REJECTS, {**bounds, "rows": left}).rowcount
            left -= deleted
            ended = connection.execute(_FORGET_RUNS, {**bounds, "rows": left}).rowcount
            left -= ended
        runs, rejects = runs + ended, rejects + too_old + deleted
        if left or not deadline.left():
            break
    if runs or rejects:
        log_info("ETL old records deleted", runs=runs, rejected_records=rejects, retention_days=days)
