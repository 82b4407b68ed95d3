"""Epoll loop: one thread asks the kernel which sockets are ready, and never blocks on one.

Waits in   epoll_wait(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(ready) per wakeup: the kernel keeps the list, and each change is an epoll_ctl(2)
Breaks at  the descriptor limit
Compare    poll_loop, select_loop (same loop, O(watched)), epoll_pool (same wait, answers in threads)
"""

from __future__ import annotations

import select
import time
from contextlib import closing

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.readiness import READ, Connection, Selector

# Indexed by descriptor. The kernel hands out the lowest free number, so few entries are empty.
Connections = list[Connection | None]


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    with closing(Epoll()) as selector:
        loop(server, selector)


def loop(server: Server, selector: Selector) -> None:
    """Wait for ready sockets, and do for each what does not block."""
    listener, stop = server.listener.fileno(), server.stop.fileno()
    connections: Connections = [None] * (max(listener, stop) + 1)
    wait = selector.wait
    server.listener.setblocking(False)
    selector.register(listener, READ)
    selector.register(stop, READ)
    while not server.stop.requested:
        timeout = server.timeout()
        for descriptor, _ in wait(timeout):
            if connection := connections[descriptor]:
                if connection.advance():
                    update(selector, connections, connection)
            elif descriptor == listener:
                accept(selector, connections, server)
                if server.admission.paused_until:
                    selector.unregister(listener)
        # No descriptor announces the end of a pause, or that an idle sweep is due.
        if timeout is not None:
            if server.admission.resumed():
                selector.register(listener, READ)
            if server.sweep.is_due():
                now = server.sweep.clock()
                for connection in opened(connections):
                    if connection.is_idle(now):
                        close(selector, connections, connection)
    if not server.admission.paused_until:
        selector.unregister(listener)
    selector.unregister(stop)
    drain(selector, connections, server)


def accept(selector: Selector, connections: Connections, server: Server) -> None:
    """Accept this turn's clients, and watch them."""
    for sock in server.admission.accept_some():
        descriptor = sock.fileno()
        while len(connections) <= descriptor:
            connections.append(None)
        connections[descriptor] = Connection(server, sock, server.answer)
        selector.register(descriptor, READ)


def update(selector: Selector, connections: Connections, connection: Connection) -> None:
    """Watch a connection for its new interest; close it if it has none."""
    if connection.interest:
        selector.modify(connection.fileno(), connection.interest)
    else:
        close(selector, connections, connection)


def close(selector: Selector, connections: Connections, connection: Connection) -> None:
    """Forget a finished connection, before the kernel gives its descriptor to the next one."""
    selector.unregister(connection.fileno())
    connections[connection.fileno()] = None
    connection.close()


def opened(connections: Connections) -> list[Connection]:
    """The open connections."""
    return [connection for connection in connections if connection]


def drain(selector: Selector, connections: Connections, server: Server) -> None:
    """Accept the rest of the accept queue, then serve every connection until it is quiet and owed nothing."""
    accept(selector, connections, server)
    while not server.admission.close_listener() or server.open_count():
        for descriptor, _ in selector.wait(DRAIN_TICK):
            if (connection := connections[descriptor]) and connection.advance():
                update(selector, connections, connection)
        now = time.monotonic()
        for connection in opened(connections):
            if not connection.drain(now):
                close(selector, connections, connection)
        accept(selector, connections, server)


class Epoll:
    """The kernel keeps the list of watched descriptors, and returns the ready ones.

    It returns them as long as they are ready (level-triggered), so one read for each event is enough.
    """

    def __init__(self) -> None:
        kernel = select.epoll()
        self.register = kernel.register
        self.modify = kernel.modify
        self.unregister = kernel.unregister
        # Bound to C directly, like the others: a Python call in between would cost a hundredth of an answer.
        self.wait = kernel.poll
        self.close = kernel.close
