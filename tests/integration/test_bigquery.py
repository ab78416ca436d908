"""load_bigquery on the emulator, and what of it goes over the wire. What both stores share is in test_stores."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.cloud.bigquery import Table

from etl.errors import AlreadyRunningError, DeadlineExceededError, EtlError, StoreUnavailableError
from etl.load.store import StoredTickets
from etl.transform.fold import Summary
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.http_server import Answer, Request, json_answer
from tests.doubles.http_stand_in import HANG, LOSE_ANSWER
from tests.support.summaries import DAYS, EVENTS, MORNING, BigQueryStore, counts, rows_of, summary_of
from tests.support.waiting import takes_at_most

StoreMaker = Callable[..., BigQueryStore]

BEFORE = summary_of(
    {"a": "Aida", "b": None},
    [*(("a", f"2026-01-{day:02d}", day, f"{day}.5") for day in range(1, 7)), ("b", "2026-01-01", 1, "1")],
)
AFTER = summary_of(
    {"a": "Aida", "b": None},
    [
        *(("a", f"2026-01-{day:02d}", day, f"{day}.5") for day in (1, 2, 4, 6)),
        ("a", "2026-01-03", 3, "99"),
        ("b", "2026-01-01", 1, "1"),
    ],
)
"""The third day changes, the fifth is gone."""


class ScriptedFront(BigQueryFront):
    """A front that answers some requests itself: those for which `script` gives an answer."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.script: Callable[[Request], Answer | None] = lambda _: None

    def respond(self, request: Request) -> Answer:
        return self.script(request) or super().respond(request)


@pytest.fixture
def front(bigquery_emulator: BigQueryEmulator) -> Iterator[ScriptedFront]:
    with ScriptedFront(bigquery_emulator.url) as front:
        yield front


@pytest.fixture
def make_store(
    bigquery_emulator: BigQueryEmulator, bigquery_project: str, bigquery_dataset: str
) -> Iterator[StoreMaker]:
    """Makes stores on one and the same dataset; `endpoint` and further settings may differ."""
    with ExitStack() as stores:

        def make(endpoint: str | None = None, **settings: Any) -> BigQueryStore:
            parts = (bigquery_emulator, bigquery_project, bigquery_dataset)
            return stores.enter_context(BigQueryStore(*parts, endpoint, **settings))

        yield make


@pytest.fixture
def store(front: ScriptedFront, make_store: StoreMaker) -> BigQueryStore:
    """An empty one, behind the front."""
    return make_store(front.url)


def query_of(request: Request) -> str:
    """The text of a query job that is started here; else nothing."""
    if request.method != "POST" or not request.path.endswith("/jobs") or "upload" in request.path:
        return ""
    return str(request.json["configuration"]["query"]["query"])


def test_dataset_and_tables_are_made_as_the_design_says(make_store: StoreMaker) -> None:
    """Location, names, types, modes, partitions and clusters; a second load makes nothing."""
    names = {"bq_table_event_summary": "events_2", "bq_table_daily_sales": "days_2"}
    store = make_store(bq_location="europe-west3", **names)
    store.load(BEFORE)
    assert store.client.get_dataset(store.dataset).location == "europe-west3"
    events, days = (store.client.get_table(f"{store.dataset}.{name}") for name in names.values())
    assert schema(events) == [
        ("event_id", "STRING", "REQUIRED"),
        ("event_name", "STRING", "NULLABLE"),
        ("total_tickets", "INTEGER", "REQUIRED"),
        ("total_revenue", "NUMERIC", "REQUIRED"),
        ("last_updated", "TIMESTAMP", "REQUIRED"),
    ]
    assert schema(days) == [
        ("event_id", "STRING", "REQUIRED"),
        ("sale_date", "DATE", "REQUIRED"),
        ("tickets_sold", "INTEGER", "REQUIRED"),
        ("revenue", "NUMERIC", "REQUIRED"),
    ]
    assert (events.time_partitioning, events.clustering_fields) == (None, None)
    assert (days.time_partitioning.type_, days.time_partitioning.field) == ("DAY", "sale_date")
    assert days.clustering_fields == ["event_id"]
    assert sorted(store.tables()) == ["days_2", "events_2"]


def schema(table: Table) -> list[tuple[str, str, str]]:
    """Name, type and mode of each column. The service calls it INTEGER, and takes INT64 for it."""
    return [(field.name, field.field_type.replace("INT64", "INTEGER"), field.mode) for field in table.schema]


def test_a_load_on_the_wire(front: ScriptedFront, store: BigQueryStore) -> None:
    """One script merges both, within the days that change; numbers go as text; staging expires; job ids derive."""
    store.load(BEFORE)
    del front.log[:]
    started = datetime.now(UTC)
    store.load(AFTER, run_id="20260131T060000Z-1a2b")
    scripts = [query for query in map(query_of, front.log) if "MERGE" in query]
    assert len(scripts) == 1
    assert re.fullmatch(r"\s*BEGIN TRANSACTION;.*MERGE.*MERGE.*COMMIT TRANSACTION;\s*", scripts[0], re.DOTALL)
    assert scripts[0].count("MERGE") == 2
    assert "NOT MATCHED BY SOURCE" not in scripts[0].upper()
    assert set(re.findall(r"BETWEEN DATE '(.+?)' AND DATE '(.+?)'", scripts[0])) == {("2026-01-03", "2026-01-05")}
    daily_merge = scripts[0][scripts[0].index(f".{DAYS}`") :]
    on = re.search(r"\n\s*ON (.*)\n", daily_merge)
    assert on is not None
    assert "t.sale_date BETWEEN DATE" in on[1]

    made = [request.json for request in front.log if request.method == "POST" and request.path.endswith("/tables")]
    assert [table["tableReference"]["tableId"] for table in made] == [
        f"etl_staging_{table}_20260131T060000Z_1a2b" for table in (EVENTS, DAYS)
    ]
    for table in made:
        expires = datetime.fromtimestamp(int(table["expirationTime"]) / 1000, UTC)
        assert timedelta(hours=1) < expires - started < timedelta(hours=25)
    assert [request.path.rsplit("/", 1)[1] for request in front.log if request.method == "DELETE"] == [
        table["tableReference"]["tableId"] for table in made
    ]
    assert not [request for request in front.log if request.method == "POST" and request.path.endswith("/datasets")]

    uploads = [request for request in front.log if request.method == "PUT"]
    rows = [[json.loads(line) for line in upload.body.splitlines()] for upload in uploads]
    assert rows[1][0] == {"event_id": "a", "sale_date": "2026-01-01", "tickets_sold": "1", "revenue": "1.500000000"}
    assert {type(value) for table in rows for row in table for value in row.values()} == {str, type(None)}
    configured = [
        request.json
        for request in front.log
        if request.query.get("uploadType") == "resumable" and request.method == "POST"
    ]
    for job, table in zip(configured, made, strict=True):
        assert job["configuration"]["load"]["schema"]["fields"] == table["schema"]["fields"]
    assert len([query for query in map(query_of, front.log) if "AS revenue FROM" in query]) == 2
    prefix = "veritix-etl-20260131T060000Z-1a2b-"
    ids = [
        request.json["jobReference"]["jobId"]
        for request in front.log
        if request.path.endswith("/jobs") and request.method == "POST"
    ]
    assert len({*ids}) == len(ids)
    steps = [job_id.removeprefix(prefix) for job_id in ids]
    assert [step for step in steps if not step.startswith("read-")] == [f"stage-{EVENTS}", f"stage-{DAYS}", "merge"]
    assert {job["jobReference"]["location"] for job in configured} == {"US"}
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(AFTER)


def test_the_same_data_again_touches_no_daily_row(front: ScriptedFront, store: BigQueryStore) -> None:
    """The second load has no MERGE for the daily table, and nothing is made but staging."""
    store.load(BEFORE)
    del front.log[:]
    store.load(summary_of({"a": "Aida", "b": None}, sales_of_before(), at=MORNING + timedelta(hours=1)))
    scripts = [query for query in map(query_of, front.log) if "MERGE" in query]
    assert [re.findall(r"MERGE `[^`]*\.(\w+)`", script) for script in scripts] == [[EVENTS]]
    assert store.rows(DAYS) == rows_of(BEFORE)[DAYS]
    assert {row[4] for row in store.raw_rows(EVENTS)} == {MORNING + timedelta(hours=1)}
    assert not any(
        request.method == "POST"
        and request.path.endswith(("/datasets", "/tables"))
        and b"etl_staging" not in request.body
        for request in front.log
    )


def sales_of_before() -> list[tuple[str, str, int, str]]:
    return [(row[0], row[1].isoformat(), row[2], str(row[3])) for row in rows_of(BEFORE)[DAYS]]


def test_more_days_than_a_job_may_touch_take_a_merge_each(front: ScriptedFront, store: BigQueryStore) -> None:
    """4,001 days of eleven years and of a bad clock: two MERGEs in the one script, of 4,000 days and of one."""
    days = ["0001-01-01", *((date(2015, 1, 1) + timedelta(number)).isoformat() for number in range(4000))]
    summary = summary_of({"a": "Aida"}, [("a", day, 1, "2.5") for day in days])
    store.load(summary)
    [script] = [query for query in map(query_of, front.log) if "MERGE" in query]
    assert re.findall(r"MERGE `[^`]*\.(\w+)`", script) == [EVENTS, DAYS, DAYS]
    bounds = re.findall(r"ON .* AND t.sale_date BETWEEN DATE '(.+?)' AND DATE '(.+?)'", script)
    assert bounds == [(days[0], days[3999]), (days[4000], days[4000])]
    assert store.rows(DAYS) == rows_of(summary)[DAYS]


def test_a_lost_lease_stops_it_right_before_the_merge(front: ScriptedFront, store: BigQueryStore) -> None:
    """`before_write` is asked after all else and before the script; when it raises, rows stay and staging goes."""
    store.load(BEFORE)
    asked: list[int] = []

    def lost() -> None:
        asked.append(len([query for query in map(query_of, front.log) if "MERGE" in query]))
        raise AlreadyRunningError("taken over")

    with pytest.raises(AlreadyRunningError, match="taken over"):
        store.load(AFTER, before_write=lost)
    assert asked == [1]
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    assert sorted(store.tables()) == [DAYS, EVENTS]
    store.load(AFTER)
    assert store.rows(DAYS) == rows_of(AFTER)[DAYS]


def test_an_error_in_the_script_leaves_both_tables_as_they_were(front: ScriptedFront, store: BigQueryStore) -> None:
    """Both MERGEs are one transaction: when the second fails, the first is undone, and the next load heals it."""
    store.load(BEFORE)

    def spoil(request: Request) -> Answer | None:
        query = query_of(request)
        if "MERGE" not in query:
            return None
        spoilt = query.replace("COMMIT TRANSACTION", "SELECT 1 / 0; COMMIT TRANSACTION").encode()
        content = (
            json.dumps(request.json)
            .encode()
            .replace(json.dumps(query)[1:-1].encode(), json.dumps(spoilt.decode())[1:-1].encode())
        )
        return BigQueryFront.respond(front, Request(request.method, request.target, request.headers, content))

    front.script = spoil
    with pytest.raises(StoreUnavailableError, match="BigQuery"):
        store.load(AFTER)
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    front.script = lambda _: None
    store.load(AFTER)
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(AFTER)


def test_a_lost_answer_does_not_start_a_second_job(front: ScriptedFront, store: BigQueryStore) -> None:
    """Each job that writes loses its first answer: its id comes again, is refused, and the job is asked for instead."""
    front.fail(LOSE_ANSWER, path="upload_id=")
    store.load(BEFORE, run_id="r1", before_write=lambda: front.fail(LOSE_ANSWER, path="jobs?prettyPrint"))
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    merges = [request for request in front.log if "MERGE" in query_of(request)]
    assert [request.json["jobReference"]["jobId"] for request in merges] == ["veritix-etl-r1-merge"] * 2
    asked_for = [request.path.rsplit("/", 1)[1] for request in front.log if re.search("/jobs/[^/]+$", request.path)]
    assert {"veritix-etl-r1-merge", f"veritix-etl-r1-stage-{EVENTS}"} <= set(asked_for)


REFUSALS = {
    "403 on the dataset": (403, "/datasets/", "403", "roles/bigquery.dataEditor"),
    "403 on jobs": (403, "jobs?prettyPrint", "403", "roles/bigquery.jobUser"),
    "404 on jobs": (404, "jobs?prettyPrint", "404", "BQ_PROJECT_ID"),
    "429 on jobs": (429, "jobs?prettyPrint", "429", "run less often"),
    "500 on jobs": (500, "jobs?prettyPrint", "500", "made to fail"),
    "403 on upload": (403, "uploadType", "403", "roles/bigquery.jobUser"),
    "503 on upload": (503, "uploadType", "503", "made to fail"),
    "hanging tables": (HANG, "/tables/", "BigQuery", ""),
    "hanging upload": (HANG, "upload_id=", "BigQuery", ""),
}


@pytest.mark.parametrize(
    ("kind", "path", "code", "hint"), [pytest.param(*case, id=name) for name, case in REFUSALS.items()]
)
def test_a_refusal_gives_a_clear_message_within_the_deadline(
    front: ScriptedFront, store: BigQueryStore, kind: int | str, path: str, code: str, hint: str
) -> None:
    """What BigQuery answers, again and again, becomes an error for people, soon after the run's time is up."""
    front.fail(kind, times=4 if kind == HANG else 999, path=path)
    seconds = 1 if kind == HANG else 6  # a busy machine must still get as far as the refusal
    with takes_at_most(seconds), pytest.raises((StoreUnavailableError, DeadlineExceededError)) as caught:
        store.load(BEFORE, seconds=seconds)
    if kind != HANG:
        assert isinstance(caught.value, StoreUnavailableError)
    if isinstance(caught.value, StoreUnavailableError):
        assert code in str(caught.value)
        assert hint in str(caught.value)
    assert "MERGE" not in str(caught.value)


def test_staging_that_cannot_be_dropped_is_left_to_expire(
    front: ScriptedFront, store: BigQueryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The load is done and says so, soon; the log names what is left."""
    monkeypatch.setattr("etl.load.bigquery.client.BRIEF_SECONDS", 0.3)
    front.fail(503, times=99, path="tables/etl_staging")
    with takes_at_most(0.3), caplog.at_level("INFO", "etl"):
        assert store.load(BEFORE, run_id="r1").status == "success"
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
    left = [record.__dict__["fields"]["table"] for record in caplog.records if "left" in record.message]
    assert left == [", ".join(f"{store.dataset}.etl_staging_{table}_r1" for table in (EVENTS, DAYS))]


def test_a_service_that_falls_silent_is_not_waited_for_twice(
    front: ScriptedFront, store: BigQueryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tidies up gives up at its first call: the run's time may be over by then."""
    monkeypatch.setattr("etl.load.bigquery.client.BRIEF_SECONDS", 1.0)
    front.fail(HANG, times=99, path="tables/etl_staging_event_sales_summary_r1")
    with takes_at_most(1):
        assert store.load(BEFORE, run_id="r1").status == "success"
    assert [request for request in front.log if request.method == "DELETE" and DAYS in request.path] == []


def test_a_run_that_has_lost_its_lease_merges_nothing(store: BigQueryStore) -> None:
    """It stood still after its last look at the lease; meanwhile another has loaded, and dropped what it had staged."""
    store.load(BEFORE, run_id="r0")

    def be_overtaken() -> None:
        store.load(AFTER, run_id="r2")

    with pytest.raises(StoreUnavailableError, match="404"):
        store.load(BEFORE, run_id="r1", before_write=be_overtaken)
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(AFTER)
    assert sorted(store.tables()) == [DAYS, EVENTS]


def test_two_deployments_share_a_dataset(store: BigQueryStore, make_store: StoreMaker) -> None:
    """With tables of other names, and maybe at the same time: neither takes the other's staging for its own."""
    names = {"bq_table_event_summary": f"{EVENTS}_2", "bq_table_daily_sales": f"{DAYS}_2"}
    others = make_store(**names)

    def load_the_others() -> None:
        assert others.load(AFTER, run_id="20260131T060000Z-1a2b", before_write=load_again).status == "success"

    def load_again() -> None:
        assert store.load(AFTER, run_id="20260131T060001Z-3c4d").status == "success"

    with pytest.raises(StoreUnavailableError, match="404"):  # by `load_again`, which loads the same tables
        store.load(BEFORE, run_id="20260131T060000Z-1a2b", before_write=load_the_others)
    assert store.rows(EVENTS) == rows_of(AFTER)[EVENTS]
    assert others.stored_tickets("a").total == store.stored_tickets("a").total


def test_whatever_else_writes_to_the_tables_is_found_out(front: ScriptedFront, store: BigQueryStore) -> None:
    """What is read back after the MERGE isn't the Summary: the error tells both, and the next load heals it."""

    def interfere(request: Request) -> Answer | None:
        if "AS revenue FROM" in query_of(request):
            front.script = lambda _: None
            store.run(f"UPDATE `{{}}.{EVENTS}` SET total_revenue = 0.1 WHERE event_id = 'b'")
        return None

    front.script = interfere
    with pytest.raises(StoreUnavailableError) as caught:
        store.load(BEFORE)
    assert EVENTS in str(caught.value)
    assert "24.1" in str(caught.value)
    assert "25.0" in str(caught.value)
    assert store.load(BEFORE).reconciled[EVENTS].revenue == 25
    assert store.rows(EVENTS) == rows_of(BEFORE)[EVENTS]


def test_streaming_appends_in_chunks_with_row_ids(front: ScriptedFront, make_store: StoreMaker) -> None:
    """Rows of any run stay; each request has at most 500 rows, each row an id made of the run and its key."""
    store = make_store(front.url, bq_write_mode="stream")
    summary = summary_of(
        {}, [("a", date.fromordinal(738_000 + day).isoformat(), 1, "12345678901234.123456789") for day in range(1_201)]
    )
    asked: list[list[str]] = []
    result = store.load(summary, run_id="r1", before_write=lambda: asked.append([*store.tables()]))
    assert [counts(result.changes[table]) for table in (EVENTS, DAYS)] == [(1, 0, 0, 0), (1_201, 0, 0, 0)]
    assert [sorted(tables) for tables in asked] == [[DAYS, EVENTS]]
    requests = [request.json["rows"] for request in front.log if request.path.endswith("/insertAll")]
    assert [len(rows) for rows in requests] == [500, 500, 201, 1]
    ids = [row["insertId"] for rows in requests for row in rows]
    assert len(set(ids)) == 1_202
    assert [*map(ids.__getitem__, (0, -1))] == [f"r1:a:{date.fromordinal(738_000)}", "r1:a"]
    assert {type(value) for rows in requests for row in rows for value in row["json"].values()} <= {str, type(None)}
    assert store.rows(DAYS) == rows_of(summary)[DAYS]
    assert {row[4] for table in (EVENTS, DAYS) for row in store.raw_rows(table)} == {MORNING}
    assert {request.method for request in front.log if "etl_staging" in request.target} == set()


def test_stored_tickets_of_streamed_rows_are_the_newest(make_store: StoreMaker) -> None:
    """Of an event's many rows the last run's counts."""
    store = make_store(bq_write_mode="stream")
    for hour, tickets in ((1, 5), (3, 7), (2, 6)):
        at = MORNING + timedelta(hours=hour)
        store.load(summary_of({}, [("a", "2026-01-01", tickets, f"{hour}"), ("b", "2026-01-01", 10, "1")], at=at))
    assert len(store.rows(EVENTS)) == 6
    tickets_of = store.stored_tickets
    assert [tickets_of(scope) for scope in ("a", "ab", "x")] == [
        StoredTickets(17, 7, Decimal(3)),
        StoredTickets(17, 17, Decimal(4)),
        StoredTickets(17, 0, Decimal()),
    ]


def test_a_scope_larger_than_a_request(
    bigquery_emulator: BigQueryEmulator, make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard and dry run ask for the events in scope in several requests, and tell the same as in one."""
    monkeypatch.setattr("etl.load.bigquery.sql.REQUEST_BYTES", 10_000)
    names = {f"{number:036d}": "Name" for number in range(250)}
    days = [(event_id, "2026-01-01", 2, "0.5") for event_id in names]
    summary = summary_of(names, [*days[:160], (days[160][0], "2026-01-01", 3, "0.5"), *days[210:]])
    with BigQueryFront(bigquery_emulator.url, request_bytes=13_000) as front:
        store = make_store(front.url)
        store.load(summary_of(names, days))
        assert store.stored_tickets([*names]) == StoredTickets(500, 500, Decimal(125))
        assert store.stored_tickets([*names][::2]) == StoredTickets(500, 250, Decimal("62.5"))
        told, done = store.load(summary, dry_run=True), store.load(summary)
        asked = [request for request in front.log if "@scope" in query_of(request)]
        assert len(asked) == 2 + 1 + 2 + 2
    for table, changed in ((EVENTS, (0, 50, 0, 200)), (DAYS, (0, 1, 49, 200))):
        assert counts(told.changes[table]) == counts(done.changes[table]) == changed


def test_a_dry_run_tells_what_streaming_does(make_store: StoreMaker) -> None:
    """It appends: what it adds, it has inserted."""
    store = make_store(bq_write_mode="stream")
    for summary in (BEFORE, BEFORE, AFTER):
        told, done = store.load(summary, dry_run=True), store.load(summary)
        assert [counts(told.changes[table]) for table in (EVENTS, DAYS)] == [
            counts(done.changes[table]) for table in (EVENTS, DAYS)
        ]


NAMELESS = summary_of({"a": None, "b": None}, [("a", "2026-01-01", 1, "1.5")])


@pytest.mark.parametrize("after", [pytest.param(AFTER, id="changed data"), pytest.param(NAMELESS, id="without names")])
def test_merge_heals_what_streaming_doubled(make_store: StoreMaker, after: Summary) -> None:
    """After the write mode `stream`, or the earlier system, `merge` makes the tables equal the Summary again."""
    streaming, merging = make_store(bq_write_mode="stream"), make_store()
    other = summary_of({"z": "Zaide"}, [("z", "2026-01-01", 1, "1")])
    for summary in (BEFORE, BEFORE, other):
        streaming.load(summary)
    told, done = merging.load(after, dry_run=True), merging.load(after)
    expected = {table: rows + rows_of(other)[table] for table, rows in rows_of(after).items()}
    expected[EVENTS] = [(row[0], row[1] or {"a": "Aida"}.get(row[0]), *row[2:]) for row in expected[EVENTS]]
    assert {table: merging.rows(table) for table in (EVENTS, DAYS)} == expected
    assert [counts(told.changes[table]) for table in expected] == [counts(done.changes[table]) for table in expected]


def test_rows_that_streaming_is_refused_are_an_error(front: ScriptedFront, make_store: StoreMaker) -> None:
    """`insertErrors` come with a 200: they count as a failed load all the same."""
    refusal = {"insertErrors": [{"index": 0, "errors": [{"reason": "invalid", "message": "no such field: revenue."}]}]}
    front.script = lambda request: json_answer(refusal) if request.path.endswith(f"{DAYS}/insertAll") else None
    store = make_store(front.url, bq_write_mode="stream")
    with pytest.raises(StoreUnavailableError, match=rf"refused 1 rows of {DAYS}.*no such field"):
        store.load(summary_of({}, [("a", "2026-01-01", 1, "1")]))


def test_what_the_first_load_left_unfinished_the_next_one_goes_on_with(
    front: ScriptedFront, store: BigQueryStore
) -> None:
    """A failure after the tables were made leaves them empty, and in nobody's way."""
    front.fail(403, path="uploadType")
    with pytest.raises(EtlError, match="403"):
        store.load(BEFORE)
    assert sorted(store.tables()) == [DAYS, EVENTS]
    assert store.rows(EVENTS) == []
    store.load(BEFORE)
    assert {table: store.rows(table) for table in (EVENTS, DAYS)} == rows_of(BEFORE)
