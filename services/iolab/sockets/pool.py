"""Ring 1 for pools: a number of threads, and a queue of the peers that wait for one."""

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
    """Threads that do the same work: each takes the oldest entry of `queue`, until that is None."""

    def __init__(self, server: Server, work: Callable[..., None], *arguments: Any) -> None:
        """Start the threads, each with `work(queue, *arguments)`. Raises NoThread."""
        self.queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._server = server
        self._threads: list[threading.Thread] = [
            start_thread(work, f"worker-{number}", self.queue, *arguments)
            for number in range(server.settings.pool_size)
        ]
        server.waiting = self.queue.qsize

    def drain(self) -> None:
        """Give free threads the peers that wait, turn away the others, and wait for every thread's end.

        For models in which a thread serves its client to the end.
        """
        while self.queue.qsize() and self._server.open_count() - self.queue.qsize() < len(self._threads):
            time.sleep(DRAIN_TICK)
        with contextlib.suppress(queue.Empty):
            while peer := self.queue.get_nowait():
                self._server.books.turn_away(peer)
        self.end()

    def end(self) -> None:
        """Let the threads finish what is queued, and wait for their end."""
        for _ in self._threads:
            self.queue.put(None)
        for thread in self._threads:
            thread.join()
