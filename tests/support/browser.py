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


class Opened:
    """A page, the URLs it has asked for, and its complaints."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url, wait_until="load")
