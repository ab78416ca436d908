"""python -m tests.sandbox.screenshot FILE: the report page of a sandbox that has run a few times, as a picture."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import ViewportSize

from tests.sandbox.__main__ import start
from tests.sandbox.function import reach_loopback
from tests.support.browser import open_chromium

RUNS = 12
SIZE = ViewportSize(width=1040, height=1180)


def main(path: Path) -> None:
    os.environ.update(reach_loopback(os.environ))
    with ExitStack() as stack, open_chromium() as browser:
        function, _ = start(stack, with_parts=True)
        for _ in range(RUNS):
            function.request("POST", "/")
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(f"{function.url}/report")
        page.evaluate("document.querySelector('details').open = false")
        page.screenshot(path=path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
