"""Admission: who is accepted, who is refused, and for how long nobody is, where the capacity has run out."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from iolab.server.books import Books
from iolab.server.errors import CAPACITY, GONE_BEFORE_ACCEPT
from iolab.server.limits import Limits
from iolab.server.listener import accept_queue
from iolab.server.stop import WAKE, Stop
from iolab.settings import FD_SETSIZE

# How long a server that is out of descriptors or memory leaves its listener alone (trio waits as long).
PAUSE_SECONDS = 0.1
# How many clients a turn accepts or refuses at most: whoever connects again and again stalls nobody for longer.
ACCEPTS_A_TURN = 16

# Logs an event with its fields, now and then.
Warn = Callable[..., None]


class Admission:
    """Accepts for one server, as far as its limits go. `selects`: select(2) is to watch the descriptors."""

    def __init__(
        self, listener: socket.socket, limits: Limits, stop: Stop, books: Books, warn: Warn, *, selects: bool
    ) -> None:
        # 0, or when to accept again after the capacity ran out.
        self.paused_until = 0.0
        self._listener = listener
        self._limits = limits
        self._stop = stop
        self._books = books
        self._warn = warn
        self._descriptor_end = FD_SETSIZE if selects else None

    def accept_some(self) -> Iterator[socket.socket]:
        """Those who wait and may stay, of ACCEPTS_A_TURN clients at most; at the stop, of all who are in the queue.

        It ends earlier when nobody waits (if the listener does not block), or when nobody is accepted. Whoever is left
        keeps the listener readable, and has the next turn. Those above `max_connections` are closed here; capacity
        errors start a pause. Other errors are bugs.
        """
        self.resumed()
        # At the stop the listener closes behind them: nobody else has a turn.
        most = ACCEPTS_A_TURN + (accept_queue(self._listener) if self._stop.requested else 0)
        for _ in range(most):
            if self.paused_until or self._listener.fileno() < 0:
                return
            try:
                sock, _ = self._listener.accept()
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
        room = self._places_taken() < self._limits.max_connections
        if room and (self._descriptor_end is None or sock.fileno() < self._descriptor_end):
            return True
        refused = self._books.refused()
        self._warn("refused", max_connections=self._limits.max_connections, refused=refused)
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
        self._books.paused()
        descriptors = self._limits.descriptors
        self._warn("out_of_capacity", error=str(error), descriptors=descriptors, pause_seconds=PAUSE_SECONDS)

    def pause_left(self) -> float:
        """Seconds until a pause is over."""
        return max(0.0, self.paused_until - time.monotonic())

    def resumed(self) -> bool:
        """True once, when a pause is over: the listener is to be watched again."""
        if not self.paused_until or time.monotonic() < self.paused_until:
            return False
        self.paused_until = 0.0
        return True

    def wait_for_capacity(self) -> None:
        """Sleep until a pause is over, or the stop is requested: for a model that accepts in a thread of its own."""
        while self.paused_until and not self.resumed():
            if self._stop.wait(self.pause_left()):
                self.paused_until = 0.0

    def close_listener(self) -> bool:
        """At the stop, once `accept_some` has nobody left; return whether it is closed.

        A pause keeps it open: those in its queue came before the stop, and are accepted when others have left.
        """
        if self.paused_until:
            return False
        self._listener.close()
        return True

    def wake_accept_at_stop(self) -> None:
        """Have the stop end an accept(2) that blocks in the calling thread.

        It can watch no descriptor, and shutting the listener down would reset those in its queue. The signal ends the
        call with EINTR, and Python calls again, on a listener that no longer blocks.
        """
        thread = threading.get_ident()

        def wake() -> None:
            # Closed by now: then nobody blocks.
            with contextlib.suppress(OSError):
                self._listener.setblocking(False)
                signal.pthread_kill(thread, WAKE)

        self._stop.then(wake)

    def _places_taken(self) -> int:
        return self._books.open_count()
