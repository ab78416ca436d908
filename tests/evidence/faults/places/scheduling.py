"""Two of a kind at once: duplicate deliveries, two instances, an old runner that wakes up, a burst of calls."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

from tests.doubles.moments import KEPT
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play
from tests.support.function import Function

BURST = 20
HEAD_START_SECONDS = 0.5
_HEADERS = {"X-CloudScheduler": "true", "X-CloudScheduler-ScheduleTime": "2026-11-24T06:00:00Z"}
_MOMENTS = {
    "upstream": ("events-first", "sales-middle"),
    "postgres": (
        "lease",
        "after-commit-start",
        "guard-tickets",
        "stage-summary",
        "copying-daily",
        "upsert-summary",
        "seal",
        "after-commit-load",
        "renew",
        "give-back",
        "after-commit-finish",
    ),
    "bigquery": ("stage-summary", "upload-daily", "compare", "merge", "after-merge", "reconcile", "drop-summary"),
    "kept": tuple(KEPT),
}


def _again(choose: Callable[[Play], Function]) -> Callable[[Play], None]:
    """The same delivery once more, to the same process or to another instance."""

    def arm(play: Play) -> None:
        function = choose(play)
        _beside(play, lambda: play.call(function, _HEADERS))

    return arm


def _beside(play: Play, work: Callable[[], object]) -> None:
    """Do it at the scenario's moment. The run goes on soon: what it holds may be waited for."""
    thread = threading.Thread(target=play.begin(work), daemon=True)

    def start() -> None:
        thread.start()
        thread.join(HEAD_START_SECONDS)

    play.trap_work(start)


def _old_runner(play: Play) -> None:
    """It stands still while its lease runs out, another instance loads newer data, and then it goes on."""
    worker, other = play.function.worker, play.other_function

    def take_over() -> None:
        play.stop(worker)
        play.take_over()
        newer = play.change_upstream()
        if play.call(other).status == 200:
            play.only(newer)
        play.go_on(worker)

    play.trap_work(take_over)


def _burst(play: Play) -> None:
    """As many calls at once while the first run is at this moment."""
    function = play.function

    def call_all() -> None:
        with ThreadPoolExecutor(BURST) as callers:
            list(callers.map(lambda _: play.call(function), range(BURST - 1)))

    _beside(play, call_all)


SCHEDULING: dict[str, Kind] = {
    "duplicate-delivery": Kind(_again(attrgetter("function")), _MOMENTS, harmless=True),
    "two-instances": Kind(_again(attrgetter("other_function")), _MOMENTS, harmless=True),
    "old-runner": Kind(_old_runner, _MOMENTS),
    "burst": Kind(_burst, _MOMENTS, harmless=True),
}
