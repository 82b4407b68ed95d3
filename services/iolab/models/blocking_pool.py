"""Blocking pool: one thread waits for clients, and a thread out of a pool waits for each client's bytes.

Waits in   accept(2) for clients, recv(2) and send(2) for one client each, a queue for work
Runs       a thread per client that is served: a slow answer delays its own client only
Costs      a stack and a context switch per client
Breaks at  `workers` clients: the next one waits until one of them leaves
Compare    busy_poll (same pool, but its threads never wait), epoll_pool (same pool, handed ready sockets only)
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from iolab.kernel.threads import start_thread
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.blocking import Conversation, interrupt

Queue = queue.SimpleQueue[Conversation | None]


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    waiting: Queue = queue.SimpleQueue()
    server.waiting = waiting.qsize
    workers = [start_thread(work, f"worker-{number}", waiting) for number in range(server.settings.pool_size)]
    server.wake_accept_at_stop()
    while not server.stop.requested:
        accept(server, waiting)
        server.wait_for_capacity()
    drain(server, waiting, workers)


def work(waiting: Queue) -> None:
    """A worker: begin with whoever has waited longest, and stay until that client is over."""
    while (conversation := waiting.get()) is not None:
        conversation.run()


def accept(server: Server, waiting: Queue) -> None:
    """Have everyone who comes wait for a worker, until the stop or the capacity ends it."""
    for sock in server.accept_some():
        waiting.put(Conversation(server, sock, server.answer))


def drain(server: Server, waiting: Queue, workers: list[threading.Thread]) -> None:
    """Accept who is still in the queue, let free workers begin with them, and see off everyone whom a worker serves."""
    interrupt(server)
    accept(server, waiting)
    while not server.close_listener():
        time.sleep(DRAIN_TICK)
        accept(server, waiting)
    while waiting.qsize() and server.open_count() - waiting.qsize() < len(workers):
        time.sleep(DRAIN_TICK)
    with contextlib.suppress(queue.Empty):
        while conversation := waiting.get_nowait():
            server.turn_away(conversation)
    for _ in workers:
        waiting.put(None)
    for worker in workers:
        worker.join()
