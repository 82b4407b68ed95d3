"""Ring 1 for pools: a number of threads, and a queue of those who wait for one of them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from iolab.kernel.threads import start_thread
from iolab.server.books import Peer
from iolab.server.server import DRAIN_TICK, Server

Waiting = TypeVar("Waiting", bound=Peer)


class Pool(Generic[Waiting]):
    """Threads that do the same work: take whoever has waited longest out of `queue`, until that is None."""

    def __init__(self, server: Server, work: Callable[..., None], *arguments: Any) -> None:
        """Start them, each with `work(queue, *arguments)`. Raises NoThread."""
        self.queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._server = server
        self._threads: list[threading.Thread] = [
            start_thread(work, f"worker-{number}", self.queue, *arguments)
            for number in range(server.settings.pool_size)
        ]
        server.waiting = self.queue.qsize

    def drain(self) -> None:
        """Let free threads begin with those who wait, turn away the others, and wait for every thread's end.

        For a model in which a thread stays with its client to the end.
        """
        while self.queue.qsize() and self._server.open_count() - self.queue.qsize() < len(self._threads):
            time.sleep(DRAIN_TICK)
        with contextlib.suppress(queue.Empty):
            while peer := self.queue.get_nowait():
                self._server.books.turn_away(peer)
        self.end()

    def end(self) -> None:
        """Have every thread end when it has done what waits, and wait for that."""
        for _ in self._threads:
            self.queue.put(None)
        for thread in self._threads:
            thread.join()
