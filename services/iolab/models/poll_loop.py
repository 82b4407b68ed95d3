"""Poll loop: one thread hands the kernel the whole list of sockets and asks who is ready.

Waits in   poll(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(watched) per wakeup: the list is copied in and searched each time
Breaks at  the descriptor limit
Compare    epoll_loop (same loop, the kernel keeps the list), select_loop (same loop, bits for a list)
"""

from __future__ import annotations

import select
from contextlib import closing

from iolab.models.epoll_loop import loop
from iolab.server.server import Server


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    with closing(Poll()) as selector:
        loop(server, selector)


class Poll:
    """The list of those who are watched is this process's: an entry for each, whatever its number.

    The kernel writes into each what has happened. A list that is longer than the descriptor limit is
    refused (EINVAL): whoever lowers the limit below what is open ends the server.
    """

    def __init__(self) -> None:
        kernel = select.poll()
        self.register = kernel.register
        self.modify = kernel.modify
        self.unregister = kernel.unregister
        self._poll = kernel.poll

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait; poll(2) counts in milliseconds."""
        return self._poll(None if timeout is None else timeout * 1000)

    def close(self) -> None:
        """Nothing: the kernel keeps nothing between two calls."""
