"""Importing costs neither a connection, nor a cold start, nor a look at the settings."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

import etl
from etl.settings import NAMES
from tests import ROOT

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
    *("google.api_core", "grpc", "prometheus_client", "tqdm", "tests", "pytest"),
    *("etl.load.bigquery.load", "etl.load.postgres.cloud_sql"),
)  # fmt: skip


def test_import_main() -> None:
    """`import main` loads nothing that a run may not need, reads none of our variables, and starts no thread."""
    found = load("main")
    loaded = {name for name in LAZY if any(m == name or m.startswith(f"{name}.") for m in found["modules"])}
    assert loaded == set()
    assert {"main", "etl.run.pipeline", "flask"} <= set(found["modules"])
    assert not set(NAMES) & set(found["asked"])
    assert found["threads"] == 1


def test_environment() -> None:
    """Only those who make the settings name the environment."""
    sources = [ROOT / "main.py", *(ROOT / "etl").rglob("*.py")]
    found = {path.stem for path in sources if re.search(r"\b(environ|getenv)\b", path.read_text())}
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
