"""PostgreSQL itself: backends that end, restarts, fail-over, a full disk, locks, deadlocks, time-outs."""

import threading
from collections.abc import Callable
from contextlib import closing, suppress

import pg8000.native

from tests.doubles import fault_acts as acts
from tests.doubles.moments import KEPT, POSTGRES
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play

SHORT_LOCK_SECONDS = 0.5
_KEPT = tuple(name for name, moment in KEPT.items() if moment.place == "postgres")
_EVERY = {"postgres": tuple(POSTGRES), "kept": _KEPT}
_STATEMENTS = {"postgres": tuple(name for name in POSTGRES if name != "connect"), "kept": _KEPT}
_LOCKED = {
    "lease": "etl_lease",
    "bury": "etl_runs",
    "guard-tickets": "event_sales_summary",
    "upsert-daily": "daily_ticket_sales",
    "upsert-summary": "event_sales_summary",
    "seal": "etl_lease",
    "renew": "etl_lease",
    "give-back": "etl_lease",
}
_DEADLOCKS = {
    "upsert-summary": ("event_sales_summary", "daily_ticket_sales"),
    "seal": ("etl_lease", "event_sales_summary"),
}
"""What somebody else has locked, and what they ask for then, which the run holds."""


def _terminate(play: Play) -> None:
    bed = play.bench.bed
    play.trap_work(lambda: bed.postgres.terminate_backends(bed.database))


def _restart(play: Play) -> None:
    mode = play.dice.choice(["fast", "immediate"])
    play.trap_work(lambda: play.bench.bed.postgres.restart(mode))


def _fail_over(play: Play) -> None:
    """To a replica: every connection ends, and what comes next may only read."""
    bed = play.bench.bed

    def demote() -> None:
        bed.postgres.run(f'ALTER DATABASE "{bed.database}" SET default_transaction_read_only = on')
        bed.postgres.terminate_backends(bed.database)

    play.undo.callback(lambda: bed.postgres.terminate_backends(bed.database))
    play.undo.callback(lambda: bed.postgres.run(f'ALTER DATABASE "{bed.database}" RESET default_transaction_read_only'))
    play.trap_work(demote)


def _refuse(sqlstate: str, message: str) -> Callable[[Play], None]:
    return lambda play: play.trap(acts.sql_error(sqlstate, message), play.dice.choice([1, 1, None]))


def _session(play: Play) -> pg8000.native.Connection:
    """Somebody else's. It ends with the scenario, also while it waits."""
    bed = play.bench.bed
    session = bed.postgres.connect(bed.database)
    ((pid,),) = session.run("SELECT pg_backend_pid()") or [(0,)]
    play.undo.callback(lambda: bed.postgres.run(f"SELECT pg_terminate_backend({pid}, 5000)"))
    return session


def _lock(play: Play) -> None:
    """Somebody else holds it for a moment, or for longer than the run may wait."""
    play.lasts = play.dice.random() < 0.5

    def lock() -> None:
        session = _session(play)
        session.run("BEGIN")
        mode = "ACCESS EXCLUSIVE" if play.scenario.when == "guard-tickets" else "EXCLUSIVE"  # a reader, and writers
        session.run(f"LOCK TABLE {_LOCKED[play.scenario.when]} IN {mode} MODE")
        if not play.lasts:
            threading.Timer(SHORT_LOCK_SECONDS, session.close).start()

    play.trap_work(lock, pattern=_before_locking(play))


def _before_locking(play: Play) -> str:
    """A statement with parameters locks its tables when it is parsed."""
    is_simple = play.scenario.when.startswith("upsert")
    return play.moment.pattern if is_simple else play.moment.pattern.replace("^", "^parse of ", 1)


def _deadlock(play: Play) -> None:
    held, wanted = _DEADLOCKS[play.scenario.when]

    def cross() -> None:
        session = _session(play)
        # The run's own backend is the one to notice, and so the one to give way.
        session.run("SET deadlock_timeout = '60s'")
        session.run("BEGIN")
        session.run(f"LOCK TABLE {held} IN EXCLUSIVE MODE")
        threading.Thread(target=ask, args=(session,), daemon=True).start()

    def ask(session: pg8000.native.Connection) -> None:
        with suppress(pg8000.native.DatabaseError, pg8000.native.InterfaceError), closing(session):
            session.run(f"LOCK TABLE {wanted} IN EXCLUSIVE MODE")

    play.trap_work(cross, pattern=_before_locking(play))


DATABASE: dict[str, Kind] = {
    "terminate-backend": Kind(_terminate, _EVERY),
    "restart": Kind(_restart, _EVERY),
    "fail-over": Kind(_fail_over, _EVERY, lasts=True),
    "disk-full": Kind(_refuse("53100", "could not extend file: No space left on device"), _STATEMENTS),
    "statement-timeout": Kind(_refuse("57014", "canceling statement due to statement timeout"), _STATEMENTS),
    "lock": Kind(_lock, {"postgres": tuple(_LOCKED)}, needs_tables=True),
    "deadlock": Kind(_deadlock, {"postgres": tuple(_DEADLOCKS)}, needs_tables=True),
}
