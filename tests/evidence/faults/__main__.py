"""Plays seeded faults against real processes, and judges what they leave behind.

    python -m tests.evidence.faults --count 1600 --seed 1      plays many, and prints how they came out by kind
    python -m tests.evidence.faults --only ID --seed 1         plays one

Exit code 1 if one came out wrong. Each failure prints the command that replays it.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.evidence.faults.kinds import scenarios
from tests.evidence.faults.run import Result, play_many
from tests.evidence.faults.scenario import Scenario
from tests.sandbox.function import reach_loopback


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="faults", description="Plays seeded faults against real processes.")
    parser.add_argument("--count", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=3, help="how many at once, each on parts of its own")
    parser.add_argument("--only", help="play this one: kind:where:when:number")
    parser.add_argument("--match", default="", help="play only those of the --count whose name has this in it")
    asked = parser.parse_args(argv)
    os.environ.update(reach_loopback(os.environ))
    wanted = [Scenario.parse(asked.only, asked.seed)] if asked.only else scenarios(asked.count, asked.seed)
    wanted = [scenario for scenario in wanted if asked.match in str(scenario)]
    started = time.monotonic()
    results = []
    for result in play_many(wanted, min(asked.jobs, len(wanted))):
        results.append(result)
        print(*tell(result), sep="\n", flush=True)
    print(*table(results), sep="\n")
    failed = sum(bool(result.wrong) for result in results)
    print(f"\n{len(results)} scenarios in {time.monotonic() - started:.0f} s, {failed} of them wrong.")
    return int(failed > 0)


def tell(result: Result) -> Iterator[str]:
    """A line on how it came out; of a wrong one also why, and how to play it again."""
    states = " ".join(f"{store}={state}" for store, state in result.states.items())
    verdict = "WRONG" if result.wrong else "right"
    answers = ", ".join(f"{count} x {answer}" for answer, count in Counter(result.answers).items())
    yield f"{verdict} {result.seconds:5.1f} s  {result.scenario}  {answers}  {states}"
    if result.wrong:
        yield from (f"    {line}" for line in result.wrong)
        yield f"    {result.scenario.command()}"


def table(results: Sequence[Result]) -> Iterator[str]:
    """By kind: how many were played, how many wrong, and in which state the stores were right after the fault."""
    columns = ("played", "wrong", "both old", "both new", "apart", "mixed")
    yield f"\n{'kind':22}" + "".join(f"{name:>10}" for name in columns)
    counts: dict[str, Counter[str]] = {}
    for result in results:
        for kind in (result.scenario.kind, "all"):
            counts.setdefault(kind, Counter()).update(_columns(result))
    for kind, counted in sorted(counts.items(), key=lambda entry: (entry[0] == "all", entry[0])):
        yield f"{kind:22}" + "".join(f"{counted[name]:10}" for name in columns)


def _columns(result: Result) -> Iterator[str]:
    yield "played"
    if result.wrong:
        yield "wrong"
    states = set(result.states.values())
    if "mix" in states:
        yield "mixed"
    elif states:
        yield f"both {states.pop()}" if len(states) == 1 else "apart"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
