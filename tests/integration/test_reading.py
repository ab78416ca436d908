"""Streams of records: what counts, what is kept aside, and whether what was read is all there is."""

import gc
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import pytest

from etl.errors import IncompleteExtractError, UpstreamError
from etl.extract.client import BrokenPageError
from etl.extract.items import CUT
from etl.extract.seen_ids import SeenIds
from etl.extract.tally import RejectedItem, Tally
from etl.transform.fold import fold_events
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.cursors import Order
from tests.doubles.ticketing.envelope_table import ENVELOPES, TOTAL_PLACES
from tests.doubles.ticketing.envelopes import Envelope, items, number, pages, text, total
from tests.doubles.ticketing.faults import Fault
from tests.doubles.ticketing.request_log import PageServed
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.upstream import (
    TODAY,
    DatasetName,
    attempt_event,
    client,
    extraction,
    fetch_threads,
    json_logs,
    logged,
    read_all,
    read_once,
)
from tests.support.waiting import BUSY_SECONDS, wait_until

ONE_BY_ONE = {"NEST_API_CONCURRENCY": "1"}
"""Pages are asked for in order, so that what changes after one of them is known."""
Change = Callable[[list[Any]], object]
SALES_25 = plain_sales(25)


def after_page(page: int, change: Change, upstream: TicketingApi) -> Callable[[PageServed], None]:
    """Change the sales after this page was served for the first time."""
    changes = [change]

    def on_page(served: PageServed) -> None:
        if served.page == page and changes:
            changes.pop()(upstream.sales)

    return on_page


NEW = plain_sales(1, first_id=26)[0]
STEADY = [
    pytest.param(1, lambda _: None, 25, 0, 25, id="nothing changes"),
    pytest.param(2, lambda sales: sales.append(NEW), 26, 0, 26, id="a new sale at the end"),
    pytest.param(2, lambda sales: sales.insert(0, NEW), 25, 1, 26, id="a new sale at the front"),
    pytest.param(3, lambda sales: sales.insert(8, NEW), 25, 1, 26, id="a new sale on a page that was read"),
    pytest.param(4, lambda sales: sales.append(NEW), 25, 0, 25, id="a new sale after the end"),
    pytest.param(2, lambda sales: sales[0].update(quantity=9), 25, 0, 25, id="a sale that was read changes"),
]


@pytest.mark.parametrize(("page", "change", "distinct", "duplicates", "last_total"), STEADY)
def test_what_was_read_is_proved(page: int, change: Change, distinct: int, duplicates: int, last_total: int) -> None:
    """All that was there at the start is read, each id once; sales that arrive meanwhile are no error."""
    with TicketingApi(sales=[dict(sale) for sale in SALES_25], page_size=7) as upstream:
        upstream.on_page = after_page(page, change, upstream)
        reading = read_all(upstream.base_url, env=ONE_BY_ONE)
    tally = reading.tally
    assert (tally.completeness, tally.first_total, tally.last_total) == ("proved", 25, last_total)
    assert (tally.distinct, tally.duplicates, tally.accepted) == (distinct, duplicates, distinct)
    assert set(map(str, range(1, 26))) <= set(reading.ids)
    assert len(set(reading.ids)) == len(reading.ids) == distinct


def move(sales: list[Any], source: int, target: int, *arriving: Any) -> None:
    sales.insert(target, sales.pop(source))
    sales.extend(arriving)


DRIFT = [
    pytest.param(1, lambda sales: sales.pop(0), 24, 24, 0, id="a sale that was read is deleted"),
    pytest.param(1, lambda sales: sales.pop(), 24, 24, 0, id="the last sale is deleted"),
    pytest.param(3, lambda sales: sales.pop(), 24, 24, 0, id="the last sale is deleted before it is read"),
    pytest.param(2, lambda sales: move(sales, 0, 24), 24, 25, 1, id="a sale moves to the end"),
    pytest.param(2, lambda sales: move(sales, 24, 0), 24, 25, 1, id="a sale moves to the front"),
    pytest.param(2, lambda sales: sales.clear(), 14, 0, 0, id="all are deleted"),
]


@pytest.mark.parametrize(("page", "change", "distinct", "last_total", "duplicates"), DRIFT)
def test_what_was_missed_is_an_error(
    page: int, change: Change, distinct: int, last_total: int, duplicates: int
) -> None:
    """Fewer sales than declared, or a total that falls, fail with the numbers; the next reading is one of its own."""
    with TicketingApi(sales=[dict(sale) for sale in SALES_25], page_size=7) as upstream:
        upstream.on_page = after_page(page, change, upstream)
        with client(upstream.base_url, env=ONE_BY_ONE) as api:
            source = extraction(api)
            with pytest.raises(IncompleteExtractError) as caught:
                read_once(source)
            first = source.tallies["ticket_sales"]
            again = read_once(source)
    numbers = {"dataset": "ticket_sales", "distinct": distinct, "first_total": 25, "last_total": last_total}
    assert caught.value.details == numbers
    message = str(caught.value)
    for words in (f"{distinct} distinct", "25 on the first", f"{last_total} on the last", "unique", "NEST_API_PAGE_SI"):
        assert words in message
    assert (first.completeness, first.distinct, first.duplicates) == ("unproved", distinct, duplicates)
    assert again.tally is not first
    assert (again.tally.completeness, again.tally.distinct) == ("proved", last_total)


@pytest.mark.parametrize(("page", "change", "distinct", "last_total", "duplicates"), DRIFT)
def test_force_takes_what_was_read(page: int, change: Change, distinct: int, last_total: int, duplicates: int) -> None:
    """With `force` the same readings pass, without their near repeats, and say that nothing is proved."""
    with TicketingApi(sales=[dict(sale) for sale in SALES_25], page_size=7) as upstream:
        upstream.on_page = after_page(page, change, upstream)
        reading = read_all(upstream.base_url, force=True, env=ONE_BY_ONE)
    assert len(set(reading.ids)) == len(reading.ids) == distinct
    assert (reading.tally.completeness, reading.tally.last_total) == ("unproved", last_total)
    assert reading.tally.duplicates == duplicates


TOTALS: list[Any] = [
    pytest.param(25, None, "proved", id="right"),
    pytest.param(26, None, "unproved", id="one more"),
    pytest.param(24, None, "unproved", id="one less"),
    pytest.param(0, None, "unproved", id="none"),
    pytest.param("25", None, "proved", id="text"),
    pytest.param(None, 1, "undeclared", id="null on the first page"),
    pytest.param(-1, 4, "undeclared", id="negative on the last page"),
    pytest.param("many", None, "undeclared", id="no number"),
    pytest.param(True, None, "undeclared", id="a boolean"),
    pytest.param(99, 2, "unproved", id="more in the middle, then less"),
    pytest.param(1, 2, "unproved", id="less in the middle"),
    pytest.param(None, 2, "proved", id="none in the middle"),
    pytest.param(30, 4, "proved", id="more on the last page"),
    pytest.param(24, 1, "proved", id="less on the first page"),
]


@pytest.mark.parametrize(("shown", "page", "completeness"), TOTALS)
def test_declared_totals(shown: object, page: int | None, completeness: str) -> None:
    """At least the first page's total has to be read, at most the larger one of the first and last, and none falls."""
    fault = Fault("show", page=page, times=None, show={"total": shown})
    with TicketingApi(sales=SALES_25, page_size=7, faults=[fault]) as upstream:
        if completeness == "unproved":
            with pytest.raises(IncompleteExtractError, match="25 distinct records were read on 4 pages"):
                read_all(upstream.base_url, env=ONE_BY_ONE)
        assert read_all(upstream.base_url, force=True, env=ONE_BY_ONE).tally.completeness == completeness


HIDDEN: list[Any] = [
    pytest.param({1: lambda sales: sales.pop(0), 2: lambda sales: sales.append(NEW)}, 25, id="a total fell on the way"),
    pytest.param({2: lambda sales: move(sales, 0, 24, NEW)}, 26, id="a sale came again further back"),
    pytest.param({1: lambda s: move(s, 0, 24), 3: lambda s: s.append(NEW)}, 26, id="a sale came again, later"),
]


@pytest.mark.parametrize(("changes", "last_total"), HIDDEN)
def test_a_skipped_sale_that_an_arrival_hides(changes: dict[int, Change], last_total: int) -> None:
    """One sale is skipped, since another one goes or moves, and a new one makes up for it: the numbers alone fit."""
    changes = dict(changes)
    with TicketingApi(sales=list(SALES_25), page_size=7) as upstream:

        def on_page(served: PageServed) -> None:
            changes.pop(served.page, len)(upstream.sales)

        upstream.on_page = on_page
        with pytest.raises(IncompleteExtractError) as caught:
            read_all(upstream.base_url, env=ONE_BY_ONE)
    assert caught.value.details.items() >= {"distinct": 25, "first_total": 25, "last_total": last_total}.items()


LATE: list[Any] = [
    pytest.param([], None, id="none is late"),
    pytest.param([Fault("hang", page=3)], 3, id="one page is late"),
    pytest.param([Fault("hang", page=3), Fault("hang", page=4, times=2)], 3, id="one page is late, one later"),
]


@pytest.mark.parametrize("place", [0, 10, None], ids=["at the front", "among the others", "at the end"])
@pytest.mark.parametrize(("faults", "late"), LATE)
def test_pages_that_are_served_in_another_order(faults: list[Fault], late: int | None, place: int | None) -> None:
    """Where sales arrive while several pages are under way, those pages are read again, in order: none is skipped."""
    with TicketingApi(sales=list(SALES_25), page_size=3, faults=faults) as upstream:
        # While the late page is waited for, so that the pages after it were served before it.
        arrivals = {5: 2, 6: 1}

        def arrive(served: PageServed) -> None:
            for _ in range(arrivals.pop(served.page, 0)):
                new = sale(id=len(upstream.sales) + 1)
                upstream.sales.insert(len(upstream.sales) if place is None else place, new)

        upstream.on_page, upstream.latency_seconds = arrive, 0.03
        reading = read_all(upstream.base_url, env=SHORT_TIMEOUT)
        asked = [seen.page for seen in upstream.requests if seen.status == 200]
    assert reading.tally.completeness == "proved"
    assert set(map(str, range(1, 26))) <= set(reading.ids)
    assert len(set(reading.ids)) == len(reading.ids)
    if late:
        assert asked.index(5) < asked.index(late), "it came in order"
    assert asked.count(5) > 1, "it was trusted"


def test_totals_that_are_newer_than_their_rows() -> None:
    """A page that was served before the one in front of it isn't proved by their own totals, if those are newer."""
    moved, served = threading.Event(), threading.Event()
    with TicketingApi(sales=list(SALES_25), page_size=3) as upstream:

        def wait(number: int) -> None:
            if upstream.requests[number - 1].page == 2:
                assert moved.wait(BUSY_SECONDS)

        def arrive(number: int) -> None:
            page = upstream.requests[number - 1].page
            if page == 3 and not moved.is_set():
                upstream.sales.insert(0, NEW)
                moved.set()
                assert served.wait(BUSY_SECONDS)
            elif page == 2:
                served.set()

        upstream.statements, upstream.latency_seconds = "rows, total", 0.03
        upstream.before_statements, upstream.between_statements = wait, arrive
        reading = read_all(upstream.base_url)
    assert moved.is_set()
    assert set(map(str, range(1, 26))) <= set(reading.ids)
    assert reading.tally.completeness == "proved"


def test_a_cursor_that_ends_before_what_has_arrived() -> None:
    """Behind a cursor a full last page is read until its total stands still: then nothing has been pushed beyond it."""
    arrivals = [sale(id=2), sale(id=1)]
    sales = [sale(id=number) for number in range(10, 17)]
    envelope = ENVELOPES["next_cursor"].declaring("meta.total").sized(3)
    with TicketingApi(sales=sales, envelope=envelope, order=Order("id")) as upstream:

        def arrive(number: int) -> None:
            if upstream.requests[number - 1].page == 2 and arrivals:
                upstream.sales.append(arrivals.pop(0))

        upstream.statements, upstream.between_statements = "total, rows", arrive
        reading = read_all(upstream.base_url, env=ONE_BY_ONE)
    assert not arrivals
    assert {str(number) for number in range(10, 17)} <= set(reading.ids)


def test_pages_that_only_bring_what_was_read() -> None:
    """Where each page that is tried has moved on by as much as has arrived, that isn't the end."""
    numbers = iter(range(100, 200))
    with TicketingApi(sales=list(SALES_25[:9]), envelope=ENVELOPES["Content-Range:unknown"].sized(1)) as upstream:
        upstream.on_page = lambda _: upstream.sales.insert(0, sale(id=next(numbers)))
        with pytest.raises(IncompleteExtractError, match="pages in a row brought only records that had been read"):
            read_all(upstream.base_url)


def test_what_has_no_id_counts_once() -> None:
    """Pages that are read again bring sales without an id again: they count as often as they are there."""
    sales = [*SALES_25[:20], *({"event_id": "e", "quantity": n} for n in range(1, 6))]
    arrivals = {6: [NEW]}
    with TicketingApi(sales=sales, page_size=3) as upstream:
        upstream.on_page = lambda served: upstream.sales.extend(arrivals.pop(served.page, []))
        upstream.latency_seconds = 0.03
        tally = read_all(upstream.base_url).tally
        assert len(upstream.requests) > 9
    assert (tally.completeness, tally.distinct, tally.unnamed) == ("proved", 26, 5)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "in an interceptor"])
@pytest.mark.parametrize("place", TOTAL_PLACES)
def test_where_totals_are_declared(place: str, wrapped: bool) -> None:
    """A total is found at each of these places, whatever tells the next page, for either dataset."""
    envelope = ENVELOPES["has_more"].wrapped() if wrapped else ENVELOPES["has_more"]
    with TicketingApi(
        plain_events(9), plain_sales(9), envelope=envelope.declaring(place), page_size=5, token="t"
    ) as upstream:
        sales, events = (read_all(upstream.base_url, name, token="t") for name in ("ticket_sales", "events"))
        assert [sales.tally.completeness, events.tally.completeness] == ["proved", "proved"]
        upstream.faults = [Fault("show", times=None, show={"total": 10})]
        with pytest.raises(IncompleteExtractError, match=r"events: 9 distinct .* 10 on the first page"):
            read_all(upstream.base_url, "events", token="t")


NO_TOTALS = [
    pytest.param(ENVELOPES["@nestjsx/crud"], "proved", id="count beside total is the page's"),
    pytest.param(
        Envelope({"data": items, "count": lambda _: 7, "hasMore": lambda p: p.more}), "undeclared", id="count"
    ),
    pytest.param(ENVELOPES["link header"].declaring("X-Total-Count"), "proved", id="a bare array with a header"),
    pytest.param(
        Envelope({"data": items, "page": text(number), "pageCount": text(pages), "totalItems": text(total)}),
        "proved",
        id="all in text",
    ),
    pytest.param(ENVELOPES["next_page"], "undeclared", id="none"),
    pytest.param(ENVELOPES["array"], "undeclared", id="a bare array"),
]


@pytest.mark.parametrize(("envelope", "completeness"), NO_TOTALS)
def test_what_counts_as_a_total(envelope: Envelope, completeness: str) -> None:
    """The number of items on a page is no total; without one, nothing can be proved, and nothing is missed."""
    with TicketingApi(sales=SALES_25, envelope=envelope.sized(7)) as upstream:
        tally = read_all(upstream.base_url).tally
    assert (tally.completeness, tally.distinct) == (completeness, 25)


def test_an_order_that_is_not_stable() -> None:
    """A sort without a unique tie-break gives some rows twice and others never: distinct ids tell, not rows."""
    order = Order("quantity", unstable_ties=True)
    with TicketingApi(sales=SALES_25, page_size=7, order=order, seed=1) as upstream:
        with pytest.raises(IncompleteExtractError, match=r"distinct records were read on 4 pages.*came twice"):
            read_all(upstream.base_url, env=ONE_BY_ONE)
        assert sum(len(seen.items or ()) for seen in upstream.requests[:4]) == 25


KEPT_ASIDE = [
    pytest.param([{"id": n, "event_id": "e", "quantity": "x"} for n in (26, 27)], 2, 0, id="rejected, with ids"),
    pytest.param([{"event_id": "e", "quantity": "x"}] * 2, 2, 2, id="rejected, without ids"),
    pytest.param([1, None], 2, 2, id="not objects"),
    pytest.param([{"event_id": "e"}] * 2, 0, 2, id="without ids"),
]


@pytest.mark.parametrize(("odd", "rejected", "unnamed"), KEPT_ASIDE)
def test_rejected_items_count_as_read(odd: list[Any], rejected: int, unnamed: int) -> None:
    """What can't be used, or has no id, was read all the same: a declared total includes it."""
    with TicketingApi(sales=[*SALES_25, *odd], page_size=7) as upstream:
        tally = read_all(upstream.base_url).tally
    assert (tally.completeness, tally.read, tally.distinct) == ("proved", 27, 27)
    assert (tally.rejected, tally.unnamed, tally.accepted) == (rejected, unnamed, 27 - rejected)


AGAIN = [
    pytest.param(29, "next_page", {}, 1, 0, id="near"),
    pytest.param(1, "next_page", {}, 0, 1, id="far"),
    pytest.param(1, "veritix", {"total": 31}, 0, 1, id="far, though the number of rows is right"),
    pytest.param(1, "veritix", {"total": 30}, 0, 1, id="far, though the number of ids is right"),
]


@pytest.mark.parametrize(("again", "name", "show", "near", "far"), AGAIN)
def test_repeats_near_and_far(
    again: int, name: str, show: dict[str, int], near: int, far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeat within the window counts once; one from further back is an error at the end, declared total or not."""
    monkeypatch.setattr("etl.extract.reading.SeenIds", partial(SeenIds, window=6))
    sales = [*plain_sales(30), plain_sales(1, first_id=again)[0] | {"quantity": 99}]
    faults = [Fault("show", times=None, show=show)]
    with TicketingApi(sales=sales, envelope=name, page_size=3, faults=faults) as upstream:
        if far:
            with pytest.raises(IncompleteExtractError, match=r"30 distinct records .* 1 came twice"):
                read_all(upstream.base_url)
        reading = read_all(upstream.base_url, force=True)
    tally = reading.tally
    assert (tally.read, tally.distinct, tally.duplicates, tally.far_repeats) == (31, 30, near, far)
    assert len(reading.records) == tally.accepted == 30 + far
    assert [record.quantity == 99 for record in reading.records].count(True) == far


# Pages that break off.

BROKEN = [
    pytest.param(Fault("cut"), id="cut"),
    pytest.param(Fault("cut_chunked"), id="cut between chunks"),
    pytest.param(Fault("reset", after_bytes=300), id="reset"),
    pytest.param(Fault("truncated_json"), id="truncated"),
    pytest.param(Fault("hang", after_bytes=300), id="stalled"),
]
SHORT_TIMEOUT = {"NEST_API_TIMEOUT_SECONDS": "0.2"}


def timeout_for(fault: Fault) -> dict[str, str]:
    """A time-out that isn't waited for in vain, and that only what hangs can meet."""
    return SHORT_TIMEOUT if fault.kind == "hang" else {}


@pytest.mark.parametrize("fault", BROKEN)
def test_half_a_page_leaves_no_trace(fault: Fault) -> None:
    """A page that breaks off is read again as a whole: nothing of its first half is counted."""
    with TicketingApi(sales=SALES_25, page_size=7, faults=[replace(fault, page=2)]) as upstream:
        reading = read_all(upstream.base_url, env=timeout_for(fault))
        assert len(upstream.requests) == 5
    assert reading.ids == [str(n) for n in range(1, 26)]
    tally = reading.tally
    assert (tally.pages, tally.read, tally.accepted, tally.duplicates) == (4, 25, 25, 0)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of more than 2 kB is a large one, and is read in batches of about 700 bytes."""
    monkeypatch.setattr("etl.extract.body.WHOLE_PAGE_BYTES", 2000)
    monkeypatch.setattr("etl.extract.body.BATCH_BYTES", 700)
    monkeypatch.setattr("etl.extract.client._CHUNK_BYTES", 256)


ODD_ITEMS: list[Any] = [
    {"id": 1, "event_id": "e", "note": '}, {"id": 9}, [ ] \\" {', "tags": [{"a": [{}]}, []]},
    {"id": 2, "event_id": "e", "note": "\ud800"},
    {"id": 3, "event_id": True, "quantity": 1},
    {"id": "4", "event": {"id": 7}, "price": "1.5"},
    b'{"id":5,"event_id":"e","price":NaN}',
    b'{"id":6 , "event_id" : "\xff", "price":1.10}',
    b'\n{"id":7,"event_id":"e","price":1e2,"total_amount":null}\n',
    None,
    "x",
    17,
    [{}],
    {},
]
STREAMED = [
    pytest.param("array", plain_sales(120), id="a bare array"),
    pytest.param("data:wrapped", plain_sales(120), id="in an envelope"),
    pytest.param("veritix:wrapped", plain_sales(120), id="two pages"),
    pytest.param("nestjs-paginate", plain_sales(120), id="brackets behind the items"),
    pytest.param("link header", plain_sales(120), id="links"),
    pytest.param("array", ODD_ITEMS * 9, id="odd items"),
    pytest.param("data", [*ODD_ITEMS, *plain_sales(40, first_id=50), *ODD_ITEMS], id="odd items before and behind"),
    pytest.param("results", [{"id": n, "event_id": "e", "note": "x" * 1500 * n} for n in range(9)], id="large items"),
    pytest.param("items", list(range(900)), id="no objects"),
    pytest.param("data", [{"note": "}" * 3000}], id="one item"),
]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("name", "sales"), STREAMED)
def test_a_large_page_is_read_as_a_stream(
    name: str, sales: list[Any], compressed: bool, request: pytest.FixtureRequest
) -> None:
    """In batches, a page gives the very same records, rejects and counts as in one piece."""
    with TicketingApi(sales=sales, envelope=name, page_size=100) as upstream:
        upstream.gzip = compressed
        whole = read_all(upstream.base_url)
        request.getfixturevalue("small_batches")
        streamed = read_all(upstream.base_url)
    assert streamed.records == whole.records
    assert timeless(streamed.tally) == timeless(whole.tally)
    assert whole.tally.read == len(sales)


def timeless(tally: Tally) -> Tally:
    return replace(tally, waited=0.0, folded=0.0)


@pytest.mark.usefixtures("small_batches")
def test_a_large_page_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Its first records come while the rest is still on its way; the request is logged once, at its end."""
    with (
        json_logs(),
        TicketingApi(sales=plain_sales(99), envelope="array", faults=[Fault("hang", after_bytes=6000)]) as upstream,
        client(upstream.base_url, env=SHORT_TIMEOUT) as api,
    ):
        sales = extraction(api).sales()
        assert next(sales).sale_id == "1"
        assert logged(capsys) == []
        with pytest.raises(BrokenPageError):
            list(sales)
        (event,) = logged(capsys)
        assert 10 < event["record_count"] < 90
        assert event == attempt_event(1, 200, event["record_count"], "ticket_sales")
        read_once(extraction(api))
        assert logged(capsys) == [attempt_event(1, 200, 99, "ticket_sales")]
        assert len(upstream.requests) == 2


LARGE_AND_BROKEN = [
    pytest.param(Fault("cut", after_bytes=6000), "the connection broke off", id="cut"),
    pytest.param(Fault("cut_chunked", after_bytes=6000), "the connection broke off", id="cut between chunks"),
    pytest.param(Fault("reset", after_bytes=6000), "the connection broke off", id="reset"),
    pytest.param(
        Fault("truncated_json", after_bytes=6000), "the body isn't valid JSON, or is cut short", id="truncated"
    ),
    pytest.param(Fault("hang", after_bytes=6000), "no answer, or no more of it, within 0.2 s", id="stalled"),
    pytest.param(
        Fault("status", status=200, body=json.dumps(plain_sales(90))[:-1].encode() + b"}"),
        "the body isn't valid JSON",
        id="a wrong bracket at the end",
    ),
]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("name", ["array", "veritix"])
@pytest.mark.parametrize(("fault", "reason"), LARGE_AND_BROKEN)
def test_a_large_page_that_breaks_off(fault: Fault, reason: str, name: str) -> None:
    """Some of it was taken, so the reading ends; the next one starts anew, and is whole."""
    with TicketingApi(sales=plain_sales(90), envelope=name, page_size=90, faults=[fault]) as upstream:
        with client(upstream.base_url, env=timeout_for(fault)) as api:
            source = extraction(api)
            with pytest.raises(BrokenPageError, match=f"ticket_sales, page 1: {reason}"):
                read_once(source)
            again = read_once(source)
        assert len(upstream.requests) == 2
    assert again.ids == [str(n) for n in range(1, 91)]
    assert (again.tally.pages, again.tally.read, again.tally.duplicates) == (1, 90, 0)
    assert fetch_threads() == []


# Records and counts.


def sale(**fields: Any) -> dict[str, Any]:
    """A sale of one ticket for 2.5 on 5 January 2026, unless told otherwise; None leaves a field out."""
    usual = {"event_id": "e", "quantity": 1, "price": "2.5", "sale_date": "2026-01-05"}
    return {key: value for key, value in (usual | fields).items() if value is not None}


def read_items(*given: Any, envelope: str = "array", dataset: DatasetName = "ticket_sales", force: bool = False) -> Any:
    """One reading of these items."""
    with TicketingApi(given, given, envelope=envelope) as upstream:
        return read_all(upstream.base_url, dataset, force=force)


COUNTS = [
    pytest.param(
        [sale(id=5), sale(id="5", quantity=2), sale(id=5, quantity=3)],
        [("5", 1)],
        {"read": 3, "accepted": 1, "duplicates": 2, "distinct": 1},
        id="5 and '5' are one id, with the first one's values",
    ),
    pytest.param(
        [sale(saleId="a"), sale(sale_id="a", quantity=2), sale(id="", saleId="b"), sale(id="05"), sale(id=5)],
        [("a", 1), ("b", 1), ("05", 1), ("5", 1)],
        {"read": 5, "accepted": 4, "duplicates": 1, "distinct": 4},
        id="ids under other names",
    ),
    pytest.param(
        [sale(), sale(), sale(id=""), sale(id=1.5), sale(id=True), sale(id={})],
        [(None, 1)] * 6,
        {"read": 6, "accepted": 6, "duplicates": 0, "unnamed": 6, "distinct": 6},
        id="without an id all count",
    ),
    pytest.param(
        [sale(id=1, quantity="x"), sale(id=1), sale(id=2), sale(id=2, quantity="x")],
        [("2", 1)],
        {"read": 4, "accepted": 1, "duplicates": 2, "distinct": 2, "rejected": 1},
        id="the first reading of an id is rejected, or is not",
    ),
    pytest.param(
        [sale(id=1, sale_date=None), sale(id=2, sale_date="soon"), sale(id=3, sale_date=""), sale(id=4)],
        [("1", 1), ("2", 1), ("3", 1), ("4", 1)],
        {"read": 4, "accepted": 4, "undated": 3, "dates": {"missing": 2, "unreadable": 1, "sent": 1}},
        id="without a date",
    ),
    pytest.param(
        [sale(id=1, sale_date="soon"), sale(id=1, sale_date="soon"), sale(id=2, quantity="x", sale_date="soon")],
        [("1", 1)],
        {"accepted": 1, "undated": 1, "duplicates": 1, "rejected": 1},
        id="undated are accepted ones only",
    ),
    pytest.param([], [], {"pages": 1, "read": 0, "accepted": 0, "completeness": "undeclared"}, id="nothing"),
]


@pytest.mark.parametrize(("given", "records", "counts"), COUNTS)
def test_what_counts(given: list[Any], records: list[tuple[str | None, int]], counts: dict[str, Any]) -> None:
    """Ids count once, and each item in one of the counts; where ids aren't unique, only `force` counts them so."""
    reading = read_items(*given, force=True)
    assert [(record.sale_id, record.quantity) for record in reading.records] == records
    assert {name: getattr(reading.tally, name) for name in counts} == counts


def test_days_of_sales() -> None:
    """A sale's day is its own, or today where it has none that can be read."""
    reading = read_items(sale(id=1), sale(id=2, sale_date=None), sale(id=3, sale_date="soon"))
    assert [record.sale_date for record in reading.records] == [date(2026, 1, 5), TODAY, TODAY]
    assert [str(record.total_amount) for record in reading.records] == ["2.500000000"] * 3


NO_OBJECTS: list[Any] = [None, 1, -2.5, "x", [], [{}], True]
REJECTED: list[Any] = [
    pytest.param(sale(id=7, event_id=None), "event_id_missing", "7", id="no event"),
    pytest.param(sale(id="7", event_id=""), "event_id_missing", "7", id="an empty event id"),
    pytest.param(sale(event_id=True), "event_id_missing", None, id="an event id that is none"),
    pytest.param(sale(id=7, event_id="a\0b"), "event_id_not_text", "7", id="NUL in the event id"),
    pytest.param(sale(id=7, event_id="\ud800"), "event_id_not_text", "7", id="a lone surrogate"),
    pytest.param(b'{"id":7,"event_id":"\xff"}', "event_id_not_text", "7", id="not UTF-8"),
    pytest.param(f'{{"event_id":"{"é" * 501}"}}'.encode(), "event_id_too_long", None, id="a long event id"),
    pytest.param(sale(quantity="two"), "quantity_not_a_whole_number", None, id="a word"),
    pytest.param(sale(quantity=1.5), "quantity_not_a_whole_number", None, id="half a ticket"),
    pytest.param(sale(quantity=True), "quantity_not_a_whole_number", None, id="a boolean"),
    pytest.param(sale(quantity=2**63), "quantity_not_a_whole_number", None, id="beyond 64 bits"),
    pytest.param(b'{"event_id":"e","quantity":NaN}', "quantity_not_a_whole_number", None, id="NaN tickets"),
    pytest.param(b'{"event_id":"e","quantity":1' + b"0" * 5000 + b"}", "quantity_not_a_whole_number", None, id="huge"),
    pytest.param(b'{"event_id":"e","price":NaN}', "price_not_a_number", None, id="NaN"),
    pytest.param(b'{"event_id":"e","price":-Infinity}', "price_not_a_number", None, id="infinite"),
    pytest.param(sale(price=" 1"), "price_not_a_number", None, id="a blank"),
    pytest.param(sale(price="1e30"), "price_not_a_number", None, id="30 digits"),
    pytest.param(sale(total_amount="12,50"), "total_amount_not_a_number", None, id="a comma"),
    pytest.param(sale(quantity=100, price="9" * 28), "total_amount_too_large", None, id="too large a product"),
    *(pytest.param(item, "not_an_object", None, id=repr(item)) for item in NO_OBJECTS),
]


@pytest.mark.parametrize(("item", "reason", "item_id"), REJECTED)
def test_rejects(item: Any, reason: str, item_id: str | None) -> None:
    """An item that can't be used is kept aside with its reason, its id and its text, and the others are read."""
    reading = read_items(sale(id=1), item, sale(id=2))
    sent = (item if isinstance(item, bytes) else json.dumps(item, separators=(",", ":")).encode()).decode(
        errors="surrogateescape"
    )
    assert reading.tally.rejects == [RejectedItem("ticket_sales", reason, item_id, sent)]
    assert (reading.ids, reading.tally.reasons) == (["1", "2"], {reason: 1})


def test_what_is_kept_of_rejects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is kept up to 65,536 characters, all of them up to a sum, and then the beginning of each."""
    monkeypatch.setattr("etl.extract.tally.REJECTS_CHARACTERS", 140_000)
    lengths = (65_000, 70_000, 65_000, 1_000, 100)
    items = [sale(id=str(number) * 200, quantity="?", note="x" * length) for number, length in enumerate(lengths)]
    kept = read_items(*items).tally.rejects
    texts = [json.dumps(item, separators=(",", ":")) for item in items]
    room = 140_000 - len(texts[0]) - len(texts[1][:65_536] + CUT)
    assert [reject.text for reject in kept] == [
        texts[0],
        texts[1][:65_536] + CUT,
        texts[2][:room] + CUT,
        texts[3][:256] + CUT,
        texts[4][:256] + CUT,
    ]
    assert [reject.item_id for reject in kept] == [str(number) * 100 for number in range(5)]


EXACT = [
    b'{ "id" : 7 ,\n\t"event_id":"e", "quantity":"x", "price": 1.500, "n": -0.0, "m": 1E5, "m": 1234567890123456.1 }',
    '{"id":8,"event_id":"e","quantity":"x","name":"é\\u00e9 \\/ 😀 ]}, {\\"","a":[{"b":[]}]}'.encode(),
    b'{"event_id":"e","quantity":{},"note":"\\ud83d"}',
    b'"\\u0041 ] }"',
    b"-0",
]


def test_rejects_are_kept_exactly() -> None:
    """Their text is what was sent, to the last blank and digit, also where good items stand between them."""
    mixed = [item for text in EXACT for item in (sale(), text)]
    assert [reject.text.encode() for reject in read_items(*mixed).tally.rejects] == EXACT


def test_at_most_a_thousand_rejects_are_kept() -> None:
    """All of them count; their texts would fill the memory."""
    tally = read_items(*(sale(id=n, quantity="x" if n % 2 else None) for n in range(2400)), 1).tally
    assert tally.reasons == {"quantity_not_a_whole_number": 1200, "not_an_object": 1}
    assert [reject.item_id for reject in tally.rejects] == [str(n) for n in range(1, 2000, 2)]


def test_pages_of_rejects_only() -> None:
    """Where no item can be used, on page after page, that is no standstill: they are counted, and the caller judges."""
    with TicketingApi(sales=[sale(id=n, event_id=None) for n in range(20)], page_size=2) as upstream:
        reading = read_all(upstream.base_url)
    assert (reading.records, reading.tally.reasons) == ([], {"event_id_missing": 20})
    assert reading.tally.keys_seen == ["quantity", "price", "sale_date", "id"]
    assert reading.tally.completeness == "proved"


EVENTS: list[Any] = [
    pytest.param([{"id": 1, "name": "Old"}, {"id": "1", "name": "New"}], {"1": "New"}, id="the last name"),
    pytest.param([{"id": 1, "name": "Old"}, {"id": 1, "name": ""}, {"eventId": 1}], {"1": "Old"}, id="not an empty"),
    pytest.param([{"id": 1}, {"event_id": "1", "title": "Only"}], {"1": "Only"}, id="the only name"),
    pytest.param([{"id": 1}, {"id": 2, "name": 5}], {"1": None, "2": None}, id="none"),
    pytest.param([{"id": 1, "name": "A\0"}, {"id": "\udfff"}, {"name": "X"}, 7, {"id": 2}], {"2": None}, id="rejects"),
]


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize(("given", "names"), EVENTS)
def test_events(given: list[Any], names: dict[str, str | None], size: int) -> None:
    """An event that is listed twice, on one page or on two, is one event, with its last name that isn't empty."""
    with TicketingApi(given, envelope="next_page", page_size=size) as upstream:
        reading = read_all(upstream.base_url, "events")
    assert fold_events(reading.records) == names
    tally = reading.tally
    assert tally.accepted == len(names)
    assert tally.accepted + tally.duplicates + tally.rejected == tally.read == len(given)


def test_an_event_listed_on_many_pages() -> None:
    """Events that come again on page after page end the reading, as sales would."""
    faults = [Fault("stuck_page", page=number, times=None) for number in (3, 4, 5)]
    with (
        TicketingApi(plain_events(20), envelope="hasMore", page_size=2, faults=faults) as upstream,
        pytest.raises(IncompleteExtractError, match=r"events, page 5 .*3 pages in a row"),
    ):
        read_all(upstream.base_url, "events")


FIELDS: list[Any] = [
    pytest.param(
        [{"id": 1, "event": {"id": "e"}, "qty": 2, "unitPrice": "1.5", "createdAt": "2026-01-05"}],
        {"sale_id": "id", "event_id": "event", "quantity": "qty", "price": "unitPrice", "sale_date": "createdAt"},
        ["id", "event", "qty", "unitPrice", "createdAt"],
        id="other names",
    ),
    pytest.param(
        [7, {"eventId": "e", "quantity": None, "total_amount": None, "x": 1}, sale(totalAmount="9", price=None)],
        {"event_id": "event_id", "quantity": "quantity", "total_amount": "totalAmount", "sale_date": "sale_date"},
        ["eventId", "quantity", "total_amount", "x"],
        id="null is not found, and the first item that is an object tells the keys",
    ),
    pytest.param([{"event_id": "e"}], {"event_id": "event_id"}, ["event_id"], id="nothing else"),
    pytest.param([1, None], {}, [], id="no objects"),
]


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize(("given", "fields", "keys"), FIELDS)
def test_fields_found(given: list[Any], fields: dict[str, str], keys: list[str], size: int) -> None:
    """The tally says under which key each field was found, on whatever page, and which keys an item has."""
    with TicketingApi(sales=given, page_size=size) as upstream:
        tally = read_all(upstream.base_url).tally
    if size == 1 and "event_id" in fields and given[0] == 7:
        fields = fields | {"event_id": "eventId"}  # the first page that has one
    assert (tally.fields_found, tally.keys_seen) == (fields, keys)


MEGABYTES_10 = "x" * 10_000_000
LONG: list[Any] = [
    pytest.param(sale(id=2, note=MEGABYTES_10), None, id="in a field that isn't read"),
    pytest.param(sale(id=2, event_id=MEGABYTES_10), "event_id_too_long", id="as an event id"),
    pytest.param(sale(id=2, price=MEGABYTES_10), "price_not_a_number", id="as a price"),
    pytest.param(sale(id=2, quantity="1" * 10_000_000), "quantity_not_a_whole_number", id="as a quantity"),
]


@pytest.mark.parametrize(("item", "reason"), LONG)
def test_a_string_of_10_megabytes(item: dict[str, Any], reason: str | None) -> None:
    """It is read, or rejected, as any other."""
    reading = read_items(sale(id=1), item, sale(id=3))
    assert reading.ids == (["1", "2", "3"] if reason is None else ["1", "3"])
    assert reading.tally.reasons == ({} if reason is None else {reason: 1})


TOO_MUCH = [
    pytest.param(b'{"note":"' + b"x" * 17_500_000 + b'"}', "an item of more than 16777216 bytes", 1, id="a huge item"),
    pytest.param(b'{"note":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "nested too deeply", 3, id="nested"),
]


@pytest.mark.parametrize(("item", "reason", "times"), TOO_MUCH)
def test_items_that_are_too_much(item: bytes, reason: str, times: int) -> None:
    """What no ticketing API sends ends the run with a plain error."""
    with TicketingApi(sales=[item], envelope="data") as upstream:
        upstream.keep_items = False
        with pytest.raises(UpstreamError, match=f"ticket_sales, page 1: the body .*{reason}"):
            read_all(upstream.base_url)
        assert len(upstream.requests) == times


def test_streams_are_lazy_and_tell_their_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked before a record is; each page is one event in the log, and one report of progress."""
    seen: list[tuple[str, int, int]] = []
    with (
        json_logs(),
        TicketingApi(plain_events(3), plain_sales(5), page_size=2) as upstream,
        client(upstream.base_url, env=ONE_BY_ONE) as api,
    ):
        source = extraction(api, progress=lambda shown: seen.append((shown.what, shown.pages, shown.read)))
        sales, events = source.sales(), source.events()
        assert upstream.requests == []
        assert [event.event_id for event in events] == ["event-0", "event-1", "event-2"]
        assert [sale.sale_id for sale in sales] == ["1", "2", "3", "4", "5"]
    assert seen == [("events", 1, 2), ("events", 2, 3)] + [("ticket_sales", n, min(2 * n, 5)) for n in (1, 2, 3)]
    counts = [("events", 2), ("events", 1), ("ticket_sales", 2), ("ticket_sales", 2), ("ticket_sales", 1)]
    assert logged(capsys) == [attempt_event(1, 200, count, name) for name, count in counts]


CLIENTS = ("etl", "tenacity", "requests", "urllib3", "http")


def test_pages_leave_nothing_to_the_garbage_collector() -> None:
    """What is made for a page is freed with it: the collector is off during a run, and pages may be many."""
    with TicketingApi(sales=plain_sales(60), page_size=1) as upstream, client(upstream.base_url) as api:
        source = extraction(api)
        # A thread of an earlier reading leaves what it held when it ends.
        wait_until(lambda: not fetch_threads())
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            read_once(source)
            gc.collect()
            left = Counter(kind for kind in map(type, gc.garbage) if kind.__module__.partition(".")[0] in CLIENTS)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert max(left.values(), default=0) < source.tallies["ticket_sales"].pages == 60, left
