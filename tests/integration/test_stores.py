"""What both stores promise alike, held by the same cases, on rows read back from the real parts."""

import json
import random
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl.load.store import MAX_EXAMPLES, ScopeTotals, StoredTickets
from etl.records.fields import EventItem, EventRecord, SaleItem, TicketSaleRecord
from etl.records.reader import read_event, sale_reader
from etl.transform.fold import Summary, transform_summary
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.summaries import (
    DAYS,
    EVENTS,
    KEYS,
    MORNING,
    BigQueryStore,
    PostgresStore,
    Rows,
    Sale,
    Store,
    amounts,
    big_summary,
    counts,
    rows_of,
    summary_of,
)

EVENING = MORNING + timedelta(hours=12)


@pytest.fixture(params=["postgres", "bigquery"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each of the two, empty."""
    if request.param == "postgres":
        with PostgresStore(request.getfixturevalue("database_url")) as postgres:
            yield postgres
    else:
        parts = (request.getfixturevalue(f"bigquery_{part}") for part in ("emulator", "project", "dataset"))
        with BigQueryStore(*parts) as bigquery:
            yield bigquery


NAMES: dict[str, str | None] = {"a": "Aida", "b": "Boris"}
A1, A2, B1 = ("a", "2026-01-01", 2, "20.50"), ("a", "2026-01-02", 1, "10"), ("b", "2026-01-01", 3, "0.3")
BEFORE = summary_of(NAMES, [A1, A2, B1])

AIDA, BORIS = ("a", "Aida", 3, Decimal("30.5")), ("b", "Boris", 3, Decimal("0.3"))
NEW_YEAR, SECOND = date(2026, 1, 1), date(2026, 1, 2)
DAY_A1, DAY_A2 = ("a", NEW_YEAR, 2, Decimal("20.5")), ("a", SECOND, 1, Decimal(10))
DAY_B1 = ("b", NEW_YEAR, 3, Decimal("0.3"))


@dataclass(frozen=True)
class Case:
    """`names` and `sales`, loaded over those of BEFORE. Changes are inserted, updated, deleted, unchanged."""

    names: dict[str, str | None]
    sales: list[Sale]
    events: Rows
    days: Rows
    event_changes: tuple[int, int, int, int]
    day_changes: tuple[int, int, int, int]


CASES = {
    "nothing changes": Case(NAMES, [A1, A2, B1], [AIDA, BORIS], [DAY_A1, DAY_A2, DAY_B1], (0, 0, 0, 2), (0, 0, 0, 3)),
    "amount and quantity change, a name changes": Case(
        {"a": "Aida", "b": "Boris II"},
        [("a", "2026-01-01", 2, "20.500000001"), A2, ("b", "2026-01-01", 4, "0.3")],
        [("a", "Aida", 3, Decimal("30.500000001")), ("b", "Boris II", 4, Decimal("0.3"))],
        [("a", NEW_YEAR, 2, Decimal("20.500000001")), DAY_A2, ("b", NEW_YEAR, 4, Decimal("0.3"))],
        (0, 2, 0, 0),
        (0, 2, 0, 1),
    ),
    "a sale moves to another day, far away": Case(
        NAMES,
        [("a", "2031-07-15", 2, "20.50"), A2, B1],
        [AIDA, BORIS],
        [DAY_A2, ("a", date(2031, 7, 15), 2, Decimal("20.5")), DAY_B1],
        (0, 0, 0, 2),
        (1, 0, 1, 2),
    ),
    "a sale moves to another event": Case(
        NAMES,
        [A1, ("b", *A2[1:]), B1],
        [("a", "Aida", 2, Decimal("20.5")), ("b", "Boris", 4, Decimal("10.3"))],
        [DAY_A1, DAY_B1, ("b", SECOND, 1, Decimal(10))],
        (0, 2, 0, 0),
        (1, 0, 1, 2),
    ),
    "a sale moves to an event that is new": Case(
        NAMES | {"c": None},
        [A1, ("c", *A2[1:]), B1],
        [("a", "Aida", 2, Decimal("20.5")), BORIS, ("c", None, 1, Decimal(10))],
        [DAY_A1, DAY_B1, ("c", SECOND, 1, Decimal(10))],
        (1, 1, 0, 1),
        (1, 0, 1, 2),
    ),
    "events without sales have zeros": Case(
        {"a": "Aida", "z": "Zaide"},
        [],
        [("a", "Aida", 0, Decimal(0)), BORIS, ("z", "Zaide", 0, Decimal(0))],
        [DAY_B1],
        (1, 1, 0, 0),
        (0, 0, 2, 0),
    ),
    "events out of scope are left alone": Case(
        {"c": "Carmen"},
        [("c", "2026-01-01", 1, "5")],
        [AIDA, BORIS, ("c", "Carmen", 1, Decimal(5))],
        [DAY_A1, DAY_A2, DAY_B1, ("c", NEW_YEAR, 1, Decimal(5))],
        (1, 0, 0, 0),
        (1, 0, 0, 0),
    ),
    "an event without a name keeps the stored one": Case(
        {"a": None, "b": None},
        [A1, A2, ("b", "2026-01-01", 3, "0.4")],
        [AIDA, ("b", "Boris", 3, Decimal("0.4"))],
        [DAY_A1, DAY_A2, ("b", NEW_YEAR, 3, Decimal("0.4"))],
        (0, 1, 0, 1),
        (0, 1, 0, 2),
    ),
    "refunds go below zero": Case(
        NAMES,
        [A1, A2, B1, ("b", "2026-01-01", -5, "-7.000000001"), ("b", "2026-01-02", 2, "0")],
        [AIDA, ("b", "Boris", 0, Decimal("-6.700000001"))],
        [DAY_A1, DAY_A2, ("b", NEW_YEAR, -2, Decimal("-6.700000001")), ("b", SECOND, 2, Decimal(0))],
        (0, 1, 0, 1),
        (1, 1, 0, 2),
    ),
    "nothing at all": Case({}, [], [AIDA, BORIS], [DAY_A1, DAY_A2, DAY_B1], (0, 0, 0, 0), (0, 0, 0, 0)),
}


def apart(name: str, case: Case) -> tuple[dict[str, str | None], list[Sale]]:
    """The case's names and sales under event ids of its own."""
    names = {f"{name}/{event_id}": event_name for event_id, event_name in case.names.items()}
    return names, [(f"{name}/{sale[0]}", *sale[1:]) for sale in case.sales]


@pytest.fixture(scope="module", params=["postgres", "bigquery"])
def filled_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each of the two, with BEFORE for each case."""
    inputs = [apart(name, CASES["nothing changes"]) for name in CASES]
    summary = summary_of(
        {k: v for names, _ in inputs for k, v in names.items()}, [s for _, sales in inputs for s in sales]
    )
    with ExitStack() as parts:
        store: Store
        if request.param == "postgres":
            server: EmbeddedPostgres = request.getfixturevalue("postgres_server")
            database = server.create_database()
            parts.callback(server.drop_database, database)
            store = parts.enter_context(PostgresStore(server.url(database)))
        else:
            emulator: BigQueryEmulator = request.getfixturevalue("bigquery_emulator")
            store = parts.enter_context(BigQueryStore(emulator, "veritix-test", f"cases_{uuid.uuid4().hex[:12]}"))
            parts.callback(store.client.delete_dataset, store.dataset, delete_contents=True, timeout=30)
        result = store.load(summary)
        assert [counts(result.changes[table]) for table in (EVENTS, DAYS)] == [*counts_of_new(summary).values()]
        assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(summary)
        yield store


@pytest.mark.parametrize("name", CASES)
def test_store_holds_the_summary_for_its_scope_and_the_rest_as_it_was(filled_store: Store, name: str) -> None:
    """Rows, counts of changes and reconciled figures are those of the table of cases."""
    case, store = CASES[name], filled_store
    summary = summary_of(*apart(name, case))
    wanted = {
        table: [(f"{name}/{row[0]}", *row[1:]) for row in rows]
        for table, rows in ((EVENTS, case.events), (DAYS, case.days))
    }
    others = {table: [row for row in store.rows(table) if not row[0].startswith(f"{name}/")] for table in wanted}
    result = store.load(summary)
    assert (result.status, result.error) == ("success", None)
    for table, rows in wanted.items():
        assert store.rows(table) == sorted(others[table] + rows)
        assert result.reconciled[table] == ScopeTotals(*amounts([row for row in rows if row[0] in summary.scope]))
    assert (counts(result.changes[EVENTS]), counts(result.changes[DAYS])) == (case.event_changes, case.day_changes)


def test_last_updated_is_the_last_run_that_spoke_of_the_event(store: Store) -> None:
    """The time is the run's, in UTC to the microsecond; other events keep theirs."""
    store.load(BEFORE)
    store.load(summary_of({"a": "Aida"}, [A1, A2], at=EVENING))
    assert [(row[0], row[4], row[4].utcoffset()) for row in store.raw_rows(EVENTS)] == [
        ("a", EVENING, timedelta()),
        ("b", MORNING, timedelta()),
    ]


TEXTS = [
    "tab\there",
    "new\nline, carriage\rreturn\r\n",
    "back\\slash \\n \\t \\x41 \\",
    "\\N",
    "\\.",
    "\\.\n",
    "NULL",
    " blanks ",
    'it\'s "quoted" `so` $$ and %s {} :name ?',
    "🎟️ 👩‍👩‍👧‍👦 𝔄",
    "‏שלום עליכם‎ مرحبا",
    "\u2028\u2029\ufeff\x7f\x01",
    "\u00e9",
    "e\u0301",
    "🎭" * 250,
]
NUMBERS = {
    "int64 max": (2**63 - 1, "99999999999999999999999999999.999999999"),
    "int64 min": (-(2**63), "-99999999999999999999999999999.999999999"),
    "both in all": (1, "12345678901234.123456789"),
    "nano": (-1, "-0.000000001"),
    "cents": (1, "0.1"),
}
FIRST_AND_LAST_DAY = ("0001-01-01", "9999-12-31")


def test_every_text_and_number_comes_through_to_the_last_digit(store: Store) -> None:
    """Ids and names with all that UTF-8 can hold, numbers at the borders of the types; loaded again they are equal."""
    sales = [(text, "2026-01-01", 1, "1") for text in TEXTS]
    sales += [
        (event_id, day, *numbers)
        for (event_id, numbers), day in zip(NUMBERS.items(), FIRST_AND_LAST_DAY * len(NUMBERS), strict=False)
    ]
    summary = summary_of({text: text for text in TEXTS}, sales)
    expected = {
        EVENTS: sorted(
            [(text, text, 1, Decimal(1)) for text in TEXTS]
            + [(name, None, tickets, Decimal(amount)) for name, (tickets, amount) in NUMBERS.items()]
        ),
        DAYS: sorted((sale[0], date.fromisoformat(sale[1]), sale[2], Decimal(sale[3])) for sale in sales),
    }
    for changes in (counts_of_new(summary), counts_of_old(summary)):
        result = store.load(summary)
        assert {table: store.rows(table) for table in expected} == expected
        assert {table: counts(result.changes[table]) for table in expected} == changes


def counts_of_new(summary: Summary) -> dict[str, tuple[int, int, int, int]]:
    return {EVENTS: (len(summary.events), 0, 0, 0), DAYS: (summary.daily_count, 0, 0, 0)}


def counts_of_old(summary: Summary) -> dict[str, tuple[int, int, int, int]]:
    return {EVENTS: (0, 0, 0, len(summary.events)), DAYS: (0, 0, 0, summary.daily_count)}


def test_fifty_thousand_daily_rows(store: Store) -> None:
    """Many rows arrive whole, and again change nothing."""
    summary = big_summary(events=100, days=500)
    for changes in (counts_of_new(summary), counts_of_old(summary)):
        result = store.load(summary)
        assert {table: counts(result.changes[table]) for table in changes} == changes
    rows = store.rows(DAYS)
    assert len(rows) == 50_000
    assert rows == rows_of(summary)[DAYS]


def test_stored_tickets_are_told_in_all_and_in_scope(store: Store) -> None:
    """Nothing without a table, which isn't made; else the tickets of all events, and what those in scope came to."""
    assert store.stored_tickets(["a"]) == StoredTickets(0, 0, Decimal())
    assert store.tables() == []
    store.load(BEFORE)
    scopes: list[tuple[tuple[str, ...], int, str]] = [
        (("a",), 3, "30.5"),
        (("b", "x"), 3, "0.3"),
        (("a", "b"), 6, "30.8"),
        (("x",), 0, "0"),
        ((), 0, "0"),
    ]
    for scope, in_scope, revenue in scopes:
        assert store.stored_tickets(scope) == StoredTickets(6, in_scope, Decimal(revenue))


IDS = [*TEXTS, "null", "Null", "nULL", "true", "{}", "[]", '"', "'", "{NULL}", "a,b", "?", "%s", "@scope", "\\u0041"]


def test_an_event_counts_whatever_its_id(store: Store) -> None:
    """No id is taken for another one, or for none at all, on its way to the question what a store holds."""
    store.load(summary_of({}, [(event_id, "2026-01-01", 2**number, "0.5") for number, event_id in enumerate(IDS)]))
    for number, event_id in enumerate(IDS):
        assert store.stored_tickets([event_id]).in_scope == 2**number, event_id
    assert store.stored_tickets(IDS) == StoredTickets(2 ** len(IDS) - 1, 2 ** len(IDS) - 1, Decimal(len(IDS)) / 2)


ROUNDS: dict[type[Any], int] = {PostgresStore: 40, BigQueryStore: 10}
"""BigQuery's emulator is slow; the oracle's examples below are 25 more rounds for both."""


def test_dry_run_tells_what_the_load_right_after_it_does(store: Store) -> None:
    """Over random changes, from no table at all on."""
    chance = random.Random(20_261_123)
    held: dict[str, Rows] = {}
    for _ in range(ROUNDS[type(store)]):
        held = load_as_told(store, random_summary(chance), held)


def load_as_told(store: Store, summary: Summary, held: dict[str, Rows]) -> dict[str, Rows]:
    """Loads into a store that holds these tables, and returns what it holds then.

    A dry run before it writes nothing, and tells the counts and examples of the real rows before and after.
    """
    told = store.load(summary, dry_run=True)
    assert sorted(store.tables()) == sorted(held)
    assert {table: store.raw_rows(table) for table in held} == held
    done = store.load(summary)
    assert (told.status, done.status) == ("dry_run", "success")
    after = {table: store.raw_rows(table) for table in (EVENTS, DAYS)}
    for table in after:
        old, new = keyed(table, held.get(table, [])), keyed(table, after[table])
        changes = differences(old, new, summary)
        assert counts(done.changes[table]) == counts(told.changes[table]) == changes
        assert done.changes[table].examples == []
        check_examples(told.changes[table].examples, table, old, new, sum(changes[:3]))
    return after


def random_summary(chance: random.Random) -> Summary:
    """Of up to 8 events, up to 6 days each, few amounts: much stays, much changes."""
    events = chance.sample("abcdefgh", chance.randint(1, 8))
    names = {event: chance.choice([None, "Name", f"Name of {event}"]) for event in events if chance.random() < 0.8}
    return summary_of(
        names,
        [
            (event, f"2026-01-{day:02d}", chance.choice([1, 1, 2]), chance.choice(["9.99", "9.99", "0", "-0.5"]))
            for event in events
            for day in chance.sample(range(1, 7), chance.randint(0, 6))
        ],
        at=MORNING + timedelta(seconds=chance.randint(1, 10**6)),
    )


def keyed(table: str, rows: Rows) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Key -> what is compared."""
    width = KEYS[table]
    return {row[:width]: row[width:4] for row in rows}


def differences(
    old: dict[tuple[Any, ...], tuple[Any, ...]], new: dict[tuple[Any, ...], tuple[Any, ...]], summary: Summary
) -> tuple[int, int, int, int]:
    both = [key for key in old if key in new and key[0] in summary.scope]
    updated = sum(old[key] != new[key] for key in both)
    return len(new.keys() - old.keys()), updated, len(old.keys() - new.keys()), len(both) - updated


def check_examples(
    examples: list[dict[str, Any]],
    table: str,
    old: dict[tuple[Any, ...], tuple[Any, ...]],
    new: dict[tuple[Any, ...], tuple[Any, ...]],
    changed: int,
) -> None:
    """Each is a row that changed, with its values before and after as text; as many as there are, up to 20."""
    columns = {EVENTS: ["event_name", "total_tickets", "total_revenue"], DAYS: ["tickets_sold", "revenue"]}[table]
    seen = set()
    for example in examples:
        key = (example["event_id"], *([date.fromisoformat(example["sale_date"])] if table == DAYS else []))
        seen.add(key)
        assert old.get(key) != new.get(key)
        for row, shown in ((old.get(key), example["old"]), (new.get(key), example["new"])):
            assert (row is None) == (shown is None)
            if row is not None:
                assert list(shown) == columns
                assert [shown[name] for name in columns if name == "event_name"] == list(row[:-2])
                assert [Decimal(shown[name]) for name in columns[-2:]] == list(row[-2:])
    assert len(seen) == len(examples) == min(changed, MAX_EXAMPLES)


ORACLE = """
    WITH sale AS (
      SELECT event_id, (sale_date AT TIME ZONE 'UTC')::date AS sale_date, coalesce(quantity, 1) AS quantity,
             coalesce(total_amount, coalesce(quantity, 1) * coalesce(price, 0)) AS amount
      FROM json_to_recordset('{sales}') AS
           s(event_id text, quantity bigint, price numeric, total_amount numeric, sale_date timestamptz)),
    event AS (SELECT id, name FROM json_to_recordset('{events}') AS e(id text, name text))
    SELECT coalesce(id, event_id), max(name), coalesce(sum(quantity), 0)::bigint, coalesce(sum(amount), 0), NULL
    FROM event FULL JOIN sale ON id = event_id GROUP BY 1
    UNION ALL SELECT event_id, NULL, sum(quantity)::bigint, sum(amount), sale_date FROM sale GROUP BY 1, 5"""

event_ids = st.sampled_from(["1", "2", "3", "Ωmega", "x"])
amount_texts = st.decimals(-(10**27), 10**27, places=9, allow_nan=False, allow_infinity=False).map("{:f}".format)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
naive_moments = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1))  # noqa: DTZ001 - naive ones are UTC
moments = naive_moments | st.builds(datetime.replace, naive_moments, tzinfo=offsets)
sale_items = st.fixed_dictionaries(
    {
        "event_id": event_ids,
        "sale_date": st.one_of(moments, moments.map(lambda m: m.replace(year=2026, month=2, day=1))).map(
            datetime.isoformat
        ),
    },
    optional={
        "quantity": st.integers(-(10**9), 10**9) | st.integers(0, 3),
        "price": st.decimals(-(10**9), 10**9, places=9, allow_nan=False, allow_infinity=False).map("{:f}".format),
        "total_amount": amount_texts | st.sampled_from(["0.1", "-0.1", "19.99", "0"]),
    },
)
event_items = st.lists(
    st.fixed_dictionaries({"id": event_ids, "name": st.sampled_from(["A", "B"])}), unique_by=lambda event: event["id"]
)


def test_both_stores_equal_the_oracle_for_any_records(
    database_url: str, bigquery_emulator: BigQueryEmulator, bigquery_project: str, bigquery_dataset: str
) -> None:
    """Whatever they held before, both hold what PostgreSQL makes of the same records by ten lines of SQL."""

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
    @given(events=event_items, sales=st.lists(sale_items, max_size=25))
    def play(events: list[dict[str, Any]], sales: list[dict[str, Any]]) -> None:
        summary = transform_summary(*records(events, sales), MORNING)
        oracle = postgres.run(ORACLE.format(sales=literal(sales), events=literal(events)))
        for store in (postgres, bigquery):
            held[store] = load_as_told(store, summary, held[store])
            stored = {
                table: [row[:4] for row in rows if row[0] in summary.scope] for table, rows in held[store].items()
            }
            assert [(row[0], *row[2:]) for row in stored[EVENTS]] == sorted(
                (event_id, tickets, amount) for event_id, _, tickets, amount, day in oracle if day is None
            )
            assert stored[DAYS] == sorted(
                (event_id, day, tickets, amount) for event_id, _, tickets, amount, day in oracle if day is not None
            )
            names = {row[0]: row[1] for row in oracle if row[1] is not None}
            assert names.items() <= {row[0]: row[1] for row in stored[EVENTS]}.items()

    with (
        PostgresStore(database_url) as postgres,
        BigQueryStore(bigquery_emulator, bigquery_project, bigquery_dataset) as bigquery,
    ):
        held: dict[Store, dict[str, Rows]] = {postgres: {}, bigquery: {}}
        play()


def records(
    events: list[dict[str, Any]], sales: list[dict[str, Any]]
) -> tuple[list[EventRecord], list[TicketSaleRecord]]:
    """The product's reading of the items; it may reject none."""
    read = sale_reader(date(2026, 1, 31), UTC)
    event_records = [read_event(EventItem(**event)) for event in events]
    sale_records = [read(SaleItem(**sale)) for sale in sales]
    usable_events = [record for record in event_records if isinstance(record, EventRecord)]
    usable_sales = [record for record in sale_records if isinstance(record, TicketSaleRecord)]
    assert (len(usable_events), len(usable_sales)) == (len(events), len(sales))
    return usable_events, usable_sales


def literal(items: list[dict[str, Any]]) -> str:
    return json.dumps(items).replace("'", "''")
