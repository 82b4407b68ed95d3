"""Admission: which clients are accepted or refused, and how long accepting pauses when the capacity has run out."""

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
# The most clients that a turn accepts or refuses: a flood of connections stalls established clients no longer.
ACCEPTS_A_TURN = 16

# Logs an event with its fields, at a limited rate.
Warn = Callable[..., None]


class Admission:
    """Accepts clients for one server, within its limits. `selects`: select(2) is to watch the descriptors."""

    def __init__(
        self, listener: socket.socket, limits: Limits, stop: Stop, books: Books, warn: Warn, *, selects: bool
    ) -> None:
        # When to accept again after the capacity ran out; 0: there is no pause.
        self.paused_until = 0.0
        self._listener = listener
        self._limits = limits
        self._stop = stop
        self._books = books
        self._warn = warn
        self._descriptor_end = FD_SETSIZE if selects else None

    def accept_some(self) -> Iterator[socket.socket]:
        """Accept at most ACCEPTS_A_TURN clients, at the stop all that are in the queue; yield those that are admitted.

        It ends earlier when the queue is empty (if the listener does not block), and during a pause. Clients left in
        the queue keep the listener readable, and have the next turn. Those above `max_connections` are closed here;
        capacity errors start a pause. Other errors are bugs.
        """
        self.resumed()
        # At the stop there is no next turn: the listener closes.
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
        """Whether the model can hold one more connection; if not, it is counted as refused."""
        room = self._places_taken() < self._limits.max_connections
        if room and (self._descriptor_end is None or sock.fileno() < self._descriptor_end):
            return True
        refused = self._books.refused()
        self._warn("refused", max_connections=self._limits.max_connections, refused=refused)
        return False

    def not_accepted(self, error: OSError) -> None:
        """Handle a failed accept: pause for want of capacity, ignore a client that is gone, raise a bug."""
        if error.errno in CAPACITY:
            self.pause(error)
        elif error.errno not in GONE_BEFORE_ACCEPT:
            raise error

    def pause(self, error: Exception) -> None:
        """Pause accepting for 100 ms: without descriptors the listener stays readable, and the loop would spin."""
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
        """Sleep until a pause is over or the stop is requested: for a model that accepts in a thread of its own."""
        while self.paused_until and not self.resumed():
            if self._stop.wait(self.pause_left()):
                self.paused_until = 0.0

    def close_listener(self) -> bool:
        """Close the listener at the stop, once `accept_some` has emptied its queue; return whether it is closed.

        A pause keeps it open: clients in its queue came before the stop, and are accepted when others have left.
        """
        if self.paused_until:
            return False
        self._listener.close()
        return True

    def wake_accept_at_stop(self) -> None:
        """Make the stop end an accept(2) that blocks in the calling thread.

        That thread can watch no other descriptor, and shutting the listener down would reset the clients in its queue.
        The signal ends the call with EINTR, and Python repeats it on a listener that no longer blocks.
        """
        thread = threading.get_ident()

        def wake() -> None:
            # The listener may be closed by now: then no thread blocks.
            with contextlib.suppress(OSError):
                self._listener.setblocking(False)
                signal.pthread_kill(thread, WAKE)

        self._stop.then(wake)

    def _places_taken(self) -> int:
        return self._books.open_count()
