"""Plays histories of an upstream whose sales are kept, with the real ETL, over HTTP, and real stores.

    python -m tests.evidence.increments.play --count 3000     plays many, and prints how they ended
    python -m tests.evidence.increments.play --seed 17        plays one, and prints what each run came to
    python -m tests.evidence.increments.play --bigquery       keeps the sales in BigQuery, every other time alone

A seed makes the same history each time. Time is the world's: each request moves it on, and no wait takes any.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import pytest
import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import EtlError
from etl.load.bigquery.client import Jobs
from etl.load.postgres.database import engine_for
from etl.logs import configure_logs
from etl.run import ledger
from etl.run.pipeline import RunOptions, run_etl_once
from etl.settings import Settings
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import Statements, TicketingApi
from tests.doubles.ticketing.changes import Changes, RecordRoute
from tests.doubles.ticketing.cursors import Order
from tests.evidence.increments.judge import Groups, Kept, Published, fold, inner_faults, outer_faults
from tests.evidence.increments.world import EVENTS, START, Habits, World
from tests.support.shop import Warehouse

LOOKBACK = 3600.0
EVERY = 900.0
_SEEDS_AN_EMULATOR = 50
_THERE = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
QUERIES = (
    "filter.updatedAt=$gte:{since}&sortBy=updatedAt:DESC",
    "filter=updatedAt||$gte||{since}&sort=updatedAt,DESC",
    "updated_after={since}",
    "updatedSince={since}&sortBy=updatedAt:ASC",
)
KINDS: dict[str, Habits] = {
    "quiet": Habits(rate=0.0),
    "arrivals": Habits(rate=0.05, edits=0.0),
    "edits": Habits(rate=0.02),
    "deletions": Habits(rate=0.01, deletes=0.1),
    "late commits": Habits(rate=0.02, late=0.3, commit_seconds=1800.0),
    "lagging replicas": Habits(rate=0.02, lagging=0.3, lag_seconds=120.0),
    "silent edits": Habits(rate=0.02, silent=0.3),
    "everything": Habits(
        rate=0.02, deletes=0.05, late=0.2, commit_seconds=900.0, lagging=0.1, lag_seconds=60.0, silent=0.05
    ),
}


@dataclass(frozen=True)
class History:
    """A history as its seed makes it."""

    seed: int
    kind: str
    sales: int
    page_size: int
    envelope: str
    order: Order | None
    statements: Statements
    query: str | None
    record_route: RecordRoute
    cached_seconds: float
    deadline: float
    kills: float
    runs: int


def make_history(seed: int) -> History:
    """The history of a seed."""
    dice = random.Random(seed)
    orders: list[Order | None] = [Order("createdAt", descending=True), Order("createdAt"), Order("id")]
    statements: list[Statements] = ["snapshot", "rows, total", "total, rows"]
    routes: list[RecordRoute] = ["found", "found", "none", "refused", "another"]
    return History(
        seed=seed,
        kind=list(KINDS)[seed % len(KINDS)],
        sales=dice.choice([0, 3, 20, 60]),
        page_size=dice.choice([3, 7, 20]),
        envelope=dice.choice(["veritix:wrapped", "veritix", "nestjs-paginate", "@nestjsx/crud"]),
        order=dice.choice(orders),
        statements=dice.choice(statements),
        query=None if dice.random() < 0.1 else dice.choice(QUERIES),
        record_route=dice.choice(routes),
        cached_seconds=dice.choice([0.0, 0.0, 0.0, 20.0]),
        deadline=dice.choice([8.0, 20.0, 120.0]),
        kills=dice.choice([0.0, 0.0, 0.3]),
        runs=dice.randint(3, 5),
    )


class WorldDeadline(Deadline):
    """A deadline by the world's clock; waiting moves that on."""

    def __init__(self, seconds: float, world: World) -> None:
        self._world = world
        super().__init__(seconds, lambda: (world.now - START).total_seconds())

    def sleep(self, seconds: float) -> None:
        if seconds < self.remaining_or_raise():
            self._world.pass_time(seconds)
            seconds = 0.0
        super().sleep(seconds)  # refuses a wait that reaches past the end


class Killed(BaseException):
    """The process is no more."""


@contextmanager
def killed_after(engine: sa.Engine, statements: int | None) -> Iterator[None]:
    """After so many statements no other one goes out, as if the process had been killed; None: never."""
    left = [statements]

    def count(*_: object) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

    sa.event.listen(engine, "before_cursor_execute", count)
    sa.event.listen(engine, "commit", count)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)
        sa.event.remove(engine, "commit", count)


@dataclass
class Played:
    """How a history ended: `answers` of its runs, and what was wrong."""

    history: History
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    requests: int = 0
    sweeps: int = 0


@contextmanager
def killed_at_job(job: int | None) -> Iterator[None]:
    """At so many jobs the process is no more: of an odd number before the job begins, of an even one after its end."""
    left = [job]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def die(*arguments: Any, **options: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    if job is not None and job % 2 == 0:
                        call(*arguments, **options)
                    raise Killed
            return call(*arguments, **options)

        return die

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "query", dying(Jobs.query))
        patch.setattr(Jobs, "load", dying(Jobs.load))
        yield


class Player:
    """Plays histories in one database, or where there is a `front` in BigQuery, every other time with the database.

    Use as a context manager.
    """

    def __init__(self, postgres: EmbeddedPostgres, database: str, front: BigQueryFront | None = None) -> None:
        self._postgres = postgres
        self._database = database
        self._front = front
        self._warehouse: Warehouse | None = None
        self._reader = postgres.connect(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def play(self, history: History) -> Played:
        """All runs of a history, then quiet and two sweeps."""
        played = Played(history)
        dice = random.Random(history.seed + 1)
        world = World(dice, KINDS[history.kind])
        world.fill(history.sales)
        self._reset()
        with TicketingApi(envelope=history.envelope, page_size=history.page_size, order=history.order) as api:
            self._connect(api, world, history)
            settings = self._settings(api, history)
            for _ in range(history.runs):
                kill = dice.randint(1, 60) if dice.random() < history.kills else None
                self._run(settings, world, played, kill)
                if kill is not None:
                    self._forget_lease(settings)
                world.pass_time(EVERY)
            world.quieten(8 * LOOKBACK)
            self._end(settings, world, played)
            played.requests = len(api.requests)
        return played

    def _connect(self, api: TicketingApi, world: World, history: History) -> None:
        api.events = [{"id": f"e{number}", "name": f"Event {number}"} for number in range(EVENTS)]
        api.sales = world.sales
        api.keep_items = False
        api.statements = history.statements
        seconds = world.habits.request_seconds / 2

        def move_on(_: object) -> None:
            world.pass_time(seconds)
            api.sales = world.sales

        api.before_statements = api.between_statements = move_on
        api.changes = Changes(
            clock=lambda: world.now,
            cached_seconds=history.cached_seconds,
            view=world.view,
            record_route=history.record_route,
        )

    def _settings(self, api: TicketingApi, history: History) -> Settings:
        env = {
            "NEST_API_BASE_URL": api.base_url,
            "NEST_API_CONCURRENCY": "1",
            "ETL_LOOKBACK_SECONDS": str(int(LOOKBACK)),
            "ETL_SWEEP_HOURS": "1",
            "ETL_MAX_SHRINK_RATIO": "1",
            "ETL_MAX_REJECT_RATIO": "1",
            "ETL_DEADLINE_SECONDS": str(history.deadline),
        }
        if self._warehouse is None or history.seed % 2:
            env["DATABASE_URL"] = self._postgres.url(self._database)
        env["ETL_SALES_STORE"] = "postgres" if self._warehouse is None else "bigquery"
        if self._warehouse is not None:
            env |= self._warehouse.env
        if history.query is not None:
            env["NEST_API_CHANGED_QUERY"] = history.query
        return Settings.from_env(env)

    def _run(self, settings: Settings, world: World, played: Played, kill: int | None, *, sweep: bool = False) -> str:
        began = world.now
        options = RunOptions(
            sweep=sweep, now=lambda: world.now, start_deadline=lambda seconds: WorldDeadline(seconds, world)
        )
        width = off = 0
        try:
            with self._killed(settings, kill):
                report = run_etl_once(settings, options)
            answer = report.status
            if report.kept_sales is not None:
                width, off = report.kept_sales.width, report.kept_sales.off
                played.sweeps += report.kept_sales.sweep_ended
                answer += f" {report.kept_sales.completeness}" if answer == "success" else ""
        except EtlError as error:
            answer = error.code
            played.trace.append(f"{answer}: {error}")
        except Killed:
            answer = "killed"
            if settings.uses_postgres:
                engine_for(settings).dispose()
        played.answers[answer] += 1
        played.trace.append(f"{began:%H:%M:%S} {answer} off {off} width {width}, {len(world.sales)} sales")
        if answer.startswith("success"):
            published = self._published()
            faults = [*inner_faults(published), *self._between_stores(settings, published)]
            is_sure = "undeclared" not in answer
            if is_sure and played.history.query is not None and played.history.cached_seconds == 0:
                slack = 0 if world.habits.lagging == 0 else len(world.versions)
                found = outer_faults(world, published, began, timedelta(seconds=LOOKBACK), width + slack)
                found = Counter(
                    {name: count for name, count in found.items() if self._counts(name, count, played, off)}
                )
                faults += [f"{name}: {count}" for name, count in found.items()]
            played.faults += [f"{began:%H:%M:%S}: {fault}" for fault in faults]
        if answer in ("internal_error", "load_failed", "configuration_error", "upstream_error"):
            played.faults.append(f"{began:%H:%M:%S}: {played.trace[-2]}")
        return answer

    @contextmanager
    def _killed(self, settings: Settings, kill: int | None) -> Iterator[None]:
        if self._warehouse is None:
            with killed_after(engine_for(settings), kill):
                yield
        else:
            with killed_at_job(None if kill is None else kill // 4):
                yield

    def _forget_lease(self, settings: Settings) -> None:
        """What a killed process held is no longer held."""
        if settings.uses_postgres:
            self._reader.run("UPDATE etl_lease SET expires_at = now()")
        else:
            setattr(ledger, "_in_process", ledger.MemoryLedger())  # noqa: B010 - the process is another one

    def _between_stores(self, settings: Settings, published: Published) -> list[str]:
        """Where the other store doesn't hold the same."""
        if self._warehouse is None or not settings.uses_postgres:
            return []
        other = self._published_in_postgres({})
        same = (other.daily, other.events) == (published.daily, published.events)
        return [] if same else ["the stores differ"]

    @staticmethod
    def _counts(name: str, count: int, played: Played, off: int) -> bool:
        """Whether it is wrong: deletions may be found later, silent edits and what a lagging replica shows too."""
        if name == "ghost":
            return count > 10 + off
        return not (name.startswith("stale") and played.history.kind in ("silent edits", "everything"))

    def _end(self, settings: Settings, world: World, played: Played) -> None:
        """The sweep under way, and two more; then both tables are the fold over the upstream's list."""
        played.sweeps = 0
        for _ in range(60):
            answer = self._run(settings, world, played, None, sweep=True)
            world.pass_time(EVERY)
            if played.sweeps >= 3 and answer.startswith("success"):
                break
        published = self._published()
        wanted = fold(world.sales)
        if published.daily != wanted:
            played.faults.append(f"in the end {_shown(published.daily)} instead of {_shown(wanted)}")
        kept, there = set(published.kept), {sale["id"] for sale in world.sales}
        if kept != there:
            played.faults.append(f"in the end kept {sorted(kept - there)} and not {sorted(there - kept)}")

    def _published(self) -> Published:
        if self._warehouse is None:
            sales = "SELECT sale_id, event_id, sale_date::text, quantity, amount FROM etl_ticket_sales"
            rows = self._reader.run(sales)
            return self._published_in_postgres({row[0]: (row[1], row[2], row[3], row[4]) for row in rows})
        ask = self._warehouse.sql
        daily = ask("SELECT event_id, CAST(sale_date AS STRING), tickets_sold, revenue FROM daily_ticket_sales")
        events = ask("SELECT event_id, total_tickets, total_revenue FROM event_sales_summary")
        kept = ask("SELECT sale_id, event_id, CAST(sale_date AS STRING), quantity, amount FROM etl_ticket_sales")
        assert len({row[0] for row in kept}) == len(kept), "a sale is kept twice"
        return Published(
            {(row[0], row[1]): (row[2], row[3]) for row in daily},
            {row[0]: (row[1], row[2]) for row in events},
            {row[0]: (row[1], row[2], row[3], row[4]) for row in kept},
        )

    def _published_in_postgres(self, kept: Kept) -> Published:
        run = self._reader.run
        daily = run("SELECT event_id, sale_date::text, tickets_sold, revenue FROM daily_ticket_sales")
        events = run("SELECT event_id, total_tickets, total_revenue FROM event_sales_summary")
        return Published(
            {(row[0], row[1]): (row[2], row[3]) for row in daily}, {row[0]: (row[1], row[2]) for row in events}, kept
        )

    def _reset(self) -> None:
        if self._front is not None:
            if self._warehouse is not None:
                self._warehouse.close()
            self._warehouse = Warehouse.open(self._front)
        there = self._reader.run(_THERE)
        if there:
            self._reader.run(f"TRUNCATE {', '.join(name for (name,) in there)}")


def _shown(groups: Groups) -> str:
    return ", ".join(f"{key}: {value[0]}/{value[1]}" for key, value in sorted(groups.items())[:6])


def play_many(seeds: Iterable[int], player: Player, told: Callable[[Played], None] = lambda _: None) -> list[Played]:
    """The histories of seeds."""
    played = []
    for seed in seeds:
        played.append(player.play(make_history(seed)))
        told(played[-1])
    return played


def play_many_in_bigquery(
    seeds: Sequence[int], postgres: EmbeddedPostgres, database: str, told: Callable[[Played], None] = lambda _: None
) -> list[Played]:
    """The histories of seeds, with the sales in BigQuery. An emulator keeps what it has been asked, and grows slow."""
    played = []
    for start in range(0, len(seeds), _SEEDS_AN_EMULATOR):
        with BigQueryEmulator() as emulator, BigQueryFront(emulator.url) as front:
            front.keeps_log = False
            part = seeds[start : start + _SEEDS_AN_EMULATOR]
            with Player(postgres, database, front) as player:
                played += play_many(part, player, told)
    return played


def score(played: Sequence[Played]) -> list[str]:
    """A table of how they ended, by kind."""
    lines = [f"{'kind':18} {'histories':>9} {'wrong':>6} {'runs':>6} {'published':>9} {'requests':>9}"]
    for kind in KINDS:
        of_kind = [one for one in played if one.history.kind == kind]
        runs = sum(one.answers.total() for one in of_kind)
        good = sum(n for one in of_kind for answer, n in one.answers.items() if answer.startswith("success"))
        wrong = sum(bool(one.faults) for one in of_kind)
        asked = sum(one.requests for one in of_kind)
        lines.append(f"{kind:18} {len(of_kind):9} {wrong:6} {runs:6} {good:9} {asked:9}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """0 where none is wrong."""
    parser = argparse.ArgumentParser(prog="increments", description="Plays histories of kept sales.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--bigquery", action="store_true", help="keep the sales in BigQuery's emulator")
    parser.add_argument("--seed", type=int, help="play only this one, and print what each run came to")
    chosen = parser.parse_args(arguments)
    configure_logs("CRITICAL")
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres())
        database = postgres.create_database()

        def play(seeds: Sequence[int], told: Callable[[Played], None]) -> list[Played]:
            if chosen.bigquery:
                return play_many_in_bigquery(seeds, postgres, database, told)
            with Player(postgres, database) as player:
                return play_many(seeds, player, told)

        if chosen.seed is not None:
            [played] = play([chosen.seed], lambda _: None)
            print(played.history, *played.trace, *played.faults, sep="\n")
            return int(bool(played.faults))
        seeds = range(chosen.first, chosen.first + chosen.count)

        def tell(one: Played) -> None:
            if one.faults:
                command = f"python -m tests.evidence.increments.play --seed {one.history.seed}"
                command += " --bigquery" if chosen.bigquery else ""
                print(f"seed {one.history.seed} ({one.history.kind}): {one.faults[0]}\n{command}", flush=True)

        results = play(seeds, tell)
        print(*score(results), sep="\n")
        answers: Counter[str] = Counter()
        for one in results:
            answers += one.answers
        print(dict(answers))
        return int(any(one.faults for one in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
