"""Debian's chromium, driven by Playwright, and a page that notes what it asks for and what it complains of."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from tests.support.missing import skip


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser while the block runs."""
    program = shutil.which("chromium")
    if not program:
        skip("there is no chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip("playwright is not installed: pip install 'iolab[test]'")
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which root and most containers do not have; the pages are our own.
        # Without a GPU it would emulate one, at ten times the cost of drawing by itself.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


# Chromium gives up all that it waits for when an interface of the machine comes or goes, as with each container.
CHANGED = "net::ERR_NETWORK_CHANGED"


class Opened:
    """A page, the URLs it has asked for, and its complaints."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self._given_up = False
        self.page = browser.new_page(**options)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", self._failed)
        self.page.on("console", lambda message: self._complain(message.text))
        self.page.on("pageerror", lambda error: self._complain(str(error)))
        self.go(url)

    def go(self, url: str) -> None:
        """Load a page, with all that it needs."""
        from playwright.sync_api import Error

        self._given_up = True
        while self._given_up:
            self._given_up = False
            try:
                self.page.goto(url, wait_until="load")
            except Error as error:
                if CHANGED not in str(error):
                    raise
                self._given_up = True

    def _failed(self, request: Any) -> None:
        self._given_up = self._given_up or CHANGED in (request.failure or "")

    def _complain(self, text: str) -> None:
        if CHANGED not in text:
            self.complaints.append(text)
