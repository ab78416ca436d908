"""Plays histories of an upstream that changes while it is read, with the real ETL, server and PostgreSQL.

    python -m tests.evidence.histories.play --count 5000     plays many, and prints how they ended
    python -m tests.evidence.histories.play --seed 17        plays one, and prints all that happened in it

A seed makes the same history each time. With a concurrency above 1 the order in which pages are served is up to the
threads: play such a one with `--times 20`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from etl.errors import EtlError
from etl.extract.client import FetchedPage
from etl.extract.pages import PageStream
from etl.extract.paging_words import paging_headers
from etl.logs import configure_logs
from etl.records.fields import SaleItem
from etl.run.pipeline import RunOptions, run_etl_once
from etl.settings import Settings
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import REQUEST_ID, TicketingApi
from tests.evidence.histories.judge import VERDICTS, Outcome, Played, declares_total, judge
from tests.evidence.histories.upstream import History, Upstream, make_history
from tests.support.store import Store

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
        api.statements = history.statements
        api.on_page, api.between_statements = upstream.turn, upstream.split
        with pages_used() as used:
            error = _run(settings, RunOptions(force=force))
    return Played(
        envelope=history.shape,
        can_skip=history.can_skip,
        versions=upstream.versions,
        lasting=upstream.lasting,
        came=upstream.came,
        disturbed=upstream.disturbed,
        slipped=upstream.slipped,
        requests=api.requests,
        used=used,
        before=before,
        error=error,
    ), upstream.trace


@contextmanager
def pages_used() -> Iterator[dict[str, list[int]]]:
    """Of each dataset the requests whose answers its last reading used, in their order: not all that it asked for."""
    used: dict[str, list[int]] = {}

    class NotedHeaders(dict[str, str]):
        """Those that the product keeps, and which request they answer."""

        request = 0

    def noted(headers: Mapping[str, str]) -> dict[str, str]:
        kept = NotedHeaders(paging_headers(headers))
        kept.request = int(headers[REQUEST_ID])
        return kept

    class NotedPages(PageStream[SaleItem]):
        def __iter__(self) -> Iterator[FetchedPage[SaleItem]]:
            numbers = used[self._dataset.name] = []
            for fetched in super().__iter__():
                assert isinstance(fetched.headers, NotedHeaders)
                numbers.append(fetched.headers.request)
                yield fetched

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl.extract.reading.PageStream", NotedPages)
        patch.setattr("etl.extract.client.paging_headers", noted)
        yield used


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
    yield f"<{history.statements}, {history.mix}>"


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
            f"python -m tests.evidence.histories.play --seed {history.seed}{times}",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """0 unless a history came out wrong."""
    parser = argparse.ArgumentParser(prog="histories", description="Plays histories of an upstream that changes.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play only this one, and print all that happens in it")
    parser.add_argument("--times", type=int, default=1, help="play it up to so often, until it goes wrong")
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
