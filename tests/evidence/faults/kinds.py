"""All kinds of faults, and the scenarios made of them."""

import random
from collections.abc import Iterator
from itertools import count, islice

from tests.evidence.faults.kind import Kind
from tests.evidence.faults.places.bigquery import JOBS
from tests.evidence.faults.places.clocks import CLOCKS
from tests.evidence.faults.places.google import GOOGLE
from tests.evidence.faults.places.network import NETWORK
from tests.evidence.faults.places.postgres import DATABASE
from tests.evidence.faults.places.process import PROCESS
from tests.evidence.faults.places.scheduling import SCHEDULING
from tests.evidence.faults.places.upstream import API
from tests.evidence.faults.scenario import Scenario

KINDS: dict[str, Kind] = {**PROCESS, **NETWORK, **DATABASE, **JOBS, **API, **GOOGLE, **SCHEDULING, **CLOCKS}


def scenarios(number: int, seed: int) -> list[Scenario]:
    """So many: one of each kind first, then each kind at each place and moment, then all of them again."""
    return list(islice(_endless(seed), number))


def _endless(seed: int) -> Iterator[Scenario]:
    dice = random.Random(seed)
    everything = {
        name: [(where, when) for where, whens in kind.moments.items() for when in whens] for name, kind in KINDS.items()
    }
    first = {name: dice.choice(places) for name, places in everything.items()}
    for name in dice.sample([*first], k=len(first)):
        yield Scenario(name, *first[name], 1, seed)
    for number in count(1):
        rest = [
            Scenario(name, *place, number, seed)
            for name, places in everything.items()
            for place in places
            if number > 1 or place != first[name]
        ]
        yield from dice.sample(rest, k=len(rest))
