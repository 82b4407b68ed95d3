"""The page in a browser, beside servers that run: `iolab up` has started all of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error

from iolab_client.contract import peers
from tests.support.browser import Opened, chromium
from tests.support.launcher import CHECKOUT, Launcher
from tests.support.waiting import eventually, for_a_while

SLUGS = ("epoll_loop", "epoll_pool", "prefork_epoll", "playground")
MILLISECONDS = 60_000
PAGES = 10
WIDE = {"width": 1280, "height": 720}
NARROW = {"width": 360, "height": 800}
# Little of it is drawn.
SMALL = {"width": 360, "height": 200}
# What there is to know about a page that shows nothing.
STATE = "[document.hidden, document.readyState, document.body.dataset.connection, document.body.innerText]"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Three models and the playground."""
    launcher = Launcher(tmp_path_factory.mktemp("up"), SLUGS, IOLAB_DOCS=str(CHECKOUT / "docs"), IOLAB_HANDS_ON="1")
    launcher.configure("playground", look_seconds=0.4)
    launcher.up()
    yield launcher
    code, _, errors = launcher.run("down")
    assert code == 0, errors


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@contextlib.contextmanager
def opening(browser: Any, up: Launcher, **options: Any) -> Iterator[Opened]:
    """A page while the block runs; whatever it complained of fails the test."""
    opened = Opened(browser, f"http://127.0.0.1:{up.ports['playground']}/", **options)
    opened.page.set_default_timeout(MILLISECONDS)
    try:
        opened.page.wait_for_selector("#card-epoll_loop[data-state=running]")
        opened.page.wait_for_selector("#lesson-list button")
    except Error:
        pytest.fail(f"{opened.page.evaluate(STATE)}, asked for {opened.asked}, complains of {opened.complaints}")
    yield opened
    opened.page.close()
    # What the playground refuses the browser writes down by itself; the page shows it.
    assert [line for line in opened.complaints if "responded with a status of 4" not in line] == []


@pytest.fixture(scope="module")
def shared(browser: Any, up: Launcher) -> Iterator[Opened]:
    """A page that tests use one after the other: to start one is most of what a test would cost."""
    with opening(browser, up) as opened:
        yield opened


@pytest.fixture
def opened(shared: Opened, up: Launcher) -> Opened:
    """The page, loaded anew."""
    shared.go(f"http://127.0.0.1:{up.ports['playground']}/")
    shared.page.wait_for_selector("#card-epoll_loop[data-state=running]")
    shared.page.wait_for_selector("#lesson-list button")
    return shared


def begin(page: Any, title: str, choice: int = 0) -> None:
    """Open a lesson, and predict something."""
    page.get_by_role("button", name=title).click()
    page.locator(f"#choice-{choice}").check()
    page.get_by_role("button", name="See what happens").click()


def seen(page: Any) -> dict[str, str]:
    """What a lesson that is over has shown, by its rows."""
    page.wait_for_selector("#lesson .outcome h4")
    rows = page.locator("#lesson tbody tr")
    return {
        row.locator("th").inner_text(): row.locator("td").inner_text()
        for row in (rows.nth(n) for n in range(rows.count()))
    }


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong, in words."""
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in Axe().run(page).response["violations"]]


def figure(page: Any, slug: str, name: str) -> str:
    """What a card says."""
    return str(page.locator(f"#card-{slug} dl div:has(dt:text-is('{name}')) dd").inner_text())


def test_the_cards_move_when_somebody_talks_to_a_server(opened: Opened, up: Launcher) -> None:
    page = opened.page
    assert page.locator(".card").count() == 14
    with up.connect("epoll_loop") as client:
        eventually(lambda: figure(page, "epoll_loop", "open") == "1", "the client is seen")

        def talk() -> bool:
            for _ in range(50):
                peers.ask(client, b"word")
            return figure(page, "epoll_loop", "answers/s") not in ("0", "\u2013")

        eventually(talk, "its answers are seen")
        assert figure(page, "epoll_pool", "open") == "0"
    eventually(lambda: figure(page, "epoll_loop", "open") == "0", "it is seen to leave")


def test_a_model_that_does_not_run_says_so_and_how_to_start_it(opened: Opened) -> None:
    card = opened.page.locator("#card-poll_loop")
    assert card.get_attribute("data-state") == "gone"
    assert "it does not run; `iolab up poll_loop` starts it" in card.inner_text()


def test_no_request_leaves_the_page(opened: Opened, up: Launcher) -> None:
    assert opened.asked
    assert {url.split("/")[2] for url in opened.asked} == {f"127.0.0.1:{up.ports['playground']}"}


def test_a_lesson_runs_to_its_end_and_the_dial_slows_a_loop_but_not_a_pool(opened: Opened) -> None:
    """Each answer waits for 100 ms: a loop of one thread gives 10 a second at most, however many ask."""
    page = opened.page
    begin(page, "One slow answer stops a loop", choice=1)
    rates = {name: int(text.split()[0]) for name, text in seen(page).items()}
    assert rates["epoll_loop, 8 clients"] <= 10
    assert rates["epoll_pool, 8 clients"] > 15
    outcome = page.locator("#lesson .outcome").inner_text()
    assert "That is what you said." in outcome
    assert "iolab-client experiment head-of-line" in outcome
    # What it has opened is ended, and its dials are back.
    page.wait_for_selector("#opened-none:not([hidden])")
    page.wait_for_selector("#card-epoll_loop .dial:empty", state="attached")
    page.get_by_role("link", name="epoll_loop: its page and timeline").click()
    page.wait_for_selector("h1:has-text('Epoll loop')")
    assert page.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_a_lesson_is_done_with_the_keyboard_alone(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the lessons"
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.locator(":focus").inner_text() == "A process dies":
            break
    page.keyboard.press("Enter")
    assert page.locator(":focus").inner_text() == "A process dies"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    assert page.locator("#choice-1").is_checked()
    page.keyboard.press("Enter")
    found = seen(page)
    assert found["Processes before"] == found["Processes after"]
    assert re.fullmatch(r"process \d+", found["Killed"])
    assert found["Hello, a second later"].startswith("answered after")
    assert page.locator(":focus").get_attribute("class") == "outcome"


def test_what_is_said_is_shown_and_what_is_opened_is_listed_and_ended(opened: Opened, up: Launcher) -> None:
    page = opened.page
    page.locator("#say-text").fill("hello <b>you</b>")
    page.get_by_role("button", name="Say it").click()
    page.get_by_text("HELLO <B>YOU</B>", exact=True).wait_for()
    page.get_by_role("button", name="Open them").click()
    page.get_by_text("epoll_loop: 10 of 10 silent clients connected").wait_for()
    eventually(lambda: figure(page, "epoll_loop", "open") == "10", "they are counted")
    page.locator("#crowd-count").fill("5000")
    page.get_by_role("button", name="Open them").click()
    page.locator("#told.failed:has-text('count: got 5000, expected at most 1000')").wait_for()
    page.get_by_role("button", name="End: epoll_loop, crowd").click()
    page.wait_for_selector("#opened-none:not([hidden])")


def test_frozen_it_says_in_words_what_each_thread_does(opened: Opened) -> None:
    page = opened.page
    page.get_by_role("button", name="Freeze and explain").click()
    words = page.locator("#card-epoll_loop .words").inner_text()
    # With the list of lessons, forms, and cards of servers that run and that do not.
    assert "sleeps until the kernel says that one of many sockets is ready" in words
    assert "models/epoll_loop.py" in words
    assert violations(page) == []
    page.get_by_role("button", name="Go on").click()
    assert page.locator("#card-epoll_loop .words").inner_text() == ""


def test_lessons_that_did_not_come_are_asked_for_again(shared: Opened, up: Launcher) -> None:
    lost: list[str] = []

    def lose_the_first(route: Any) -> None:
        lost.append(route.request.url)
        if len(lost) == 1:
            route.abort()
        else:
            route.continue_()

    shared.page.route("**/lessons", lose_the_first)
    shared.go(f"http://127.0.0.1:{up.ports['playground']}/")
    shared.page.wait_for_selector("#lesson-list button")
    shared.page.unroute("**/lessons")
    assert len(lost) == 2
    # The browser's own line about it.
    assert "net::ERR_FAILED" in shared.complaints.pop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nobody_is_shut_out_and_nothing_is_cut_off(opened: Opened, scheme: str, viewport: Any) -> None:
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.get_by_role("button", name="A pool of threads is full").click()
    page.get_by_role("button", name="See what happens").click()
    page.get_by_text("Choose one first").wait_for()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (lightness < 64) == (scheme == "dark")
    page.set_viewport_size(WIDE)


def test_a_server_that_is_stopped_meanwhile_is_seen_to_go_and_to_come_back(opened: Opened, up: Launcher) -> None:
    page = opened.page
    (epoll_pool,) = [pid for pid, name in up.names().items() if name == "epoll_pool"]
    os.kill(epoll_pool, signal.SIGKILL)
    page.wait_for_selector("#card-epoll_pool[data-state=gone]")
    page.locator("#card-epoll_pool .why:has-text('it has ended')").wait_for()
    page.locator("#model").select_option("epoll_pool")
    page.get_by_role("button", name="Say it").click()
    page.locator("#told.failed:has-text('epoll_pool is not there')").wait_for()
    code, _, errors = up.run("up", "--detach", "epoll_pool")
    assert code == 0, errors
    page.wait_for_selector("#card-epoll_pool[data-state=running]")


def test_a_page_that_nobody_sees_has_no_stream_and_comes_back(opened: Opened, up: Launcher) -> None:
    """A browser has six connections to a server: the seventh tab would wait for ever."""
    page = opened.page
    hidden = "value => Object.defineProperty(document, 'hidden', {value, configurable: true})"
    page.evaluate(hidden, True)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    with up.connect("epoll_loop"):
        # It is told nothing: the client that has come is not seen, until somebody looks.
        for _ in for_a_while(1.5):
            assert figure(page, "epoll_loop", "open") == "0"
        # Without an event: a page that a browser shows while it loads is not told.
        page.evaluate(hidden, False)
        eventually(lambda: figure(page, "epoll_loop", "open") == "1", "it follows again")


def test_ten_pages_at_once_all_move(browser: Any, up: Launcher) -> None:
    with contextlib.ExitStack() as stack:
        # Two browsers, because one has six connections to a server at most.
        browsers = [stack.enter_context(browser.new_context(viewport=SMALL)) for _ in range(2)]
        pages = [stack.enter_context(opening(browsers[number % 2], up)).page for number in range(PAGES)]
        with up.connect("epoll_loop"):
            eventually(lambda: {figure(page, "epoll_loop", "open") for page in pages} == {"1"}, "each sees the client")
        eventually(lambda: {figure(page, "epoll_loop", "open") for page in pages} == {"0"}, "each sees it leave")
