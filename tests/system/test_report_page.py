"""The report page as a person meets it: in a browser, with and without JavaScript, small, dark, printed, by keys."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.postgres import EmbeddedPostgres
from tests.support.browser import HOW_TO_GET, find_chromium, open_chromium
from tests.support.testbed import Testbed, open_testbed

pytestmark = pytest.mark.skipif(find_chromium() is None and not os.environ.get("CI"), reason=HOW_TO_GET)

SCRIPT = "<script>document.title = 'run'</script>"
SCREENS = [
    pytest.param(360, "light", id="phone, light"),
    pytest.param(360, "dark", id="phone, dark"),
    pytest.param(1280, "light", id="desk, light"),
    pytest.param(1280, "dark", id="desk, dark"),
]


@pytest.fixture(scope="module")
def bed(postgres_server: EmbeddedPostgres, bigquery_emulator: BigQueryEmulator) -> Iterator[Testbed]:
    """Both stores loaded, an event that is called a script, and a last run that failed."""
    with open_testbed(postgres_server, bigquery_emulator) as bed:
        bed.reset()
        best = max(bed.wanted().events, key=lambda row: row[2])[0]
        bed.upstream.events = [
            event | {"name": SCRIPT} if event["id"] == best else event for event in bed.upstream.events
        ]
        for _ in range(3):
            assert bed.function.call().status_code == 200
        sales = bed.upstream.sales
        bed.upstream.sales = sales[:40]
        assert bed.function.call().status_code == 502
        bed.upstream.sales = sales
        yield bed


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@dataclass
class Visit:
    """A page, what its console said, and what it asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, bed: Testbed, *, days: int = 365, **options: Any) -> Iterator[Visit]:
    """The report, in a window of its own."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        visited = Visit(page)
        page.on("console", lambda message: visited.said.append(message.text))
        page.on("pageerror", lambda error: visited.said.append(str(error)))
        page.on("request", lambda request: visited.asked.append(request.url))
        page.goto(f"{bed.function.url.rstrip('/')}/report?days={days}")
        yield visited
    finally:
        context.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_page_is_whole_and_accessible(browser: Browser, bed: Testbed, width: int, scheme: Any) -> None:
    """Two charts are drawn, nothing is wider than the screen, the console is silent, and axe finds nothing."""
    with visit(browser, bed, viewport={"width": width, "height": 800}, color_scheme=scheme) as visited:
        page = visited.page
        widths = page.locator(".chart canvas").evaluate_all("all => all.map(canvas => canvas.clientWidth)")
        assert len(widths) == 2
        assert min(widths) > 0.9 * page.locator("main").evaluate("main => main.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        drawn = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert drawn == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
        found = Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        origin = bed.function.url.rstrip("/")
        assert [url for url in visited.asked if not url.startswith((origin, "data:"))] == []
        assert visited.said == []


def test_the_numbers_are_those_of_the_oracle(browser: Browser, bed: Testbed) -> None:
    """Days, best-selling events and totals; an event's name is text, whatever it is."""
    wanted = bed.wanted()
    days: dict[str, list[Decimal]] = {}
    for _, day, tickets, revenue in wanted.daily:
        sums = days.setdefault(str(day), [Decimal(), Decimal()])
        sums[0] += tickets
        sums[1] += revenue
    best = sorted(wanted.events, key=lambda row: (-row[2], row[0]))[:20]
    with visit(browser, bed) as visited:
        page = visited.page
        rows = page.locator("#by-day tbody tr").evaluate_all("rows => rows.map(row => ({...row.dataset}))")
        shown = {row["day"]: [Decimal(row["tickets"]), Decimal(row["revenue"])] for row in rows}
        assert shown == {day: sums for day, sums in days.items() if day in shown}
        assert len(shown) > 100
        names = page.locator("section[aria-labelledby=best] tbody th").all_inner_texts()
        assert names == [row[1] or row[0] for row in best]
        assert names[0] == SCRIPT
        assert page.title().startswith("Veritix ETL: ")
        totals = page.locator("section[aria-labelledby=stores] tbody tr").all_inner_texts()
        tickets = sum(row[2] for row in wanted.events)
        assert len(totals) == 2
        assert all(f"\t{tickets:,}\t" in line for line in totals)
        assert "with suspicious_extract" in page.locator(".verdict").inner_text()
        assert "look at the upstream" in page.locator(".todo").inner_text()


def test_without_javascript_the_tables_stay(browser: Browser, bed: Testbed) -> None:
    """Nothing is empty, nothing folded, and the ranges are links."""
    with visit(browser, bed, java_script_enabled=False) as visited:
        page = visited.page
        assert page.locator("#by-day tbody tr").first.is_visible()
        assert not page.locator(".chart").first.is_visible()
        page.get_by_role("link", name="7 days").click()
        assert page.url.endswith("/report?days=7")


def test_a_run_is_reached_by_the_keyboard(browser: Browser, bed: Testbed) -> None:
    """The first tab stop is the oldest run; what it came to shows, and Enter leads to its row."""
    with visit(browser, bed) as visited:
        page = visited.page
        last = page.locator(".bar").last
        for _ in range(page.locator(".bar").count()):
            page.keyboard.press("Tab")
        assert last.evaluate("bar => bar === document.activeElement")
        tip = last.locator(".tip")
        assert "suspicious_extract" in tip.inner_text()
        assert tip.evaluate("tip => getComputedStyle(tip).clipPath") == "none"
        page.keyboard.press("Enter")
        assert "#run-" in page.url


def test_print_shows_the_tables(browser: Browser, bed: Testbed) -> None:
    """Also those that are folded on the screen."""
    with visit(browser, bed) as visited:
        page = visited.page
        assert not page.locator("#by-day").is_visible()
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#by-day").is_visible()
