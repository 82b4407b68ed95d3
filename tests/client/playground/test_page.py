"""The page in a browser, beside servers that run: `iolab up` has started all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iolab_client.contract import peers
from tests.support.browser import Opened, chromium
from tests.support.launcher import Launcher
from tests.support.waiting import eventually

SLUGS = ("epoll_loop", "epoll_pool", "prefork_epoll", "playground")
SECONDS = 60_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Three models and the playground."""
    launcher = Launcher(tmp_path_factory.mktemp("up"), SLUGS)
    launcher.configure("playground", look_seconds=0.2)
    launcher.up()
    yield launcher
    code, _, errors = launcher.run("down")
    assert code == 0, errors


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any, up: Launcher) -> Iterator[Opened]:
    """A page of its own; whatever it complained of fails the test."""
    opened = Opened(browser, f"http://127.0.0.1:{up.ports['playground']}/")
    opened.page.set_default_timeout(SECONDS)
    opened.page.wait_for_selector("#card-epoll_loop[data-state=running]")
    yield opened
    opened.page.close()
    assert opened.complaints == []


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
