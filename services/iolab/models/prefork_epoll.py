"""Prefork epoll: several processes, each with its own epoll loop on its own listener.

Waits in   epoll_wait(2), in each process on the sockets that the kernel dealt to it: SO_REUSEPORT, socket(7)
Runs       `processes` at once, no GIL between them: a slow answer delays the clients of its own process
Costs      an interpreter each; clients are dealt by a hash of their address, not to the process that is free
Breaks at  the descriptor limit
Compare    epoll_loop (one such process), tornado_iostream (same processes, coroutines in each)
"""

from __future__ import annotations

from iolab.models import epoll_loop
from iolab.processes.supervisor import Supervisor


def serve(server: Supervisor) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    server.supervise(epoll_loop.serve)
