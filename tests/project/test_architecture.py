"""docs/architecture.md is true to the code: its map of the modules, its two ways, and its hooks into libraries."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.markdown import code, missing_tests, section, table

ARCHITECTURE = ROOT / "docs" / "architecture.md"
# A room's __init__.py is a sentence on the room.
MODULES = [p for p in (ROOT / "main.py", *(ROOT / "etl").rglob("*.py")) if len(ast.parse(p.read_text()).body) > 1]
HOOKS = table(ARCHITECTURE, "hook", "used in", "reason", "read in", "test")


def test_the_map_has_every_module() -> None:
    """Each module has one row that says what it does, and each row a module."""
    rows = table(ARCHITECTURE, "module", "does")
    assert sorted(name for cell, _ in rows for name in code(cell)) == sorted(
        path.relative_to(ROOT).as_posix() for path in MODULES
    )
    assert [cell for cell, does in rows if not does] == []


@pytest.mark.parametrize("way", ["## A sale's way", "## A failure's way"])
def test_the_ways_lead_through_the_code(way: str) -> None:
    """Whatever they name is a module, or stands in one."""
    text = section(ARCHITECTURE, way)
    assert "```mermaid" in text
    program = "".join(path.read_text() for path in MODULES)
    stems = {path.stem for path in MODULES} | {"__main__"}
    assert [name for name in code(text.split("```")[2]) if name not in stems and name not in program] == []
    diagram = text.split("```")[1]
    named = [
        word for label in re.findall(r"\[([^\](]+)\]", diagram) for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+", label)
    ]
    assert [name for name in named if name not in stems and name not in program] == []


@pytest.mark.parametrize("hook", [pytest.param(row, id=row[0]) for row in HOOKS])
def test_a_hook_is_where_it_was_read(hook: tuple[str, ...]) -> None:
    """Its module uses it, the version that was read is the one that is deployed, and its tests exist."""
    what, used_in, reason, read_in, tests = hook
    [module] = code(used_in)
    source = (ROOT / module).read_text()
    assert [each for each in code(what) if re.sub(r"^[A-Z]\w+\.", "", each) not in source] == []
    assert reason
    package, _, version = read_in.partition(" ")
    if package == "Python":
        mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
        assert version == mypy["python_version"]  # the oldest that is supported
    else:
        pinned = re.findall(rf"^{package}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
        assert set(pinned) == {version}, "read its code again, then correct the page"
    assert "::" in tests
    assert missing_tests(tests, ROOT) == []


DOCUMENTED = {"_exit", "_replace", "_asdict", "_fields"}  # of os, and of named tuples


def private_names(path: Path, ours: set[str]) -> Iterator[str]:
    """Attributes that only their owner should use, where the owner is a library; and a method's object."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", None)
        if not isinstance(name, str):
            continue
        if name == "__self__" or (isinstance(node, ast.Attribute) and re.match(r"_[a-z]", name) and name not in ours):
            yield name


def test_no_hook_is_missing() -> None:
    """Each private attribute of a library that a module uses stands in the table, with that module."""
    program = "".join(path.read_text() for path in MODULES)
    ours = set(re.findall(r"(?:(?:self|cls)\.|def |^    )(_[a-z]\w*)", program, re.MULTILINE)) | DOCUMENTED
    found = {(path.relative_to(ROOT).as_posix(), name) for path in MODULES for name in private_names(path, ours)}
    assert {name for _, name in found} >= {"_http", "_usock", "__self__"}
    listed = [(code(used_in)[0], hook) for hook, used_in, *_ in HOOKS]
    unlisted = [(place, name) for place, name in found if not any(place == p and name in hook for p, hook in listed)]
    assert unlisted == []
