"""What every model is given: a listener that is bound and has its options, the limits, the stop and the books."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import msgspec

from iolab import log
from iolab.registry import Model
from iolab.server.books import Peer, Totals, _add
from iolab.server.errors import CAPACITY, GONE_BEFORE_ACCEPT
from iolab.server.limits import effective_limits
from iolab.server.listener import accept_queue
from iolab.server.stop import WAKE, Stop
from iolab.settings import FD_SETSIZE, Settings
from iolab.work import AT_ONCE, Work

# How long a server that is out of descriptors or memory leaves its listener alone (trio waits as long).
PAUSE_SECONDS = 0.1
# How many clients a turn accepts or refuses at most: whoever connects again and again stalls nobody for longer.
ACCEPTS_A_TURN = 16
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
        # For whoever waits as a thread does; a model that waits in another way gives its own sleep to session.answer.
        self.answer = self.work.answer(time.sleep)
        self.limits = effective_limits(model, settings, listener)
        # How many connections, or answers of theirs, wait for a worker; a model with a pool tells.
        self.waiting: Callable[[], int] = lambda: 0
        # 0, or when to accept again after the capacity ran out.
        self.paused_until = 0.0
        self._descriptor_end = FD_SETSIZE if model.selects else None
        # How often to look for idle connections; 0: never. Ten looks bring a connection's end to within a tenth.
        self.sweep_seconds = settings.idle_seconds / 10
        self._next_sweep = time.monotonic() + self.sweep_seconds
        self._idle_clock = 0.0
        self._last_look = time.monotonic()
        self._open: set[Peer] = set()
        self._totals = Totals()
        self._books = threading.Lock()
        self._last_warnings: dict[str, float] = {}

    # Accepting

    def accept_some(self) -> Iterator[socket.socket]:
        """Those who wait and may stay, of ACCEPTS_A_TURN clients at most; at the stop, of all who are in the queue.

        It ends earlier when nobody waits (if the listener does not block), or when nobody is accepted. Whoever is left
        keeps the listener readable, and has the next turn. Those above `max_connections` are closed here; capacity
        errors start a pause. Other errors are bugs.
        """
        self.resumed()
        # At the stop the listener closes behind them: nobody else has a turn.
        most = ACCEPTS_A_TURN + (self.accept_queue() if self.stop.requested else 0)
        for _ in range(most):
            if self.paused_until or self.listener.fileno() < 0:
                return
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self.not_accepted(error)
                continue
            if self.admitted(sock):
                yield sock
            else:
                sock.close()

    def admitted(self, sock: socket.socket) -> bool:
        """Whether the model can hold one more connection; one that it cannot is counted as refused."""
        room = self._places_taken() < self.limits.max_connections
        if room and (self._descriptor_end is None or sock.fileno() < self._descriptor_end):
            return True
        with self._books:
            self._totals.refused += 1
        self.warn("refused", max_connections=self.limits.max_connections, refused=self._totals.refused)
        return False

    def not_accepted(self, error: OSError) -> None:
        """What an accept that failed means: a pause, a client that is gone already, or a bug, which is raised."""
        if error.errno in CAPACITY:
            self.pause(error)
        elif error.errno not in GONE_BEFORE_ACCEPT:
            raise error

    def pause(self, error: Exception) -> None:
        """Accept nobody for 100 ms: a listener out of descriptors stays readable, so that asking on would spin."""
        self.paused_until = time.monotonic() + PAUSE_SECONDS
        with self._books:
            self._totals.pauses += 1
        self.warn("out_of_capacity", error=str(error), descriptors=self.limits.descriptors, pause_seconds=PAUSE_SECONDS)

    def pause_left(self) -> float:
        """Seconds until a pause is over."""
        return max(0.0, self.paused_until - time.monotonic())

    def resumed(self) -> bool:
        """True once, when a pause is over: the listener is to be watched again."""
        if not self.paused_until or time.monotonic() < self.paused_until:
            return False
        self.paused_until = 0.0
        return True

    def close_listener(self) -> bool:
        """At the stop, once `accept_some` has nobody left; return whether it is closed.

        A pause keeps it open: those in its queue came before the stop, and are accepted when others have left.
        """
        if self.paused_until:
            return False
        self.listener.close()
        return True

    def wait_for_capacity(self) -> None:
        """Sleep until a pause is over, or the stop is requested: for a model that accepts in a thread of its own."""
        while self.paused_until and not self.resumed():
            if self.stop.wait(self.pause_left()):
                self.paused_until = 0.0

    def wake_accept_at_stop(self) -> None:
        """Have the stop end an accept(2) that blocks in the calling thread.

        It can watch no descriptor, and shutting the listener down would reset those in its queue. The signal ends the
        call with EINTR, and Python calls again, on a listener that no longer blocks.
        """
        thread = threading.get_ident()

        def wake() -> None:
            # Closed by now: then nobody blocks.
            with contextlib.suppress(OSError):
                self.listener.setblocking(False)
                signal.pthread_kill(thread, WAKE)

        self.stop.then(wake)

    def read_size(self, length: int) -> int:
        """How much to read from a peer at once, after its first read, and after one that came back full: of `length`.

        Its messages are taken for small if the first one is, until one of them is not. That one is read in two, so that
        it would take its time twice where answers take any: there nobody is taken for small.
        """
        small = min(SMALL_READ, self.settings.buffer_size)
        return small if length < small and self.answer is AT_ONCE else self.settings.buffer_size

    # The clock of an event loop

    def timeout(self) -> float | None:
        """Seconds until a loop has something to do that no descriptor tells it; None: never."""
        if not self.paused_until and not self.sweep_seconds:
            return None
        ends = [moment for moment in (self.paused_until, self.sweep_seconds and self._next_sweep) if moment]
        return max(0.0, min(ends) - time.monotonic())

    def sweep_is_due(self) -> bool:
        """Whether it is time to look for idle connections; if so, the next look is due a while later."""
        if not self.sweep_seconds or time.monotonic() < self._next_sweep:
            return False
        self._next_sweep = time.monotonic() + self.sweep_seconds
        return True

    def idle_clock(self) -> float:
        """The clock of the clients' silence, in seconds; to be asked once for each look at all of them.

        It goes on by two sweeps at most: in a turn that took longer the server was busy, and heard nobody.
        """
        now = time.monotonic()
        self._idle_clock += min(now - self._last_look, 2 * self.sweep_seconds)
        self._last_look = now
        return self._idle_clock

    # The books

    def opened(self, peer: Peer) -> None:
        """Enter an admitted peer. Each model calls this exactly once for each."""
        with self._books:
            self._open.add(peer)
            self._totals.accepted += 1

    def closed(self, peer: Peer, *, unserved: bool = False) -> None:
        """Fold the counters of a peer into the totals. Each model calls this exactly once for each that it opened."""
        with self._books:
            self._open.remove(peer)
            self._totals.lost += peer.lost
            self._totals.unserved += unserved
            _add(self._totals, peer)
        if peer.lost:
            log.debug("lost", error=str(peer.error))

    def turn_away(self, peer: Peer) -> None:
        """Close, at the stop, a client whom no worker has begun to serve, and the books on it."""
        peer.sock.close()
        self.closed(peer, unserved=True)

    def open_count(self) -> int:
        """How many connections are open, those that wait for a worker among them."""
        return len(self._open)

    def open_peers(self) -> list[Peer]:
        """Those that are open at this moment."""
        with self._books:
            return list(self._open)

    def for_each_open(self, call: Callable[[Peer], object]) -> None:
        """Call with each open connection; none of them can leave the books meanwhile."""
        with self._books:
            for peer in self._open:
                call(peer)

    def totals(self) -> Totals:
        """The books with the connections that are still open."""
        with self._books:
            totals = msgspec.structs.replace(self._totals)
            for peer in self._open:
                _add(totals, peer)
            return totals

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

    def _places_taken(self) -> int:
        return len(self._open)

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        log.warning(event, **fields)
