"""Select loop: one thread hands the kernel the whole list of sockets and asks who is ready.

Waits in   select(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(watched) per wakeup: the sets are copied in, searched and copied out each time
Breaks at  descriptor number 1023 (FD_SETSIZE), however many descriptors the process may have
Compare    epoll_loop (same loop, the kernel keeps the list), poll_loop (same loop, no such limit)
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from contextlib import closing
from itertools import product

from iolab.models.epoll_loop import loop
from iolab.server.server import Server
from iolab.sockets.readiness import READ, WRITE


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    with closing(Select()) as selector:
        loop(server, selector)


class Select:
    """The list of those who are watched is this process's: sets with a bit for each number below 1024.

    The kernel leaves the ready ones in them, so that each call is given new sets. A number without a bit
    (FD_SETSIZE) would be written behind its set: Server.admitted accepts nobody who has one.
    """

    def __init__(self) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def register(self, descriptor: int, interest: int) -> None:
        """From now on, ask whether it can be read (READ), written (WRITE), or either."""
        (self._readers.add if interest & READ else self._readers.discard)(descriptor)
        (self._writers.add if interest & WRITE else self._writers.discard)(descriptor)

    modify = register

    def unregister(self, descriptor: int) -> None:
        """Ask no more. One that is closed and still in a set would make the whole call fail (EBADF)."""
        self.register(descriptor, 0)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        """Wait. Who is readable and writable is in two sets, and returned once."""
        readable, writable, _ = select.select(self._readers, self._writers, (), timeout)
        if not writable:
            return product(readable, (READ,))
        events = dict.fromkeys(readable, READ)
        for descriptor in writable:
            events[descriptor] = events.get(descriptor, 0) | WRITE
        return events.items()

    def close(self) -> None:
        """Nothing: the kernel keeps nothing between two calls."""
