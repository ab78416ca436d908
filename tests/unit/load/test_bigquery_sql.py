"""BigQuery's statements and rows: their bounds, texts, chunks and comparisons. What they do to tables: test_stores."""

import json
import re
from datetime import date

import pytest
from google.cloud.bigquery import ArrayQueryParameter

from etl.load.bigquery.sql import Changed, TableNames, compare, json_rows, scope_parts, stream_chunks
from etl.load.store import MAX_EXAMPLES, TableChanges
from etl.transform.tables import DAILY_TICKET_SALES, EVENT_SALES_SUMMARY, Table
from tests.support.summaries import counts, summary_of

NAMES = TableNames("`p.d.target`", "`p.d.staging`", "`p.d.scope`")
DAY = date(2026, 1, 31)


def changed(*days: date) -> Changed:
    return Changed(TableChanges(), list(days), has_copies=False)


def test_the_daily_merge_is_bounded_by_constant_days() -> None:
    """Each of its three looks at a table has the same constant days: else BigQuery would scan every partition."""
    days = changed(date(2026, 1, 31), date(2026, 2, 3), date(2026, 3, 1))
    [merge] = days.statements(DAILY_TICKET_SALES, NAMES)
    assert re.findall(r"(\S+) BETWEEN DATE '2026-01-31' AND DATE '2026-03-01'", merge) == [
        "sale_date",
        "t.sale_date",
        "t.sale_date",
    ]
    assert "BY SOURCE" not in merge


def test_no_day_changes_no_daily_merge() -> None:
    """Then there is nothing to do; the events' MERGE has no days and always runs, for `last_updated`."""
    assert changed().statements(DAILY_TICKET_SALES, NAMES) == []
    [merge] = changed().statements(EVENT_SALES_SUMMARY, NAMES)
    assert "BETWEEN" not in merge


def test_rows_are_json_with_every_number_as_text() -> None:
    """One line a row, whatever is in it; numbers and dates are strings, a missing name is null."""
    summary = summary_of({"a\n\u2028": None}, [("a\n\u2028", "0001-01-01", 2**63 - 1, "12345678901234.123456789")])
    events, days = ([*json_rows(table, summary)] for table in (EVENT_SALES_SUMMARY, DAILY_TICKET_SALES))
    assert [json.loads(line) for line in events] == [
        {
            "event_id": "a\n\u2028",
            "event_name": None,
            "total_tickets": "9223372036854775807",
            "total_revenue": "12345678901234.123456789",
            "last_updated": "2026-01-31T06:00:00.123456+00:00",
        }
    ]
    assert [json.loads(line) for line in days] == [
        {
            "event_id": "a\n\u2028",
            "sale_date": "0001-01-01",
            "tickets_sold": "9223372036854775807",
            "revenue": "12345678901234.123456789",
        }
    ]
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in events + days)


@pytest.mark.parametrize(
    ("name_bytes", "events", "sizes"),
    [
        pytest.param(10, 0, [], id="none"),
        pytest.param(10, 500, [500], id="as many as go"),
        pytest.param(10, 1001, [500, 500, 1], id="too many"),
        pytest.param(700_000, 5, [2, 2, 1], id="too long, three times that in JSON"),
        pytest.param(6_000_000, 3, [1, 1, 1], id="each too long"),
    ],
)
def test_streamed_chunks_keep_under_the_limits(name_bytes: int, events: int, sizes: list[int]) -> None:
    """At most 500 rows and, where a row isn't larger alone, 5 MB; every row once, in order."""
    summary = summary_of({f"{number:04d}": "\u00e9" * (name_bytes // 2) for number in range(events)})
    chunks = [*stream_chunks(EVENT_SALES_SUMMARY, summary)]
    assert [len(chunk) for chunk in chunks] == sizes
    assert [row["event_id"] for chunk in chunks for row in chunk] == [f"{number:04d}" for number in range(events)]


@pytest.mark.parametrize(
    ("scope", "parts"),
    [
        pytest.param([], 1, id="nothing"),
        pytest.param([f"{number:036d}" for number in range(210_000)], 3, id="UUIDs"),
        pytest.param(
            [f"{number:04d}" + "\u20ac" * 332 for number in range(6_000)], 3, id="long ones, twice that in JSON"
        ),
    ],
)
def test_a_scope_is_parted_to_fit_into_requests(scope: list[str], parts: int) -> None:
    """Each id is in one part, in order, and no part takes more than 5 MB of a request as the client writes it."""
    found = [*scope_parts(scope)]
    assert [event_id for part in found for event_id in part] == scope
    sizes = [len(json.dumps(ArrayQueryParameter("scope", "STRING", part).to_api_repr())) for part in found]
    assert len(sizes) == parts
    assert max(sizes) < 5_000_200


@pytest.mark.parametrize(
    ("stored", "changes"),
    [
        pytest.param(("1", "12.5"), (0, 0, 0, 1), id="written otherwise"),
        pytest.param(("1", "12.500000000"), (0, 0, 0, 1), id="the same"),
        pytest.param(("1", "12.500000001"), (0, 1, 0, 0), id="another amount"),
        pytest.param(("2", "12.5"), (0, 1, 0, 0), id="another number of tickets"),
    ],
)
def test_numbers_are_compared_as_numbers(stored: tuple[str, str], changes: tuple[int, int, int, int]) -> None:
    """BigQuery writes 12.5 where the Summary says 12.500000000."""
    summary = summary_of({}, [("a", "2026-01-31", 1, "12.5")])
    assert counts(compare(DAILY_TICKET_SALES, summary, iter([("a", "2026-01-31", *stored)]))) == changes


@pytest.mark.parametrize("table", [EVENT_SALES_SUMMARY, DAILY_TICKET_SALES], ids=lambda table: table.name)
def test_examples_are_few_the_counts_whole(table: Table) -> None:
    """Of many changes of each kind, 20 are shown and all counted."""
    ids = [f"{number:03d}" for number in range(30)]
    summary = summary_of(dict.fromkeys(ids, "New"), [(event_id, "2026-01-31", 1, "1") for event_id in ids])
    rest = ("Old", "1", "1") if table is EVENT_SALES_SUMMARY else ("2", "1")
    keys = [(event_id, "2026-01-31")[: len(table.key)] for event_id in [*ids[:12], "gone 1", "gone 2"]]
    changes = compare(table, summary, ((*key, *rest) for key in keys))
    assert counts(changes) == (18, 12, 2, 0)
    assert len(changes.examples) == MAX_EXAMPLES
