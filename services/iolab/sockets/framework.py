"""Ring 1 for frameworks: one accepted socket that a framework reads and writes, and what is owed to its peer.

The framework moves the bytes, in its own time and through buffers of its own. What every server has to know is here:
how much is owed, whether the connection is idle, and when it is quiet enough for its farewell.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from iolab.server.books import Peer
from iolab.server.server import Server
from iolab.sockets.farewell import begin_farewell, finished, moved, nothing_came


class Stream(Peer):
    """A connection whose model counts `received_bytes` when they come, `sent_bytes` when the framework is given them.

    What a framework still held when its peer was lost counts as sent: it does not tell.
    """

    __slots__ = ("_server", "cut", "finishing", "held", "sent_bytes")

    sent_bytes: int

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self.sent_bytes = 0
        self._server = server
        # How many bytes the framework was given and the kernel was not; the model sets it.
        self.held: Callable[[], int] = int
        # What the model does to end it at once.
        self.cut: Callable[[], object] = sock.close
        # It was said farewell: what still comes is thrown away.
        self.finishing = False
        server.opened(self)

    def buffered(self) -> int:
        """Bytes that the framework was given and the kernel was not; asked for by the admin's thread too."""
        while True:
            try:
                return self.held()
            except RuntimeError:
                # asyncio counts over a deque, and its own thread changed that meanwhile.
                continue

    def lost(self, error: OSError) -> None:
        """Remember why the peer was lost, unless it was this side that ended it."""
        if not self.finishing:
            self.error = error

    def look(self, now: float) -> None:
        """One look at it, now and then: cut it if no byte moved either way for `idle_seconds`."""
        if self.sock.fileno() < 0:
            return
        silent_for = self.silent_for(now, moved(self))
        if self.received_bytes > self.sent_bytes and not self.held():
            # The time that an answer takes is the server's: the client's begins when it is there.
            self.silent_for(now, -1)
        elif silent_for >= self._server.settings.idle_seconds:
            self.finishing = True
            self.cut()

    def drain(self, now: float) -> None:
        """One look at it while the server stops, at least every DRAIN_TICK seconds.

        Once quiet it is given its FIN; then what comes is thrown away until the peer has acknowledged everything.
        """
        if self.sock.fileno() < 0:
            return
        if self.finishing:
            if finished(self.sock):
                self.cut()
            return
        silent_for = min(self.silent_for(now, self.received_bytes), now - self._server.stop.requested_at)
        owed = self.received_bytes > self.sent_bytes or self.held()
        if not owed and silent_for >= self._server.settings.drain_quiet_seconds and nothing_came(self.sock):
            self.finishing = True
            begin_farewell(self.sock)
