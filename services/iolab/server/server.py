"""What every model is given: a bound listener with its options, the limits, the stop and the books."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any

import msgspec

from iolab import log
from iolab.kernel.frames import Frame, frames
from iolab.kernel.threads import start_thread
from iolab.registry import Model
from iolab.server.admission import Admission
from iolab.server.books import Books, Totals
from iolab.server.idle_sweep import IdleSweep
from iolab.server.limits import effective_limits
from iolab.server.listener import accept_queue
from iolab.server.stop import Stop
from iolab.settings import Settings, WorkDial
from iolab.work import AT_ONCE, Work, compute

# How often a stopping server looks at its connections: no event tells that one has fallen silent.
DRAIN_TICK = 0.02
# What is read at once from a peer that sends small messages: the largest bytes object of Python's own allocator.
# A larger one comes from malloc(3), and its unused part is given back: a twentieth of an answer's cost.
SMALL_READ = 512 - sys.getsizeof(b"")


class Server:
    """One model's server. `listener` is bound and listening; the model decides whether it blocks."""

    def __init__(self, model: Model, settings: Settings, listener: socket.socket, stop: Stop) -> None:
        self.model = model
        self.settings = settings
        self.listener = listener
        self.stop = stop
        self.work = Work(cpu_us=settings.work.cpu_us, wait_ms=settings.work.wait_ms)
        # For models whose threads may sleep; one that waits in another way gives its own sleep to work.answer.
        self.answer = self._answer_here = self.work.answer(time.sleep)
        self.limits = effective_limits(model, settings, listener)
        # How many connections, or their answers, wait for a worker; a model with a pool sets it.
        self.waiting: Callable[[], int] = lambda: 0
        self.books = Books()
        self.admission = Admission(listener, self.limits, stop, self.books, self.warn, selects=model.selects)
        self.sweep = IdleSweep(settings.idle_seconds)
        self._last_warnings: dict[str, float] = {}

    def turn(self, dial: WorkDial) -> None:
        """Turn the work dial: from now on answers cost this, also for clients that are already connected.

        Called by the admin port. A client that is accepted at the same moment may keep the old dial.
        """
        self.settings = msgspec.structs.replace(self.settings, work=dial)
        self.work.turn(cpu_us=dial.cpu_us, wait_ms=dial.wait_ms)
        # A model whose answers are made elsewhere has replaced `answer`, and reads the settings itself.
        made_here = self.answer is self._answer_here
        self._answer_here = self.work.answer(time.sleep)
        if made_here:
            self.answer = self._answer_here
        self.books.for_each_open(lambda peer: peer.turn())

    def read_size(self, length: int) -> int:
        """Bytes to read from a peer at once; asked after its first read, and after each full one, of `length` bytes.

        A peer's messages are taken for small if the first one is, until one is not. That one is read in two parts, each
        of which takes the work dial's time; so with a work dial no peer's messages are taken for small.
        """
        small = min(SMALL_READ, self.settings.buffer_size)
        return small if length < small and self.answer is AT_ONCE else self.settings.buffer_size

    def compute_beside(self) -> None:
        """Start the work dial's `threads`, which compute beside the answers. Raises NoThread."""
        for _ in range(self.settings.work.threads):
            start_thread(compute, "compute")

    def timeout(self) -> float | None:
        """Seconds until a loop has something to do that no descriptor announces; None: never."""
        paused_until, sweeps = self.admission.paused_until, self.sweep.seconds
        if not paused_until and not sweeps:
            return None
        ends = [moment for moment in (paused_until, sweeps and self.sweep.due_at) if moment]
        return max(0.0, min(ends) - time.monotonic())

    # What a server of several processes answers in another way

    def open_count(self) -> int:
        """How many connections are open, including those that wait for a worker."""
        return self.books.open_count()

    def open_counts(self) -> list[int]:
        """`open_count` of each serving process."""
        return [self.open_count()]

    def totals(self) -> Totals:
        """Everything counted since the start, including open connections."""
        return self.books.totals()

    def accept_queue(self) -> int:
        """How many clients the kernel holds for accept(2) at this moment."""
        return accept_queue(self.listener)

    def processes(self) -> list[int]:
        """The PIDs of the server's processes, the main one first."""
        return [os.getpid()]

    def frames(self) -> dict[int, Frame]:
        """The line of Python that each thread is at, by its TID."""
        return frames()

    def warn(self, event: str, **fields: object) -> None:
        """Log an event at most once a second: what fails for one client fails for the next thousand."""
        now = time.monotonic()
        if now - self._last_warnings.get(event, -inf) >= 1:
            self._last_warnings[event] = now
            self._log(event, fields)

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        log.warning(event, **fields)
