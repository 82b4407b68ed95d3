"""The playground by itself, in a thread of the test's own process: no server runs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web

from iolab.settings import PlaygroundSettings
from iolab_client.playground.app import Playground


@contextlib.contextmanager
def playing(settings: PlaygroundSettings) -> Iterator[tuple[Playground, int]]:
    """A playground while the block runs, and the port that it listens on."""
    loop = asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()
    found: list[tuple[Playground, int]] = []

    async def serve() -> None:
        playground = Playground(settings)
        runner = web.AppRunner(playground.app(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.append((playground, runner.addresses[0][1]))
        ready.set()
        await ended.wait()
        await runner.cleanup()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def alone() -> Iterator[int]:
    """The port of a playground that has no servers to show."""
    with playing(PlaygroundSettings(pages=3)) as (_, port):
        yield port
