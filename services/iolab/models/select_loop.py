"""Select loop: one thread hands the kernel the whole list of sockets and asks which are ready.

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
    """Serve until the stop is requested and every peer has received what it is owed."""
    with closing(Select()) as selector:
        loop(server, selector)


class Select:
    """This process keeps the list of watched descriptors: sets with a bit for each number below 1024.

    The kernel leaves only the ready ones in them, so each call is given new sets. A number without a bit
    (FD_SETSIZE) would be written beyond its set: Admission.admitted refuses a client that has one.
    """

    def __init__(self) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def register(self, descriptor: int, interest: int) -> None:
        """Watch a descriptor for input (READ), for room to write (WRITE), or for both."""
        (self._readers.add if interest & READ else self._readers.discard)(descriptor)
        (self._writers.add if interest & WRITE else self._writers.discard)(descriptor)

    modify = register

    def unregister(self, descriptor: int) -> None:
        """Watch it no more. A closed descriptor in a set would make the whole call fail (EBADF)."""
        self.register(descriptor, 0)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        """Wait. A descriptor that is readable and writable is in two sets, and is returned once."""
        readable, writable, _ = select.select(self._readers, self._writers, (), timeout)
        if not writable:
            return product(readable, (READ,))
        events = dict.fromkeys(readable, READ)
        for descriptor in writable:
            events[descriptor] = events.get(descriptor, 0) | WRITE
        return events.items()

    def close(self) -> None:
        """Do nothing: the kernel keeps nothing between two calls."""
