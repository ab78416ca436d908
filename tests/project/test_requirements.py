"""What is installed is pinned by hash, is what is deployed, is needed, and may be used: by the files as they are."""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import files, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT
from tests.project.requirements import DEPLOYED, licence, lines, pins

FILES = sorted(ROOT.glob("requirements*.txt"))
NOT_IMPORTED = {"tzdata"}
"""Needed at run time all the same: zoneinfo reads it."""
OPTIONAL = {"tqdm"}
"""Imported where it is installed, and done without where it isn't (etl/__main__.py)."""
PERMISSIVE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"}
COPYLEFT = {"certifi": "MPL-2.0"}
"""Asks only that changes to its own files be published; it is used as it is."""
VENDORED = {
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""uPlot 1.6.32: `dist/uPlot.iife.min.js`, `dist/uPlot.min.css` and `LICENSE` of the npm package."""
VENDORED_PACKAGE = ("uplot", "1.6.32")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_pinned_by_hash(path: Path) -> None:
    """Each line is a name with one version and SHA-256 hashes: no option, index, URL or folder stands among them."""
    found = lines(path)
    assert len(found) > 20
    assert [pin.name for pin in found if not pin.version or pin.requirement.url] == []
    assert [pin.name for pin in found if not pin.hashes] == []
    assert [pin.name for pin in found for text in pin.hashes if not re.fullmatch("sha256:[0-9a-f]{64}", text)] == []


def test_what_is_tested_is_what_is_deployed() -> None:
    """Every deployed package is in requirements-dev.txt too, in the same version with the same hashes."""
    tested = [
        (pin.name, pin.version, pin.requirement.marker, pin.hashes) for pin in pins(ROOT / "requirements-dev.txt")
    ]
    deployed = [(pin.name, pin.version, pin.requirement.marker, pin.hashes) for pin in pins(DEPLOYED)]
    assert [pin for pin in deployed if pin not in tested] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_extras_are_pinned_with_their_package(name: str) -> None:
    """A package is pinned with every extra that is asked for, and without.

    pip 23.2 takes what isn't pinned as it is asked for in its newest version, and refuses that for want of a hash.
    """
    with_extras = [pin for pin in lines(ROOT / name) if pin.requirement.extras]
    bare = [(pin.name, pin.version, pin.hashes) for pin in lines(ROOT / name) if not pin.requirement.extras]
    assert [pin.name for pin in with_extras if (pin.name, pin.version, pin.hashes) not in bare] == []
    found = {pin.name: pin for pin in pins(ROOT / name) if pin.is_installed}
    wanted = {
        (canonicalize_name(one.name), extra)
        for pin in found.values()
        for one in map(Requirement, requires(pin.name) or ())
        for extra in one.extras
        if canonicalize_name(one.name) in found and any(_applies(one, of) for of in ("", *pin.requirement.extras))
    }
    assert wanted
    assert {(one, extra) for one, extra in wanted if extra not in found[one].requirement.extras} == set()


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def named(path: Path) -> list[Requirement]:
    """What a requirements*.in names itself."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def imported() -> Iterator[set[str]]:
    """Every import of main.py and etl/: the modules of others that it may be of (`from a import b`: a, or a.b)."""
    for path in (ROOT / "main.py", *(ROOT / "etl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            if names and min(names).partition(".")[0] not in {*sys.stdlib_module_names, "_typeshed", "etl"}:
                yield names


def modules(distribution: str) -> set[str]:
    """The modules that a distribution installs."""
    paths = [path for path in files(distribution) or [] if path.suffix in (".py", ".so")]
    return {".".join(path.with_name(path.name.partition(".")[0]).parts).removesuffix(".__init__") for path in paths}


def test_what_is_named_is_used() -> None:
    """requirements.in names nothing that the program doesn't import, but for what is listed here with its reason."""
    used = set().union(*imported())
    unused = {one.name for one in named(ROOT / "requirements.in") if not modules(one.name) & used}
    assert unused == NOT_IMPORTED


def test_what_is_imported_is_deployed() -> None:
    """The program imports nothing from a package that only the tests have."""
    deployed = set().union(*(modules(pin.name) for pin in pins(DEPLOYED) if pin.is_installed))
    assert {min(names) for names in imported() if not names & deployed} == OPTIONAL


def needed(wanted: list[Requirement]) -> Iterator[str]:
    """The names of all that these distributions need, and of all that those need."""
    seen: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *sorted(one.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            yield name
            further = map(Requirement, requires(name) or [])
            wanted += [each for each in further if _applies(each, extra)]


def test_nothing_is_deployed_that_nobody_needs() -> None:
    """The deployed set is what requirements.in names and what that needs; nothing comes with it for the tests."""
    assert set(needed(named(ROOT / "requirements.in"))) == {pin.name for pin in pins(DEPLOYED) if pin.is_installed}


def test_licences_are_listed() -> None:
    """LICENSES names exactly the deployed packages and the vendored one, each with its version and licence."""
    listed = [line.split(" ", 2) for line in (ROOT / "LICENSES").read_text().splitlines()]
    deployed = pins(DEPLOYED)
    wanted = sorted([*((pin.name, pin.version) for pin in deployed), VENDORED_PACKAGE])
    assert [(name, version) for name, version, _ in listed] == wanted
    told = {name: text for name, _, text in listed}
    assert [pin.name for pin in deployed if pin.is_installed and told[pin.name] != licence(pin.name)] == []


def test_licences_are_permissive() -> None:
    """Every part of a licence lets the package be used and shipped unchanged, whatever this program's licence is."""
    for name, _, text in (line.split(" ", 2) for line in (ROOT / "LICENSES").read_text().splitlines()):
        assert set(re.split(" AND | OR ", text)) <= PERMISSIVE or COPYLEFT.get(name) == text, name


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_files_are_the_published_ones(name: str) -> None:
    """Byte by byte."""
    path = ROOT / "etl" / "views" / "static" / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == VENDORED[name]
