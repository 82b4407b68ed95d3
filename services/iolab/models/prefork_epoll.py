"""Prefork epoll: several processes, each with its own epoll loop.

Waits in   epoll_wait(2), in each process on the sockets that the kernel dealt to it: SO_REUSEPORT, socket(7)
Runs       `processes` at once, no GIL between them: a slow answer delays the clients of its own process
Costs      an interpreter each; clients are dealt by a hash of their address, not to the process that is free
Breaks at  the descriptor limit
Compare    epoll_loop (one such process), tornado_iostream (same processes, coroutines in each)
"""

from __future__ import annotations

import select
from contextlib import closing

from iolab.models.epoll_loop import Epoll, loop
from iolab.processes.supervisor import Supervisor
from iolab.server.server import Server


def serve(server: Supervisor) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    server.supervise(work)


def work(server: Server) -> None:
    """Run one process's loop, that of epoll_loop, on the listener that the setting `accept` gives it."""
    exclusive = server.settings.accept == "exclusive"
    with closing(OneIsWoken(server.listener.fileno()) if exclusive else Epoll()) as selector:
        loop(server, selector)


class OneIsWoken:
    """The kernel wakes one of the processes that wait for a shared listener: EPOLLEXCLUSIVE, epoll_ctl(2).

    Otherwise it wakes all of them for one client, and all but one find the accept queue empty.
    """

    def __init__(self, listener: int) -> None:
        epoll = Epoll()
        self._listener, self._register = listener, epoll.register
        self.modify, self.unregister, self.wait, self.close = epoll.modify, epoll.unregister, epoll.wait, epoll.close

    def register(self, descriptor: int, interest: int) -> None:
        """Watch a descriptor; the listener exclusively."""
        self._register(descriptor, interest | select.EPOLLEXCLUSIVE if descriptor == self._listener else interest)
