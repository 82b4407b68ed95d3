"""Gevent greenlets: blocking code on patched sockets, so that only its greenlet blocks and not the thread.

Waits in   epoll_wait(2), one for all, in the hub: a greenlet's own recv and send only seem to block
Runs       one thread: a slow answer delays everyone, unless it waits in a patched call
Costs      a greenlet and a piece of stack per client; a switch through the hub per answer
Breaks at  the descriptor limit
Compare    thread_per_connection (same conversation, threads), asyncio_streams (same wait, `await` in the code)
"""

from __future__ import annotations

import time

import gevent
from gevent import monkey
from gevent.socket import wait_read

from iolab.server.ending import crash
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.blocking import interrupt
from iolab.sockets.greenlet import GreenConversation, interrupt_idle


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    # A bug in a greenlet ends the process: the hub would print it and go on.
    gevent.get_hub().handle_error = lambda _context, _kind, bug, _traceback: crash(bug)
    acceptor = gevent.spawn(accept_until_stopped, server)
    sweeper = gevent.spawn(sweep, server)
    server.stop.wait()
    gevent.killall([acceptor, sweeper])
    interrupt(server)
    server.listener.setblocking(False)
    drain(server)


def patch() -> None:
    """Replace the standard sockets, selectors and clock by gevent's, before any module has imported them.

    Threads stay real: one has to wait for the stop's signals, and the admin port has to see the hub from outside.
    """
    monkey.patch_socket(dns=False)
    # Not aggressive: the admin port's thread needs select.epoll, which nothing else waits in.
    monkey.patch_select(aggressive=False)
    monkey.patch_time()


def accept_until_stopped(server: Server) -> None:
    """Accept, and pause while the capacity is exhausted."""
    while True:
        # Yields to the hub between two turns, even if the accept queue is never empty.
        wait_read(server.listener.fileno())
        accept(server)
        server.admission.wait_for_capacity()


def accept(server: Server) -> None:
    """Accept this turn's clients, and give each a greenlet."""
    for sock in server.admission.accept_some():
        gevent.spawn(GreenConversation(server, sock, server.answer).run)


def sweep(server: Server) -> None:
    """Look for idle connections, if the settings ask for it."""
    while server.sweep.seconds:
        gevent.sleep(server.sweep.seconds)
        interrupt_idle(server)


def drain(server: Server) -> None:
    """Accept the rest of the accept queue; each greenlet drains its own client."""
    accept(server)
    while not server.admission.close_listener() or server.open_count():
        time.sleep(DRAIN_TICK)
        accept(server)
