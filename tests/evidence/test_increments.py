"""Whatever the upstream does between runs and during them, kept sales are published right or not at all."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from etl.sales.changes import ChangeFilter
from etl.sales.postgres.store import PostgresSales
from tests import ROOT
from tests.doubles.postgres import EmbeddedPostgres
from tests.evidence.increments.play import KINDS, Played, Player, make_history, play_many, play_many_in_bigquery, score

COUNT = int(os.environ.get("INCREMENTS", "200"))
COUNT_IN_BIGQUERY = int(os.environ.get("INCREMENTS_IN_BIGQUERY", "16"))
PARTS = 4
"""So that they are played beside each other."""


@pytest.fixture
def player(postgres_server: EmbeddedPostgres, database: str) -> Iterator[Player]:
    with Player(postgres_server, database) as player:
        yield player


@pytest.mark.parametrize("part", range(PARTS))
def test_no_history_comes_out_wrong(player: Player, part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What is published is the sums of what the upstream had, and in the end of what it has."""
    played = play_many(range(part, COUNT, PARTS), player)
    with capsys.disabled():
        print("", *score(played), sep="\n")
    assert not [(one.history.seed, one.faults) for one in played if one.faults]


@pytest.mark.parametrize("part", range(2))
def test_no_history_comes_out_wrong_in_bigquery(
    postgres_server: EmbeddedPostgres, database: str, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same with the sales in BigQuery: alone and, every other one, with PostgreSQL, which holds the same."""
    # Each part has histories of both kinds.
    seeds = [seed for seed in range(COUNT_IN_BIGQUERY) if seed // 2 % 2 == part]
    played = play_many_in_bigquery(seeds, postgres_server, database)
    with capsys.disabled():
        print("", *score(played), sep="\n")
    assert not [(one.history.seed, one.faults) for one in played if one.faults]


def test_histories_are_of_every_kind() -> None:
    """A seed makes one history, and the first 200 have all that a history can have."""
    histories = [make_history(seed) for seed in range(200)]
    assert histories == [make_history(seed) for seed in range(200)]
    assert {history.kind for history in histories} == set(KINDS)
    assert {history.record_route for history in histories} == {"found", "none", "refused", "another"}
    assert {history.statements for history in histories} == {"snapshot", "rows, total", "total, rows"}
    assert {history.query is None for history in histories} == {True, False}
    assert {history.kills > 0 for history in histories} == {True, False}


def without_lookback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChangeFilter, "query", lambda *_: (("updated_after", "2031-01-01T00:00:00Z"),))


def without_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresSales, "_stores", staticmethod(lambda _: "[]"))


def without_deletions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresSales, "unseen", lambda *_: (0, []))
    monkeypatch.setattr(PostgresSales, "note_misses", lambda *_, **__: 0)


BROKEN: list[Any] = [
    pytest.param(without_lookback, id="increments that bring nothing"),
    pytest.param(without_pending, id="groups that aren't marked"),
    pytest.param(without_deletions, id="deletions that aren't found"),
]


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_broken_part_is_found(player: Player, break_it: Callable[[pytest.MonkeyPatch], None]) -> None:
    """Without one part of the protocol one of the histories goes wrong, or they take half as many runs again."""
    played: list[Played] = []
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        while len(played) < 8 and not (played and played[-1].faults):
            played.append(player.play(make_history(len(played))))
    assert played[-1].faults or runs_of(played) > 1.5 * runs_of(play_many(range(8), player))


def runs_of(played: Sequence[Played]) -> int:
    return sum(one.answers.total() for one in played)


SHELL: list[Any] = [
    pytest.param(["--count", "2"], [r"kind +histories +wrong +runs +published +requests\n"], id="2"),
    pytest.param(["--seed", "3"], [r"^History\(seed=3, ", r"success proved"], id="one"),
]


@pytest.mark.parametrize(("arguments", "shown"), SHELL)
def test_from_a_shell(arguments: list[str], shown: list[str]) -> None:
    """The command plays as many as it should and prints the table; of a single one it prints each run."""
    command = [sys.executable, "-m", "tests.evidence.increments.play", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(pattern, done.stdout) for pattern in shown), done.stdout
