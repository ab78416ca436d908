"""The documents say what the program does: their tables, commands, links and names."""

import re
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from etl import errors
from etl.errors import EtlError, remedies
from etl.extract.paging_signals import PAGE_NUMBERS, SIGNALS, TOTAL_HEADERS, TOTALS
from etl.records.fields import CANDIDATES, EventItem, SaleItem
from etl.run.ledger import LEASE_SECONDS, Run, RunTotals
from etl.run.ledger_tables import COUNTS, metadata
from etl.run.metrics import format_metrics
from etl.sales.state import Proof, SalesState
from etl.sales.status import SalesStatus
from etl.settings import Settings
from etl.transform.tables import TABLES
from main import ROUTES
from tests import ROOT
from tests.sandbox import read_back
from tests.support.markdown import (
    anchors,
    code,
    commands,
    first_cells,
    links,
    missing_tests,
    options,
    prose,
    section,
    table,
)
from tests.support.summaries import MORNING

README = ROOT / "README.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"
OPERATIONS = ROOT / "docs" / "operations.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "terraform" / "README.md"])
EACH_DOCUMENT = [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in DOCUMENTS]
LONGEST_README = 180
SETTINGS = fields(Settings)


def error_codes() -> dict[str, int]:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EtlError)]
    return {kind.code: kind.status for kind in classes}


def logged_events() -> Iterator[str]:
    """The messages of all events that the code logs, wherever they are passed on to a log function."""
    pattern = r'"((?:ETL|Postgres|BigQuery|Cloud SQL) [a-z ]+[a-z])"'
    for source in [ROOT / "main.py", *(ROOT / "etl").rglob("*.py")]:
        yield from re.findall(pattern, source.read_text())


def metric_names() -> set[str]:
    """The metrics that the function answers with after a success, with kept sales that were counted."""
    run = Run("r1", MORNING, "test", finished_at=MORNING, duration_seconds=1.0)
    for name in COUNTS:
        setattr(run, name, 1)
    state = SalesState("a", swept_at=MORNING, proof=Proof(MORNING, "proved", 1, 1, 1))
    text = format_metrics(RunTotals({"success": 1}, run, run), SalesStatus(state, {"postgres": 0}))
    return set(re.findall(r"^(etl_\w+)[ {]", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("document", "heading", "expected"),
    [
        pytest.param(OPERATIONS, "## Answers", set(error_codes()), id="error codes"),
        pytest.param(OPERATIONS, "## Log events", set(logged_events()), id="log events"),
        pytest.param(OPERATIONS, "## Metrics", metric_names(), id="metrics"),
        pytest.param(OPERATIONS, "## Tables", {c.name for table in TABLES for c in table.columns}, id="columns"),
        pytest.param(OPERATIONS, "## The ledger", set(metadata.tables), id="ledger"),
    ],
)
def test_tables_are_complete(document: Path, heading: str, expected: set[str]) -> None:
    """Every setting, error code, log event, metric, column and table has its row, and nothing else has one."""
    found = first_cells(document, heading)
    assert set(found) == expected
    assert len(found) == len(expected) or heading == "## Tables"  # both of them have event_id


def test_codes_stand_with_their_status() -> None:
    """An error code's row names the HTTP status that the function answers."""
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", section(OPERATIONS, "## Answers"), re.MULTILINE))
    assert {code: int(status) for code, status in rows.items()} == error_codes()


def test_the_remedies_are_what_the_program_says() -> None:
    """An error code's row says what to do in the words of the shell and the report page."""
    rows = {code(name)[0]: remedy for name, _, remedy in table(OPERATIONS, "code", "HTTP", "what to do") if "`" in name}
    assert rows == remedies()


def test_the_short_answers_cover_every_status() -> None:
    """The README's table has a row for 200, 202 and the status of each error, and for no other."""
    shown = {word for cell, _ in table(README, "HTTP", "meaning") for word in cell.split(", ")}
    statuses = {str(status) for status in (200, 202, *error_codes().values())}
    assert shown == {"4xx" if status.startswith("4") else status for status in statuses}


def settings_table() -> str:
    """The README's, made of the settings as they are declared."""
    rows = ((f"`{one.name.upper()}`", *map(one.metadata.get, ("meaning", "default", "example"))) for one in SETTINGS)
    return "\n".join(f"| {name} | {meaning} | {default} | `{example}` |" for name, meaning, default, example in rows)


def test_the_settings_table_is_made_of_the_settings() -> None:
    """Every name, meaning, default and example; `python -m tests.project.test_readme` prints the table."""
    assert settings_table() in section(README, "## Settings")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_reads_its_example(setting: Field[Any]) -> None:
    """As it reads what an operator writes."""
    setting.metadata["read"](setting.metadata["example"].replace("...", ""))


def test_fields_are_looked_for_where_the_table_says() -> None:
    """Each field's keys stand in its row, in the order in which they are tried."""
    rows = table(GUARANTEES, "record", "field", "keys")
    written = [(record, code(keys.partition(" (")[0].partition(";")[0])) for record, _, keys in rows]
    program = [("event", list(keys)) for keys in CANDIDATES[EventItem].values()]
    assert written == program + [("sale", list(keys)) for keys in CANDIDATES[SaleItem].values()]


def test_every_route_is_shown() -> None:
    """The README names each path that the function answers."""
    assert [path for path in ROUTES if f":8080{path}" not in README.read_text()] == []


def test_deploy_commands_fit_each_other() -> None:
    """What the commands set is taken; the run ends before its request does, that before the scheduler gives up."""
    deploy, _, schedule = (options(command) for command in commands(README, "## Deploy"))
    pairs = [pair.split("=", 1) for flag in deploy["--set-env-vars"] for pair in flag.split(",")]
    settings = Settings.from_env(dict(pairs))
    [timeout], [attempt], [backoff] = deploy["--timeout"], schedule["--attempt-deadline"], schedule["--min-backoff"]
    assert settings.uses_postgres
    assert "ETL_DEADLINE_SECONDS" in dict(pairs)
    assert settings.etl_deadline_seconds + 10 <= int(timeout) < int(attempt.removesuffix("s")) <= 1800
    assert int(backoff.removesuffix("s")) > LEASE_SECONDS


def test_every_form_of_paging_is_shown() -> None:
    """Each name that leads to a next page, a page's own number or a total stands in the section on it."""
    text = section(GUARANTEES, "### How pages are followed").lower()
    names = {signal.name for signal in SIGNALS} | {*PAGE_NUMBERS, *TOTALS, *TOTAL_HEADERS}
    assert {name for name in names if not re.search(rf"[`._]{re.escape(name.lower())}[`:.]", text)} == set()


def test_the_picture_shows_what_make_run_shows() -> None:
    """The README's picture has every total that `make run` reads back, from both stores."""
    picture = section(README, "## What you get")
    assert [
        name for name in read_back.TOTALS if not re.search(rf"^  {name} +[0-9.,]+ +[0-9.,]+$", picture, re.MULTILINE)
    ] == []


def test_the_readme_is_short() -> None:
    """Details have documents of their own."""
    assert len(README.read_text().splitlines()) <= LONGEST_README


@pytest.mark.parametrize("document", EACH_DOCUMENT)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link to another document, or to a heading, has its target."""
    broken = []
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.parent.name == "docs"], ids=lambda p: p.name)
def test_every_document_is_linked_from_the_readme(document: Path) -> None:
    """Whoever reads the README finds it."""
    assert document.relative_to(ROOT).as_posix() in links(README)


@pytest.mark.parametrize("document", EACH_DOCUMENT)
def test_what_is_named_is_there(document: Path) -> None:
    """The tests, files and make targets that a document names exist."""
    text = document.read_text()
    assert missing_tests(text, ROOT) == []
    paths = re.findall(r"`((?:etl|tests|terraform|docs)/[\w./]*|[A-Z]+\.md|\w+\.py)[`:]", prose(document))
    assert [path for path in paths if not (ROOT / path).exists() and not (document.parent / path).exists()] == []
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^|`)make (?:\w+=\S+ )?([a-z]+)\b", text, re.MULTILINE)
    assert set(named) <= set(targets)


if __name__ == "__main__":
    print(settings_table())
