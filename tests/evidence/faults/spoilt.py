"""What can be wrong after a scenario, made on the real parts for a while; and the words in which the judge tells it."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.evidence.faults.bench import TABLES
from tests.evidence.faults.instances import IDLE_THREADS
from tests.evidence.faults.play import Answered, Play
from tests.support.testbed import PASSWORD, TOKEN

Spoil = Callable[[Play], AbstractContextManager[object]]
"""Makes something wrong for a while."""
OLD_TABLES = (
    "ALTER TABLE {0} RENAME TO kept_{0}; CREATE TABLE {0} AS TABLE saved.{0}",
    "DROP TABLE {0}; ALTER TABLE kept_{0} RENAME TO {0}",
)
ROW = "WHERE (event_id, sale_date) = (SELECT event_id, sale_date FROM daily_ticket_sales ORDER BY 1, 2 LIMIT 1)"


def sql(*statements: str) -> Spoil:
    """One spoils something in PostgreSQL, the other mends it. `{run}` is the run's id."""

    @contextmanager
    def spoil(played: Play) -> Iterator[None]:
        run = played.answers[0].body["run_id"]
        spoiling, mending = (statement.replace("{run}", run) for statement in statements)
        played.bench.bed.sql(spoiling)
        yield
        played.bench.bed.sql(mending)

    return spoil


def answered(**fields: Any) -> Spoil:
    """One more answer."""

    @contextmanager
    def spoil(played: Play) -> Iterator[None]:
        played.answers.append(Answered(**{"seconds": 1.0, "status": 200, **fields}))
        yield
        played.answers.pop()

    return spoil


@contextmanager
def another_sum_in_bigquery(played: Play) -> Iterator[None]:
    for sign in ("+", "-"):
        table = f"{played.bench.bed.dataset}.event_sales_summary"
        played.bench.bed.bigquery.query_and_wait(
            f"UPDATE {table} SET total_tickets = total_tickets {sign} 1 WHERE TRUE", wait_timeout=30
        )
        if sign == "+":
            yield


@contextmanager
def password_in_the_log(played: Play) -> Iterator[None]:
    log = Path(f"/proc/{played.function.process.pid}/fd/2").resolve()
    size = log.stat().st_size
    with log.open("a") as stderr:
        stderr.write(f"login with {PASSWORD} failed\n")
    yield
    os.truncate(log, size)


@contextmanager
def token_sent_elsewhere(played: Play) -> Iterator[None]:
    elsewhere = played.bench.elsewhere
    requests.get(elsewhere.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    yield
    elsewhere.log.clear()


@contextmanager
def open_transaction(played: Play) -> Iterator[None]:
    bed = played.bench.bed
    with closing(bed.postgres.connect(bed.database)) as session:
        session.run("BEGIN")
        yield


@contextmanager
def temporary_file(played: Play) -> Iterator[None]:
    left = played.bench.instances.temporary("direct") / "left"
    left.touch()
    yield
    left.unlink()


@contextmanager
def staging_for_ever(played: Play) -> Iterator[None]:
    bed = played.bench.bed
    name = f"{bed.dataset}.etl_staging_x"
    bed.bigquery.query_and_wait(f"CREATE TABLE {name} (n INT64)", wait_timeout=30)
    yield
    bed.bigquery.delete_table(name, timeout=30)


@contextmanager
def more_threads(_: Play) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IDLE_THREADS, "direct", 3)
        yield


@contextmanager
def fault_that_never_came(played: Play) -> Iterator[None]:
    is_met, played.is_met = played.is_met, lambda: False
    yield
    played.is_met = is_met


@contextmanager
def no_success(played: Play) -> Iterator[None]:
    answers, played.answers = played.answers, [Answered(1.0, 503)]
    yield
    played.answers = answers


SPOILT: dict[str, tuple[Spoil, str]] = {
    "a row of another day": (
        sql(
            f"UPDATE daily_ticket_sales SET revenue = revenue + 1 {ROW}",
            f"UPDATE daily_ticket_sales SET revenue = revenue - 1 {ROW}",
        ),
        "postgres holds neither the old nor the new data",
    ),
    "one new table and one old": (
        sql(*(statement.format("daily_ticket_sales") for statement in OLD_TABLES)),
        "postgres holds neither the old nor the new data",
    ),
    "a loaded store with old data": (
        sql(*("; ".join(statement.format(table) for table in TABLES) for statement in OLD_TABLES)),
        "postgres is said to be loaded, and holds the old data",
    ),
    "another sum in BigQuery": (another_sum_in_bigquery, "bigquery holds neither the old nor the new data"),
    "a token in the ledger": (
        sql(f"UPDATE etl_runs SET error_text = 'Bearer {TOKEN}'", "UPDATE etl_runs SET error_text = NULL"),
        f"'{TOKEN}' stands in the ledger",
    ),
    "a password in the log": (password_in_the_log, "stands in the stderr of direct"),
    "a token in an answer": (answered(text=f"GET failed: {TOKEN}"), f"'{TOKEN}' stands in the answer 2"),
    "a stack trace in an answer": (answered(text="Traceback (most recent"), "a stack trace stands in the answer 2"),
    "a token sent elsewhere": (token_sent_elsewhere, f"'{TOKEN}' stands in the request to another server"),
    "no answer": (answered(status=None), "a call got no answer"),
    "no success where nothing kept a run from it": (no_success, "no run succeeded"),
    "an error of the program": (answered(body={"code": "internal_error"}), "an error that isn't ours"),
    "a run that took too long": (answered(seconds=11.1), r"a run took 11\.1 s"),
    "a run that the ledger calls failed": (
        sql(
            "UPDATE etl_runs SET status = 'failed', error_code = 'load_failed' WHERE run_id = '{run}'",
            "UPDATE etl_runs SET status = 'success', error_code = NULL WHERE run_id = '{run}'",
        ),
        "answered success, and the ledger says failed load_failed",
    ),
    "a run that the ledger doesn't know": (
        answered(body={"run_id": "r0"}),
        "run r0 answered success, and the ledger has never heard of it",
    ),
    "a run that is counted twice": (
        sql("UPDATE etl_job_counts SET runs = runs + 1", "UPDATE etl_job_counts SET runs = runs - 1"),
        "runs are counted as success, and the ledger has",
    ),
    "a lease that is kept": (
        sql("UPDATE etl_lease SET run_id = '{run}'", "UPDATE etl_lease SET run_id = NULL"),
        "has answered, and still holds the lease",
    ),
    "an open transaction": (open_transaction, r"a transaction is open \(idle in transaction\): BEGIN"),
    "a temporary file": (temporary_file, "temporary files are left: .*/left"),
    "more threads": (more_threads, "direct has . threads more than 3"),
    "staging that stays": (staging_for_ever, "staging table etl_staging_x has no expiry"),
    "a fault that never came": (fault_that_never_came, "the moment of the fault never came"),
}
