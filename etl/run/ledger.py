"""The run ledger and the lease: one row a run, one run at a time, and a fencing token that outdates old runners."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from etl.deadline import Deadline
from etl.errors import AlreadyRunningError
from etl.extract.items import CUT
from etl.extract.tally import MAX_REJECTS_KEPT, RejectedItem
from etl.load.postgres.database import engine_for, sqlstate_of, storable, transaction
from etl.load.postgres.upgrade import upgrade
from etl.run.ledger_tables import DIGEST, JOB_COUNTS, LEASE, REJECTED_RECORDS, RUNS, metadata
from etl.run.retention import forget
from etl.settings import Settings

LEASE_SECONDS = 90
RENEW_SECONDS = 20
_LEASE_NAME = "etl"

FieldsFound = dict[str, dict[str, Any]]
"""Dataset -> field -> what was found of it, as JSON (see `guards.FieldFound`)."""


@dataclass
class Run:
    """A row of `etl_runs`. Times are in UTC; `status` is `running`, `success`, `reading` or `failed`."""

    run_id: str
    started_at: datetime
    trigger: str
    status: str = "running"
    finished_at: datetime | None = None
    duration_seconds: float | None = None
    events_count: int | None = None
    sales_count: int | None = None
    duplicates_count: int | None = None
    rejected_count: int | None = None
    undated_count: int | None = None
    event_summary_count: int | None = None
    daily_sales_count: int | None = None
    postgres_status: str | None = None
    bigquery_status: str | None = None
    error_code: str | None = None
    error_text: str | None = None
    fields_found: FieldsFound = field(default_factory=dict)


@dataclass(frozen=True)
class RunTotals:
    """What the metrics are made of: runs by status, the last run that ended, the last that succeeded."""

    by_status: dict[str, int]
    last: Run | None
    last_success: Run | None


class Ledger(Protocol):
    """What the pipeline asks of a ledger, wherever it is kept."""

    def start(self, run: Run, deadline: Deadline) -> None:
        """Take the lease and write the run's row. Raises AlreadyRunningError while another run holds it."""

    def renew(self, deadline: Deadline) -> None:
        """Hold the lease for another 90 s. Raises AlreadyRunningError where another run has taken it over."""

    def hold(self, connection: sa.Connection) -> None:
        """Last in a transaction that writes no run's row: raise unless the lease is still this run's."""

    def seal(self, connection: sa.Connection, run: Run) -> None:
        """Last in the transaction of a load: write the run's row, and raise unless the lease is still this run's."""

    def finish(self, run: Run, rejects: Sequence[RejectedItem], deadline: Deadline) -> None:
        """Give the lease back, write how the run ended, unless that was written before, and what it rejected.

        However often it is asked, the run counts once, and so does each of its rejects.
        """

    def forget(self, days: int, deadline: Deadline) -> None:
        """Once the run has ended: delete runs that ended, and rejected records last seen, more than `days` ago."""

    def last_runs(self, limit: int, deadline: Deadline) -> list[Run]:
        """The last runs, newest first."""

    def totals(self, deadline: Deadline) -> RunTotals:
        """What the metrics are made of."""


_CLOCK = sa.func.clock_timestamp()
_EXPIRY = _CLOCK + sa.text(f"interval '{LEASE_SECONDS} seconds'")


class PostgresLedger:
    """The ledger in PostgreSQL. One object a run; all times are the database's clock."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._fence: int | None = None
        self._owes_rejects = False
        """Whether this run's end was written by it, also where the answer to that got lost, and its rejects weren't."""

    def start(self, run: Run, deadline: Deadline) -> None:
        with transaction(self._engine, deadline) as connection:
            upgrade(connection, metadata)
            self._fence = self._take_lease(connection, run)
            connection.execute(_CATCH_UP)
            self._bury_dead_runs(connection)
            connection.execute(sa.insert(RUNS).values(**asdict(run)))

    def _take_lease(self, connection: sa.Connection, run: Run) -> int:
        statement = insert(LEASE).values(name=_LEASE_NAME, fence=1, run_id=run.run_id, expires_at=_EXPIRY)
        fence = connection.execute(
            statement.on_conflict_do_update(
                index_elements=[LEASE.c.name],
                set_={"fence": LEASE.c.fence + 1, "run_id": run.run_id, "expires_at": _EXPIRY},
                where=LEASE.c.run_id.is_(None) | (LEASE.c.expires_at <= _CLOCK),
            ).returning(LEASE.c.fence)
        ).scalar_one_or_none()
        if fence is None:
            holder = connection.execute(sa.select(LEASE.c.run_id).where(LEASE.c.name == _LEASE_NAME)).scalar_one()
            raise AlreadyRunningError(
                f"run {holder} is under way: wait for it. If its process was killed, its lease runs out within "
                f"{LEASE_SECONDS} s.",
                holder=holder,
            )
        return int(fence)

    @staticmethod
    def _bury_dead_runs(connection: sa.Connection) -> None:
        """Whoever holds the lease knows that every other run that is still `running` is dead."""
        buried = connection.execute(
            sa.update(RUNS)
            .where(RUNS.c.status == "running")
            .values(
                status="failed",
                finished_at=_CLOCK,
                error_code="terminated",
                error_text="its process was killed: it ended without a word, and its lease ran out",
            )
        ).rowcount
        if buried:
            _count(connection, "failed", buried)

    def renew(self, deadline: Deadline) -> None:
        with transaction(self._engine, deadline) as connection:
            renewed = connection.execute(sa.update(LEASE).where(*self._is_mine()).values(expires_at=_EXPIRY))
            if renewed.rowcount == 0:
                raise self._lost()

    def hold(self, connection: sa.Connection) -> None:
        # At the end of the transaction, as a newer runner waits for this row: it is then either committed, or none.
        # The lease comes before the run's row everywhere, so that no two of these wait for each other.
        held = connection.execute(sa.select(LEASE.c.fence).where(*self._is_mine()).with_for_update()).first()
        if held is None:
            raise self._lost()

    def seal(self, connection: sa.Connection, run: Run) -> None:
        self.hold(connection)
        self._write(connection, run)

    def finish(self, run: Run, rejects: Sequence[RejectedItem], deadline: Deadline) -> None:
        if self._fence is None:  # it never began
            return
        with transaction(self._engine, deadline) as connection:
            connection.execute(sa.update(LEASE).where(*self._is_mine()).values(run_id=None, expires_at=_CLOCK))
            self._owes_rejects = self._write(connection, run) or self._owes_rejects
        if self._owes_rejects and rejects:
            with transaction(self._engine, deadline) as connection:
                _keep_rejects(connection, run.run_id, rejects[:MAX_REJECTS_KEPT])
            self._owes_rejects = False

    def forget(self, days: int, deadline: Deadline) -> None:
        if self._fence is None:  # it never began
            return
        forget(self._engine, days, deadline)

    def last_runs(self, limit: int, deadline: Deadline) -> list[Run]:
        with transaction(self._engine, deadline) as connection:
            if not sa.inspect(connection).has_table(RUNS.name):
                return []
            rows = connection.execute(sa.select(RUNS).order_by(RUNS.c.started_at.desc()).limit(limit))
            return [_run(row) for row in rows.mappings()]

    def totals(self, deadline: Deadline) -> RunTotals:
        with transaction(self._engine, deadline) as connection:
            if not sa.inspect(connection).has_table(RUNS.name):
                return RunTotals({}, None, None)
            newest = sa.select(RUNS).order_by(RUNS.c.finished_at.desc()).limit(1)
            last = connection.execute(newest.where(RUNS.c.finished_at.is_not(None))).mappings().first()
            success = connection.execute(newest.where(RUNS.c.status == "success")).mappings().first()
            return RunTotals(
                _counts(connection),
                _run(last) if last else None,
                _run(success) if success else None,
            )

    def _write(self, connection: sa.Connection, run: Run) -> bool:
        """Whether the row was still this runner's to write."""
        values = {name: value for name, value in asdict(run).items() if name != "run_id"}
        if run.error_text is not None:
            values["error_text"] = storable(connection, run.error_text)
        if run.finished_at is not None:
            values["finished_at"] = _CLOCK
        mine = sa.update(RUNS).where(RUNS.c.run_id == run.run_id, RUNS.c.status == "running")
        is_written = connection.execute(mine.values(**values)).rowcount > 0
        if is_written and run.status != "running":
            _count(connection, run.status, 1)
        return is_written

    def _is_mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return LEASE.c.name == _LEASE_NAME, LEASE.c.fence == self._fence, LEASE.c.run_id.is_not(None)

    @staticmethod
    def _lost() -> AlreadyRunningError:
        return AlreadyRunningError(
            "this run's lease was given back or taken over by a newer run; nothing more is written by this one"
        )


def runs_and_last_success(connection: sa.Connection, limit: int) -> list[Run]:
    """The last runs, and the last success if it isn't among them; newest first. The table must be there."""
    newest = sa.select(RUNS.c.run_id).order_by(RUNS.c.started_at.desc()).limit(limit)
    success = sa.select(RUNS.c.run_id).where(RUNS.c.status == "success").order_by(RUNS.c.finished_at.desc()).limit(1)
    wanted = RUNS.c.run_id.in_(newest) | RUNS.c.run_id.in_(success)
    rows = connection.execute(sa.select(RUNS).where(wanted).order_by(RUNS.c.started_at.desc()))
    return [_run(row) for row in rows.mappings()]


def _run(row: Any) -> Run:
    return Run(**{**row, "fields_found": row["fields_found"] or {}})


_CATCH_UP = sa.text(
    f"INSERT INTO {JOB_COUNTS.name} AS counted (status, runs)"
    f" SELECT status, count(*) FROM {RUNS.name} WHERE status <> 'running' GROUP BY status"
    " ON CONFLICT (status) DO UPDATE SET runs = excluded.runs WHERE counted.runs < excluded.runs"
)
"""Runs of an earlier version, which counted none."""


def _count(connection: sa.Connection, status: str, runs: int) -> None:
    """Count runs that end, in the transaction that says so in their rows."""
    counted = insert(JOB_COUNTS).values(status=status, runs=runs)
    more = {"runs": JOB_COUNTS.c.runs + runs}
    connection.execute(counted.on_conflict_do_update(index_elements=[JOB_COUNTS.c.status], set_=more))


def _counts(connection: sa.Connection) -> dict[str, int]:
    """Runs by how they ended; while nothing has been counted yet, what `_CATCH_UP` will find."""
    if sa.inspect(connection).has_table(JOB_COUNTS.name):
        counted = connection.execute(sa.select(JOB_COUNTS.c.status, JOB_COUNTS.c.runs)).all()
        if counted:
            return {row.status: row.runs for row in counted}
    ended = sa.select(RUNS.c.status, sa.func.count().label("runs")).where(RUNS.c.status != "running")
    return {row.status: row.runs for row in connection.execute(ended.group_by(RUNS.c.status))}


_KEEP = sa.text(
    f"INSERT INTO {REJECTED_RECORDS.name} AS kept"
    " (run_id, dataset, reason, record, record_text, digest, first_seen_at, last_seen_at, times_seen)"
    " SELECT :run_id, dataset, reason, record, record_text, digest, now(), now(), times FROM ("
    " SELECT DISTINCT ON (digest) *, count(*) OVER (PARTITION BY digest) AS times FROM ("
    f" SELECT number, dataset, reason, record::jsonb, record_text, {DIGEST} AS digest FROM ("
    " SELECT number, dataset, reason, record::jsonb, record_text FROM json_to_recordset(CAST(:rows AS json))"
    " AS r(number int, dataset text, reason text, record text, record_text text)) AS sent) AS told"
    " ORDER BY digest, number) AS distinct_ones ORDER BY number"
    " ON CONFLICT (digest) DO UPDATE SET run_id = excluded.run_id, last_seen_at = excluded.last_seen_at,"
    " times_seen = kept.times_seen + excluded.times_seen WHERE kept.run_id <> excluded.run_id"
)
"""A reject that is there already becomes this run's; not a second time, where the first answer was lost."""
_READ_JSON = sa.text("SELECT CAST(:value AS jsonb)")


def _keep_rejects(connection: sa.Connection, run_id: str, rejects: Sequence[RejectedItem]) -> None:
    """Write the rejected records: as jsonb, or as text where jsonb can't hold them.

    It can't hold NUL, lone surrogates, 1e999999, and what the database's encoding lacks.
    """
    rows = [
        {"number": number, "dataset": r.dataset, "reason": r.reason, **_record(r.text)}
        for number, r in enumerate(rejects)
    ]
    if not _holds(connection, _KEEP, **_told(run_id, rows)):
        connection.execute(_KEEP, _told(run_id, [_as_held(connection, row) for row in rows]))


def _told(run_id: str, rows: list[dict[str, Any]]) -> dict[str, str]:
    return {"run_id": run_id, "rows": json.dumps(rows, ensure_ascii=False)}


def _as_held(connection: sa.Connection, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its record in the first form that the database can hold."""
    if row["record"] is not None and _holds(connection, _READ_JSON, value=row["record"]):
        return row
    text: str = row["record_text"] or row["record"]
    return {**row, "record": None, "record_text": storable(connection, text)}


def _holds(connection: sa.Connection, statement: sa.TextClause, **values: Any) -> bool:
    """Whether the database can hold what it is given; if so, the statement is done."""
    try:
        with connection.begin_nested():
            connection.execute(statement, values)
    except sa.exc.DBAPIError as error:
        # Class 22: the data. pg8000 has no exception class of its own for it.
        if (sqlstate_of(error) or "").startswith("22"):
            return False
        raise
    return True


def _record(text: str) -> dict[str, str | None]:
    # Bytes that weren't UTF-8 (lone surrogates here) can't be in any text of PostgreSQL: show them as \xNN.
    readable = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    name = "record_text" if text.endswith(CUT) else "record"
    return {"record": None, "record_text": None, name: readable}


class MemoryLedger:
    """The ledger of a process that has no PostgreSQL: the last runs, one at a time in this instance."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._counts: dict[str, int] = {}
        self._holder: str | None = None

    def start(self, run: Run, deadline: Deadline) -> None:
        with self._lock:
            if self._holder is not None:
                raise AlreadyRunningError(f"run {self._holder} is under way: wait for it", holder=self._holder)
            self._holder = run.run_id
            self._runs[run.run_id] = run
            while len(self._runs) > self._limit:
                del self._runs[next(iter(self._runs))]

    def renew(self, deadline: Deadline) -> None:
        """Nothing to renew: the lease ends with the process."""

    def hold(self, connection: sa.Connection) -> None:
        """There is no PostgreSQL to hold it in."""

    def seal(self, connection: sa.Connection, run: Run) -> None:
        """Never asked: without PostgreSQL there is no such transaction."""

    def finish(self, run: Run, rejects: Sequence[RejectedItem], deadline: Deadline) -> None:
        with self._lock:
            if self._holder == run.run_id:
                self._holder = None
                self._runs[run.run_id] = run
                run.finished_at = run.finished_at or datetime.now(UTC)
                self._counts[run.status] = self._counts.get(run.status, 0) + 1

    def forget(self, days: int, deadline: Deadline) -> None:
        """Nothing to delete: it keeps the last runs only."""

    def last_runs(self, limit: int, deadline: Deadline) -> list[Run]:
        with self._lock:
            return list(self._runs.values())[: -limit - 1 : -1]

    def totals(self, deadline: Deadline) -> RunTotals:
        with self._lock:
            ended = [run for run in self._runs.values() if run.finished_at is not None]
        successes = [run for run in ended if run.status == "success"]
        return RunTotals(dict(self._counts), ended[-1] if ended else None, successes[-1] if successes else None)


_in_process = MemoryLedger()


def ledger_of(settings: Settings) -> Ledger:
    """The ledger that these settings lead to."""
    return ledger_for(engine_for(settings) if settings.uses_postgres else None)


def ledger_for(engine: sa.Engine | None) -> Ledger:
    """A ledger for one run: in PostgreSQL, or this process's own where there is none."""
    return _in_process if engine is None else PostgresLedger(engine)
