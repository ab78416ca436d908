"""The statements of kept sales and of loads in BigQuery: each is one that BigQuery takes, bounded as it should be."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from etl.load.bigquery import sql as load
from etl.load.store import TableChanges
from etl.sales.bigquery import sql
from etl.sales.bigquery.store import parameters_for
from etl.transform.tables import STAMP, TABLES
from tests.doubles.bigquery_sql import KnownTable, check_script
from tests.support.bigquery_tables import DATASET, DEFINITIONS, NAMES, columns_of, quoted

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAYS = [date(2026, 1, 1), date(2026, 1, 2)]
MANY_DAYS = [date(2000, 1, 1) + timedelta(days=n) for n in range(9_000)]
KNOWN = {f"{DATASET}.{name}": KnownTable(columns_of(name), table.partition) for name, table in DEFINITIONS.items()}
KNOWN[f"{DATASET}.scope"] = KnownTable({"event_id": "STRING"})
VALUES: dict[str, Any] = {
    "asked_at": NOON,
    "created_since": NOON,
    "now": NOON,
    "lookback": 1,
    "generation": 1,
    "version": 1,
    "misses": 1,
    "state": "{}",
    "store": "bigquery",
    "stores": ["bigquery"],
    "ids": ["s-1"],
    "scope": ["e-1"],
    "groups": [("e-1", None)],
    "events": [("e-1", None, True)],
}


CHANGED = quoted("changes")
ROWS = sql.staged_rows(quoted("staged"))


def sources() -> Iterator[tuple[str, sql.Source]]:
    """What a publication and a dry run are made of, of all days and of some."""
    kept = NAMES.sales, sql.pending_rows(NAMES), sql.all_events(NAMES)
    coming = sql.sales_with(NAMES, CHANGED), sql.pending_with(NAMES, CHANGED), sql.events_with(NAMES)
    for (what, tables), days in product((("kept", kept), ("coming", coming)), (None, DAYS, [])):
        which = "all" if days is None else len(days)
        yield f"{what}, {which} days", sql.Source(NAMES, *tables, days)


def kept_sales_statements() -> Iterator[tuple[str, str]]:
    for days in (None, [], DAYS, MANY_DAYS):
        yield f"compare {'all' if days is None else len(days)} days", sql.insert_changes(NAMES, CHANGED, ROWS, days)
    yield "compare a sweep", sql.insert_changes(NAMES, CHANGED, sql.swept_rows(NAMES), None)
    for condition in (sql.ARE_GIVEN, sql.ARE_OUTDATED, sql.are_missed(NAMES)):
        yield f"delete where {condition[:20]}", sql.insert_deletions(NAMES, CHANGED, condition)
    for days, has_dateless in ((DAYS, True), (MANY_DAYS, False), ([], True)):
        for number, statement in enumerate(sql.apply_changes(NAMES, CHANGED, days, has_dateless=has_dateless)):
            yield f"apply {len(days)} days, {number}", statement
    for name, source in sources():
        yield f"groups of {name}", sql.insert_groups(source, quoted("groups"))
        yield f"totals of {name}", sql.insert_totals(source, quoted("groups"), quoted("totals"))
        yield f"hand over {name}", sql.handover_query(source)
    for days in ([], DAYS, MANY_DAYS):
        for number, statement in enumerate(sql.publish_statements(NAMES, quoted("groups"), quoted("totals"), days)):
            yield f"publish {len(days)} days, {number}", statement
    yield from {
        "changes": sql.changes_query(CHANGED),
        "elsewhere": sql.elsewhere_query(NAMES, CHANGED),
        "pending of changes": sql.insert_pending(NAMES, CHANGED),
        "pending of groups": sql.insert_pending_groups(NAMES),
        "pending no more": sql.delete_pending(NAMES),
        "pending": sql.pending_query(NAMES),
        "put aside": sql.insert_swept(NAMES, ROWS),
        "forget what was put aside": sql.empty(NAMES.swept),
        "unseen": sql.unseen_query(NAMES, 5),
        "note misses": sql.merge_missed(NAMES),
        "forget misses": sql.delete_missed(NAMES, CHANGED),
        "missed": sql.missed_query(NAMES),
        "counts": sql.counts_query(NAMES),
        "reasons": sql.reasons_query(NAMES),
        "events": sql.merge_events(NAMES),
        "publication": sql.publication_query(quoted("groups"), quoted("totals")),
        "published": sql.published_query(NAMES),
        "groups": sql.groups_query(NAMES),
        "transaction": sql.transaction(NAMES, [sql.empty(NAMES.missed)]),
    }.items()


def load_statements() -> Iterator[tuple[str, str]]:
    for table, target in zip(TABLES, ("summary", "daily"), strict=True):
        for has_stamps in (False, True):
            names = load.TableNames(quoted(target), quoted(f"{target}_staging"), quoted("scope"), has_stamps)
            what = f"{target}{', stamped' if has_stamps else ''}"
            yield f"compare {what}", load.changes_query(table, names)
            yield f"totals of {what}", load.totals_query(table, names)
            for has_copies in (False, True):
                changed = load.Changed(TableChanges(), MANY_DAYS, has_copies)
                for number, statement in enumerate(changed.statements(table, names)):
                    yield f"{'replace' if has_copies else 'merge'} {what}, {number}", statement
        yield f"groups of {target}", load.groups_query(table, quoted(target))
        yield f"stored rows of {target}", load.stored_rows_query(table, quoted(target))
    yield "stored tickets", load.stored_tickets_query(quoted("summary"))
    yield "published totals", load.published_totals_query(quoted("summary"))
    yield "published days", load.published_days_query(quoted("daily"), DAYS[0])
    yield "best events", load.best_events_query(quoted("summary"), 5)


def known(path: str) -> KnownTable | None:
    """A summary's staging has its columns, and both have a stamp where rows may have been streamed."""
    table = KNOWN.get(path.removesuffix("_staging"))
    if table is None:
        return None
    partition = None if path.endswith("_staging") else table.partition
    return KnownTable({**table.columns, STAMP.name: load.TYPES[STAMP.type]}, partition)


STATEMENTS = {
    f"{what}: {name}": text
    for what, texts in (("kept sales", kept_sales_statements()), ("load", load_statements()))
    for name, text in texts
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_bigquery_takes_every_statement(statement: str) -> None:
    """By its words, columns, types and bounds, as the second opinion knows them."""
    check_script(statement, known, [one.to_api_repr() for one in parameters_for(VALUES, statement)])


def test_no_statement_takes_more_than_a_megabyte() -> None:
    """So long may a query be. Source: BigQuery documentation, "Quotas and limits", query jobs."""
    script = sql.transaction(NAMES, sql.publish_statements(NAMES, quoted("groups"), quoted("totals"), MANY_DAYS))
    assert len(script) < 1_000_000
    listed = sql.apply_changes(NAMES, CHANGED, MANY_DAYS[: sql.MAX_LISTED_DAYS], has_dateless=True)
    assert len("".join(listed)) < 1_000_000


def test_one_merge_takes_four_thousand_days_at_most() -> None:
    """Nine thousand are three; each has its days in all of its looks at a table."""
    merges = sql.apply_changes(NAMES, CHANGED, MANY_DAYS, has_dateless=False)[:-1]
    spans = [set(re.findall(r"BETWEEN DATE '(\S+)' AND DATE '(\S+)'", merge)) for merge in merges]
    ends = [MANY_DAYS[0], MANY_DAYS[3_999], MANY_DAYS[4_000], MANY_DAYS[7_999], MANY_DAYS[8_000], MANY_DAYS[-1]]
    assert spans == [{(str(first), str(last))} for first, last in zip(ends[::2], ends[1::2], strict=True)]
    assert [merge.count("BETWEEN") for merge in merges] == [3, 3, 3]
    assert not any("BY SOURCE" in merge for merge in merges)
