"""Faults against real processes: a fixed choice of the suite's scenarios, one of each kind."""

from collections.abc import Iterator

import pytest

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.postgres import EmbeddedPostgres
from tests.evidence.faults.__main__ import table, tell
from tests.evidence.faults.bench import Bench, open_bench
from tests.evidence.faults.kinds import KINDS, scenarios
from tests.evidence.faults.run import Result, play
from tests.evidence.faults.scenario import Scenario

SEED = 1
FIXED = {
    "kill-instance": "postgres:create-tables:1",
    "kill-worker": "upstream:amid-sales-middle:1",
    "terminate": "postgres:after-commit-load:1",
    "out-of-memory": "postgres:stage-summary:1",
    "cut": "postgres:create-ledger:1",
    "refuse": "admin:certificate:3",
    "cut-request": "postgres:copying-daily:1",
    "cut-answer": "admin:refresh-certificate:1",
    "lose-answer": "postgres:commit-load:1",
    "slow": "secret:start:1",
    "stall": "bigquery:drop-summary:1",
    "black-hole": "bigquery:drop-summary:1",
    "duplicate": "bigquery:merge:1",
    "late": "bigquery:merge:1",
    "terminate-backend": "postgres:upsert-summary:1",
    "restart": "postgres:stage-daily:1",
    "fail-over": "postgres:create-ledger:3",
    "disk-full": "postgres:copied-daily:1",
    "statement-timeout": "postgres:upsert-daily:1",
    "lock": "postgres:seal:1",
    "deadlock": "postgres:seal:1",
    "bigquery-forbidden": "bigquery:upload-summary:1",
    "bigquery-rate-limit": "bigquery:merge:1",
    "bigquery-quota": "bigquery:drop-daily:1",
    "bigquery-not-found": "bigquery:create-daily:1",
    "bigquery-conflict": "bigquery:merge:1",
    "bigquery-too-many": "bigquery:compare:3",
    "bigquery-server-error": "bigquery:reconcile:1",
    "bigquery-unavailable": "bigquery:stage-daily:1",
    "job-error": "bigquery:upload-daily:1",
    "streaming-buffer": "bigquery:merge:1",
    "job-never-ends": "bigquery:merge:1",
    "api-refuses": "upstream:sales-first:1",
    "api-throttles": "upstream:sales-last:1",
    "api-fails": "upstream:events-middle:1",
    "redirect": "upstream:sales-middle:1",
    "broken-page": "upstream:events-first:1",
    "api-cuts": "upstream:sales-last:1",
    "api-breaks": "upstream:events-last:2",
    "api-hangs": "upstream:sales-last:2",
    "api-is-slow": "upstream:sales-first:1",
    "empty-page": "upstream:sales-first:1",
    "never-ending": "upstream:sales-middle:1",
    "pages-repeat": "upstream:events-middle:1",
    "total-lies": "upstream:sales-last:3",
    "next-loops": "upstream:events-first:1",
    "next-elsewhere": "upstream:sales-first:1",
    "denied": "secret:refresh:3",
    "google-unavailable": "secret:start:3",
    "garbage": "secret:start:1",
    "hang": "admin:settings:1",
    "wrong-checksum": "secret:start:1",
    "expired-certificate": "admin:certificate:1",
    "duplicate-delivery": "postgres:after-commit-load:1",
    "two-instances": "postgres:after-commit-start:1",
    "old-runner": "bigquery:merge:1",
    "burst": "bigquery:merge:1",
    "clock-jumps": "postgres:stage-summary:1",
    "midnight": "bigquery:upload-daily:1",
    "summer-time": "postgres:seal:1",
}
"""The place, moment and number that each kind is played at: quick ones, that cover places and moments."""


KEPT = (
    "kill-instance:kept:commit-slice:1",
    "kill-worker:kept:after-commit-publication:1",
    "lose-answer:kept:commit-slice:1",
    "lose-answer:kept:commit-mark:1",
    "old-runner:kept:ingest:1",
    "black-hole:kept:lookup:1",
)
"""With kept sales, beside those."""


def fixed(kind: str) -> Scenario:
    return Scenario.parse(f"{kind}:{FIXED[kind]}", SEED)


@pytest.fixture(scope="module")
def bench(bigquery_emulator: BigQueryEmulator) -> Iterator[Bench]:
    """On a PostgreSQL of its own, as some scenarios restart it."""
    with EmbeddedPostgres() as postgres, open_bench(postgres, bigquery_emulator) as bench:
        yield bench


def test_every_kind_is_among_the_fixed_ones() -> None:
    """Once; each with a place and a moment that its kind knows."""
    assert list(FIXED) == list(KINDS)
    chosen = [fixed(kind) for kind in FIXED]
    assert [one for one in chosen if one.when not in KINDS[one.kind].moments[one.where]] == []


def test_scenarios_come_from_the_seed_alone() -> None:
    """The first ones have every kind, the next ones every place and moment; another seed gives others."""
    everything = {
        (name, where, when) for name, kind in KINDS.items() for where, whens in kind.moments.items() for when in whens
    }
    played = scenarios(len(everything), seed=3)
    assert played == scenarios(len(everything), seed=3)
    assert {one.kind for one in played[: len(KINDS)]} == {*KINDS}
    assert {(one.kind, one.where, one.when) for one in played} == everything
    assert [str(one) for one in scenarios(100, seed=4)] != [str(one) for one in played[:100]]
    assert Scenario.parse(str(played[0]), seed=3) == played[0]


@pytest.mark.parametrize("name", [*(f"{kind}:{place}" for kind, place in FIXED.items()), *KEPT])
def test_a_fault_mixes_loses_and_leaks_nothing(bench: Bench, name: str) -> None:
    """All six checks hold after it."""
    scenario = Scenario.parse(name, SEED)
    assert play(bench, scenario).wrong == [], scenario.command()


def test_a_wrong_scenario_is_told_with_what_plays_it_again() -> None:
    """And the table counts it under its kind."""
    scenario = Scenario.parse("cut:postgres:seal:7", seed=3)
    states = {"postgres": "mix", "bigquery": "old"}
    lines = list(tell(Result(scenario, ["200"], states, ["postgres holds neither"], 1.25)))
    assert lines[0].startswith("WRONG")
    assert lines[1:] == ["    postgres holds neither", f"    {scenario.command()}"]
    assert scenario.command() == ".venv/bin/python -m tests.evidence.faults --only cut:postgres:seal:7 --seed 3"
    rows = [line.split() for line in table([Result(scenario, [], states, ["x"], 1.0)])][1:]
    assert rows == [["cut", "1", "1", "0", "0", "0", "1"], ["all", "1", "1", "0", "0", "0", "1"]]
