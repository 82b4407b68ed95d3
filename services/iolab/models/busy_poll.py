"""Busy poll: non-blocking sockets, and threads of a pool that try theirs again and again.

Waits in   nowhere: recv(2) and accept(2) answer "not yet" at once, and are called again
Runs       a thread per served client, and one that accepts
Costs      all the processor time there is, most of it while nothing happens
Breaks at  `workers` clients, and long before that at the number of processors
Compare    blocking_pool (same pool, but its threads wait), epoll_loop (waits on all sockets at once)
"""

from __future__ import annotations

import time
from queue import SimpleQueue

from iolab.server.server import Server
from iolab.sockets.pool import Pool
from iolab.sockets.readiness import Connection


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    pool: Pool[Connection] = Pool(server, work, server)
    server.listener.setblocking(False)
    while not server.stop.requested:
        accept(server, pool)
    drain(server, pool)


def work(waiting: SimpleQueue[Connection | None], server: Server) -> None:
    """A worker: take the client that has waited longest, and serve it to its end."""
    next_look = 0.0
    while (connection := waiting.get()) is not None:
        while connection.interest:
            connection.advance()
            if server.stop.requested:
                if not connection.drain(time.monotonic()):
                    break
            elif server.sweep.seconds and (now := time.monotonic()) >= next_look:
                next_look = now + server.sweep.seconds
                if connection.is_idle(now):
                    break
        connection.close()


def accept(server: Server, pool: Pool[Connection]) -> None:
    """Queue this turn's clients for a worker."""
    for sock in server.admission.accept_some():
        pool.queue.put(Connection(server, sock, server.answer))


def drain(server: Server, pool: Pool[Connection]) -> None:
    """Accept the rest of the accept queue, give it to free workers, and drain every client that has a worker."""
    accept(server, pool)
    while not server.admission.close_listener():
        accept(server, pool)
    pool.drain()
