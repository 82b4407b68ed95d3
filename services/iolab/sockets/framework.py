"""Ring 1 for frameworks: one accepted socket that a framework reads and writes, and what is owed to its peer.

The framework moves the bytes, in its own time and through its own buffers. This module knows what every server must:
how much is owed, whether the connection is idle, and when it is quiet enough to half-close.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from iolab.server.books import Peer, Silence
from iolab.server.server import Server
from iolab.sockets.farewell import begin_farewell, finished, moved, nothing_came

# How often to retry reading a number that another thread may be changing. An error that lasts longer is a bug.
ATTEMPTS = 1000


class Stream(Peer):
    """A connection whose model counts `received_bytes` as they come, `sent_bytes` as the framework is given them.

    Bytes that a framework still held when the peer was lost count as sent: frameworks do not report them.
    """

    __slots__ = ("_quiet", "_server", "_silence", "cut", "held", "sent_bytes")

    sent_bytes: int

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self.sent_bytes = 0
        self._server = server
        # How many bytes the framework holds that the kernel has not taken; the model sets it.
        self.held: Callable[[], int] = int
        # Ends the connection at once; the model sets it.
        self.cut: Callable[[], object] = sock.close
        self._silence = Silence()
        self._quiet = Silence()
        server.books.opened(self)

    def buffered(self) -> int:
        """Bytes that the framework holds and the kernel has not taken. The admin port's thread asks for it too."""
        # asyncio adds up a deque, which its own thread may change meanwhile (RuntimeError). A retry succeeds.
        for _ in range(ATTEMPTS):
            with contextlib.suppress(RuntimeError):
                return self.held()
        return self.held()

    def look(self, now: float) -> None:
        """Cut the connection if no byte moved in either direction for `idle_seconds`; `now` is by IdleSweep.clock."""
        if self.sock.fileno() < 0:
            return
        silent_seconds = self._silence.seconds(now, moved(self))
        if self.received_bytes > self.sent_bytes and not self.held():
            # The time that an answer takes is the server's; the client's silence begins when the answer is there.
            self._silence.end()
        elif silent_seconds >= self._server.settings.idle_seconds:
            self.finishing = True
            self.cut()

    def drain(self, now: float) -> None:
        """Check the connection while the server stops, at least every DRAIN_TICK seconds.

        Once it is quiet, half-close it; then discard input until the peer has acknowledged everything.
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
    """Cut those of a server's streams that are idle; called every IdleSweep.seconds."""
    now = server.sweep.clock()
    for stream in _open_streams(server):
        stream.look(now)


def look_for_quiet(server: Server) -> None:
    """Check all of a server's streams while it stops; called every DRAIN_TICK seconds."""
    now = time.monotonic()
    for stream in _open_streams(server):
        stream.drain(now)


def _open_streams(server: Server) -> list[Stream]:
    return [peer for peer in server.books.open_peers() if isinstance(peer, Stream)]
