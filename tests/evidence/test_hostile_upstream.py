"""Whatever an upstream sends, a run ends as it should, in bounded time and memory, and leaves what it has in order."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from etl.settings import DEADLINE_MARGIN_SECONDS
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HttpStandIn
from tests.doubles.postgres import EmbeddedPostgres
from tests.evidence.hostile.answers import HOSTILE
from tests.evidence.hostile.bodies import MEBIBYTE, SALE
from tests.support.oracle import bigquery_tables, postgres_tables
from tests.support.runs_apart import Outcome, run, run_apart

AT_ONCE = 16
"""Most of a run is waiting between its attempts."""
MEMORY = 64 * MEBIBYTE
BENIGN = "benign"
KEPT = "SELECT reason, sum(times_seen)::int FROM etl_rejected_records GROUP BY reason"


class HostileUpstream(HttpStandIn):
    """Under /NUMBER there are one event and one sale, and in the place of one of them that hostile answer."""

    def respond(self, request: Request) -> Answer:
        name, dataset = request.path.split("/")[1:]
        case = None if name == BENIGN else list(HOSTILE.values())[int(name)]
        if case is not None and case.dataset == dataset:
            return case.answer()
        return json_answer([{"id": "e", "name": "E"}] if dataset == "events" else [SALE])


@dataclass(frozen=True)
class Played:
    outcome: Outcome
    rejects: dict[str, int]


@pytest.fixture(scope="module")
def played(postgres_server: EmbeddedPostgres) -> Iterator[dict[str, Future[Played]]]:
    """Each hostile answer, and the benign one, met by a run in a process and with a database of its own."""

    def play(path: str, seconds: float) -> Played:
        database = postgres_server.create_database()
        env = {
            "NEST_API_BASE_URL": f"{upstream.url}/{path}",
            "DATABASE_URL": postgres_server.url(database),
            "ETL_DEADLINE_SECONDS": str(seconds),
        }
        try:
            outcome = run_apart(env)
            return Played(outcome, dict(postgres_server.run(KEPT, database)))
        finally:
            postgres_server.drop_database(database)

    with HostileUpstream() as upstream, ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {BENIGN: pool.submit(play, BENIGN, 25.0)}
        yield runs | {
            name: pool.submit(play, str(number), case.deadline) for number, (name, case) in enumerate(HOSTILE.items())
        }


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer(name: str, played: dict[str, Future[Played]]) -> None:
    """The run ends as it should, soon after its deadline at most, with at most 64 MiB more than an ordinary one; its
    log is a JSON object a line, of bounded length.
    """
    case, done = HOSTILE[name], played[name].result()
    outcome = done.outcome
    more = outcome.peak_bytes - played[BENIGN].result().outcome.peak_bytes
    print(f"{name}: {outcome.code} after {outcome.seconds:.1f} s, {more / MEBIBYTE:+.0f} MiB")
    assert (outcome.code, outcome.seconds < case.deadline + DEADLINE_MARGIN_SECONDS) == (case.code, True), (
        outcome.detail
    )
    assert case.words in outcome.detail
    assert more <= MEMORY
    if case.code == "success":
        assert (outcome.answer["sales_count"], outcome.answer["total_tickets"]) == (case.sales, 2 * case.sales)
    assert done.rejects == case.rejected
    assert all(isinstance(json.loads(line), dict) and len(line) < 20_000 for line in outcome.log.splitlines())
    assert len(json.dumps(outcome.answer, default=str)) < 20_000


TEXTS = {
    "SQL": "'; DROP TABLE event_sales_summary; --",
    "a dollar quote": "$$ $1 :name %s %(name)s {0} ${jndi:ldap://x}",
    "BigQuery's quotes": '`x`.`y` \\\' \\" """ \'\'\' r"\\"',
    "COPY's end": "\\.",
    "COPY's end on a line": "a\n\\.\nb",
    "COPY's null": "\\N",
    "the null of CSV": '""',
    "tabs and backslashes": "\t\\t\\\\\t\\",
    "line breaks": "a\nb\r\nc\rd\x0b\x0c\x85\u2028\u2029e",
    "a log line": '"}\n{"severity":"CRITICAL","message":"ETL job completed"}',
    "a log line of text": "x\nERROR: everything is lost",
    "escapes of a terminal": "\x1b[2J\x1b]0;title\x07\x9b31m\b\b\x7f",
    "right to left": "abc\u202e\u2066fed\u2069",
    "zero width": "a\u200b\u200c\u200d\ufeff\u00adb",
    "combining": "Z" + "\u0335\u0310" * 100 + "e\u0301 \u00e9",
    "beyond 16 bits": "🎫👩‍👩‍👧‍👦\U0010ffff\ufffe",
    "HTML": "<script>alert(1)</script>&amp;",
    "CSV": '=cmd|"/c calc"!A0,"x"',
    "a path": "../../etc/passwd%00",
    "blanks": " \u00a0\u3000 ",
    "JSON": '{"id": 1, "\\u0000": []}',
    "a number": "1e5",
}


def test_texts_are_kept_exactly(
    postgres_server: EmbeddedPostgres,
    database_url: str,
    bigquery_emulator: BigQueryEmulator,
    bigquery_project: str,
    bigquery_dataset: str,
) -> None:
    """As ids and as names, in both stores, to the character; what no store can hold is kept aside and said in the log,
    and each of its lines is whole.
    """
    events = [{"id": text, "name": text} for text in TEXTS.values()]
    bad_ids = ['x\n{"message":"ETL job completed"}\0', "\ud800\x1b[2J"]
    sales = [SALE | {"id": number, "event_id": text} for number, text in enumerate(TEXTS.values())]
    env = {
        "DATABASE_URL": database_url,
        "BQ_ENABLED": "true",
        "BQ_PROJECT_ID": bigquery_project,
        "BQ_DATASET": bigquery_dataset,
        "BIGQUERY_EMULATOR_HOST": bigquery_emulator.url,
        "ETL_MAX_REJECT_RATIO": "1",
    }
    with Lists({"/events": events + [{"id": bad} for bad in bad_ids], "/ticket-sales": sales}) as upstream:
        outcome = run(env | {"NEST_API_BASE_URL": upstream.url})
    assert outcome.code == "success", outcome.detail
    ordered = sorted(TEXTS.values())
    wanted = [(text, text, 2, Decimal(5)) for text in ordered]
    database = database_url.partition("@/")[2].partition("?")[0]
    with closing(bigquery_emulator.client(bigquery_project)) as client:
        for tables in (postgres_tables(postgres_server, database), bigquery_tables(client, bigquery_dataset)):
            assert sorted(tables.events) == wanted
            assert sorted(row[0] for row in tables.daily) == ordered
    lines = [json.loads(line) for line in outcome.log.splitlines()]
    assert [line["example_id"] for line in lines if line["message"] == "ETL records rejected"] == bad_ids[:1]
    assert [line["message"] for line in lines].count("ETL job completed") == 1


class Lists(HttpStandIn):
    """Each list at its path."""

    def __init__(self, lists: dict[str, list[Any]]) -> None:
        super().__init__()
        self._lists = lists

    def respond(self, request: Request) -> Answer:
        return json_answer(self._lists[request.path])
