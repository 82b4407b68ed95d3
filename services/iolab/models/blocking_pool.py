"""Blocking pool: one thread accepts clients, and a thread of a pool waits for each client's bytes.

Waits in   accept(2) for clients, recv(2) and send(2) for one client each, a queue for work
Runs       a thread per served client: a slow answer delays its own client only
Costs      a stack and a context switch per client
Breaks at  `workers` clients: the next one waits until one of them leaves
Compare    busy_poll (same pool, but its threads never wait), epoll_pool (same pool, handed ready sockets only)
"""

from __future__ import annotations

import time
from queue import SimpleQueue

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.blocking import Conversation, interrupt
from iolab.sockets.pool import Pool


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    pool: Pool[Conversation] = Pool(server, work)
    server.admission.wake_accept_at_stop()
    while not server.stop.requested:
        accept(server, pool)
        server.admission.wait_for_capacity()
    drain(server, pool)


def work(waiting: SimpleQueue[Conversation | None]) -> None:
    """A worker: take the client that has waited longest, and serve it to its end."""
    while (conversation := waiting.get()) is not None:
        conversation.run()


def accept(server: Server, pool: Pool[Conversation]) -> None:
    """Queue each new client for a worker, until the stop or a lack of capacity."""
    for sock in server.admission.accept_some():
        pool.queue.put(Conversation(server, sock, server.answer))


def drain(server: Server, pool: Pool[Conversation]) -> None:
    """Accept the rest of the accept queue, give it to free workers, and drain every client that has a worker."""
    interrupt(server)
    accept(server, pool)
    while not server.admission.close_listener():
        time.sleep(DRAIN_TICK)
        accept(server, pool)
    pool.drain()
