"""The judge of the fault suite finds whatever is wrong: each thing is spoilt once, on the real parts."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.postgres import EmbeddedPostgres
from tests.evidence.faults.bench import Bench, open_bench
from tests.evidence.faults.judge import judge_heal, judge_run
from tests.evidence.faults.play import Answered, Play
from tests.evidence.faults.run import act_out
from tests.evidence.faults.scenario import Scenario
from tests.evidence.faults.spoilt import SPOILT, Spoil, sql
from tests.evidence.faults.traces import Watch


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres, bigquery_emulator: BigQueryEmulator) -> Iterator[Bench]:
    with open_bench(postgres_server, bigquery_emulator) as bench:
        yield bench


@pytest.fixture(scope="module")
def over(bench: Bench) -> tuple[Play, Watch]:
    """A scenario that has been played, and in which nothing is wrong."""
    played, watch = act_out(bench, Scenario.parse("duplicate:bigquery:merge:1", seed=1))
    assert judge_run(played, watch) == []
    return played, watch


@pytest.mark.parametrize(("spoil", "wrong"), [pytest.param(*case, id=name) for name, case in SPOILT.items()])
def test_the_judge_finds_what_is_wrong(over: tuple[Play, Watch], spoil: Spoil, wrong: str) -> None:
    """That, and nothing once it is mended."""
    played, watch = over
    watch = replace(watch, threads={})
    with spoil(played), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.evidence.faults.traces.SETTLE_SECONDS", 0.1)  # what is spoilt stays so
        found = judge_run(played, watch)
    assert [words for words in found if re.search(wrong, words)], found
    assert judge_run(played, watch) == []


def test_the_judge_finds_what_a_clean_run_has_not_healed(over: tuple[Play, Watch]) -> None:
    """Its answer, both stores and the ledger are looked at."""
    played, _ = over
    clean, wanted = played.answers[0], played.allowed[-1]
    assert judge_heal(played, clean, wanted) == []
    assert judge_heal(played, Answered(1.0, 503), wanted) == ["the clean run afterwards came to 503 : "]
    assert judge_heal(played, clean, played.old) == [
        f"{store} doesn't hold the data of the clean run" for store in ("postgres", "bigquery")
    ]
    failed = "UPDATE etl_runs SET status = '{0}' WHERE error_code IS NULL"
    with sql(failed.format("failed"), failed.format("success"))(played):
        assert any("is said to have failed, and not why" in wrong for wrong in judge_heal(played, clean, wanted))
    dead, unknown = "run r0 is still said to run", replace(clean, body={"run_id": "r0"})
    row = "SELECT 'r0', started_at, trigger, 'running' FROM etl_runs LIMIT 1"
    with sql(
        f"INSERT INTO etl_runs (run_id, started_at, trigger, status) {row}", "DELETE FROM etl_runs WHERE run_id = 'r0'"
    )(played):
        assert judge_heal(played, unknown, wanted) == [dead, "the clean run isn't in the ledger as a success"]
