"""What every model is given: a listener that is bound and has its options, the limits, the stop and the books."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any

from iolab import log
from iolab.registry import Model
from iolab.server.admission import Admission
from iolab.server.books import Books, Totals
from iolab.server.idle_sweep import IdleSweep
from iolab.server.limits import effective_limits
from iolab.server.listener import accept_queue
from iolab.server.stop import Stop
from iolab.settings import Settings
from iolab.work import AT_ONCE, Work

# How often a server looks at its connections while it stops, when no event tells that they fell silent.
DRAIN_TICK = 0.02
# What is read at once from a peer who sends small messages: the largest bytes object that Python's own allocator makes.
# For a larger one it asks malloc(3), to give back all that has not come: a twentieth of an answer's cost.
SMALL_READ = 512 - sys.getsizeof(b"")


class Server:
    """One model's server. `listener` is bound and listening; the model decides whether it blocks."""

    def __init__(self, model: Model, settings: Settings, listener: socket.socket, stop: Stop) -> None:
        self.model = model
        self.settings = settings
        self.listener = listener
        self.stop = stop
        self.work = Work(cpu_us=settings.work.cpu_us, wait_ms=settings.work.wait_ms)
        # For whoever waits as a thread does; a model that waits in another way gives its own sleep to work.answer.
        self.answer = self.work.answer(time.sleep)
        self.limits = effective_limits(model, settings, listener)
        # How many connections, or answers of theirs, wait for a worker; a model with a pool tells.
        self.waiting: Callable[[], int] = lambda: 0
        self.books = Books()
        self.admission = Admission(listener, self.limits, stop, self.books, self.warn, selects=model.selects)
        self.sweep = IdleSweep(settings.idle_seconds)
        self._last_warnings: dict[str, float] = {}

    def read_size(self, length: int) -> int:
        """How much to read from a peer at once, after its first read, and after one that came back full: of `length`.

        Its messages are taken for small if the first one is, until one of them is not. That one is read in two, so that
        it would take its time twice where answers take any: there nobody is taken for small.
        """
        small = min(SMALL_READ, self.settings.buffer_size)
        return small if length < small and self.answer is AT_ONCE else self.settings.buffer_size

    def timeout(self) -> float | None:
        """Seconds until a loop has something to do that no descriptor tells it; None: never."""
        paused_until, sweeps = self.admission.paused_until, self.sweep.seconds
        if not paused_until and not sweeps:
            return None
        ends = [moment for moment in (paused_until, sweeps and self.sweep.due_at) if moment]
        return max(0.0, min(ends) - time.monotonic())

    # What it is asked, and several processes answer together

    def open_count(self) -> int:
        """How many connections are open, those that wait for a worker among them."""
        return self.books.open_count()

    def totals(self) -> Totals:
        """All that has happened since the start, the open connections included."""
        return self.books.totals()

    def accept_queue(self) -> int:
        """How many clients the kernel holds for accept(2) at this moment."""
        return accept_queue(self.listener)

    def processes(self) -> list[int]:
        """The processes that this server is, the first one in front."""
        return [os.getpid()]

    def warn(self, event: str, **fields: object) -> None:
        """Log, but an event once a second at most: what fails for one client fails for the next thousand."""
        now = time.monotonic()
        if now - self._last_warnings.get(event, -inf) >= 1:
            self._last_warnings[event] = now
            self._log(event, fields)

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        log.warning(event, **fields)
