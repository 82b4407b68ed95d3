"""Poll loop: one thread hands the kernel the whole list of sockets and asks who is ready.

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
    """Serve until the stop was requested and every peer has what it is owed."""
    with closing(Poll()) as selector:
        loop(server, selector)


class Poll:
    """The list of those who are watched is this process's: an entry for each, whatever its number.

    The kernel writes into each entry what has happened, and refuses a list that is longer than the
    descriptor limit. That is one which somebody has lowered below what is open.
    """

    def __init__(self) -> None:
        self._kernel = select.poll()
        self._watched: dict[int, int] = {}

    def register(self, descriptor: int, interest: int) -> None:
        """From now on, ask whether it can be read (READ), written (WRITE), or either."""
        self._kernel.register(descriptor, interest)
        self._watched[descriptor] = interest

    modify = register

    def unregister(self, descriptor: int) -> None:
        """Ask no more. One that is closed and still in the list would be returned each time (POLLNVAL)."""
        self._kernel.unregister(descriptor)
        del self._watched[descriptor]

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        """Wait; poll(2) counts in milliseconds."""
        try:
            return self._kernel.poll(None if timeout is None else timeout * 1000)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # As long as the list is refused: try each of them, again and again.
            time.sleep(DRAIN_TICK)
            return list(self._watched.items())

    def close(self) -> None:
        """Nothing: the kernel keeps nothing between two calls."""
