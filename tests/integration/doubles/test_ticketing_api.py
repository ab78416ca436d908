"""The sample ticketing API answers as it promises: envelopes, paging, order, faults, log, and as a process."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.cursors import Order
from tests.doubles.ticketing.envelope_table import ENVELOPES, TOTAL_PLACES
from tests.doubles.ticketing.faults import Fault, Throttle
from tests.doubles.ticketing.request_log import PageServed
from tests.doubles.ticketing.sample_data import plain_events, plain_sales, sample_events, sample_sales
from tests.support.waiting import BUSY_SECONDS

SALES = [{"id": number, "day": number // 3} for number in range(1, 6)]


def get(api: TicketingApi, **query: object) -> requests.Response:
    return requests.get(
        f"{api.base_url}/ticket-sales", params={k: str(v) for k, v in query.items()}, timeout=BUSY_SECONDS
    )


def items_of(body: Any) -> list[Any]:
    while isinstance(body, dict):
        body = next(body[key] for key in ("data", "results", "items", "docs") if key in body)
    return list(body)


def ids(answer: requests.Response) -> list[int]:
    return [item["id"] for item in items_of(answer.json())]


def at(body: Any, path: str) -> Any:
    for key in path.split("."):
        body = body.get(key)
    return body


@pytest.mark.parametrize("name", [name for name, envelope in ENVELOPES.items() if envelope.ask == "page"])
def test_page_numbers_split_the_rows_in_every_envelope(name: str) -> None:
    """Any envelope that is asked by number gives each row once, and nothing past the end."""
    first = ENVELOPES[name].first_number
    with TicketingApi(sales=SALES, envelope=name, page_size=2) as api:
        assert [ids(get(api, page=page)) for page in range(first, first + 4)] == [[1, 2], [3, 4], [5], []]
        assert ids(get(api)) == [1, 2]


@pytest.mark.parametrize("name", [name for name, envelope in ENVELOPES.items() if not envelope.ask])
def test_single_page_envelopes_ignore_page_and_limit(name: str) -> None:
    """An upstream without paging sends all rows, whatever it is asked for."""
    with TicketingApi(sales=SALES, envelope=name) as api:
        assert ids(get(api, page=2, limit=2)) == [1, 2, 3, 4, 5]


def url(query: str) -> str:
    return f"http://HOST/ticket-sales?{query}&limit=2"


BODIES: list[tuple[str, int, dict[str, Any]]] = [
    ("pagination.next_page", 1, {"pagination": {"next_page": 2}}),
    ("pagination.next_page", 3, {"pagination": {"next_page": None}}),
    ("pagination.nextPage:digits", 1, {"pagination": {"nextPage": "2"}}),
    ("next_page:absolute", 1, {"next_page": url("page=2")}),
    ("nextPage:relative", 1, {"nextPage": "/ticket-sales?page=2&limit=2"}),
    ("nextPage:relative", 3, {"nextPage": ""}),
    ("next_page:false", 3, {"next_page": False}),
    ("hasMore", 2, {"hasMore": True}),
    ("pagination.has_more", 3, {"pagination": {"has_more": False}}),
    ("meta.currentPage+totalPages", 2, {"meta": {"currentPage": 2, "totalPages": 3}}),
    ("page+pageCount:digits", 2, {"page": "2", "pageCount": "3"}),
    ("links.next", 1, {"links": {"next": url("page=2")}}),
    ("data+page+limit", 3, {"page": 3, "limit": 2}),
    ("@nestjsx/crud", 3, {"count": 1, "total": 5, "page": 3, "pageCount": 3}),
    ("veritix", 1, {"total": 5, "page": 1, "limit": 2, "totalPages": 3}),
    (
        "nestjs-paginate",
        3,
        {
            "meta": {"itemsPerPage": 2, "totalItems": 5, "currentPage": 3, "totalPages": 3, "sortBy": [["id", "ASC"]]},
            "links": {"first": url("page=1"), "previous": url("page=2"), "current": url("page=3")},
        },
    ),
    (
        "nestjs-typeorm-paginate",
        3,
        {
            "meta": {"totalItems": 5, "itemCount": 1, "itemsPerPage": 2, "totalPages": 3, "currentPage": 3},
            "links": {"first": url("page=1"), "previous": url("page=2"), "next": "", "last": url("page=3")},
        },
    ),
]


@pytest.mark.parametrize(("name", "page", "expected"), BODIES, ids=[f"{name} page {page}" for name, page, _ in BODIES])
def test_envelope_bodies(name: str, page: int, expected: dict[str, Any]) -> None:
    """Beside the items, an envelope shows exactly what its paginator shows."""
    with TicketingApi(sales=SALES, envelope=name, page_size=2) as api:
        api.link_origin = "http://HOST"
        body = get(api, page=page).json()
    assert {key: value for key, value in body.items() if key not in {"data", "items"}} == expected


def test_wrapped_envelope_and_link_header() -> None:
    """An interceptor puts the envelope into `data`; a Link header tells the next page beside other relations."""
    with TicketingApi(sales=SALES, envelope="veritix:wrapped", page_size=2) as api:
        body = get(api).json()
        assert body["success"] is True
        assert body["timestamp"].endswith("Z")
        assert body["data"] == {"data": SALES[:2], "total": 5, "page": 1, "limit": 2, "totalPages": 3}
        api.datasets["ticket_sales"].envelope = ENVELOPES["link header"].sized(2)
        assert get(api, page=2).links["next"]["url"] == f"{api.base_url}/ticket-sales?page=3&limit=2"
        assert list(get(api, page=3).links) == ["first"]


@pytest.mark.parametrize("place", TOTAL_PLACES)
def test_declared_totals(place: str) -> None:
    """A total can be declared at any place, also inside an interceptor's `data`."""
    with TicketingApi(sales=SALES, envelope=ENVELOPES["has_more"].wrapped().declaring(place), page_size=2) as api:
        answer = get(api)
    shown = answer.headers.get(place) if place.startswith("X-") else at(answer.json()["data"], place)
    assert shown == ("5" if place.startswith("X-") else 5)


CURSORS = [
    pytest.param("cursor.afterCursor", "cursor.afterCursor", "id", [[1, 2], [3, 4], [5]], id="cursor.afterCursor"),
    pytest.param("next_cursor", "next_cursor", "day", [[1, 2], [3, 4], [5]], id="next_cursor"),
    pytest.param("nextCursor", "nextCursor", None, [[1, 2], [3, 4], [5]], id="nextCursor, as listed"),
    pytest.param("has_more+next_cursor", "next_cursor", "id", [[1, 2], [3, 4], [5]], id="has_more+next_cursor"),
    pytest.param("links.next:cursor", "links.next", "id", [[1, 2], [3, 4], [5]], id="links.next"),
    pytest.param("nestjs-paginate cursor", "links.next", "id", [[1, 2], [3, 4], [5], []], id="nestjs: empty end"),
    pytest.param("nestjs-paginate cursor", "links.next", "day", [[1, 2], [3, 4], []], id="nestjs: skips ties"),
    pytest.param(
        "typeorm-cursor-pagination",
        "cursor.afterCursor",
        "day",
        [[1, 2, 3], [3, 4, 5]],
        id="typeorm-cursor-pagination: repeats the last key's rows",
    ),
]


@pytest.mark.parametrize(("name", "place", "key", "expected"), CURSORS)
def test_cursor_walks(name: str, place: str, key: str | None, expected: list[list[int]]) -> None:
    """Following the cursors gives the rows by the paginator's rule; `page` is ignored."""
    order = None if key is None else Order(key)
    with TicketingApi(sales=SALES, envelope=name, page_size=len(expected[0]), order=order) as api:
        assert ids(get(api, page=2)) == expected[0]
        answer, pages = get(api), []
        for _ in range(len(expected)):
            pages.append(ids(answer))
            following = at(answer.json(), place)
            if following:
                ask = ENVELOPES[name].ask
                answer = (
                    requests.get(following, timeout=BUSY_SECONDS)
                    if place == "links.next"
                    else get(api, **{ask: following})
                )
        assert pages == expected
        assert not following
        assert [seen.page for seen in api.requests[1:]] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize(
    ("name", "query", "expected"),
    [
        pytest.param("nestjs-paginate", {}, 20, id="default"),
        pytest.param("nestjs-paginate", {"limit": 1000}, 100, id="cut silently"),
        pytest.param("nestjs-typeorm-paginate", {"limit": 110}, 110, id="no cap"),
        pytest.param("@nestjsx/crud", {"per_page": 30}, 30, id="another name"),
        pytest.param("nestjs-paginate", {"limit": "x"}, 20, id="nonsense is ignored"),
        pytest.param("veritix", {"limit": 100}, 100, id="at the cap"),
        pytest.param("veritix", {"limit": 101}, 400, id="refused"),
        pytest.param("veritix", {"page": 0}, 400, id="no such page"),
        pytest.param("nestjs-paginate", {"page": -1}, 500, id="a negative offset"),
        pytest.param("next_cursor", {"cursor": "%%%"}, 500, id="a garbage cursor"),
    ],
)
def test_page_size_is_granted_cut_or_refused(name: str, query: dict[str, object], expected: int) -> None:
    """`limit` is honoured as the paginator would; `expected` is the number of items, or the status."""
    with TicketingApi(sales=plain_sales(120), envelope=name) as api:
        answer = get(api, **query)
    assert (len(items_of(answer.json())) if answer.ok else answer.status_code) == expected


def test_token_prefix_and_paths() -> None:
    """Only the right token gets data, a rolled token counts at once, and other paths are NestJS's 404."""
    with TicketingApi(events=plain_events(1), token="old", prefix="/api/v1/") as api:
        events = f"{api.base_url}/events"
        assert events.endswith("/api/v1/events")
        refused = requests.get(events, timeout=BUSY_SECONDS)
        assert (refused.status_code, refused.json()) == (401, {"statusCode": 401, "message": "Unauthorized"})
        assert requests.get(events, headers={"Authorization": "Bearer old"}, timeout=BUSY_SECONDS).json()["total"] == 1
        api.token = "new"
        assert requests.get(events, headers={"Authorization": "Bearer old"}, timeout=BUSY_SECONDS).status_code == 401
        missing = requests.get(events.replace("v1", "v2"), timeout=BUSY_SECONDS)
        assert missing.json() == {"statusCode": 404, "message": "Cannot GET /api/v2/events", "error": "Not Found"}
        assert [(seen.dataset, seen.status) for seen in api.requests] == [
            ("events", 401),
            ("events", 200),
            ("events", 401),
            (None, 404),
        ]


def test_data_changes_between_pages_and_the_log_keeps_what_was_served() -> None:
    """`on_page` can change rows while pages are read: offsets drift, and the log has each version as it went out."""

    def history(page: PageServed) -> None:
        if page.page == 1:
            api.sales.insert(0, {"id": 0})
            api.sales[-1]["day"] = 9

    with TicketingApi(sales=[dict(sale) for sale in SALES], page_size=2, on_page=history) as api:
        assert [ids(get(api, page=page)) for page in (1, 2, 3)] == [[1, 2], [2, 3], [4, 5]]
        assert [seen.items for seen in api.requests] == [SALES[:2], SALES[1:3], [SALES[3], {"id": 5, "day": 9}]]


def test_orders() -> None:
    """Rows come by a key in either direction; without a tie-break, equal keys come in another order each time."""
    rows = [{"id": 2}, {"id": 1}, {}, {"id": 3}]
    with TicketingApi(sales=rows, envelope="array", order=Order("id", descending=True)) as api:
        assert get(api).json() == [{}, {"id": 3}, {"id": 2}, {"id": 1}]
        api.sales = [{"id": number, "day": 1} for number in range(50)]
        api.datasets["ticket_sales"].order = Order("day", unstable_ties=True)
        first, second = ids(get(api)), ids(get(api))
        assert first != second
        assert sorted(first) == sorted(second) == list(range(50))


def test_items_are_served_as_they_are() -> None:
    """Any JSON value, and the exact text of items given as bytes."""
    odd: list[Any] = [1, None, "x", [], {"name": "\ud800 é"}, b'{"a": 1e400, "a": "\\udfff"}']
    with TicketingApi(sales=odd, envelope="array") as api:
        assert get(api).text == '[1,null,"x",[],{"name":"\\ud800 \\u00e9"},{"a": 1e400, "a": "\\udfff"}]'


CUT_SHORT = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)
BROKEN = [
    pytest.param(Fault("status", status=503, headers={"Retry-After-short": "1"}), 503, id="status"),
    pytest.param(Fault("not_json"), requests.exceptions.JSONDecodeError, id="not JSON"),
    pytest.param(Fault("html"), requests.exceptions.JSONDecodeError, id="HTML"),
    pytest.param(Fault("truncated_json"), requests.exceptions.JSONDecodeError, id="truncated JSON"),
    pytest.param(Fault("wrong_shape"), StopIteration, id="wrong shape"),
    pytest.param(Fault("close"), requests.exceptions.ConnectionError, id="closed before the answer"),
    pytest.param(Fault("reset"), requests.exceptions.ConnectionError, id="reset before the answer"),
    pytest.param(Fault("reset", after_bytes=5), CUT_SHORT, id="reset in mid-body"),
    pytest.param(Fault("cut", after_bytes=5), CUT_SHORT, id="cut"),
    pytest.param(Fault("cut_chunked"), CUT_SHORT, id="cut in mid-chunks"),
    pytest.param(Fault("hang"), requests.exceptions.ReadTimeout, id="hangs"),
    pytest.param(Fault("hang", after_bytes=5), CUT_SHORT, id="hangs in mid-body"),
    pytest.param(Fault("delay", seconds=5), requests.exceptions.ReadTimeout, id="delay"),
    pytest.param(Fault("drip", piece_bytes=30, seconds=0.01), [3, 4], id="drip"),
    pytest.param(Fault("chunked", piece_bytes=7), [3, 4], id="chunked"),
    pytest.param(Fault("redirect", status=307), [3, 4], id="redirect to the same place"),
    pytest.param(Fault("empty_page"), [], id="empty page"),
    pytest.param(Fault("repeat_page"), [1, 2], id="page repeated"),
    pytest.param(Fault("stuck_page"), [1, 2], id="page doesn't advance"),
]


@pytest.mark.parametrize(("fault", "expected"), BROKEN)
def test_faults_hit_once(fault: Fault, expected: Any) -> None:
    """The second page goes wrong once, as the fault says; asked again, it is right. Only whole pages are logged."""
    with TicketingApi(sales=SALES, envelope="next_page", page_size=2, faults=[replace(fault, page=2)]) as api:
        page = f"{api.base_url}/ticket-sales?page=2"
        timeout = 0.3 if fault.kind in ("hang", "delay") else BUSY_SECONDS
        if isinstance(expected, int):
            answer = requests.get(page, timeout=timeout)
            assert (answer.status_code, answer.headers["Retry-After-short"]) == (expected, "1")
        elif isinstance(expected, list):
            assert ids(requests.get(page, timeout=timeout)) == expected
        else:
            with pytest.raises(expected):
                ids(requests.get(page, timeout=timeout))
        seen = api.requests[0]
        assert seen.fault == fault.kind
        if not isinstance(expected, list) and fault.kind != "delay":
            assert seen.items is None
        assert ids(get(api, page=2)) == [3, 4]


WRONG_NEXT = [
    pytest.param("next_page", Fault("next_same", page=2, times=None), [2, 2, 2], id="same number"),
    pytest.param("next_page", Fault("next_back", page=2, times=None), [2, 1, 2, 1], id="back"),
    pytest.param("next_page", Fault("never_ending", times=None), [2, 3, 4, 5], id="never-ending numbers"),
    pytest.param("hasMore", Fault("never_ending", times=None), [True] * 5, id="never-ending has_more"),
    pytest.param("page+total_pages", Fault("never_ending", times=None), [2, 3, 4, 5], id="never-ending counters"),
    pytest.param("veritix", Fault("show", page=2, show={"total": 99}), [5, 99, 5], id="the total lies"),
    pytest.param("next_page", Fault("show", show={"shown_next": "//h/x"}), ["//h/x"], id="another origin"),
]


@pytest.mark.parametrize(("name", "fault", "expected"), WRONG_NEXT)
def test_what_a_page_shows_can_be_wrong(name: str, fault: Fault, expected: list[Any]) -> None:
    """Next pages, counters and totals can be made to lie."""
    key = {"page+total_pages": "total_pages", "veritix": "total"}.get(name, name)
    with TicketingApi(sales=SALES, envelope=name, page_size=2, faults=[fault]) as api:
        shown, page = [], 1
        for _ in expected:
            shown.append(get(api, page=page).json()[key])
            page = shown[-1] if name == "next_page" else page + 1
    assert shown == expected


def test_never_ending_cursors_differ_and_repeated_ones_do_not() -> None:
    """Endless cursors are all new, with rows from the start again; `next_same` hands out one cursor for ever."""
    with TicketingApi(
        sales=SALES, envelope="next_cursor", page_size=2, faults=[Fault("never_ending", times=None)]
    ) as api:
        token, tokens = "", set()
        for _ in range(9):
            answer = get(api, cursor=token)
            token = answer.json()["next_cursor"]
            tokens.add(token)
            assert ids(answer)
        assert len(tokens) == 9
        api.faults = [Fault("next_same", times=None)]
        token = get(api).json()["next_cursor"]
        assert get(api, cursor=token).json()["next_cursor"] == token


def test_faults_match_by_dataset_and_count() -> None:
    """`nth` counts a dataset's requests, whatever page they ask for; faults are used up in order."""
    faults = [Fault("status", status=500, dataset="ticket_sales", nth=2), Fault("status", status=502, times=2)]
    with TicketingApi(faults=faults) as api:
        assert [get(api).status_code for _ in range(4)] == [502, 500, 502, 200]
        assert requests.get(f"{api.base_url}/events", timeout=BUSY_SECONDS).status_code == 200


def test_a_fault_that_cannot_be_shown_is_an_error() -> None:
    """A test can't pass because its fault did nothing: the API's own errors end the `with`."""
    with (
        pytest.raises(ValueError, match="names no next page"),
        TicketingApi(envelope="hasMore", faults=[Fault("next_same")]) as api,
        pytest.raises(requests.exceptions.ConnectionError),
    ):
        get(api)
    with pytest.raises(ValueError, match="no fault 'typo'"):
        Fault("typo")


def test_throttle_and_gzip() -> None:
    """Requests over the window's number get 429 with the time to wait; bodies can come compressed."""
    with TicketingApi(sales=SALES) as api:
        api.gzip = True
        assert get(api).headers["Content-Encoding"] == "gzip"
        api.throttle = Throttle(1, 60, header="Retry-After-short")
        assert [get(api).status_code, (refused := get(api)).status_code] == [200, 429]
        assert refused.headers["Retry-After-short"] == "60"
        assert "Retry-After" not in refused.headers


def test_sample_data() -> None:
    """The sandbox's data is the same for a seed, and looks as a ticketing system's would."""
    today = date(2026, 11, 23)
    events, sales = sample_events(7), sample_sales(7, today)
    assert (events, sales) == (sample_events(7), sample_sales(7, today))
    assert sales != sample_sales(8, today)
    assert len({event["id"] for event in events}) == len({event["name"] for event in events}) == 300
    assert [sale["id"] for sale in sales] == list(range(1, 20_001))
    days = [sale["createdAt"][:10] for sale in sales]
    assert days == sorted(days)
    assert (days[0], days[-1]) == ("2026-06-26", "2026-11-22")
    listed = {event["id"] for event in events}
    kinds = Counter((sale["eventId"] in listed, sale["quantity"] < 0) for sale in sales)
    assert kinds[True, True] + kinds[False, True] == 400
    assert 10 < kinds[False, False] < 300
    assert listed - {sale["eventId"] for sale in sales}
    assert all(Decimal(s["totalAmount"] or 0) <= Decimal(s["unitPrice"]) * abs(s["quantity"]) for s in sales)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.doubles.ticketing.api", "--token", "t", "--seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process(process: subprocess.Popen[str], ending: signal.Signals) -> None:
    """It prints its URL once it serves, and a signal ends it at once with exit code 0, even in mid-connection."""
    assert process.stdout is not None
    base_url = process.stdout.readline().strip()
    with requests.Session() as session:
        answer = session.get(f"{base_url}/events", headers={"Authorization": "Bearer t"}, timeout=BUSY_SECONDS)
        assert answer.json()["data"]["total"] == 300
        process.send_signal(ending)
        assert process.wait(timeout=BUSY_SECONDS) == 0
