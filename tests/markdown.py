"""Tables of the documents, for tests that hold them against the program."""

import re
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


def queries(document: Path) -> dict[str, str]:
    """The blocks of SQL, by the table that their first line names."""
    blocks = re.findall(r"^```sql\n-- (\w+)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)
