"""An upstream whose sales live on while they are read, by a clock that each request moves on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
EVENTS = 4


@dataclass(frozen=True)
class Habits:
    """What an upstream does, as shares and seconds. `late` changes commit up to `commit_seconds` after their time.

    `silent` edits leave the time of change as it was; `lagging` requests see the state of up to `lag_seconds` ago.
    """

    rate: float = 0.02
    deletes: float = 0.0
    edits: float = 0.4
    late: float = 0.0
    commit_seconds: float = 0.0
    silent: float = 0.0
    lagging: float = 0.0
    lag_seconds: float = 0.0
    request_seconds: float = 0.2


@dataclass
class World:
    """`sales` is what a request sees now; `versions` are all states that a sale has had, by id, with their moments."""

    dice: random.Random
    habits: Habits
    now: datetime = START
    sales: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, list[tuple[datetime, dict[str, Any] | None]]] = field(default_factory=dict)
    _past: list[tuple[datetime, list[dict[str, Any]]]] = field(default_factory=list)
    _commits: list[tuple[datetime, dict[str, Any]]] = field(default_factory=list)
    _next: int = 1

    def fill(self, count: int) -> None:
        """Sales of the last days."""
        for _ in range(count):
            self._commit(self._new(self.now - timedelta(seconds=self.dice.uniform(90_000, 900_000))))

    def pass_time(self, seconds: float) -> None:
        """Let what happens meanwhile happen."""
        end = self.now + timedelta(seconds=seconds)
        while self.habits.rate > 0:
            step = timedelta(seconds=self.dice.expovariate(self.habits.rate))
            if self.now + step > end:
                break
            self.now += step
            self._settle()
            self._happen()
        self.now = end
        self._settle()

    def quieten(self, seconds: float) -> None:
        """Nothing happens any more, apart from what is yet to be committed."""
        self.habits = Habits(rate=0.0, request_seconds=self.habits.request_seconds)
        self.now += timedelta(seconds=seconds)
        self._settle()

    def view(self, items: Sequence[Any]) -> Sequence[Any]:
        """What a request sees."""
        if not self._past or self.dice.random() >= self.habits.lagging:
            return items
        then = self.now - timedelta(seconds=self.dice.uniform(0, self.habits.lag_seconds))
        return next((state for at, state in reversed(self._past) if at <= then), self._past[0][1])

    def state_at(self, sale_id: str, moment: datetime) -> dict[str, Any] | None:
        """What a sale was at a moment; None where it wasn't there."""
        return next((row for at, row in reversed(self.versions.get(sale_id, [])) if at <= moment), None)

    def _happen(self) -> None:
        kind = self.dice.random()
        if kind < self.habits.deletes and self.sales:
            self._apply(self.dice.choice(self.sales)["id"], None)
        elif kind < self.habits.deletes + self.habits.edits and self.sales:
            self._commit_soon(self._edited(self.dice.choice(self.sales)))
        else:
            self._commit_soon(self._new(self.now))

    def _new(self, at: datetime) -> dict[str, Any]:
        number = self._next
        self._next += 1
        sale_id = f"{self.dice.getrandbits(64):016x}" if self.dice.random() < 0.5 else f"s{number}"
        return {
            "id": sale_id,
            "event_id": f"e{self.dice.randrange(EVENTS)}",
            "quantity": self.dice.randint(1, 4),
            "totalAmount": f"{self.dice.randint(100, 9999) / 100:.2f}",
            "sale_date": _text(at - timedelta(days=self.dice.randrange(3))),
            "createdAt": _text(at),
            "updatedAt": _text(at),
        }

    def _edited(self, sale: dict[str, Any]) -> dict[str, Any]:
        edited = {**sale, "quantity": self.dice.randint(-2, 5), "totalAmount": f"{self.dice.randint(0, 9999) / 100}"}
        if self.dice.random() < 0.3:
            edited["event_id"] = f"e{self.dice.randrange(EVENTS)}"
        if self.dice.random() < 0.3:
            edited["sale_date"] = _text(self.now - timedelta(days=self.dice.randrange(5)))
        if self.dice.random() < 0.05:
            edited["quantity"] = "two"  # can't be used, until it is edited again
        if self.dice.random() >= self.habits.silent:
            edited["updatedAt"] = _text(self.now)
        return edited

    def _commit_soon(self, sale: dict[str, Any]) -> None:
        if self.dice.random() < self.habits.late:
            delay = timedelta(seconds=self.dice.uniform(0, self.habits.commit_seconds))
            self._commits.append((self.now + delay, sale))
        else:
            self._commit(sale)

    def _settle(self) -> None:
        due = sorted((item for item in self._commits if item[0] <= self.now), key=lambda item: item[0])
        self._commits = [item for item in self._commits if item[0] > self.now]
        for at, sale in due:
            if not any(version is None for _, version in self.versions.get(sale["id"], [])):
                self._commit(sale, at)

    def _commit(self, sale: dict[str, Any], at: datetime | None = None) -> None:
        self._apply(sale["id"], sale, at)

    def _apply(self, sale_id: str, sale: dict[str, Any] | None, at: datetime | None = None) -> None:
        at = at or self.now
        self._past.append((at, list(self.sales)))
        del self._past[:-200]
        others = [row for row in self.sales if row["id"] != sale_id]
        self.sales = others if sale is None else [*others, sale]
        self.versions.setdefault(sale_id, []).append((at, sale))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
