"""Play scenarios, and say how each came out."""

import multiprocessing.util
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.postgres import EmbeddedPostgres
from tests.evidence.faults.bench import Bench, open_bench
from tests.evidence.faults.judge import judge_heal, judge_run, state_of
from tests.evidence.faults.kinds import KINDS
from tests.evidence.faults.play import Play
from tests.evidence.faults.scenario import Scenario
from tests.evidence.faults.traces import Watch


@dataclass
class Result:
    """How one came out: what the calls answered, what each store then held, and what was wrong."""

    scenario: Scenario
    answers: list[str]
    states: dict[str, str]
    wrong: list[str]
    seconds: float


def play(bench: Bench, scenario: Scenario) -> Result:
    """One scenario, from the old data to the clean run that heals it."""
    started = time.monotonic()
    play, watch = act_out(bench, scenario)
    wrong = judge_run(play, watch)
    states = {store: state_of(play, held) for store, held in play.held.items()}
    wrong += _heal(play)
    if wrong:
        wrong += [f"answered: {answered.text.strip()[:500]}" for answered in play.answers[:3]]
    answers = [f"{answered.body.get('code') or answered.status or 'none'}" for answered in play.answers]
    return Result(scenario, answers, states, wrong, time.monotonic() - started)


def act_out(bench: Bench, scenario: Scenario) -> tuple[Play, Watch]:
    """One scenario up to the end of its fault; and what there was before it."""
    kind = KINDS[scenario.kind]
    play = Play(bench, scenario, kind)
    play.prepare()
    watch = Watch.begin(bench)
    with play.undo:
        kind.arm(play)
        kind.call(play)
        play.settle()
    return play, watch


def _heal(play: Play) -> list[str]:
    """One clean run, with the same data or with newer ones, once the fault is over."""
    play.bench.mend()
    if play.late is not None or play.dice.random() < 0.5:
        play.change_upstream()
    wanted = play.wanted()
    if play.bench.lease_holder() is not None:
        play.expire_lease()
    clean = play.call()
    if play.is_kept:
        # The first ends the sweep that was under way, the next one finds out what is gone, a third may have to ask.
        for _ in range(2):
            if clean.status == 200 and all(held == wanted for held in play.bench.stored().values()):
                break
            clean = play.call()
    wrong = judge_heal(play, clean, wanted)
    if play.late is not None:
        play.late()
        if any(held != wanted for held in play.bench.stored().values()):
            wrong.append("a request that came late has changed what the clean run had loaded")
    return wrong


_bench: Bench | None = None
_parts = ExitStack()


def play_many(wanted: Sequence[Scenario], jobs: int) -> Iterator[Result]:
    """All of them, so many at once, each job in a process with parts of its own; results come as they are ready."""
    if jobs <= 1:
        with _parts:
            yield from map(_play_in_job, wanted)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_job) as pool:
        yield from (done.result() for done in as_completed([pool.submit(_play_in_job, one) for one in wanted]))


def _open(stack: ExitStack) -> Bench:
    postgres = stack.enter_context(EmbeddedPostgres())
    bigquery = stack.enter_context(BigQueryEmulator())
    return stack.enter_context(open_bench(postgres, bigquery))


def _start_job() -> None:
    global _bench
    _bench = _open(_parts)
    multiprocessing.util.Finalize(None, _parts.close, exitpriority=10)


def _play_in_job(scenario: Scenario) -> Result:
    """A scenario that breaks the suite itself is a wrong one, and the next gets new parts."""
    global _bench
    started = time.monotonic()
    try:
        _bench = _bench or _open(_parts)
        return play(_bench, scenario)
    except Exception:  # noqa: BLE001 - whatever it is, the others are still to be played
        wrong = f"the suite itself broke down: {traceback.format_exc()}"
        _bench = None
        with suppress(Exception):
            _parts.close()
        return Result(scenario, [], {}, [wrong], time.monotonic() - started)
