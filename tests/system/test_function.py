"""The whole function over HTTP: real processes, real stores, the sample upstream, and what an operator would see."""

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from prometheus_client.parser import text_string_to_metric_families

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.cloud_sql import CloudSqlStandIn
from tests.doubles.http_stand_in import HANG
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.function import Function
from tests.support.oracle import bigquery_tables, postgres_tables, wanted_tables
from tests.support.testbed import (
    EVENTS,
    PAGE_SIZE,
    PROJECT,
    SALES,
    TOKEN,
    Testbed,
    change_at_random,
    changes,
    open_testbed,
    problem,
    steady,
)
from tests.support.waiting import BUSY_SECONDS, wait_until

TABLES = ("event_sales_summary", "daily_ticket_sales")
LEDGER = ("etl_runs", "etl_job_counts", "etl_lease", "etl_rejected_records")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def module_bench(postgres_server: EmbeddedPostgres, bigquery_emulator: BigQueryEmulator) -> Iterator[Testbed]:
    with open_testbed(postgres_server, bigquery_emulator) as bench:
        yield bench


@pytest.fixture
def bench(module_bench: Testbed) -> Testbed:
    """Empty stores, and a healthy upstream."""
    module_bench.reset()
    return module_bench


@pytest.fixture
def loaded(module_bench: Testbed) -> Testbed:
    """The sample data in both stores, and a healthy upstream."""
    module_bench.load()
    return module_bench


def test_two_runs_load_both_stores_and_the_second_changes_nothing(bench: Testbed) -> None:
    """A run's report, tables, ledger, routes and log are right; the same again leaves every daily row as it is."""
    first = bench.function.call("POST")
    assert (first.status_code, first.headers["Content-Type"]) == (200, "application/json")
    wanted = bench.wanted()
    assert (bench.in_postgres(), bench.in_bigquery()) == (wanted, wanted)
    tickets, revenue = sum(row[2] for row in wanted.events), sum(row[3] for row in wanted.events)
    counts = {
        "events_count": len(EVENTS),
        "sales_count": len(SALES),
        "duplicates_count": 0,
        "rejected_count": 0,
        "undated_count": 0,
        "event_summary_count": len(wanted.events),
        "daily_sales_count": len(wanted.daily),
    }
    report = first.json()
    told = {
        **counts,
        "status": "success",
        "trigger": "http",
        "dry_run": False,
        "force": False,
        "total_tickets": tickets,
        "total_revenue": f"{revenue:.9f}",
        "rejected": {},
        "completeness": {"events": "proved", "ticket_sales": "proved"},
        "fields_not_found": {"events": [], "ticket_sales": []},
    }
    assert {name: report[name] for name in told} == told
    assert 0 < report["duration_seconds"] < 60
    for store in ("postgres", "bigquery"):
        assert report["stores"][store]["status"] == "success"
        rows = {TABLES[0]: len(wanted.events), TABLES[1]: len(wanted.daily)}
        assert changes(report, store) == {name: (count, 0, 0, 0) for name, count in rows.items()}
        assert report["stores"][store]["reconciled"] == {
            name: {"rows": count, "tickets": tickets, "revenue": f"{revenue:.9f}"} for name, count in rows.items()
        }
    versions = bench.row_versions("daily_ticket_sales")

    second = bench.function.call("GET", headers={"X-CloudScheduler": "true"}).json()
    assert (second["status"], second["trigger"]) == ("success", "scheduler")
    for store in ("postgres", "bigquery"):
        assert changes(second, store) == {name: (0, 0, 0, count) for name, count in rows.items()}
    assert bench.row_versions("daily_ticket_sales") == versions
    assert (bench.in_postgres(), bench.in_bigquery()) == (wanted, wanted)

    listed = bench.function.call("GET", "/runs").json()["runs"]
    assert [(run["run_id"], run["status"], run["trigger"]) for run in listed] == [
        (second["run_id"], "success", "scheduler"),
        (report["run_id"], "success", "http"),
    ]
    assert {name: listed[1][name] for name in counts} == counts
    assert (listed[1]["postgres_status"], listed[1]["bigquery_status"]) == ("success", "success")
    assert metrics(bench.function)["etl_jobs_total"] == {"success": 2, "failed": 0}

    attempts = [
        *(attempt("events", count) for count in page_sizes(EVENTS)),
        *(attempt("ticket_sales", count) for count in page_sizes(SALES)),
    ]
    lines = steady(bench.function.log_lines(report["run_id"]))
    fetched = slice(1, 1 + len(attempts))  # some of them by threads that fetch ahead
    assert sorted(lines[fetched], key=str) == sorted(attempts, key=str)
    del lines[fetched]
    assert lines == [
        {"severity": "INFO", "message": "ETL job started", "trigger": "http", "dry_run": False, "force": False},
        {
            "severity": "INFO",
            "message": "ETL extract completed",
            **{name: counts[name] for name in list(counts)[:5]},
            "completeness": {"events": "proved", "ticket_sales": "proved"},
            "pages": {"events": -(-len(EVENTS) // PAGE_SIZE), "ticket_sales": -(-len(SALES) // PAGE_SIZE)},
        },
        *(
            {
                "severity": "INFO",
                "message": "ETL load completed",
                "database": store,
                "event_summary_count": len(wanted.events),
                "daily_sales_count": len(wanted.daily),
            }
            for store in ("postgres", "bigquery")
        ),
        {"severity": "INFO", "message": "ETL job completed", "status": "success", **counts},
    ]


def page_sizes(items: Sequence[Any]) -> list[int]:
    """Of each page that is asked for; a last page that is full is asked for once more."""
    sizes = [len(items[start : start + PAGE_SIZE]) for start in range(0, len(items), PAGE_SIZE)]
    return sizes + [size for size in sizes[-1:] if size == PAGE_SIZE]


def attempt(dataset: str, count: int, status_code: int | None = 200, number: int = 1) -> dict[str, Any]:
    """The log event of one request."""
    return {
        "severity": "INFO",
        "message": "ETL extract attempt",
        "dataset": dataset,
        "attempt": number,
        "status_code": status_code,
        "record_count": count,
    }


def metrics(function: Function) -> dict[str, Any]:
    """What `/metrics` says: a value, or values by status."""
    answer = function.call("GET", "/metrics")
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            if sample.labels:
                found.setdefault(sample.name, {})[sample.labels["status"]] = sample.value
            else:
                found[sample.name] = sample.value
    return found


def test_metrics_are_made_of_the_ledger(bench: Testbed) -> None:
    """Jobs by status, the time of the last success, and the duration and rows of the last run, also a failed one."""
    assert bench.function.call().status_code == 200
    bench.upstream.faults.append(Fault("status", dataset="events", status=403))
    failed = problem(bench.function.call(), 502, "upstream_error")
    ((success,),) = bench.sql("SELECT extract(epoch FROM finished_at) FROM etl_runs WHERE status = 'success'")
    assert metrics(bench.function) == {
        "etl_jobs_total": {"success": 1, "failed": 1},
        "etl_last_success_timestamp_seconds": pytest.approx(float(success), abs=0.001),
        "etl_last_run_duration_seconds": bench.run_row(failed["run_id"])["duration_seconds"],
        "etl_last_run_event_summary_rows": 0,
        "etl_last_run_daily_sales_rows": 0,
        "etl_last_run_sales": 0,
        "etl_last_run_rejected_records": 0,
    }


@pytest.mark.parametrize(
    ("headers", "span"),
    [
        pytest.param({"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, "00f067aa0ba902b7", id="traceparent"),
        pytest.param({"X-Cloud-Trace-Context": f"{TRACE_ID}/67667974448284343;o=1"}, "00f067aa0ba902b7", id="cloud"),
    ],
)
def test_every_line_of_a_run_carries_run_and_trace(bench: Testbed, headers: dict[str, str], span: str) -> None:
    """Also the lines that are logged by the threads that fetch ahead; and there is one line a request."""
    bench.upstream.latency_seconds = 0.05
    before = len(bench.upstream.requests)
    answer = bench.function.call(params={"dry_run": "true"}, headers=headers).json()
    seen = bench.upstream.requests[before:]
    arrivals = [request.at for request in seen]
    assert min(later - earlier for earlier, later in itertools.pairwise(arrivals)) < 0.05  # ahead indeed
    lines = bench.function.log_lines(answer["run_id"])
    assert len([line for line in lines if line["message"] == "ETL extract attempt"]) == len(seen)
    assert {(line["logging.googleapis.com/trace"], line["logging.googleapis.com/spanId"]) for line in lines} == {
        (f"projects/{PROJECT}/traces/{TRACE_ID}", span)
    }
    assert all(datetime.fromisoformat(line["time"]).tzinfo is UTC for line in lines)


def forbid_page(api: TicketingApi) -> None:
    api.faults.append(Fault("status", dataset="ticket_sales", page=2, status=403, times=None))


def answer_nonsense(api: TicketingApi) -> None:
    api.faults += [Fault(kind, dataset="ticket_sales", page=2) for kind in ("not_json", "html", "wrong_shape")]


def spoil_quantities(api: TicketingApi) -> None:
    api.sales = [{**sale, "quantity": "two"} if place % 3 else sale for place, sale in enumerate(api.sales)]


def negative_page(api: TicketingApi) -> None:
    api.datasets["ticket_sales"].envelope = ENVELOPES["next_page"].sized(PAGE_SIZE)
    api.faults.append(Fault("show", dataset="ticket_sales", page=3, show={"shown_next": -1}, times=None))


def go_back(api: TicketingApi) -> None:
    api.datasets["ticket_sales"].envelope = ENVELOPES["next_page"].sized(PAGE_SIZE)
    api.faults.append(Fault("next_back", dataset="ticket_sales", page=3, times=None))


def leave_origin(api: TicketingApi) -> None:
    location = "http://127.0.0.1:1/ticket-sales"
    api.faults.append(Fault("redirect", dataset="ticket_sales", page=2, location=location, times=None))


def declare_more(api: TicketingApi) -> None:
    api.faults.append(Fault("show", dataset="ticket_sales", show={"total": len(SALES) + 1}, times=None))


def send_no_sales(api: TicketingApi) -> None:
    api.sales = []


def send_no_events(api: TicketingApi) -> None:
    api.events = []


def send_a_third(api: TicketingApi) -> None:
    api.sales = api.sales[: len(api.sales) // 3]


def refuse_token(api: TicketingApi) -> None:
    api.token = "another"


@pytest.mark.parametrize(
    ("harm", "code", "words"),
    [
        pytest.param(forbid_page, "upstream_error", ["ticket_sales", "page 2", "403"], id="forbidden"),
        pytest.param(
            answer_nonsense,
            "upstream_error",
            ["page 2", "tried 3 times", "statusCode"],
            id="valid JSON, HTML, no items",
        ),
        pytest.param(negative_page, "incomplete_extract", ["page 3", "page -1"], id="negative page number"),
        pytest.param(leave_origin, "upstream_error", ["http://127.0.0.1:1"], id="redirect to another origin"),
        pytest.param(refuse_token, "upstream_error", ["401", "NEST_API_TOKEN"], id="token refused"),
        pytest.param(go_back, "incomplete_extract", ["ticket_sales", "page 3"], id="page that doesn't advance"),
        pytest.param(
            declare_more,
            "incomplete_extract",
            [str(len(SALES)), str(len(SALES) + 1), "NEST_API_PAGE_SIZE"],
            id="less than declared",
        ),
        pytest.param(
            spoil_quantities, "too_many_rejects", ["quantity_not_a_whole_number", "quantity", "unitPrice"], id="rejects"
        ),
        pytest.param(send_no_sales, "suspicious_extract", ["no ticket_sales", "force=true"], id="no sales"),
        pytest.param(send_no_events, "suspicious_extract", ["no events", "force=true"], id="no events"),
        pytest.param(send_a_third, "suspicious_extract", ["ETL_MAX_SHRINK_RATIO", "force=true"], id="shrunk"),
    ],
)
def test_an_upstream_that_can_not_be_trusted_changes_nothing(
    loaded: Testbed, harm: Callable[[TicketingApi], None], code: str, words: list[str]
) -> None:
    """The answer, ledger and log say what was wrong, both stores keep what they had, and the next run heals."""
    before = loaded.in_bigquery(), loaded.row_versions(*TABLES)
    harm(loaded.upstream)
    failed = problem(loaded.function.call(), 502, code)
    assert [word for word in words if word not in failed["detail"]] == [], failed["detail"]
    row = loaded.run_row(failed["run_id"])
    assert (row["status"], row["error_code"], row["error_text"]) == ("failed", code, failed["detail"])
    assert (row["postgres_status"], row["bigquery_status"]) == (None, None)
    assert row["finished_at"] > row["started_at"]
    assert steady(loaded.function.log_lines(failed["run_id"]))[-1] == {
        "severity": "ERROR",
        "message": "ETL job failed",
        "status": "failed",
        "code": code,
        "error": failed["detail"],
    }
    assert (loaded.in_bigquery(), loaded.row_versions(*TABLES)) == before

    loaded.restore_upstream()
    assert loaded.function.call().status_code == 200
    wanted = loaded.wanted()
    assert (loaded.in_postgres(), loaded.in_bigquery()) == (wanted, wanted)


RENAMES = [
    ("ticket_sales", "quantity", "quantity"),
    ("ticket_sales", "price", "unitPrice"),
    ("ticket_sales", "total_amount", "totalAmount"),
    ("ticket_sales", "event_id", "eventId"),
    ("ticket_sales", "sale_date", "createdAt"),
    ("events", "event_name", "name"),
]


def test_a_renamed_field_is_no_missing_one(loaded: Testbed) -> None:
    """Each run fails and names the field, the key it had, and the keys that items have; `force` loads what is left."""
    before = loaded.in_bigquery(), loaded.row_versions(*TABLES)
    for dataset, field, key in RENAMES:
        loaded.restore_upstream()
        items = loaded.upstream.datasets[dataset].items
        renamed = [{"newName" if name == key else name: value for name, value in item.items()} for item in items]
        loaded.upstream.datasets[dataset].items = renamed
        failed = problem(loaded.function.call(), 502, "schema_drift")
        assert (failed["dataset"], failed["fields_lost"]) == (dataset, {field: key})
        assert set(failed["keys_seen"]) == set(renamed[0])
        assert [word for word in (field, key, "newName", "force=true") if word not in failed["detail"]] == []
        row = loaded.run_row(failed["run_id"])
        assert (row["status"], row["error_code"], row["error_text"]) == ("failed", "schema_drift", failed["detail"])
    assert (loaded.in_bigquery(), loaded.row_versions(*TABLES)) == before
    forced = loaded.function.call(params={"force": "yes"}).json()
    assert (forced["status"], forced["fields_not_found"]["events"]) == ("success", ["event_name"])
    loaded.restore_upstream()  # it was the names that were left out: the stores keep those that they have
    assert loaded.in_postgres() == loaded.in_bigquery() == loaded.wanted()


def test_guards_tell_both_numbers_and_force_overrides_them_for_one_run(loaded: Testbed) -> None:
    """`force` loads what was refused, and the log says what it overrode; without it the guard is there again."""
    stored = {row[0]: row[2] for row in loaded.wanted().events}
    send_a_third(loaded.upstream)
    refused = problem(loaded.function.call("GET", params={"dry_run": "true"}), 502, "suspicious_extract")
    wanted = loaded.wanted()
    coming = sum(row[2] for row in wanted.events)
    assert refused["stored_tickets"] == sum(stored[row[0]] for row in wanted.events)
    assert refused["new_tickets"] == coming
    forced = loaded.function.call(json={"force": True}).json()
    assert (forced["status"], forced["force"], forced["total_tickets"]) == ("success", True, coming)
    assert [
        (line["severity"], line["code"])
        for line in loaded.function.log_lines(forced["run_id"])
        if line["message"] == "ETL guard overridden"
    ] == [("WARNING", "suspicious_extract")]
    assert loaded.in_postgres().of(wanted) == wanted
    assert loaded.in_postgres() == loaded.in_bigquery()
    send_no_sales(loaded.upstream)
    problem(loaded.function.call(), 502, "suspicious_extract")


def test_a_first_run_has_nothing_to_compare_with(bench: Testbed) -> None:
    """No sales and no names in a first run are what they are; events get their rows of zeros."""
    bench.upstream.sales = []
    bench.upstream.events = [{"id": event["id"]} for event in bench.upstream.events]
    report = bench.function.call().json()
    assert (report["status"], report["daily_sales_count"], report["event_summary_count"]) == ("success", 0, len(EVENTS))
    assert report["fields_not_found"]["events"] == ["event_name"]
    assert (bench.in_postgres(), bench.in_bigquery()) == (bench.wanted(), bench.wanted())


def test_dry_run_predicts_what_the_next_run_does(bench: Testbed) -> None:
    """Over random changes, in both stores; and it writes nothing: no table, no dataset, no lease, no ledger row."""
    dry = bench.function.call("GET", params={"dry_run": "true"}).json()
    assert (dry["status"], dry["dry_run"]) == ("dry_run", True)
    assert bench.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    with pytest.raises(NotFound):
        bench.bigquery.get_dataset(bench.dataset, timeout=30)
    dice = random.Random(11)
    for _ in range(3):
        dry = bench.function.call(json={"dry_run": "yes"}).json()
        wet = bench.function.call().json()
        for store in ("postgres", "bigquery"):
            assert changes(dry, store) == changes(wet, store)
            assert sum(map(sum, changes(wet, store).values())) > 0
        wanted = bench.wanted()
        assert (bench.in_postgres().of(wanted), bench.in_bigquery().of(wanted)) == (wanted, wanted)
        change_at_random(bench.upstream, dice)
    before = bench.in_bigquery(), bench.row_versions(*TABLES, *LEDGER)
    dry = bench.function.call(json={"dry_run": True}).json()
    for store in ("postgres", "bigquery"):
        for table, (inserted, updated, deleted, _) in changes(dry, store).items():
            examples = dry["stores"][store]["changes"][table]["examples"]
            assert len(examples) == min(20, inserted + updated + deleted)
            assert all(example["old"] != example["new"] for example in examples)
    assert (bench.in_bigquery(), bench.row_versions(*TABLES, *LEDGER)) == before


REJECTED_SALES: list[tuple[Any, str, str | None]] = [
    (17, "not_an_object", None),
    (["a", "list"], "not_an_object", None),
    ({"id": "r1", "quantity": 1, "buyerEmail": "ann@example.com"}, "event_id_missing", "r1"),
    ({"id": "r2", "eventId": "e", "quantity": "two"}, "quantity_not_a_whole_number", "r2"),
    ({"id": "r3", "eventId": "e", "quantity": 1.5}, "quantity_not_a_whole_number", "r3"),
    ({"id": "r4", "eventId": "e", "quantity": True}, "quantity_not_a_whole_number", "r4"),
    (b'{"id": "r5", "eventId": "e", "unitPrice": NaN}', "price_not_a_number", "r5"),
    ({"id": "r6", "eventId": "e", "totalAmount": "12,50"}, "total_amount_not_a_number", "r6"),
    (b'{"id": "r7", "eventId": "a\\u0000b"}', "event_id_not_text", "r7"),
    (b'{"id": "r8", "eventId": "\\ud800"}', "event_id_not_text", "r8"),
    ({"id": "r9", "eventId": "x" * 10_000_000}, "event_id_too_long", "r9"),
]
REJECTED_EVENTS: list[tuple[Any, str, str | None]] = [
    ("a word", "not_an_object", None),
    ({"name": "without an id"}, "event_id_missing", None),
    (b'{"id": "n1", "name": "NUL \\u0000"}', "event_name_not_text", "n1"),
]


def test_bad_records_are_kept_aside_and_the_others_count(bench: Testbed) -> None:
    """Each reject is in the ledger as it was sent, in the report by reason, and in the log as one line a reason."""
    without_total = ENVELOPES["pagination.has_more"].sized(PAGE_SIZE)
    for dataset in bench.upstream.datasets.values():
        dataset.envelope = without_total
    good = list(SALES)
    bench.upstream.events = [*bench.upstream.events, *(item for item, _, _ in REJECTED_EVENTS)]
    undated = [
        {"id": "u1", "eventId": "undated", "quantity": 2},
        {"id": "u2", "eventId": "undated", "createdAt": "soon"},
    ]
    long = {**good[5], "id": "long", "note": "y" * 10_000_000}
    bench.upstream.sales = [*good, *good[-40:], *(item for item, _, _ in REJECTED_SALES), *undated, long]
    day = datetime.now(UTC).date()
    report = bench.function.call().json()
    assert report["status"] == "success", report
    assert (report["sales_count"], report["duplicates_count"], report["undated_count"]) == (len(good) + 3, 40, 2)
    assert report["completeness"] == {"events": "undeclared", "ticket_sales": "undeclared"}
    wanted_reasons = {
        name: {reason: [r for _, r, _ in items].count(reason) for _, reason, _ in items}
        for name, items in (("events", REJECTED_EVENTS), ("ticket_sales", REJECTED_SALES))
    }
    assert report["rejected"] == wanted_reasons
    assert report["rejected_count"] == len(REJECTED_EVENTS) + len(REJECTED_SALES)

    (undated_row,) = [row for row in bench.in_postgres().daily if row[0] == "undated"]
    assert undated_row[2:] == (3, Decimal(0))
    assert undated_row[1] in (day, datetime.now(UTC).date())
    wanted = wanted_tables(
        bench.postgres, [e for e in bench.upstream.events if isinstance(e, dict) and "id" in e], [*good, long]
    )
    for tables in (bench.in_postgres(), bench.in_bigquery()):
        assert [row for row in tables.daily if row[0] != "undated"] == wanted.daily
        assert [row for row in tables.events if row[0] != "undated"] == wanted.events

    kept = bench.sql(
        "SELECT dataset, reason, record, record_text FROM etl_rejected_records"
        f" WHERE run_id = '{report['run_id']}' ORDER BY id"
    )
    assert [(dataset, reason) for dataset, reason, _, _ in kept] == [
        *(("events", reason) for _, reason, _ in REJECTED_EVENTS),
        *(("ticket_sales", reason) for _, reason, _ in REJECTED_SALES),
    ]
    for (_, _, record, text), (sent, _, _) in zip(kept, [*REJECTED_EVENTS, *REJECTED_SALES], strict=True):
        if isinstance(sent, bytes):
            assert (record, text) == (None, sent.decode())
        elif isinstance(sent, dict) and len(str(sent)) > 65_536:
            assert (record, text[:30], len(text)) == (None, '{"id":"r9","eventId":"xxxxxxxx', 65_539)
        else:
            assert (record, text) == (sent, None)

    lines = steady(bench.function.log_lines(report["run_id"]), "ETL records rejected")
    first_ids = {
        (name, reason): item_id
        for name, items in reversed([("events", REJECTED_EVENTS), ("ticket_sales", REJECTED_SALES)])
        for _, reason, item_id in reversed(items)
    }
    assert sorted(lines, key=str) == sorted(
        (
            {
                "severity": "WARNING",
                "message": "ETL records rejected",
                "dataset": name,
                "reason": reason,
                "count": count,
                "example_id": first_ids[name, reason],
            }
            for name, reasons in wanted_reasons.items()
            for reason, count in reasons.items()
        ),
        key=str,
    )
    assert "example.com" not in str(bench.function.log_lines(report["run_id"]))


def test_a_token_that_is_changed_in_mid_run_is_read_again_once(bench: Testbed) -> None:
    """A 401 re-reads the secret's latest version, and the run goes on where it was."""

    def rotate(page: Any) -> None:
        if (page.dataset, page.page) == ("ticket_sales", 2):
            bench.upstream.on_page = None
            bench.rotate_token(TOKEN + "-new")

    bench.upstream.on_page = rotate
    read_before, seen_before = len(bench.secret_manager.log), len(bench.upstream.requests)
    assert bench.function.call().status_code == 200
    assert len(bench.secret_manager.log) - read_before == 2
    tokens = [request.headers["authorization"] for request in bench.upstream.requests[seen_before:]]
    assert tokens[0] == f"Bearer {TOKEN}"
    assert tokens[-1] == f"Bearer {TOKEN}-new"
    assert bench.in_postgres() == bench.wanted()


REFUSE_SQL = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON event_sales_summary FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("failing", ["postgres", "bigquery"])
def test_one_store_failing_does_not_stop_the_other(loaded: Testbed, failing: str) -> None:
    """The other store is loaded, the answer says which holds what, and the next run brings both to the same."""
    other, event = {"postgres": ("bigquery", "Postgres load failed"), "bigquery": ("postgres", "BigQuery load failed")}[
        failing
    ]
    hold = {"postgres": loaded.in_postgres, "bigquery": loaded.in_bigquery}
    old = loaded.wanted()
    loaded.upstream.sales = [{**sale, "quantity": sale["quantity"] + 1} for sale in loaded.upstream.sales]
    if failing == "postgres":
        loaded.sql(REFUSE_SQL)
    else:
        loaded.front.fail(403, path="upload/bigquery")
    failed = problem(loaded.function.call(), 503, "load_failed")
    assert failed["stores"] == {failing: "failed", other: "success"}
    assert (hold[failing](), hold[other]()) == (old, loaded.wanted())
    assert ("53100" if failing == "postgres" else "403") in failed["detail"]
    row = loaded.run_row(failed["run_id"])
    assert (row["status"], row["error_code"]) == ("failed", "load_failed")
    assert (row[f"{failing}_status"], row[f"{other}_status"]) == ("failed", "success")
    lines = loaded.function.log_lines(failed["run_id"])
    assert steady(lines, event) == [{"severity": "ERROR", "message": event, "error": failed["detail"]}]
    assert [line["database"] for line in lines if line["message"] == "ETL load completed"] == [other]
    assert lines[-1]["message"] == "ETL job failed"

    if failing == "postgres":
        loaded.sql("DROP TRIGGER refuse ON event_sales_summary")
    assert loaded.function.call().status_code == 200
    assert (loaded.in_postgres(), loaded.in_bigquery()) == (loaded.wanted(), loaded.wanted())


def test_a_database_that_is_down(loaded: Testbed) -> None:
    """Runs, `/runs` and `/metrics` answer 503 and say so, `/health` knows nothing of it, and it heals by itself."""
    loaded.postgres.run(f'ALTER DATABASE "{loaded.database}" ALLOW_CONNECTIONS false')
    try:
        loaded.postgres.terminate_backends(loaded.database)
        for method, path in (("POST", "/"), ("GET", "/runs"), ("GET", "/metrics")):
            body = problem(loaded.function.call(method, path), 503, "load_failed")
            assert loaded.database in body["detail"]
            assert ("run_id" in body) == (path == "/")
        assert loaded.function.call("GET", "/health").json() == {"status": "ok"}
    finally:
        loaded.postgres.run(f'ALTER DATABASE "{loaded.database}" ALLOW_CONNECTIONS true')
    assert loaded.function.call().status_code == 200
    loaded.postgres.terminate_backends(loaded.database)  # as a fail-over does to pooled connections
    assert loaded.function.call().status_code == 200


def test_two_calls_at_once(bench: Testbed) -> None:
    """One runs and one is refused, also where both are the first ever; the ledger has nothing of the refused one."""
    bench.upstream.latency_seconds = 0.1
    with ThreadPoolExecutor(2) as callers:
        answers = sorted(callers.map(lambda _: bench.function.call(), range(2)), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 409]
    done = answers[0].json()["run_id"]
    refused = problem(answers[1], 409, "already_running")
    assert refused["holder"] == done
    assert refused["run_id"] != done
    assert bench.sql("SELECT run_id, status FROM etl_runs") == [(done, "success")]
    assert bench.in_postgres() == bench.wanted()


def test_a_run_whose_process_is_killed_between_the_stores(loaded: Testbed) -> None:
    """Nobody runs while its lease lasts; then the next run buries it, and both stores are the same again."""
    loaded.upstream.sales = [{**sale, "quantity": sale["quantity"] + 1} for sale in loaded.upstream.sales]
    old, new = loaded.in_bigquery(), loaded.wanted()
    with Function(loaded.env) as doomed:
        loaded.front.fail(HANG, path="upload/bigquery")
        seen = len(loaded.front.log)
        caller = threading.Thread(target=call_and_lose, args=(doomed,), daemon=True)
        caller.start()
        wait_until(lambda: any("upload/bigquery" in request.target for request in loaded.front.log[seen:]))
        assert loaded.in_postgres() == new
        doomed.kill(signal.SIGKILL)
        caller.join(timeout=BUSY_SECONDS)
    assert loaded.in_bigquery() == old
    ((killed,),) = loaded.sql("SELECT run_id FROM etl_runs WHERE status = 'running'")
    refused = problem(loaded.function.call(), 409, "already_running")
    assert refused["holder"] == killed
    assert loaded.function.call("GET", params={"dry_run": "1"}).status_code == 200  # needs no lease
    ((left,),) = loaded.sql("SELECT expires_at - clock_timestamp() FROM etl_lease")
    assert 60 < left.total_seconds() <= 90
    loaded.sql("UPDATE etl_lease SET expires_at = clock_timestamp() - interval '1 second'")
    assert loaded.function.call().status_code == 200
    row = loaded.run_row(killed)
    assert (row["status"], row["error_code"], row["postgres_status"]) == ("failed", "terminated", "success")
    assert (loaded.in_postgres(), loaded.in_bigquery()) == (new, new)


def call_and_lose(function: Function) -> None:
    """A caller whose function dies under it: whatever comes of the call is right."""
    try:
        function.call()
    except OSError:
        return


def test_sigterm_in_mid_run_gives_the_lease_back(loaded: Testbed) -> None:
    """At once, though the upstream is silent: it is recorded as failed, another may start, the caller hears of it."""
    loaded.upstream.faults.append(Fault("delay", dataset="ticket_sales", page=4, seconds=6.0))
    with Function(loaded.env) as doomed, ThreadPoolExecutor(1) as callers:
        answer = callers.submit(doomed.call)
        wait_until(lambda: any(request.fault == "delay" for request in loaded.upstream.requests))
        silent_until = time.monotonic() + 6.0
        listed = loaded.function.call("GET", "/runs").json()["runs"][0]
        assert (listed["status"], listed["finished_at"]) == ("running", None)
        running = listed["run_id"]
        doomed.kill(signal.SIGTERM)
        wait_until(lambda: loaded.run_row(running)["status"] == "failed")
        row = loaded.run_row(running)
        assert row["error_code"] == "terminated"
        assert loaded.sql("SELECT run_id FROM etl_lease") == [(None,)]
        assert time.monotonic() < silent_until
        assert loaded.function.call().status_code == 200
        assert problem(answer.result(timeout=BUSY_SECONDS), 503, "terminated")["run_id"] == running
        assert [line["code"] for line in steady(doomed.log_lines(running), "ETL job failed")] == ["terminated"]
    assert loaded.in_postgres() == loaded.wanted()
    assert loaded.run_row(running) == row


def test_a_function_without_settings() -> None:
    """It starts and is healthy; a call names everything that is missing; what is wrong with the call comes first."""
    with Function({}) as function:
        assert function.call("GET", "/health").json() == {"status": "ok"}
        failed = [
            problem(function.call(method, path), 500, "configuration_error")
            for method, path in (("POST", "/"), ("GET", "/runs"), ("GET", "/metrics"))
        ]
        for body in failed:
            missing = ("NEST_API_BASE_URL", "DATABASE_URL", "INSTANCE_CONNECTION_NAME", "BQ_ENABLED", "BQ_PROJECT_ID")
            assert [name for name in missing if name not in body["detail"]] == []
            assert len(body["problems"]) == 2
        chunked = iter([b'{"dry_run": true,', b" " * 100_000, b'"force": true}'])
        assert "65536" in problem(function.call(data=chunked), 400, "bad_request")["detail"]
        problem(function.call(data={"dry_run": "true"}), 400, "bad_request")
        answer = function.call("DELETE", "/runs")
        assert problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET"
        problem(function.call("GET", "/healthz"), 404, "not_found")
        errors = [line for line in steady(function.log_lines()) if line["severity"] == "ERROR"]
        assert [(line["code"], line["error"]) for line in errors] == [(body["code"], body["detail"]) for body in failed]


def test_bigquery_alone(
    bigquery_emulator: BigQueryEmulator, bigquery_dataset: str, postgres_server: EmbeddedPostgres
) -> None:
    """Ledger, lease and metrics are the process's own then; the guard reads BigQuery; names and token are as set."""
    with TicketingApi(plain_events(20), plain_sales(400), envelope="@nestjsx/crud", token=TOKEN) as upstream:
        env = {
            "NEST_API_BASE_URL": upstream.base_url,
            "NEST_API_TOKEN": TOKEN,
            "NEST_API_PAGE_SIZE": "80",
            "BQ_ENABLED": "1",
            "BQ_PROJECT_ID": PROJECT,
            "BQ_DATASET": bigquery_dataset,
            "BQ_TABLE_EVENT_SUMMARY": "totals_by_event",
            "BQ_TABLE_DAILY_SALES": "totals_by_day",
            "BIGQUERY_EMULATOR_HOST": bigquery_emulator.url,
        }
        names = ("totals_by_event", "totals_by_day")
        with Function(env, secrets=[TOKEN]) as function, closing(bigquery_emulator.client(PROJECT)) as client:
            assert metrics(function) == {"etl_jobs_total": {"success": 0, "failed": 0}}
            upstream.latency_seconds = 0.1
            with ThreadPoolExecutor(2) as callers:
                answers = [*callers.map(lambda _: function.call(), range(2))]
            done, refused = sorted(answers, key=lambda answer: answer.status_code)
            upstream.latency_seconds = 0.0
            assert done.status_code == 200, done.text
            assert problem(refused, 409, "already_running")["holder"] == done.json()["run_id"]
            assert {request.query["limit"] for request in upstream.requests} == {"80"}
            wanted = wanted_tables(postgres_server, upstream.events, upstream.sales)
            assert bigquery_tables(client, bigquery_dataset, *names) == wanted

            sales, upstream.sales = upstream.sales, []
            failed = problem(function.call(), 502, "suspicious_extract")
            assert failed["stored_tickets"] == sum(row[2] for row in wanted.events)
            assert bigquery_tables(client, bigquery_dataset, *names) == wanted
            upstream.sales = sales[:300]
            moved = function.call(params={"force": "true"}).json()
            assert list(moved["stores"]) == ["bigquery"]
            assert bigquery_tables(client, bigquery_dataset, *names) == wanted_tables(
                postgres_server, upstream.events, upstream.sales
            )
            runs = function.call("GET", "/runs").json()["runs"]
            assert [(run["run_id"], run["status"], run["error_code"], run["bigquery_status"]) for run in runs] == [
                (moved["run_id"], "success", None, "success"),
                (failed["run_id"], "failed", "suspicious_extract", None),
                (done.json()["run_id"], "success", None, "success"),
            ]
            assert metrics(function)["etl_jobs_total"] == {"success": 2, "failed": 1}
            assert metrics(function)["etl_last_run_sales"] == 300


def test_cloud_sql_with_iam_and_a_time_zone(postgres_server: EmbeddedPostgres) -> None:
    """The real Connector works after gunicorn's fork; late sales are on the day that it is where `ETL_TIMEZONE` is."""
    user = "etl-run@veritix-test.iam"
    postgres_server.create_role(user)
    database = postgres_server.create_database(owner=user)
    moments = ["2026-06-30T22:30:00.000Z", "2026-01-31T22:30:00.000Z", "2026-01-31T23:30:00.000Z"]
    moments += ["2026-10-25T00:30:00+02:00", "2026-03-28T23:30:00-03:00"]
    sales = [{**sale, "sale_date": moments[sale["id"] % 5]} for sale in plain_sales(100, events=3)]
    with (
        CloudSqlStandIn(postgres_server, iam_users={"local": user}) as cloud_sql,
        TicketingApi(plain_events(3), sales) as upstream,
    ):
        env = {
            "NEST_API_BASE_URL": upstream.base_url,
            "INSTANCE_CONNECTION_NAME": cloud_sql.instance_connection_name,
            "DB_USER": user,
            "DB_NAME": database,
            "DB_IAM_AUTH": "true",
            "CLOUD_SQL_ADMIN_ENDPOINT": cloud_sql.admin_endpoint,
            "ETL_TIMEZONE": "Europe/Berlin",
        }
        with Function(env) as function:
            for _ in range(2):
                assert function.call().status_code == 200
            cloud_sql.proxy.drop_connections()  # as while the instance is scaled down
            assert len(function.call("GET", "/runs").json()["runs"]) == 2
        wanted = wanted_tables(postgres_server, plain_events(3), sales, "Europe/Berlin")
        assert postgres_tables(postgres_server, database) == wanted
        assert {str(row[1]) for row in wanted.daily} == {
            "2026-07-01",
            "2026-01-31",
            "2026-02-01",
            "2026-10-25",
            "2026-03-29",
        }
        assert {arrival.user for arrival in cloud_sql.proxy.arrivals} == {user}
    postgres_server.drop_database(database)
