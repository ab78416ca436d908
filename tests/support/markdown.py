"""Tables, commands, links and names of the documents, for tests that hold them against the program."""

import ast
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


def section(document: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its rank or above."""
    rank = heading.index(" ")
    pattern = rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{rank}}} |\Z)"
    found = re.search(pattern, document.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{document.name} has no heading {heading}"
    return found[1]


def first_cells(document: Path, heading: str) -> list[str]:
    """The code in the first column of a section's tables."""
    return re.findall(r"^\| `([^`]+)`", section(document, heading), re.MULTILINE)


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(document: Path) -> list[str]:
    """The targets of its links, but for those to other sites."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(document: Path) -> set[str]:
    """Its headings as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_tests(text: str, root: Path) -> list[str]:
    """The tests that a text names and that don't exist."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)", text)
    return [f"{path}::{name}" for path, name in named if name not in functions_of(root / path)]


def functions_of(module: Path) -> set[str]:
    """The functions that a module defines; none if there is no such module."""
    tree = ast.parse(module.read_text() if module.is_file() else "")
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


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
