"""Imports point down only, and importing costs neither a connection, nor a cold start, nor a look at the settings."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import etl
from etl.settings import NAMES

ROOT = Path(__file__).parent.parent
MODULES = {path.stem: path for path in (ROOT / "etl").glob("*.py")}

# Loads a module in a fresh interpreter, whose environment holds all our variables and notes which are asked for, and
# where no socket can be made.
PROBE = """
import json, os, socket, sys, threading

class Noted(type(os.environ)):
    def __getitem__(self, name):
        asked.add(name)
        return super().__getitem__(name)

def refuse(*_, **__):
    raise AssertionError("a socket was made")

asked, before = set(), set(sys.modules)
os.environ.__class__ = Noted
socket.socket.connect = refuse
socket.getaddrinfo = refuse
__import__(sys.argv[1])
new = sorted(set(sys.modules) - before)
print(json.dumps({"modules": new, "asked": sorted(asked), "threads": threading.active_count()}))
"""


def load(module: str) -> dict[str, Any]:
    """What a fresh interpreter has loaded and asked for once it has imported a module."""
    ours = dict.fromkeys(NAMES, "no setting is like this")
    command = [sys.executable, "-c", PROBE, module]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ours, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


LAZY = (
    *("google.cloud.bigquery", "google.cloud.secretmanager", "google.cloud.sql.connector", "google.auth"),
    *("google.api_core", "grpc", "prometheus_client", "tqdm", "etl.bigquery", "etl.cloud_sql", "tests", "pytest"),
)  # fmt: skip


def test_import_main() -> None:
    """`import main` loads nothing that a run may not need, reads none of our variables, and starts no thread."""
    found = load("main")
    loaded = {name for name in LAZY if any(m == name or m.startswith(f"{name}.") for m in found["modules"])}
    assert loaded == set()
    assert {"main", "etl.pipeline", "flask"} <= set(found["modules"])
    assert not set(NAMES) & set(found["asked"])
    assert found["threads"] == 1


PURE = {
    "records": {"records"},
    "columns": {"columns", "records"},
    "items": {"items", "columns", "records"},
    "envelope": {"envelope", "items", "columns", "records"},
    "page": {"page", "envelope", "items", "columns", "records"},
    "paging_words": {"paging_words"},
    "paging_signals": {"paging_signals", "paging_words"},
    "pagination": {"pagination", "paging_signals", "paging_words", "records", "errors"},
    "repeats": {"repeats", "items", "columns", "records"},
    "groups": {"groups", "columns", "records"},
    "transform": {"transform", "groups", "columns", "records", "errors"},
    "tables": {"tables", "records"},
    "seen_ids": {"seen_ids"},
    "arrivals": {"arrivals"},
    "page_ids": {"page_ids", "seen_ids", "items", "columns", "records"},
    "errors": {"errors"},
    "settings": {"settings", "database_url", "errors"},
    "logs": {"logs"},
}
IO = ("requests", "urllib3", "http.client", "sqlalchemy", "pg8000", "flask", "google.cloud", "google.auth", "tenacity")


@pytest.mark.parametrize(("module", "allowed"), [pytest.param(*case, id=case[0]) for case in PURE.items()])
def test_pure_modules(module: str, allowed: set[str]) -> None:
    """A pure module loads no module of ours that does I/O, and no library that does."""
    found = load(f"etl.{module}")
    ours = {name.removeprefix("etl.") for name in found["modules"] if name.startswith("etl.")}
    assert ours <= allowed
    assert not {name for name in found["modules"] if name.startswith(IO)}
    assert not set(NAMES) & set(found["asked"])


# DESIGN 2, from the top down; modules that it doesn't name stand beside those that they were split off from.
LAYERS = (
    {"main", "__main__"},
    {"pipeline", "report", "guards", "lease", "metrics"},
    {"extract", "page_stream", "transform", "postgres", "bigquery", "bigquery_sql", "bigquery_tables", "run_log"}
    | {"retention", "stores"},
    {"api", "retry", "pagination", "page", "records", "tables", "seen_ids", "secret_manager", "database"}
    | {"cloud_sql", "bigquery_client", "bounded_answers", "columns", "items", "envelope", "groups"}
    | {"arrivals", "page_ids", "upgrade", "ledger_tables", "paging_signals", "paging_words", "repeats"},
    {"settings", "database_url", "deadline", "errors", "logs"},
)  # fmt: skip
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def imports_of(path: Path) -> Iterator[str]:
    """The modules of ours that one imports when it runs, within its functions too."""
    guarded: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            guarded |= {child for statement in node.body for child in ast.walk(statement)}
        if isinstance(node, ast.ImportFrom) and node not in guarded and (node.module or "").startswith("etl"):
            assert node.level == 0
            parts = (node.module or "").split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("etl") for alias in node.names), "from etl.x import y, please"


def test_arrows() -> None:
    """No module imports one of a higher layer, and there is no circle."""
    paths = {**MODULES, "main": ROOT / "main.py"}
    del paths["__init__"]
    assert paths.keys() == LAYER.keys()
    arrows = {name: set(imports_of(path)) for name, path in paths.items()}
    upward = {(a, b) for a, targets in arrows.items() for b in targets if LAYER[b] < LAYER[a]}
    assert upward == set()
    left = dict(arrows)
    while leaves := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in leaves}
    assert left == {}


def test_environment() -> None:
    """Only those who make the settings name the environment."""
    sources = {**MODULES, "main": ROOT / "main.py"}
    found = {name for name, path in sources.items() if re.search(r"\b(environ|getenv)\b", path.read_text())}
    assert found <= {"settings", "pipeline", "__main__", "main"}


def test_public_names() -> None:
    """The package's public names are the contract's, and each can be had from it."""
    assert set(etl.__all__) == {
        *("run_etl_once", "extract_events_and_sales", "transform_summary", "load_postgres", "load_bigquery"),
        *("EventRecord", "TicketSaleRecord"),
    }
    for name in etl.__all__:
        found = getattr(etl, name)
        assert found.__name__ == name
        assert found.__module__.startswith("etl.")
        assert found.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        etl.nothing  # noqa: B018 - to have it is the test
