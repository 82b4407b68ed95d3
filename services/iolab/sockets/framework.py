"""Ring 1 for frameworks: one accepted socket that a framework reads and writes, and what is owed to its peer.

The framework moves the bytes, in its own time and through buffers of its own. What every server has to know is here:
how much is owed, whether the connection is idle, and when it is quiet enough for its farewell.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from iolab.server.books import Peer, Silence
from iolab.server.server import Server
from iolab.sockets.farewell import begin_farewell, finished, moved, nothing_came

# How often a number is asked for that another thread may be changing. An error that stays for so long is a bug.
ATTEMPTS = 1000


class Stream(Peer):
    """A connection whose model counts `received_bytes` when they come, `sent_bytes` when the framework is given them.

    What a framework still held when its peer was lost counts as sent: it does not tell.
    """

    __slots__ = ("_quiet", "_server", "_silence", "cut", "held", "sent_bytes")

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
        self._silence = Silence()
        self._quiet = Silence()
        server.books.opened(self)

    def buffered(self) -> int:
        """Bytes that the framework was given and the kernel was not; asked for by the admin's thread too."""
        # asyncio counts over a deque, which its own thread may change meanwhile. That is over in a moment.
        for _ in range(ATTEMPTS):
            with contextlib.suppress(RuntimeError):
                return self.held()
        return self.held()

    def look(self, now: float) -> None:
        """One look at it, now and then: cut it if no byte moved either way for `idle_seconds`, by Server.idle_clock."""
        if self.sock.fileno() < 0:
            return
        silent_seconds = self._silence.seconds(now, moved(self))
        if self.received_bytes > self.sent_bytes and not self.held():
            # The time that an answer takes is the server's: the client's begins when it is there.
            self._silence.end()
        elif silent_seconds >= self._server.settings.idle_seconds:
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
        quiet_seconds = self._quiet.seconds(now, self.received_bytes)
        owed = self.received_bytes > self.sent_bytes or self.held()
        if not owed and quiet_seconds >= self._server.settings.drain_quiet_seconds and nothing_came(self.sock):
            self.finishing = True
            begin_farewell(self.sock)


def look_for_idle(server: Server) -> None:
    """One look at all of a server's streams, every Server.sweep_seconds: those that are idle are cut."""
    now = server.sweep.clock()
    for stream in _open_streams(server):
        stream.look(now)


def look_for_quiet(server: Server) -> None:
    """One look at all of a server's streams while it stops, every DRAIN_TICK seconds."""
    now = time.monotonic()
    for stream in _open_streams(server):
        stream.drain(now)


def _open_streams(server: Server) -> list[Stream]:
    return [peer for peer in server.books.open_peers() if isinstance(peer, Stream)]
