"""Epoll loop: one thread asks the kernel who is ready, then never blocks on anyone.

Waits in   epoll_wait(2), on every socket at once; or poll(2), or select(2), as `selector` says
Runs       one thread: a slow answer delays everyone
Costs      O(ready) per wakeup; one registration per connection
Breaks at  the descriptor limit
Compare    select_loop (same loop, O(watched) wait), epoll_pool (same wait, answers in threads)
"""

from __future__ import annotations

import time
from contextlib import closing

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.readiness import READ, Connection
from iolab.sockets.selector import SELECTORS, Selector

Connections = dict[int, Connection]


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    connections: Connections = {}
    listener, stop = server.listener.fileno(), server.stop.fileno()
    server.listener.setblocking(False)
    with closing(SELECTORS[server.settings.selector]()) as selector:
        selector.register(listener, READ)
        selector.register(stop, READ)
        while not server.stop.requested:
            for descriptor, _ in selector.poll(server.timeout()):
                if connection := connections.get(descriptor):
                    if connection.advance():
                        update(selector, connections, connection)
                elif descriptor == listener:
                    accept(selector, connections, server)
                    if server.paused_until:
                        selector.unregister(listener)
            if server.resumed():
                selector.register(listener, READ)
            if server.sweep_is_due():
                now = server.idle_clock()
                for connection in list(connections.values()):
                    if connection.is_idle(now):
                        close(selector, connections, connection)
        if not server.paused_until:
            selector.unregister(listener)
        selector.unregister(stop)
        drain(selector, connections, server)


def accept(selector: Selector, connections: Connections, server: Server) -> None:
    """Watch those whose turn it is to be accepted."""
    for sock in server.accept_some():
        descriptor = sock.fileno()
        connections[descriptor] = Connection(server, sock, server.answer)
        selector.register(descriptor, READ)


def update(selector: Selector, connections: Connections, connection: Connection) -> None:
    """Watch a connection for what it waits for now; close it if that is nothing."""
    if connection.interest:
        selector.modify(connection.fileno(), connection.interest)
    else:
        close(selector, connections, connection)


def close(selector: Selector, connections: Connections, connection: Connection) -> None:
    """Forget a connection that is over."""
    selector.unregister(connection.fileno())
    del connections[connection.fileno()]
    connection.close()


def drain(selector: Selector, connections: Connections, server: Server) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    accept(selector, connections, server)
    while not server.close_listener() or server.open_count():
        for descriptor, _ in selector.poll(DRAIN_TICK):
            connection = connections[descriptor]
            if connection.advance():
                update(selector, connections, connection)
        now = time.monotonic()
        for connection in list(connections.values()):
            if not connection.drain(now):
                close(selector, connections, connection)
        accept(selector, connections, server)
