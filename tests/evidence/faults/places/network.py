"""The way between the function and each part: refused, cut, silent or slow; answers lost, requests doubled or late."""

import threading
from collections.abc import Callable

from tests.doubles import fault_acts as acts
from tests.doubles.fault_proxy import Act
from tests.doubles.moments import BIGQUERY, KEPT, POSTGRES, UPSTREAM
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.places.google import strike
from tests.evidence.faults.play import SETTLE_SECONDS, Play

HTTP = {
    "upstream": tuple(UPSTREAM),
    "bigquery": tuple(BIGQUERY),
    "secret": ("start", "refresh"),
    "admin": ("settings", "certificate", "refresh-settings", "refresh-certificate"),
}
EVERYWHERE = {**HTTP, "postgres": tuple(POSTGRES), "kept": tuple(KEPT)}
ANSWERED = {
    place: tuple(name for name in moments if not name.startswith("copying")) for place, moments in EVERYWHERE.items()
}
"""Rows of a COPY have no answer of their own."""
ONCE_SLOW = {
    **HTTP,
    "postgres": ("guard-tickets", "upsert-daily", "commit-load"),
    "kept": ("increment", "ingest", "commit-slice", "publish-days", "commit-publication", "commit-mark"),
}
SILENT = {
    "upstream": ("events-first", "sales-last"),
    "postgres": (
        "connect",
        "commit-start",
        "guard-tickets",
        "copying-daily",
        "upsert-daily",
        "commit-load",
        "give-back",
    ),
    "bigquery": ("look-summary", "upload-daily", "compare", "merge", "merging", "reconcile", "drop-summary"),
    "kept": ("increment", "lookup", "ingest", "commit-slice", "recount", "commit-publication", "commit-mark"),
}


def _strike(*choices: Act) -> Callable[[Play], None]:
    """One of them, once."""
    return lambda play: _at(play, play.dice.choice(choices), 1)


def _sometimes_more(*choices: Act) -> Callable[[Play], None]:
    """One of them: once, or as often as it is tried."""
    return lambda play: _at(play, play.dice.choice(choices), play.dice.choice([1, 1, None]))


def _at(play: Play, act: Act, times: int | None) -> None:
    if play.scenario.where in ("secret", "admin"):
        strike(play, act, times)
    else:
        play.trap(act, times)


def _cut_request(play: Play) -> None:
    _at(play, acts.cut_request(play.dice.random()), 1)


def _cut_answer(play: Play) -> None:
    _at(play, acts.cut_answer(play.dice.randrange(1, 200)), 1)


def _late(play: Play) -> None:
    """A request whose sender has gone arrives after the clean run, which loaded newer data: they must stay."""
    release, done = threading.Event(), threading.Event()
    play.trap(acts.late(release, done))

    def arrive() -> None:
        release.set()
        assert done.wait(SETTLE_SECONDS * 3), "the late request was never answered"

    play.late = arrive


NETWORK: dict[str, Kind] = {
    "cut": Kind(_sometimes_more(acts.reset, acts.close), EVERYWHERE),
    "refuse": Kind(_strike(acts.refuse), EVERYWHERE, lasts=True),
    "cut-request": Kind(_cut_request, EVERYWHERE),
    "cut-answer": Kind(_cut_answer, ANSWERED),
    "lose-answer": Kind(_sometimes_more(acts.lose_answer), ANSWERED),
    "slow": Kind(_strike(acts.slow), ONCE_SLOW, lasts=True),
    "stall": Kind(_strike(acts.stall), SILENT),
    "black-hole": Kind(_strike(acts.black_hole), SILENT, lasts=True),
    "duplicate": Kind(_strike(acts.duplicate), HTTP, harmless=True),
    "late": Kind(_late, {"bigquery": tuple(name for name, moment in BIGQUERY.items() if moment.is_write)}),
}
