"""The system's Chromium, without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_GET = "install Chromium to test the report page in a browser: apt-get install --no-install-recommends chromium"


def find_chromium() -> str | None:
    """Its path, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A browser of its own. Raises RuntimeError where none is installed."""
    path = find_chromium()
    if path is None:
        raise RuntimeError(HOW_TO_GET)
    with sync_playwright() as playwright:
        # As root Chromium refuses its own sandbox; it shows nothing here but our own page.
        sandbox = os.geteuid() != 0
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=sandbox)
        try:
            yield browser
        finally:
            browser.close()
