"""io_uring ring: one thread tells the kernel what to accept, receive and send, and hears when it is done.

Waits in   io_uring_enter(2), for completions: nobody is asked who is ready
Runs       one thread: an answer that waits does so in the ring and delays nobody, one that computes delays everyone
Costs      a system call for all that is done; for an answer a submission and a completion, one more of a large one
Breaks at  the descriptor limit, and where the system refuses io_uring
Compare    epoll_loop (same loop, but told who is ready: it receives and sends by itself)
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from contextlib import closing

from iolab.kernel import io_uring
from iolab.kernel.io_uring import HAS_MORE, Ring
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.completion import KIND_BITS, Advance, CompletionConnection, ring_for

Connections = dict[int, CompletionConnection]
Operations = dict[int, Advance]

# Operations of no connection: no descriptor is as large.
ACCEPT, STOP = 1 << 62, 1 << 63


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    connections: Connections = {}
    operations: Operations = {}
    with closing(ring_for(server)) as ring:
        ring.submit(io_uring.accept(server.listener.fileno(), ACCEPT))
        ring.submit(io_uring.poll(server.stop.fileno(), STOP))
        while not server.stop.requested:
            for operation, result, flags in ring.wait(server.timeout()):
                if advance := operations.get(operation):
                    if not advance(result, flags):
                        close(connections, operations, operation)
                elif operation == ACCEPT:
                    accept(ring, connections, operations, server, result, flags)
            if server.resumed():
                ring.submit(io_uring.accept(server.listener.fileno(), ACCEPT))
            if server.sweep_is_due():
                now = time.monotonic()
                for connection in connections.values():
                    if connection.is_idle(now):
                        connection.cancel()
        drain(ring, connections, operations, server)


def accept(
    ring: Ring, connections: Connections, operations: Operations, server: Server, result: int, flags: int
) -> None:
    """Begin with whom the kernel has accepted, and have it accept on, as far as the capacity goes."""
    if result >= 0:
        sock = socket.socket(fileno=result)
        if server.admitted(sock):
            begin(ring, connections, operations, server, sock)
        else:
            sock.close()
        # The kernel goes by the limit of the time when the accept was submitted: see to one that was lowered since.
        if result >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] and not server.paused_until:
            server.not_accepted(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            ring.submit(io_uring.cancel(ACCEPT))
    elif result != -errno.ECANCELED:
        server.not_accepted(OSError(-result, os.strerror(-result)))
    if not (flags & HAS_MORE or server.paused_until or server.stop.requested):
        ring.submit(io_uring.accept(server.listener.fileno(), ACCEPT))


def begin(ring: Ring, connections: Connections, operations: Operations, server: Server, sock: socket.socket) -> None:
    """Serve a client."""
    connection = CompletionConnection(server, sock, ring)
    connections[sock.fileno()] = connection
    operations |= connection.operations()


def close(connections: Connections, operations: Operations, operation: int) -> None:
    """Forget a connection that is over, by one of its operations."""
    connection = connections.pop(operation >> KIND_BITS)
    for each in connection.operations():
        del operations[each]
    connection.close()


def drain(ring: Ring, connections: Connections, operations: Operations, server: Server) -> None:
    """Take over who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    ring.submit(io_uring.cancel(ACCEPT))
    completions = ring.wait(0)
    # From now on accept(2) asks who is there, and must not block; the kernel's own accept would take that for "nobody".
    server.listener.setblocking(False)
    while True:
        for operation, result, flags in completions:
            if advance := operations.get(operation):
                if not advance(result, flags):
                    close(connections, operations, operation)
            elif operation == ACCEPT:
                accept(ring, connections, operations, server, result, flags)
        now = time.monotonic()
        for connection in connections.values():
            if not connection.drain(now):
                connection.cancel()
        while (sock := server.accept()) is not None:
            begin(ring, connections, operations, server, sock)
        if server.close_listener() and not connections:
            return
        completions = ring.wait(DRAIN_TICK)
