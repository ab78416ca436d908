"""Databases in other encodings than UTF-8: they hold what they can, and say what they can't."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from etl.deadline import Deadline
from etl.errors import LoadFailedError, StoreUnavailableError
from etl.extract.items import CUT
from etl.extract.tally import RejectedItem
from etl.load.postgres.load import load_postgres
from etl.run.ledger import PostgresLedger, Run
from etl.run.pipeline import run_etl_once
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.support.summaries import DAYS, EVENTS, MORNING, PostgresStore, engine_of, rows_of, summary_of

MakeStore = Callable[[str], PostgresStore]

TICKET = "\N{ADMISSION TICKETS}\N{VARIATION SELECTOR-16}"
KANJI, KANA, OMEGA = "\u6f22\u5b57", "\u30ab\u30bf\u30ab\u30ca", "\u03a9"


@pytest.fixture
def make_store(postgres_server: EmbeddedPostgres) -> Iterator[MakeStore]:
    """Makes empty databases in an encoding."""
    with ExitStack() as stack:

        def make(encoding: str) -> PostgresStore:
            name = postgres_server.create_database(encoding=encoding)
            stack.callback(postgres_server.drop_database, name)
            return stack.enter_context(PostgresStore(postgres_server.url(name)))

        yield make


@pytest.mark.parametrize(
    ("encoding", "event_id", "name"),
    [
        pytest.param("SQL_ASCII", f"id {OMEGA} {TICKET}", f"A\u00efda {TICKET} {KANJI}", id="SQL_ASCII holds all"),
        pytest.param("LATIN1", "\u00e9 \u00df", "A\u00efda \u00a0\u00ff", id="LATIN1"),
        pytest.param("WIN1252", "\u20ac", "\u201cA\u00efda\u201d \u2013 \u20ac 5", id="WIN1252"),
        pytest.param("EUC_JP", KANA, f"{KANJI} {OMEGA}", id="EUC_JP"),
    ],
)
def test_what_a_database_can_hold_comes_through(make_store: MakeStore, encoding: str, event_id: str, name: str) -> None:
    """Ids and names are stored, compared, told by a dry run and kept for an event that comes without its name."""
    store = make_store(encoding)
    assert store.run("SHOW server_encoding") == [(encoding,)]
    summary = summary_of({event_id: name, "plain": "Plain"}, [(event_id, "2026-01-01", 2, "20.50")])
    for events in ((2, 0), (0, 2)):
        result = store.load(summary)
        assert (result.changes[EVENTS].inserted, result.changes[EVENTS].unchanged) == events
        assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(summary)
    assert store.stored_tickets([event_id]).in_scope == 2
    nameless = summary_of({event_id: None}, [(event_id, "2026-01-02", 1, "1")])
    told = store.load(nameless, dry_run=True)
    assert told.changes[EVENTS].examples[0]["old"]["event_name"] == name
    store.load(nameless)
    assert store.rows(EVENTS)[0 if event_id < "plain" else 1][:2] == (event_id, name)


PLACES = {
    "a name": (
        {"plain": "Plain", "7": f"Night of {TICKET}"},
        "7",
        ["LATIN1", "U+1F39F", f"{EVENTS}.event_name of the event '7'"],
    ),
    "an id": (
        {"plain": "Plain", f"7{OMEGA}": "Seven"},
        f"7{OMEGA}",
        [f"U+03A9), in {EVENTS}.event_id of the event '7"],
    ),
}


@pytest.mark.parametrize(("names", "sold", "words"), [pytest.param(*case, id=place) for place, case in PLACES.items()])
def test_what_it_cannot_hold_is_named(
    make_store: MakeStore, names: dict[str, str | None], sold: str, words: list[str]
) -> None:
    """Nothing is changed, and the error tells the character, the table, the column, the event, and what to do."""
    store = make_store("LATIN1")
    before = summary_of({"plain": "Before"}, [("plain", "2026-01-01", 1, "1")])
    store.load(before)
    for dry_run in (True, False):
        with pytest.raises(StoreUnavailableError) as caught:
            store.load(summary_of(names, [(sold, "2026-01-01", 2, "2")]), dry_run=dry_run)
        wanted = [*words, "22P05", "ENCODING 'UTF8'"]
        assert [word for word in wanted if word not in str(caught.value)] == [], str(caught.value)
        assert caught.value.details == {"sqlstate": "22P05"}
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(before)


def test_an_encoding_that_cannot_be_translated(postgres_server: EmbeddedPostgres) -> None:
    """The server refuses the login, and the message says which two encodings don't go together."""
    name = postgres_server.create_database(encoding="MULE_INTERNAL")
    engine = engine_of(postgres_server.url(name))
    with pytest.raises(StoreUnavailableError, match="between UTF8 and MULE_INTERNAL is not supported"):
        load_postgres(summary_of({}), engine, Deadline(20))
    engine.dispose()
    postgres_server.drop_database(name)


def test_bytes_that_are_no_text(make_store: MakeStore) -> None:
    """What others have written into a SQL_ASCII database may be no UTF-8: a load replaces it, a dry run says so."""
    store = make_store("SQL_ASCII")
    store.load(summary_of({"7": "Seven"}))
    store.run(f"UPDATE {EVENTS} SET event_name = convert_from('\\xe9'::bytea, 'SQL_ASCII')")
    with pytest.raises(StoreUnavailableError, match=r"22021.*SQL_ASCII"):
        store.load(summary_of({"7": "Huit"}), dry_run=True)
    store.load(summary_of({"7": "Huit"}))
    assert store.rows(EVENTS)[0][:2] == ("7", "Huit")


REJECTS = {
    "plain": '{"name": "Plain"}',
    "held": '{"name": "A\u00efda"}',
    "lacking": f'{{"name": "{TICKET}"}}',
    "escaped": '{"name": "\\ud83c\\udf9f"}',
    "cut": f'{{"name": "{TICKET}{CUT}',
}
ESCAPED = "\\U0001f39f\\ufe0f"
KEPT = {
    "LATIN1": {
        "plain": ({"name": "Plain"}, None),
        "held": ({"name": "A\u00efda"}, None),
        "lacking": (None, f'{{"name": "{ESCAPED}"}}'),
        "escaped": (None, REJECTS["escaped"]),
        "cut": (None, f'{{"name": "{ESCAPED}{CUT}'),
    },
    "SQL_ASCII": {
        "plain": ({"name": "Plain"}, None),
        "held": ({"name": "A\u00efda"}, None),
        "lacking": ({"name": TICKET}, None),
        "escaped": (None, REJECTS["escaped"]),
        "cut": (None, REJECTS["cut"]),
    },
}


@pytest.mark.parametrize("encoding", KEPT)
def test_the_ledger_keeps_every_text(make_store: MakeStore, encoding: str) -> None:
    """Rejected records and errors are kept whatever is in them: as they are, or with escapes."""
    store = make_store(encoding)
    log = PostgresLedger(store.engine)
    log.start(run := Run("r1", MORNING, "test"), Deadline(20))
    run.status, run.error_code, run.error_text = "failed", "load_failed", f"the event {TICKET}, says A\u00efda"
    rejects = [RejectedItem("events", name, name, text) for name, text in REJECTS.items()]
    log.finish(run, rejects, Deadline(20))
    kept = store.run("SELECT reason, record, record_text FROM etl_rejected_records")
    assert {reason: (record, text) for reason, record, text in kept} == KEPT[encoding]
    (told,) = PostgresLedger(store.engine).last_runs(1, Deadline(20))
    escaped = run.error_text.encode("ascii", "backslashreplace").decode()
    assert told.error_text == (escaped if encoding == "LATIN1" else run.error_text)


def test_a_run_that_a_database_cannot_hold(make_store: MakeStore) -> None:
    """It fails by its load alone: how it ended and what it rejected stand in the ledger, and the lease is free."""
    store = make_store("LATIN1")
    with TicketingApi() as upstream:
        upstream.events = [{"id": "7", "name": TICKET}, {"name": f"no id {TICKET}"}]
        upstream.sales = [{"id": 1, "event_id": "7", "quantity": 1, "price": 5, "sale_date": "2026-01-01T08:00:00Z"}]
        settings = replace(store.settings, nest_api_base_url=upstream.base_url, etl_max_reject_ratio=1.0)
        with pytest.raises(LoadFailedError, match=r"U\+1F39F.*of the event '7'"):
            run_etl_once(settings)
        upstream.events = [{"id": "7", "name": "Seven"}]
        assert run_etl_once(settings).status == "success"
    rows = store.run("SELECT status, error_code, rejected_count FROM etl_runs ORDER BY started_at")
    assert rows == [("failed", "load_failed", 1), ("success", None, 0)]
    assert store.run("SELECT reason, record_text FROM etl_rejected_records") == [
        ("event_id_missing", f'{{"name":"no id {ESCAPED}"}}')
    ]
