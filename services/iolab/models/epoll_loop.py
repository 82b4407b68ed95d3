"""Epoll loop: one thread asks the kernel who is ready, then never blocks on anyone.

Waits in   epoll_wait(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(ready) per wakeup: the kernel keeps the list, and is told of each change
Breaks at  the descriptor limit
Compare    poll_loop, select_loop (same loop, O(watched)), epoll_pool (same wait, answers in threads)
"""

from __future__ import annotations

import select
import time
from contextlib import closing

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.readiness import READ, Connection, Selector

# By descriptor, as the kernel has them: it gives the lowest that is free, so that few are empty.
Connections = list[Connection | None]


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    with closing(Epoll()) as selector:
        loop(server, selector)


def loop(server: Server, selector: Selector) -> None:
    """Wait until some are ready, and do for each what can be done at once."""
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
        # A pause that is over, a look for idle connections: no descriptor tells of these.
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
    """Watch those whose turn it is to be accepted."""
    for sock in server.admission.accept_some():
        descriptor = sock.fileno()
        while len(connections) <= descriptor:
            connections.append(None)
        connections[descriptor] = Connection(server, sock, server.answer)
        selector.register(descriptor, READ)


def update(selector: Selector, connections: Connections, connection: Connection) -> None:
    """Watch a connection for what it waits for now; close it if that is nothing."""
    if connection.interest:
        selector.modify(connection.fileno(), connection.interest)
    else:
        close(selector, connections, connection)


def close(selector: Selector, connections: Connections, connection: Connection) -> None:
    """Forget a connection that is over, before its number is given to the next one."""
    selector.unregister(connection.fileno())
    connections[connection.fileno()] = None
    connection.close()


def opened(connections: Connections) -> list[Connection]:
    """All connections."""
    return [connection for connection in connections if connection]


def drain(selector: Selector, connections: Connections, server: Server) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
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
    """The list of those who are watched is the kernel's, which returns the ones that are ready.

    It does so for as long as they are (level-triggered): nobody has to be read to the end at once.
    """

    def __init__(self) -> None:
        kernel = select.epoll()
        self.register = kernel.register
        self.modify = kernel.modify
        self.unregister = kernel.unregister
        # Straight into C, like the others: one call more would cost a hundredth of an answer.
        self.wait = kernel.poll
        self.close = kernel.close
