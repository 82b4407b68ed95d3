"""Busy poll: sockets that do not block, and threads out of a pool that ask theirs again and again.

Waits in   nowhere: recv(2) and accept(2) answer "not yet" at once, and are called again
Runs       a thread per client that is served, and one that asks for clients
Costs      all the processor there is, most of it when nothing happens
Breaks at  `workers` clients, and long before that at the number of processors
Compare    blocking_pool (same pool, but its threads wait), epoll_loop (asks for all sockets at once, and waits)
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from iolab.kernel.threads import start_thread
from iolab.server.server import Server
from iolab.sockets.readiness import Connection

Queue = queue.SimpleQueue[Connection | None]


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    waiting: Queue = queue.SimpleQueue()
    server.waiting = waiting.qsize
    workers = [start_thread(work, f"worker-{number}", server, waiting) for number in range(server.settings.pool_size)]
    server.listener.setblocking(False)
    while not server.stop.requested:
        accept(server, waiting)
    drain(server, waiting, workers)


def work(server: Server, waiting: Queue) -> None:
    """A worker: begin with whoever has waited longest, and stay until that client is over."""
    next_look = 0.0
    while (connection := waiting.get()) is not None:
        while connection.interest:
            connection.advance()
            if server.stop.requested:
                if not connection.drain(time.monotonic()):
                    break
            elif server.sweep_seconds and (now := time.monotonic()) >= next_look:
                next_look = now + server.sweep_seconds
                if connection.is_idle(now):
                    break
        connection.close()


def accept(server: Server, waiting: Queue) -> None:
    """Have everyone who came wait for a worker."""
    for sock in server.accept_some():
        waiting.put(Connection(server, sock, server.answer))


def drain(server: Server, waiting: Queue, workers: list[threading.Thread]) -> None:
    """Accept who is still in the queue, let free workers begin with them, and see off everyone whom a worker serves."""
    accept(server, waiting)
    while not server.close_listener():
        accept(server, waiting)
    while waiting.qsize() and server.open_count() - waiting.qsize() < len(workers):
        time.sleep(0)
    with contextlib.suppress(queue.Empty):
        while connection := waiting.get_nowait():
            server.turn_away(connection)
    for _ in workers:
        waiting.put(None)
    for worker in workers:
        worker.join()
