"""Blocking pool: one thread waits for clients, and a thread out of a pool waits for each client's bytes.

Waits in   accept(2) for clients, recv(2) and send(2) for one client each, a queue for work
Runs       a thread per client that is served: a slow answer delays its own client only
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
    """Serve until the stop was requested and every peer has what it is owed."""
    pool: Pool[Conversation] = Pool(server, work)
    server.admission.wake_accept_at_stop()
    while not server.stop.requested:
        accept(server, pool)
        server.admission.wait_for_capacity()
    drain(server, pool)


def work(waiting: SimpleQueue[Conversation | None]) -> None:
    """A worker: begin with whoever has waited longest, and stay until that client is over."""
    while (conversation := waiting.get()) is not None:
        conversation.run()


def accept(server: Server, pool: Pool[Conversation]) -> None:
    """Have everyone who comes wait for a worker, until the stop or the capacity ends it."""
    for sock in server.admission.accept_some():
        pool.queue.put(Conversation(server, sock, server.answer))


def drain(server: Server, pool: Pool[Conversation]) -> None:
    """Accept who is still in the queue, let free workers begin with them, and see off everyone whom a worker serves."""
    interrupt(server)
    accept(server, pool)
    while not server.admission.close_listener():
        time.sleep(DRAIN_TICK)
        accept(server, pool)
    pool.drain()
