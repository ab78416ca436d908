"""One scenario as it is played: what was armed, what was called, and what came of it."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from tests.doubles import fault_acts as acts
from tests.doubles.fault_proxy import Act, Trap
from tests.doubles.moments import MOMENTS, Moment
from tests.evidence.faults.bench import DEADLINE_SECONDS, NOTHING, Bench
from tests.evidence.faults.instances import KEPT_DEADLINE_SECONDS
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.scenario import Scenario
from tests.support.function import Function
from tests.support.oracle import Tables, wanted_tables
from tests.support.testbed import change_at_random

SETTLE_SECONDS = 3.0
_VARIANTS = {"admin": "cloud-sql", "kept": "kept"}
"""The function's, at places that only one of them comes to."""
_LATER = {"after-": acts.after, "amid-": acts.amid}
"""Of a moment: work is done not before its step, but then."""


@dataclass
class Answered:
    """What a call came to; no `status` where the connection broke off."""

    seconds: float
    status: int | None = None
    text: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


class Play:
    """A scenario under way. What it must hold afterwards is one of `allowed`, in each store."""

    def __init__(self, bench: Bench, scenario: Scenario, kind: Kind) -> None:
        self.bench = bench
        self.scenario = scenario
        self.variant = _VARIANTS.get(scenario.where, kind.variant)
        self.is_kept = scenario.where == "kept"
        self.deadline_seconds = KEPT_DEADLINE_SECONDS if self.is_kept else DEADLINE_SECONDS
        self.breaks = kind.breaks
        self.lasts = kind.lasts
        self.harmless = kind.harmless
        self.dice = scenario.dice()
        self.is_first_run = _is_first_run(scenario, self.dice) and not kind.needs_tables
        self.undo = ExitStack()
        """What is put right before the judge looks."""
        self.answers: list[Answered] = []
        self.is_killed = False
        """Whether a process was killed, so that there may be no answer, and the lease runs out by itself."""
        self.is_met: Callable[[], bool] = lambda: False
        self.is_outdated = False
        """Whether another run has taken over the lease of one that was still alive."""
        self.late: Callable[[], None] | None = None
        """What still happens after the clean run."""
        self.zone = "UTC"
        self._seen: list[dict[Any, dict[str, Any]]] = []
        """The sales that were upstream before each change, by id."""
        self.old: Tables = NOTHING
        """What both stores held before."""
        self.held: dict[str, Tables] = {}
        """What each store held when the fault was over."""
        self.allowed: list[Tables] = []
        self._works: list[Future[None]] = []
        self._lock = threading.Lock()

    @property
    def function(self) -> Function:
        return self.bench.instances.function(self.variant)

    @property
    def other_function(self) -> Function:
        """Another instance of it."""
        return self.bench.instances.function("kept-second" if self.is_kept else "second")

    @property
    def moment(self) -> Moment:
        return MOMENTS[self.scenario.where][_step(self.scenario)]

    def prepare(self) -> None:
        """Old data in the stores, new data upstream."""
        self.bench.restore(empty=self.is_first_run, kept=self.is_kept)
        self.old = NOTHING if self.is_first_run else self.bench.base
        self.allowed.append(self.old)
        if self.scenario.when == "connect":
            self.bench.proxies["postgres"].drop_connections()  # so that a pooled one can't do
        self.change_upstream()

    def change_upstream(self) -> Tables:
        """Other data upstream from now on, which a store may hold; returns what it then holds.

        With kept sales it may also hold them with the sales that are gone, until a sweep tells which these are.
        """
        upstream = self.bench.bed.upstream
        before = {sale["id"]: sale for sale in upstream.sales}
        change_at_random(upstream, self.dice)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        upstream.sales = [
            sale if sale == before.get(sale["id"]) else {**sale, "updatedAt": now} for sale in upstream.sales
        ]
        self._seen.append(before)
        if self.is_kept:
            still: dict[Any, dict[str, Any]] = {sale["id"]: sale for sale in upstream.sales}
            for earlier in reversed(self._seen):
                still = {**earlier, **still}
                tables = wanted_tables(self.bench.bed.postgres, upstream.events, [*still.values()], self.zone)
                self.allowed.append(tables)
        self.allowed.append(self.wanted())
        return self.allowed[-1]

    def wanted(self) -> Tables:
        """What both stores must hold once the upstream's data are loaded."""
        upstream = self.bench.bed.upstream
        return wanted_tables(self.bench.bed.postgres, upstream.events, upstream.sales, self.zone)

    def trap(self, act: Act, times: int | None = 1, skip: int = 0, pattern: str | None = None) -> None:
        """Lay a trap at the scenario's moment, or where this pattern says."""
        self.lasts = self.lasts or times is None
        trap = Trap(pattern or self.moment.pattern, act, times, skip)
        self.bench.proxies[self.moment.place].set(trap)
        self.is_met = trap.sprung.is_set

    def trap_work(self, work: Callable[[], object], *, pass_on: bool = True, pattern: str | None = None) -> None:
        """Do something right before the scenario's moment (the step is then passed on, or lost), amid it or after."""
        begin = self.begin(work)
        act = next((act for prefix, act in _LATER.items() if self.scenario.when.startswith(prefix)), None)
        self.trap(act(begin) if act else acts.before(begin, pass_on=pass_on), pattern=pattern)

    def settle(self) -> None:
        """Wait for what was begun at the moment of the fault; raises what went wrong in it."""
        for ended in self._works:
            if self.is_met():
                ended.result(timeout=30)

    def call(self, function: Function | None = None, headers: Mapping[str, str] | None = None) -> Answered:
        """One call of the function. None of its answers is lost."""
        started = time.monotonic()
        try:
            answer = requests.post((function or self.function).url, headers=headers, timeout=60)
            answered = Answered(time.monotonic() - started, answer.status_code, answer.text, answer.json())
        except requests.ConnectionError:
            answered = Answered(time.monotonic() - started)
        with self._lock:
            self.answers.append(answered)
        return answered

    def signal(self, number: signal.Signals, function: Function) -> None:
        """A signal to the function's process."""
        self.is_killed = self.is_killed or number is signal.SIGKILL
        function.kill(number)

    def begin(self, work: Callable[[], object]) -> Callable[[], None]:
        """Work for a thread, which `settle` waits for."""
        ended: Future[None] = Future()
        self._works.append(ended)

        def tell_end() -> None:
            ended.set_running_or_notify_cancel()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - `settle` raises it where it is seen
                ended.set_exception(error)
            else:
                ended.set_result(None)

        return tell_end

    def stop(self, process: int) -> None:
        """It stands still until `go_on`, at the latest until the scenario's end."""
        self.undo.callback(self.go_on, process)
        os.kill(process, signal.SIGSTOP)

    @staticmethod
    def go_on(process: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)

    def only(self, newest: Tables) -> None:
        """Nothing older may be held from now on."""
        self.allowed[:] = self.allowed[-1 - len(self._seen) * self.is_kept :]
        assert self.allowed[-1] == newest

    def take_over(self) -> None:
        """Let another run have the lease of one that is alive."""
        self.is_outdated = True
        self.expire_lease()

    def expire_lease(self) -> None:
        """As if 90 s had gone by since its holder was heard of."""
        self.bench.bed.sql("UPDATE etl_lease SET expires_at = clock_timestamp() - interval '1 second'")


def _step(scenario: Scenario) -> str:
    """The step that tells its moment."""
    return next((scenario.when.removeprefix(p) for p in _LATER if scenario.when.startswith(p)), scenario.when)


def _is_first_run(scenario: Scenario, dice: random.Random) -> bool:
    only = MOMENTS[scenario.where][_step(scenario)].first_run
    by_chance = dice.random() < 0.15
    return by_chance if only is None else only
