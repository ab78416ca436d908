"""The README's tables say what the program does."""

import re
from collections.abc import Iterator

import pytest

from etl import errors
from etl.errors import EtlError
from etl.extract.paging_signals import PAGE_NUMBERS, SIGNALS, TOTAL_HEADERS, TOTALS
from etl.run.ledger import LEASE_SECONDS
from etl.settings import ENVIRONMENT, Settings
from etl.transform.tables import TABLES
from main import ROUTES
from tests import ROOT
from tests.support.markdown import commands, options

README = (ROOT / "README.md").read_text()


def first_cells(heading: str) -> list[str]:
    """What stands in backquotes in the first column of a section's tables."""
    section = README.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def error_codes() -> dict[str, int]:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EtlError)]
    return {kind.code: kind.status for kind in classes}


def logged_events() -> Iterator[str]:
    """The messages of all events that the code logs, wherever they are passed on to a log function."""
    pattern = r'"((?:ETL|Postgres|BigQuery|Cloud SQL) [a-z ]+[a-z])"'
    for source in [ROOT / "main.py", *(ROOT / "etl").glob("*.py")]:
        yield from re.findall(pattern, source.read_text())


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        pytest.param("## Settings", set(ENVIRONMENT), id="settings"),
        pytest.param("## Answers", set(error_codes()), id="error codes"),
        pytest.param("## Log events", set(logged_events()), id="log events"),
        pytest.param("## What it writes", {c.name for table in TABLES for c in table.columns}, id="columns"),
    ],
)
def test_tables_are_complete(heading: str, expected: set[str]) -> None:
    """Every setting, error code, log event and column has its row, and there is no row of something else."""
    assert set(first_cells(heading)) == expected


def test_codes_stand_with_their_status() -> None:
    """An error code's row names the HTTP status that the function answers."""
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", README, re.MULTILINE))
    assert {code: int(status) for code, status in rows.items()} == error_codes()


def test_every_route_is_shown() -> None:
    """Each path that the function answers is named."""
    assert [path for path in ROUTES if f"{path}" not in README] == []


def test_deploy_commands_fit_each_other() -> None:
    """What the commands set is taken; the run ends before its request does, that before the scheduler gives up."""
    deploy, _, schedule = (options(command) for command in commands(ROOT / "README.md", "## Deploy"))
    pairs = [pair.split("=", 1) for flag in deploy["--set-env-vars"] for pair in flag.split(",")]
    settings = Settings.from_env(dict(pairs))
    [timeout], [attempt], [backoff] = deploy["--timeout"], schedule["--attempt-deadline"], schedule["--min-backoff"]
    assert settings.uses_postgres
    assert "ETL_DEADLINE_SECONDS" in dict(pairs)
    assert settings.etl_deadline_seconds + 10 <= int(timeout) < int(attempt.removesuffix("s")) <= 1800
    assert int(backoff.removesuffix("s")) > LEASE_SECONDS


def test_every_form_of_paging_is_shown() -> None:
    """Each name that leads to a next page, a page's own number or a total stands in the section on it."""
    section = README.split("\n### How pages are followed\n", 1)[1].split("\n### ", 1)[0].lower()
    names = {signal.name for signal in SIGNALS} | {*PAGE_NUMBERS, *TOTALS, *TOTAL_HEADERS}
    assert {name for name in names if not re.search(rf"[`._]{re.escape(name.lower())}[`:.]", section)} == set()
