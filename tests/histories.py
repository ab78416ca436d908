"""Plays histories of an upstream that changes while it is read, with the real ETL, server and PostgreSQL.

    python -m tests.histories --count 5000     plays many, and prints how they ended
    python -m tests.histories --seed 17        plays one, and prints all that happened in it

A seed makes the same history each time. With a concurrency above 1 the order in which pages are served is up to the
threads: play such a one with `--times 20`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from etl.errors import EtlError
from etl.extract import Tally
from etl.logs import configure_logs
from etl.pipeline import RunOptions, run_etl_once
from etl.settings import Settings
from tests.history_judge import VERDICTS, Outcome, Played, Store, declares_total, judge
from tests.history_upstream import History, Upstream, make_history
from tests.sandbox.postgres import EmbeddedPostgres
from tests.sandbox.ticketing_api import TicketingApi

_PAGING = {"": "one page", "page": "page numbers", "offset": "offsets", "skip": "offsets"}


def play(history: History, store: Store, *, force: bool = False) -> tuple[Played, list[str]]:
    """One run of the ETL through a history, and all that happened in it. `store` is emptied first."""
    upstream = Upstream(history)
    with TicketingApi(envelope=history.shape, order=history.order) as api:
        api.events, api.sales = upstream.items["events"], upstream.items["ticket_sales"]
        settings = Settings(
            nest_api_base_url=api.base_url,
            nest_api_page_size=history.page_size if history.sends_limit else None,
            nest_api_concurrency=history.concurrency,
            database_url=store.url,
            etl_max_shrink_ratio=1.0,
            etl_deadline_seconds=60.0,
        )
        store.reset()
        if history.has_run_before:
            _run(settings, RunOptions())
        before = store.rows()
        api.requests.clear()
        api.on_page = upstream.turn
        tallies: dict[str, Tally] = {}
        options = RunOptions(force=force, progress=lambda tally: tallies.update({tally.dataset: tally}))
        error = _run(settings, options)
    return Played(
        envelope=history.shape,
        can_skip=history.can_skip,
        versions=upstream.versions,
        lasting=upstream.lasting,
        came=upstream.came,
        disturbed=upstream.disturbed,
        requests=api.requests,
        tallies=tallies,
        before=before,
        error=error,
    ), upstream.trace


def _run(settings: Settings, options: RunOptions) -> EtlError | None:
    """What the run failed with."""
    try:
        run_etl_once(settings, options)
    except EtlError as error:
        return error
    return None


@dataclass
class Score:
    """How histories ended, by group; `failing` tells all that happened in the wrong ones."""

    groups: dict[str, Counter[str]] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)

    def add(self, history: History, outcome: Outcome, trace: Sequence[str]) -> None:
        """Count one in each of its groups."""
        for group in (*_groups(history), "all"):
            self.groups.setdefault(group, Counter()).update(("played", outcome.verdict))
        if outcome.verdict == "wrong":
            self.failing.append(tell(history, outcome, trace))

    def lines(self) -> Iterator[str]:
        """A table."""
        columns = ("played", *reversed(VERDICTS))
        yield f"{'histories':60}" + "".join(f"{name:>10}" for name in columns)
        for group, counts in sorted(self.groups.items(), key=lambda entry: (entry[0] == "all", entry[0])):
            yield f"{group:60}" + "".join(f"{counts[column]:10}" for column in columns)


def _groups(history: History) -> Iterator[str]:
    total = "total declared" if declares_total(history.shape) else "no total declared"
    yield f"{_PAGING.get(history.shape.ask, 'cursors')}, {total}"
    yield f"({history.mix}, {'stable' if history.stable else 'unstable'} order, {total})"


def play_many(seeds: Iterable[int], store: Store, *, force: bool = False) -> Score:
    """Plays and judges one history a seed."""
    score = Score()
    for history in map(make_history, seeds):
        played, trace = play(history, store, force=force)
        score.add(history, judge(played, store), trace)
    return score


def tell(history: History, outcome: Outcome, trace: Sequence[str]) -> str:
    """All that happened in a history, what came of it, and how to play it again."""
    times = " --times 20" if history.concurrency > 1 else ""
    return "\n".join(
        [
            repr(replace(history, script={})),
            *trace,
            f"{outcome.verdict} {outcome.code or ''}",
            *outcome.faults,
            "Play it again with:",
            f"python -m tests.histories --seed {history.seed}{times}",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """0 unless a history came out wrong."""
    parser = argparse.ArgumentParser(prog="histories", description="Plays histories of an upstream that changes.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play only this one, and print all that happens in it")
    parser.add_argument("--times", type=int, default=1, help="play it up to so often, until it comes out wrong")
    asked = parser.parse_args(argv)
    configure_logs("CRITICAL")
    with EmbeddedPostgres() as server:
        store = Store(server, server.url(server.create_database()))
        if asked.seed is not None:
            return _play_one(make_history(asked.seed), store, asked.times)
        score = play_many(range(asked.first, asked.first + asked.count), store)
    print(*score.failing, *score.lines(), sep="\n")
    return int(bool(score.failing))


def _play_one(history: History, store: Store, times: int) -> int:
    for _ in range(times):
        played, trace = play(history, store)
        outcome = judge(played, store)
        if outcome.verdict == "wrong":
            break
    print(tell(history, outcome, trace))
    return int(outcome.verdict == "wrong")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
