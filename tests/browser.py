"""A real browser for tests: the machine's Chromium, or the one that `make setup` unpacked, driven by Playwright.

- It runs without its sandbox, which needs root to be set up; it sees pages of these tests and nothing else: every name
  but `localhost` and `….localhost` leads nowhere, so that no test can reach beyond this machine.
- `….localhost` is this machine by whatever name, and each name is a site of its own. Chromium takes `Secure` cookies
  there over plain HTTP.
- Playwright's plain interface leaves an event loop running in the thread that it is used in. Tests that call
  `asyncio.run` would fail beside it: the browser lives as long as one file of tests (the fixture `browser`).
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.node import node

ARGUMENTS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]",
    "--no-proxy-server",
    "--no-sandbox",
)
START_S = 60.0
ACT_S = 30.0
"""For what a page does, from a click to a navigation. Most of it takes milliseconds."""


def program() -> str:
    """Chromium's. Raises AssertionError if there is none."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.prefix) / "debian" / "bin")])
    found = shutil.which("chromium", path=places)
    assert found is not None, "there is no chromium: run `make setup`, or install it"
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Takes 1–2 s."""
    options = {"executable_path": program(), "args": list(ARGUMENTS), "timeout": START_S * 1000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYWRIGHT_NODEJS_PATH", str(node()))  # its own Node wants a library that a bare machine lacks
        with sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
            yield browser


def blank(page: Page, url: str) -> None:
    """Has this page be an empty one of this address, without any policy that its server would send with a page."""
    page.route(url, lambda route: route.fulfill(body="<!doctype html><title>Blank</title>", content_type="text/html"))
    page.goto(url)


class Visit:
    """One visitor with one page and a cookie jar of its own; `errors` is what the page's console called errors.

    record   a file: what the visitor got over the wire is written there at the `end`, as HAR
    """

    def __init__(self, browser: Browser, record: Path | None = None) -> None:
        har: dict[str, Any] = {} if record is None else {"record_har_path": record, "record_har_content": "embed"}
        self.context: BrowserContext = browser.new_context(**har)
        self.context.set_default_timeout(ACT_S * 1000)
        self.errors: list[str] = []
        self.page = self.open_page()

    def open_page(self) -> Page:
        """One more page of the same visitor."""
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def tell(self, directory: Path) -> str:
        """Screenshots of the pages, kept in `directory`, and what their console said: for a failed test."""
        lines = [f"console: {error}" for error in self.errors]
        for number, page in enumerate(self.context.pages, 1):
            file = directory / f"page-{number}.png"
            page.screenshot(path=file)
            lines.append(f"{page.url} looked like {file}")
        return "\n".join(lines)

    def end(self) -> None:
        self.context.close()
