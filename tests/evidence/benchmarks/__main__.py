"""python -m tests.evidence.benchmarks: measures the table of targets, prints it, and writes it as JSON.

Exit code 0 once every row asked for is measured or left out, whatever the verdicts; 1 if a measurement failed.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.doubles.processes import SandboxError
from tests.evidence.benchmarks.findings import LeftOutError, Line, show, show_for_readme, write
from tests.evidence.benchmarks.kinds import KINDS
from tests.evidence.benchmarks.rows import ROWS, Row
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.stage_profile import print_profile
from tests.evidence.benchmarks.workload import HOME


def main(arguments: Sequence[str]) -> int:
    asked = _arguments(arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        with ExitStack() as stack:
            session = Session(stack, asked.scale, asked.pairs, install_dlt=asked.dlt)
            if asked.profile:
                print_profile(session, KINDS[asked.profile])
                return 0
            lines = [_line(row, session) for row in ROWS if row.name in asked.rows]
    except SandboxError as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    show(lines, asked.scale)
    if asked.readme:
        show_for_readme(lines)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    write(lines, asked.scale, asked.json)
    print(f"Every single measurement: {asked.json}")
    return 0


def _line(row: Row, session: Session) -> Line:
    try:
        found = row.measure(session)
    except LeftOutError as error:
        return Line(row.name, row.what, row.target, "-", "left out", str(error))
    verdict = "met" if found.is_met else "MISSED"
    return Line(row.name, row.what, row.target, found.value, verdict, number=found.number, details=found.details)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.evidence.benchmarks", description="Measures the table of targets."
    )
    parser.add_argument("--rows", type=_rows, default=names, help=f"some of {','.join(names)}; default: all")
    parser.add_argument("--scale", type=_positive, default=1.0, help="size of the workloads; targets are for 1")
    parser.add_argument("--pairs", type=int, default=3, help="how often both sides are measured in turns")
    parser.add_argument("--json", type=Path, default=HOME / "benchmarks.json", help="where the JSON goes")
    parser.add_argument("--dlt", action="store_true", help="install dlt into an environment of its own, if need be")
    parser.add_argument("--readme", action="store_true", help="also the rows as docs/performance.md shows them")
    parser.add_argument("--profile", choices=list(KINDS), help="instead: where the time of a run goes")
    return parser.parse_args(arguments)


def _rows(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in {row.name for row in ROWS}]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no row {unknown[0]!r}")
    return names


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} isn't above 0")
    return value


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
