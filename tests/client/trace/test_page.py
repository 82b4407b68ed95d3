"""The page, in a real browser: it zooms, shows the call under the pointer, asks for nothing, and reads without eyes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iolab_client.trace.lanes import Timeline
from iolab_client.trace.page import page
from tests.client.trace.test_lanes import of
from tests.client.trace.texts import LOOP
from tests.support.browser import Opened, chromium

HOSTILE = "<script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def timelines() -> list[Timeline]:
    return [of(LOOP), of(LOOP.replace('"client 2', f'"{HOSTILE}'))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any, timelines: list[Timeline], tmp_path: Path) -> Iterator[Opened]:
    file = tmp_path / "page.html"
    file.write_text(page(timelines))
    opened = Opened(browser, file.as_uri(), viewport={"width": 1200, "height": 900})
    yield opened
    assert opened.complaints == []
    assert opened.asked == [file.as_uri()]
    assert opened.page.title().startswith("epoll_loop, epoll_loop: what each thread does")
    opened.page.close()


def wait(shown: Any, text: str) -> Any:
    """The first wait in that call."""
    return shown.locator(f"rect.c[data-text^={text}]").first


def test_the_same_timelines_make_the_same_page(timelines: list[Timeline]) -> None:
    assert page(timelines) == page(timelines)


def test_keys_and_buttons_zoom_and_come_back(opened: Opened) -> None:
    shown = opened.page
    before, window = wait(shown, "clock_nanosleep").bounding_box(), shown.inner_text("#window")
    shown.focus("figure")
    shown.keyboard.press("+")
    shown.wait_for_function("before => document.querySelector('#window').textContent !== before", arg=window)
    closer = shown.inner_text("#window")
    shown.keyboard.press("ArrowLeft")
    shown.wait_for_function("before => document.querySelector('#window').textContent !== before", arg=closer)
    assert wait(shown, "clock_nanosleep").bounding_box()["width"] > 1.5 * before["width"]
    shown.get_by_role("button", name="all").click()
    shown.wait_for_function("before => document.querySelector('#window').textContent === before", arg=window)
    assert wait(shown, "clock_nanosleep").bounding_box() == pytest.approx(before, abs=0.2)


def test_the_call_under_the_pointer_is_shown(opened: Opened) -> None:
    shown = opened.page
    assert shown.locator("#said").is_hidden()
    wait(shown, "clock_nanosleep").hover(position={"x": 120, "y": 5})
    assert shown.locator("#said").is_visible()
    assert "50.0 ms: clock_nanosleep(CLOCK_MONOTONIC" in shown.inner_text("#said")


def test_a_client_that_waits_to_be_read_says_so_under_the_pointer(opened: Opened) -> None:
    opened.page.locator("rect.k1.q[data-a]").first.hover()
    assert "client 2 waits 91.4 ms" in opened.page.inner_text("#said")
    assert opened.page.inner_text("#said").endswith("not read yet")


def test_all_of_it_is_there_as_text_too(opened: Opened) -> None:
    text = opened.page.locator("main").text_content()
    for words in (
        "clock_nanosleep 1",
        "100 ms in clock_nanosleep",
        "stop in rt_sigtimedwait",
        "the answer's own 50 ms",
    ):
        assert words in text
    # As it was sent, and as text.
    assert HOSTILE in text


def test_light_dark_and_print_have_colours_of_their_own_and_patterns(opened: Opened) -> None:
    shown = opened.page
    seen = []
    for medium, scheme in (("screen", "light"), ("screen", "dark"), ("print", "dark")):
        shown.emulate_media(media=medium, color_scheme=scheme)
        seen.append(
            shown.evaluate(
                "['.p', '.r', '.k0.b', 'text'].map(one => getComputedStyle(document.querySelector('svg ' + one)).fill)"
            )
        )
        assert wait(shown, "clock_nanosleep").evaluate("bar => getComputedStyle(bar).fill") == 'url("#c")'
    light, dark, printed = seen
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert printed == light


def test_no_rule_of_accessibility_is_broken(opened: Opened) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)
        found = Axe().run(opened.page)
        assert found.violations_count == 0, found.generate_report()


def test_a_narrow_screen_scrolls_the_picture_and_not_the_page(
    browser: Any, timelines: list[Timeline], tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(timelines))
    shown = Opened(browser, file.as_uri(), viewport={"width": 360, "height": 640}).page
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    assert shown.locator("figure").evaluate("figure => figure.scrollWidth > figure.clientWidth")
    shown.close()
