"""All kinds of faults, and the scenarios made of them."""

import random
from collections.abc import Iterator
from itertools import count, islice

from tests.faults.kind import Kind
from tests.faults.places.bigquery import JOBS
from tests.faults.places.clocks import CLOCKS
from tests.faults.places.google import GOOGLE
from tests.faults.places.network import NETWORK
from tests.faults.places.postgres import DATABASE
from tests.faults.places.process import PROCESS
from tests.faults.places.scheduling import SCHEDULING
from tests.faults.places.upstream import API
from tests.faults.scenario import Scenario

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
