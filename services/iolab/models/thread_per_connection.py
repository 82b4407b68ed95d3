"""Thread per connection: one thread accepts clients, and each client is given its own thread.

Waits in   accept(2) for clients, recv(2) and send(2) for one client each
Runs       a thread per client: a slow answer delays its own client only
Costs      a thread started and ended per client, its stack, a context switch per answer
Breaks at  the limit of threads (pids.max), or of memory for their stacks
Compare    blocking_pool (same conversation, but a pool caps the threads), gevent_greenlets (same code, greenlets)
"""

from __future__ import annotations

import time

from iolab.kernel.threads import NoThread, start_thread
from iolab.server.admission import PAUSE_SECONDS
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.blocking import Conversation, interrupt


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    # Called by the stop itself: the accepting thread may be waiting for a thread that only the stop frees.
    server.stop.then(lambda: interrupt(server))
    server.admission.wake_accept_at_stop()
    while not server.stop.requested:
        accept(server)
        server.admission.wait_for_capacity()
    drain(server)


def accept(server: Server) -> None:
    """Give each new client a thread, until the stop or a lack of capacity."""
    for sock in server.admission.accept_some():
        begin(server, Conversation(server, sock, server.answer))


def begin(server: Server, conversation: Conversation) -> None:
    """Start the client's thread. If no thread is left, accept nobody else until this client has one."""
    while True:
        try:
            start_thread(conversation.run, "client")
            return
        except NoThread as error:
            server.admission.pause(error)
            time.sleep(PAUSE_SECONDS)
            server.admission.resumed()


def drain(server: Server) -> None:
    """Accept the rest of the accept queue; each thread drains its own client."""
    accept(server)
    while not server.admission.close_listener() or server.open_count():
        time.sleep(DRAIN_TICK)
        accept(server)
