"""Poll loop: one thread hands the kernel the whole list of sockets and asks which are ready.

Waits in   poll(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(watched) per wakeup: the list is copied in and searched each time
Breaks at  the descriptor limit
Compare    epoll_loop (same loop, the kernel keeps the list), select_loop (same loop, bits for a list)
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Iterable
from contextlib import closing

from iolab.models.epoll_loop import loop
from iolab.server.server import DRAIN_TICK, Server


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    with closing(Poll()) as selector:
        loop(server, selector)


class Poll:
    """This process keeps the list of watched descriptors: an entry for each, whatever its number.

    The kernel writes into each entry what has happened. It refuses a list that is longer than the
    descriptor limit, which somebody may have lowered below what is open.
    """

    def __init__(self) -> None:
        self._kernel = select.poll()
        self._watched: dict[int, int] = {}

    def register(self, descriptor: int, interest: int) -> None:
        """Watch a descriptor for input (READ), for room to write (WRITE), or for both."""
        self._kernel.register(descriptor, interest)
        self._watched[descriptor] = interest

    modify = register

    def unregister(self, descriptor: int) -> None:
        """Watch it no more. A closed descriptor in the list would be returned each time (POLLNVAL)."""
        self._kernel.unregister(descriptor)
        del self._watched[descriptor]

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        """Wait; poll(2) counts in milliseconds."""
        try:
            return self._kernel.poll(None if timeout is None else timeout * 1000)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # While the kernel refuses the list, report every descriptor as ready; the sleep prevents spinning.
            time.sleep(DRAIN_TICK)
            return list(self._watched.items())

    def close(self) -> None:
        """Do nothing: the kernel keeps nothing between two calls."""
