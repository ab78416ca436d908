"""A scenario's name says all of it: what breaks, where, when, and the number that its dice are thrown by."""

import random
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Scenario:
    """`kind:where:when:number`, with the seed of the whole suite."""

    kind: str
    where: str
    when: str
    number: int
    seed: int

    @classmethod
    def parse(cls, identifier: str, seed: int) -> Self:
        kind, where, when, number = identifier.split(":")
        return cls(kind, where, when, int(number), seed)

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}:{self.when}:{self.number}"

    def dice(self) -> random.Random:
        """The same for the same scenario."""
        return random.Random(f"{self.seed} {self}")

    def command(self) -> str:
        """What plays it again."""
        return f".venv/bin/python -m tests.evidence.faults --only {self} --seed {self.seed}"
