"""Select loop: one thread hands the kernel the whole list of sockets and asks who is ready.

Waits in   select(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(watched) per wakeup: the list is copied in and searched each time
Breaks at  descriptor number 1023 (FD_SETSIZE), however many descriptors the process may have
Compare    epoll_loop (same loop, the kernel remembers the list)
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection

from iolab.server.server import DRAIN_TICK, Server
from iolab.settings import FD_SETSIZE
from iolab.sockets.readiness import READ, WRITE, Connection


class Watched:
    """Who is asked about: what epoll keeps in the kernel, select(2) is given at each call."""

    def __init__(self) -> None:
        # By descriptor, as the kernel has it: none is above what select(2) can watch.
        self.connections: list[Connection | None] = [None] * FD_SETSIZE
        self.readers: set[int] = set()
        self.writers: set[int] = set()

    def watch(self, descriptor: int, interest: int) -> None:
        """From now on, ask whether it can be read (READ), written (WRITE), or either."""
        (self.readers.add if interest & READ else self.readers.discard)(descriptor)
        (self.writers.add if interest & WRITE else self.writers.discard)(descriptor)

    def open(self) -> list[Connection]:
        """All connections."""
        return [connection for connection in self.connections if connection]

    def ready(self, timeout: float | None) -> Collection[int]:
        """Wait until some are ready, or for `timeout` seconds; each of them once."""
        readable, writable, _ = select.select(self.readers, self.writers, (), timeout)
        return {*readable, *writable} if writable else readable


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    watched = Watched()
    connections = watched.connections
    listener, stop = server.listener.fileno(), server.stop.fileno()
    server.listener.setblocking(False)
    watched.watch(listener, READ)
    watched.watch(stop, READ)
    while not server.stop.requested:
        for descriptor in watched.ready(server.timeout()):
            if connection := connections[descriptor]:
                if connection.advance():
                    update(watched, connection)
            elif descriptor == listener:
                accept(watched, server)
                if server.paused_until:
                    watched.watch(listener, 0)
        if server.resumed():
            watched.watch(listener, READ)
        if server.sweep_is_due():
            now = server.idle_clock()
            for connection in watched.open():
                if connection.is_idle(now):
                    close(watched, connection)
    watched.watch(listener, 0)
    watched.watch(stop, 0)
    drain(watched, server)


def accept(watched: Watched, server: Server) -> None:
    """Watch those whose turn it is to be accepted."""
    for sock in server.accept_some():
        descriptor = sock.fileno()
        watched.connections[descriptor] = Connection(server, sock, server.answer)
        watched.watch(descriptor, READ)


def update(watched: Watched, connection: Connection) -> None:
    """Watch a connection for what it waits for now; close it if that is nothing."""
    if connection.interest:
        watched.watch(connection.fileno(), connection.interest)
    else:
        close(watched, connection)


def close(watched: Watched, connection: Connection) -> None:
    """Forget a connection that is over."""
    watched.watch(connection.fileno(), 0)
    watched.connections[connection.fileno()] = None
    connection.close()


def drain(watched: Watched, server: Server) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    accept(watched, server)
    while not server.close_listener() or server.open_count():
        for descriptor in watched.ready(DRAIN_TICK):
            if (connection := watched.connections[descriptor]) and connection.advance():
                update(watched, connection)
        now = time.monotonic()
        for connection in watched.open():
            if not connection.drain(now):
                close(watched, connection)
        accept(watched, server)
