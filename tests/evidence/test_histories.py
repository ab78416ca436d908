"""Whatever the upstream does while it is read, a run publishes right numbers, or nothing: played and judged."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from etl.errors import EtlError, IncompleteExtractError
from etl.extract.seen_ids import SeenIds
from tests import ROOT
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.cursors import Order
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.evidence.histories.judge import declares_total, judge
from tests.evidence.histories.play import play, play_many
from tests.evidence.histories.upstream import History, make_history
from tests.support.store import Store

COUNT = int(os.environ.get("HISTORIES", "300"))
ADDED_TO = ("nothing changes", "inserts", "inserts and edits")
QUIET = History(
    seed=1,
    envelope="veritix",
    total_at=None,
    page_size=2,
    order=Order("id"),
    stable=True,
    ids="number",
    concurrency=1,
    sends_limit=False,
    has_run_before=False,
    events=2,
    sales=5,
    ties=1,
    mix="nothing changes",
    script={},
)


@pytest.fixture
def store(postgres_server: EmbeddedPostgres, database_url: str) -> Store:
    return Store(postgres_server, database_url)


def test_no_history_comes_out_wrong(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Every published run is right and every refused one changes nothing; where rows are only added, most publish."""
    score = play_many(range(COUNT), store)
    with capsys.disabled():
        print("", *score.lines(), sep="\n")
    assert not score.failing, "\n\n".join(score.failing)
    assert score.groups["all"]["masked"] <= 0.02 * COUNT
    for mix in ADDED_TO:
        counts = score.groups[f"({mix}, stable order, total declared)"]
        assert counts["published"] >= 0.8 * counts["played"] > 0, f"{mix}: {counts}"


def test_histories_are_of_every_kind() -> None:
    """A seed makes one history, and the first 300 have all that a history can have, in every envelope's company."""
    histories = [make_history(seed) for seed in range(300)]
    assert histories == [make_history(seed) for seed in range(300)]
    changes = {change.kind for history in histories for changes in history.script.values() for change in changes}
    assert changes == {"insert", "edit", "move", "delete", "add event", "rename event", "drop event"}
    for descending in (True, False):
        keys = {history.order.key for history in histories if history.order and history.order.descending is descending}
        assert keys == {"createdAt", "id", "sale_date"}
    assert {history.envelope for history in histories} == set(ENVELOPES)
    kinds = {(history.shape.ask, declares_total(history.shape), history.stable) for history in histories}
    assert kinds >= {
        (ask, declared, True) for ask in ("", "page", "cursor", "afterCursor") for declared in (True, False)
    }
    assert kinds >= {("page", declared, False) for declared in (True, False)}
    assert {history.page_size for history in histories} == {1, 2, 3, 4, 5, 7}


def add_to(table: str, tickets: str, revenue: str, sign: str) -> str:
    """SQL that takes sale 4 (64 tickets for 16**3 * 10**-9) out of a table, or puts it in again."""
    amounts = f"{tickets} = {tickets} {sign} 64, {revenue} = {revenue} {sign} 0.000004096"
    return f"UPDATE {table} SET {amounts} WHERE {tickets} / 64 % 4 = 1"


def add_sale(sign: str) -> list[str]:
    return [
        add_to("daily_ticket_sales", "tickets_sold", "revenue", sign),
        add_to("event_sales_summary", "total_tickets", "total_revenue", sign),
        "DELETE FROM daily_ticket_sales WHERE tickets_sold = 0",
    ]


HAS_SALE = "tickets_sold / 64 % 4 = 1"
BROKEN: list[Any] = [
    pytest.param(add_sale("-"), ["wrong: 4 of ticket_sales"], id="a sale is dropped"),
    pytest.param(add_sale("+"), ["sale 4 counts 2 times"], id="a sale is doubled"),
    pytest.param(
        [f"UPDATE daily_ticket_sales SET revenue = revenue + 0.000004096 WHERE {HAS_SALE}"],
        ["sale 4 never was in version 2"],
        id="a sale counts as it never was",
    ),
    pytest.param(
        [f"UPDATE daily_ticket_sales SET sale_date = '2026-02-01' WHERE {HAS_SALE}"],
        ["sale 4 never was in version 1", "2026, 2, 1"],
        id="a sale counts on another day",
    ),
    pytest.param(
        ["UPDATE event_sales_summary SET total_tickets = total_tickets + 1 WHERE event_id = 'e0'"],
        ["event e0 has", "should stand there"],
        id="a summary isn't the sum of its days",
    ),
    pytest.param(
        ["DELETE FROM event_sales_summary WHERE event_id = 'e1'"], ["wrong: e1 of events"], id="an event is lost"
    ),
    pytest.param(
        ["UPDATE event_sales_summary SET event_name = 'Event' WHERE event_id = 'e1'"],
        ["wrong: e1 of events", "'Event 1'"],
        id="an event is called as it never was",
    ),
    pytest.param(
        ["DELETE FROM daily_ticket_sales WHERE event_id = 'gone'"], ["'gone'"], id="another event's day is deleted"
    ),
]


@pytest.mark.parametrize(("statements", "faults"), BROKEN)
def test_a_wrong_table_is_found(store: Store, statements: list[str], faults: list[str]) -> None:
    """What a broken reader or loader would leave behind is judged wrong, and what is wrong is named."""
    played, _ = play(QUIET, store)
    assert judge(played, store).verdict == "published"
    store.change(*statements)
    outcome = judge(played, store)
    assert outcome.verdict == "wrong"
    for fault in faults:
        assert fault in "\n".join(outcome.faults)


# Requests 1 and 2 are for the events, 3 to 5 for the sales; sale 5 counts as new where it came after request 3 began.
EXCUSES: list[Any] = [
    pytest.param({}, "wrong", id="pages that can't skip"),
    pytest.param({"can_skip": True}, "wrong", id="nothing happened"),
    pytest.param({"can_skip": True, "disturbed": {4}}, "wrong", id="nothing new makes up for it"),
    pytest.param({"can_skip": True, "came": 3}, "wrong", id="nothing was deleted or moved"),
    pytest.param({"can_skip": True, "came": 3, "disturbed": {2, 5}}, "wrong", id="not while it was read"),
    pytest.param({"can_skip": True, "came": 2, "disturbed": {4}}, "wrong", id="the new one came before"),
    pytest.param({"can_skip": True, "came": 3, "disturbed": {4}}, "masked", id="a new one hides it"),
    pytest.param({"can_skip": True, "slipped": {1: 3}}, "masked", id="one that went before it was counted hides it"),
    pytest.param({"can_skip": True, "slipped": {1: 4}}, "wrong", id="one that went later hides nothing"),
]


@pytest.mark.parametrize(("excuse", "verdict"), EXCUSES)
def test_a_missed_sale_is_wrong_unless_nobody_could_know(store: Store, excuse: dict[str, Any], verdict: str) -> None:
    """Only what was disturbed and made up for within the published reading counts apart."""
    played, _ = play(QUIET, store)
    store.change(*add_sale("-"))
    for seen in played.requests:
        seen.items = [item for item in seen.items or () if item["id"] != 4]  # nor was it served
    excused = replace(
        played,
        can_skip=excuse.get("can_skip", False),
        came={"events": {}, "ticket_sales": {5: excuse.get("came", 0)}},
        disturbed={"events": set(), "ticket_sales": excuse.get("disturbed", set())},
        slipped={"events": {}, "ticket_sales": excuse.get("slipped", {})},
    )
    outcome = judge(excused, store)
    assert (outcome.verdict, outcome.faults) == (verdict, [f"{verdict}: 4 of ticket_sales"])


FAILED: list[Any] = [
    pytest.param(IncompleteExtractError("too few"), [], "refused", id="nothing changed"),
    pytest.param(IncompleteExtractError("too few"), add_sale("-"), "wrong", id="a sale is gone"),
    pytest.param(
        IncompleteExtractError("too few"),
        ["UPDATE event_sales_summary SET event_name = event_name"],
        "wrong",
        id="rows were written again as they were",
    ),
    pytest.param(EtlError("a fault of the program"), [], "wrong", id="it broke down"),
]


@pytest.mark.parametrize(("error", "statements", "verdict"), FAILED)
def test_a_failed_run_has_changed_nothing(store: Store, error: EtlError, statements: list[str], verdict: str) -> None:
    """A run that failed as it may is refused only if the tables are as they were, to the last row version."""
    played, _ = play(QUIET, store)
    failed = replace(played, error=error, before=store.rows())
    store.change(*statements)
    outcome = judge(failed, store)
    assert (outcome.verdict, outcome.code) == (verdict, error.code)


def test_a_reader_that_takes_what_it_gets_is_found(store: Store) -> None:
    """Without the check of the totals (`force`), the same histories come out wrong."""
    score = play_many(range(40), store, force=True)
    assert score.failing
    assert all(
        "\nwrong: " in told and "\npython -m tests.evidence.histories.play --seed " in told for told in score.failing
    )


def test_a_reader_that_counts_repeats_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without de-duplication, the same histories come out wrong."""
    monkeypatch.setattr(SeenIds, "add", lambda *_: None)
    score = play_many(range(40), store, force=True)
    assert score.failing
    assert any("counts 2 times" in told for told in score.failing)


SHELL: list[Any] = [
    pytest.param(
        ["--count", "2"], [r"histories +played +published +refused +missed +masked +wrong\n", r"\nall +2 "], id="2"
    ),
    pytest.param(["--seed", "3"], [r"^History\(seed=3, ", r"\nticket_sales, page 1 of ", r"\npublished"], id="one"),
]


@pytest.mark.parametrize(("arguments", "shown"), SHELL)
def test_from_a_shell(arguments: list[str], shown: list[str]) -> None:
    """The command plays as many as it should and prints the table; of a single one it prints all that happened."""
    command = [sys.executable, "-m", "tests.evidence.histories.play", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(pattern, done.stdout) for pattern in shown), done.stdout
