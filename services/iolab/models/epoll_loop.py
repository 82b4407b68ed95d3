"""Epoll loop: one thread asks the kernel who is ready, then never blocks on anyone.

Waits in   epoll_wait(2), on every socket at once
Runs       one thread: a slow answer delays everyone
Costs      O(ready) per wakeup; one registration per connection
Breaks at  the descriptor limit
Compare    select_loop (same loop, O(watched) wait), epoll_pool (same wait, answers in threads)
"""

from __future__ import annotations

import time
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, EpollSelector, PollSelector, SelectSelector

from iolab.connection import READ, WRITE, Connection
from iolab.server import DRAIN_TICK, Server

SELECTORS = {"epoll": EpollSelector, "poll": PollSelector, "select": SelectSelector}
EVENTS = {READ: EVENT_READ, WRITE: EVENT_WRITE, READ | WRITE: EVENT_READ | EVENT_WRITE}


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    server.listener.setblocking(False)
    with SELECTORS[server.settings.selector]() as selector:
        selector.register(server.listener, EVENT_READ)
        selector.register(server.stop, EVENT_READ)
        while not server.stop.requested:
            for key, _ in selector.select(server.timeout()):
                if key.data:
                    advance(selector, key.data, key.events)
                elif key.fileobj is server.listener:
                    accept(selector, server)
            if server.resumed():
                selector.register(server.listener, EVENT_READ)
            if server.sweep_is_due():
                now = time.monotonic()
                for key in list(selector.get_map().values()):
                    if key.data and key.data.is_idle(now):
                        close(selector, key.data)
        drain(selector, server)


def accept(selector: BaseSelector, server: Server) -> None:
    """Watch everyone who waits to be accepted; if the capacity ran out, leave the listener alone for a while."""
    while (sock := server.accept()) is not None:
        connection = Connection(server, sock, server.answer)
        selector.register(connection, EVENT_READ, connection)
    if server.paused_until:
        selector.unregister(server.listener)


def advance(selector: BaseSelector, connection: Connection, watched: int) -> None:
    """Let a connection that is ready go on, and watch it for what it waits for next."""
    if not connection.advance():
        close(selector, connection)
    elif EVENTS[connection.interest] != watched:
        selector.modify(connection, EVENTS[connection.interest], connection)


def close(selector: BaseSelector, connection: Connection) -> None:
    """Forget a connection that is over."""
    selector.unregister(connection)
    connection.close()


def drain(selector: BaseSelector, server: Server) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    accept(selector, server)
    if not server.paused_until:
        selector.unregister(server.listener)
    selector.unregister(server.stop)
    server.listener.close()
    while selector.get_map():
        for key, _ in selector.select(DRAIN_TICK):
            advance(selector, key.data, key.events)
        now = time.monotonic()
        for key in list(selector.get_map().values()):
            if not key.data.drain(now):
                close(selector, key.data)
