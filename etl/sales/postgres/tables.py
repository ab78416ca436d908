"""The tables of kept sales in PostgreSQL, as data."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

metadata = sa.MetaData()
_TIME = sa.DateTime(timezone=True)
_KEY = sa.Text(collation="C")
"""Ids are compared byte by byte: quicker, and the same in any locale."""

TICKET_SALES = sa.Table(
    "etl_ticket_sales",
    metadata,
    # In an order that leaves no gaps between the columns.
    sa.Column("changed_at", _TIME),
    sa.Column("asked_at", _TIME, nullable=False),
    sa.Column("quantity", sa.BigInteger),
    sa.Column("sale_date", sa.Date),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("is_undated", sa.Boolean, nullable=False),
    sa.Column("sale_id", _KEY, primary_key=True),
    sa.Column("event_id", _KEY),
    sa.Column("amount", sa.Numeric(38, 9)),
    sa.Column("reason", sa.Text),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
    postgresql_with={"fillfactor": 95},
)
"""Every sale of the upstream's list. One with a `reason` can't be used, and is in no sum. `asked_at` is when the answer
it came in was asked for, by this function's clock."""
sa.Index(
    "etl_ticket_sales_groups",
    TICKET_SALES.c.event_id,
    TICKET_SALES.c.sale_date,
    postgresql_where=TICKET_SALES.c.reason.is_(None),
)
EVENTS = sa.Table(
    "etl_events",
    metadata,
    sa.Column("event_id", _KEY, primary_key=True),
    sa.Column("event_name", sa.Text),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)
"""The events that the upstream lists."""
PENDING = sa.Table(
    "etl_pending_groups",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("event_id", _KEY, primary_key=True),
    sa.Column("sale_date", sa.Date, primary_key=True),
    info={"rights": "SELECT, INSERT, DELETE"},
)
"""What a store may not hold yet: an event's day or, with the day `-infinity`, its name and totals alone."""
SWEPT = sa.Table(
    "etl_swept_sales",
    metadata,
    sa.Column("sweep", sa.BigInteger, nullable=False),
    sa.Column("hashes", ARRAY(sa.BigInteger), nullable=False),
    info={"rights": "SELECT, INSERT, DELETE"},
)
"""The sales that a sweep has seen, as 8 bytes each: written into the sales themselves they would cost a hundred times
that in the write-ahead log."""
MISSED = sa.Table(
    "etl_missed_sales",
    metadata,
    sa.Column("sale_id", _KEY, primary_key=True),
    sa.Column("misses", sa.Integer, nullable=False),
    info={"rights": "SELECT, INSERT, DELETE"},
)
"""The sales that the last sweeps haven't seen, and by how many in a row."""
STATE = sa.Table(
    "etl_sales_state",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    info={"rights": "SELECT, INSERT, UPDATE"},
)
"""One row: what is remembered from run to run."""
