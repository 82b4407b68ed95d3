"""Epoll pool: one thread asks the kernel which sockets are ready, and a pool of threads makes the answers.

A connection is in the selector or in the pool, never in both: EPOLLONESHOT disarms it with its event, and the worker
arms it again when it is done. Without that, level-triggered epoll would have two threads read one connection.

Waits in   epoll_wait(2), on every socket at once; workers wait in a queue
Runs       one thread that waits, `workers` that answer: a slow answer occupies one of them
Costs      two hand-overs between threads and an epoll_ctl(2) per answer
Breaks at  the descriptor limit; slow once `workers` answers block at the same time
Compare    epoll_loop (same wait, answers in the loop), blocking_pool (same pool, a thread per client)
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from queue import SimpleQueue

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.pool import Pool
from iolab.sockets.readiness import READ, Connection

Queue = SimpleQueue[Connection | None]


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    with select.epoll() as selector:
        watched: dict[int, Connection] = {}
        pool: Pool[Connection] = Pool(server, work, selector, watched)
        ready, listener = pool.queue, server.listener.fileno()
        server.listener.setblocking(False)
        selector.register(listener, select.EPOLLIN)
        selector.register(server.stop, select.EPOLLIN)
        while not server.stop.requested:
            for descriptor, _ in selector.poll(server.timeout()):
                if descriptor in watched:
                    ready.put(watched.pop(descriptor))
                elif descriptor == listener:
                    accept(selector, watched, server)
                    if server.admission.paused_until:
                        selector.unregister(listener)
            if server.admission.resumed():
                selector.register(listener, select.EPOLLIN)
            if server.sweep.is_due():
                now = server.sweep.clock()
                for connection in list(watched.values()):
                    if connection.is_idle(now):
                        end(connection)
        if not server.admission.paused_until:
            selector.unregister(listener)
        selector.unregister(server.stop)
        drain(selector, watched, ready, server)
        pool.end()


def work(ready: Queue, selector: select.epoll, watched: dict[int, Connection]) -> None:
    """A worker: answer a ready connection, then give it back to the selector."""
    while (connection := ready.get()) is not None:
        connection.advance()
        if connection.interest:
            descriptor = connection.fileno()
            watched[descriptor] = connection
            selector.modify(descriptor, connection.interest | select.EPOLLONESHOT)
        else:
            connection.close()


def accept(selector: select.epoll, watched: dict[int, Connection], server: Server) -> None:
    """Accept this turn's clients, and watch them."""
    for sock in server.admission.accept_some():
        connection = Connection(server, sock, server.answer)
        watched[connection.fileno()] = connection
        selector.register(connection, READ | select.EPOLLONESHOT)


def end(connection: Connection) -> None:
    """Shut a connection down: its event hands it to a worker, which closes it when no other can still arm it."""
    with contextlib.suppress(OSError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def drain(selector: select.epoll, watched: dict[int, Connection], ready: Queue, server: Server) -> None:
    """Accept the rest of the accept queue, then serve every connection until it is quiet and owed nothing."""
    accept(selector, watched, server)
    while not server.admission.close_listener() or server.open_count():
        for descriptor, _ in selector.poll(DRAIN_TICK):
            ready.put(watched.pop(descriptor))
        now = time.monotonic()
        for connection in list(watched.values()):
            if not connection.drain(now):
                end(connection)
        accept(selector, watched, server)
