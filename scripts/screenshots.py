"""The pictures of the playground in the README, taken of one that runs: its address is the argument.

They show what is there at that moment: all models are to run, and nobody else is to use them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent.parent / "docs" / "playground"
# Until a strip is half full, so that there is something to see.
FILL_MILLISECONDS = 12_000
LESSON_MILLISECONDS = 90_000


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("screenshots: there is no chromium: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        lesson = opened(browser, address, viewport={"width": 1280, "height": 1000})
        lesson.get_by_role("button", name="One slow answer stops a loop").click()
        lesson.locator("#choice-0").check()
        lesson.get_by_role("button", name="See what happens").click()
        lesson.wait_for_selector("#lesson .outcome h4", timeout=LESSON_MILLISECONDS)
        save(lesson, "lesson")
        live = opened(browser, address, viewport={"width": 1280, "height": 1000}, color_scheme="dark")
        live.locator("#model").select_option("blocking_pool")
        live.locator("#load-connections").fill("4")
        live.get_by_role("button", name="Load it").click()
        live.wait_for_timeout(FILL_MILLISECONDS)
        live.get_by_role("button", name="Freeze and explain").click()
        save(live, "frozen")
        browser.close()


def opened(browser: Any, address: str, **options: Any) -> Any:
    """A page whose cards have come."""
    page = browser.new_page(**options)
    page.goto(address)
    page.wait_for_selector("#card-epoll_loop[data-state=running]")
    page.wait_for_timeout(FILL_MILLISECONDS // 4)
    return page


def save(page: Any, name: str) -> None:
    """Keep a picture of what is in view."""
    page.evaluate("scrollTo(0, 0)")
    file = FOLDER / f"{name}.png"
    page.screenshot(path=file)
    page.close()
    print(file)


if __name__ == "__main__":
    main()
