"""Gevent greenlets: code that blocks, on sockets that were changed underneath it so that only a greenlet does.

Waits in   epoll_wait(2), one for all, in the hub: a greenlet's own recv and send only seem to block
Runs       one thread: a slow answer delays everyone, unless it waits in something that was patched
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
    """Serve until the stop was requested and every peer has what it is owed."""
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
    """Put gevent's sockets, selectors and clock in the place of the standard ones, before anyone has taken those.

    Threads stay what they are: the stop has to wait for its signals, the admin port to look at the hub from outside.
    """
    monkey.patch_socket(dns=False)
    # It leaves select.epoll, which nothing but the admin port's thread waits in.
    monkey.patch_select(aggressive=False)
    monkey.patch_time()


def accept_until_stopped(server: Server) -> None:
    """Accept, and pause where the capacity is out."""
    while True:
        # A turn of the hub between two of ours, also where somebody is always waiting.
        wait_read(server.listener.fileno())
        accept(server)
        server.admission.wait_for_capacity()


def accept(server: Server) -> None:
    """Give each of those whose turn it is to be accepted a greenlet."""
    for sock in server.admission.accept_some():
        gevent.spawn(GreenConversation(server, sock, server.answer).run)


def sweep(server: Server) -> None:
    """Look for idle connections, if the settings ask for it."""
    while server.sweep.seconds:
        gevent.sleep(server.sweep.seconds)
        interrupt_idle(server)


def drain(server: Server) -> None:
    """Accept who is still in the queue; everyone's own greenlet sees him off."""
    accept(server)
    while not server.admission.close_listener() or server.open_count():
        time.sleep(DRAIN_TICK)
        accept(server)
