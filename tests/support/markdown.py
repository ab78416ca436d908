"""Tables and commands of the documents, for tests that hold them against the program."""

import re
import shlex
from pathlib import Path


def table(document: Path, *header: str) -> list[tuple[str, ...]]:
    """The rows below the first table head that has these cells."""
    head = f"| {' | '.join(header)} |\n"
    _, found, rest = document.read_text().partition(head)
    assert found, f"{document.name} has no table {head}"
    body = re.match(r"\| ---.*\n((?:\|.*\n)*)", rest)
    assert body, f"{document.name}: no rows below {head}"
    return [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in body[1].splitlines()]


def code(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def commands(document: Path, heading: str) -> list[list[str]]:
    """The words of each command in the first block of shell below a heading."""
    block = re.search(rf"^{re.escape(heading)}\n.*?^```sh\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    assert block, f"{document.name} has no shell below {heading}"
    return [shlex.split(line) for line in block[1].replace("\\\n", "").splitlines()]


def options(command: list[str]) -> dict[str, list[str]]:
    """The values of each --option=value, which may come more than once."""
    given: dict[str, list[str]] = {}
    for word in command:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            given.setdefault(name, []).append(value)
    return given


def queries(document: Path) -> dict[str, str]:
    """The blocks of SQL, by the table that their first line names."""
    blocks = re.findall(r"^```sql\n-- (\w+)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)
