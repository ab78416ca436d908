"""The ledger's tables in PostgreSQL, as data."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

COUNTS = (
    "events_count",
    "sales_count",
    "duplicates_count",
    "rejected_count",
    "undated_count",
    "event_summary_count",
    "daily_sales_count",
)
"""What report, ledger and log say of a run alike."""

metadata = sa.MetaData()
_TIME = sa.DateTime(timezone=True)
_READ_AND_WRITE = "SELECT, INSERT, UPDATE"
RUNS = sa.Table(
    "etl_runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("started_at", _TIME, nullable=False, index=True),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("finished_at", _TIME),
    sa.Column("duration_seconds", sa.Double),
    *(sa.Column(name, sa.BigInteger) for name in COUNTS),
    *(sa.Column(name, sa.Text) for name in ("postgres_status", "bigquery_status", "error_code", "error_text")),
    sa.Column("fields_found", JSONB),
    info={"rights": f"{_READ_AND_WRITE}, DELETE"},
)
JOB_COUNTS = sa.Table(
    "etl_job_counts",
    metadata,
    sa.Column("status", sa.Text, primary_key=True),
    sa.Column("runs", sa.BigInteger, nullable=False),
    info={"rights": _READ_AND_WRITE},
)
"""How many runs have ended in each way, those that are deleted by now too. Written with the run's row."""
REJECTED_RECORDS = sa.Table(
    "etl_rejected_records",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("record", JSONB),
    sa.Column("record_text", sa.Text),
    sa.Column("digest", sa.Text, unique=True, index=True),
    sa.Column("first_seen_at", _TIME),
    sa.Column("last_seen_at", _TIME, index=True),
    sa.Column("times_seen", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    info={"rights": f"{_READ_AND_WRITE}, DELETE"},
)
"""Each reject once; `run_id` is the last run that has seen it. Those of an earlier version have no `digest` and no
times until a run's end comes to them."""
LEASE = sa.Table(
    "etl_lease",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("run_id", sa.Text),
    sa.Column("expires_at", _TIME, nullable=False),
    info={"rights": _READ_AND_WRITE},
)
DIGEST = (
    "encode(sha256(convert_to("
    "concat_ws(chr(10), dataset, reason, coalesce(record::text, record_text)), 'UTF8')), 'hex')"
)
"""What makes two rejects the same: dataset, reason and record, as they are stored."""
