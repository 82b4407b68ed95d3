"""io_uring ring: one thread tells the kernel what to accept, receive and send, and hears when it is done.

Waits in   io_uring_enter(2), for completions: no socket is asked whether it is ready
Runs       one thread: an answer that waits does so in the ring and delays nobody, one that computes delays everyone
Costs      a system call per batch; a submission and a completion per answer, one more for a large one
Breaks at  the descriptor limit, and where the system refuses io_uring
Compare    epoll_loop (same loop, but told of readiness: it receives and sends by itself)
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from contextlib import closing

from iolab.kernel import io_uring
from iolab.kernel.io_uring import Ring
from iolab.server.admission import ACCEPTS_A_TURN
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.completion import KIND_BITS, Advance, CompletionConnection, ring_for

Connections = dict[int, CompletionConnection]
Operations = dict[int, Advance]

# Operations that belong to no connection: no descriptor is as large.
ACCEPT, STOP = 1 << 62, 1 << 63


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    connections: Connections = {}
    operations: Operations = {}
    with closing(ring_for(server)) as ring:
        acceptor = Acceptor(server, ring)
        acceptor.ask()
        ring.submit(io_uring.poll(server.stop.fileno(), STOP))
        while not server.stop.requested:
            for operation, result, flags in ring.wait(server.timeout()):
                if advance := operations.get(operation):
                    if not advance(result, flags):
                        close(connections, operations, operation)
                elif operation == ACCEPT:
                    if sock := acceptor.accept(result):
                        begin(ring, connections, operations, server, sock)
                    acceptor.ask()
            if server.admission.resumed():
                acceptor.ask()
            if server.sweep.is_due():
                now = server.sweep.clock()
                for connection in connections.values():
                    if connection.is_idle(now):
                        connection.cancel()
        drain(acceptor, connections, operations)


class Acceptor:
    """Has the kernel accept at most ACCEPTS_A_TURN clients between two waits, each by its own submission.

    A multishot accept would take every client that comes, and a descriptor for each, before they are counted.
    """

    def __init__(self, server: Server, ring: Ring) -> None:
        self.server = server
        self.ring = ring
        self._accept = io_uring.accept(server.listener.fileno(), ACCEPT)
        self.in_flight = 0

    def ask(self) -> None:
        """Submit as many accepts as a turn allows, unless accepting is paused or stopped."""
        while self.in_flight < ACCEPTS_A_TURN and not (
            self.server.admission.paused_until or self.server.stop.requested
        ):
            self.ring.submit(self._accept)
            self.in_flight += 1

    def accept(self, result: int) -> socket.socket | None:
        """Take the result of an accept; return the client if it is admitted."""
        self.in_flight -= 1
        if result < 0:
            # EAGAIN: the stop came first. If one accept finds no capacity, those behind it fail too: that is one pause.
            if result not in (-errno.ECANCELED, -errno.EAGAIN) and not self.server.admission.paused_until:
                self.server.admission.not_accepted(OSError(-result, os.strerror(-result)))
            return None
        # The kernel applies the limit as it was when the accept was submitted; it may have been lowered since.
        if result >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] and not self.server.admission.paused_until:
            self.server.admission.not_accepted(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            self.cancel()
        sock = socket.socket(fileno=result)
        if self.server.admission.admitted(sock):
            return sock
        sock.close()
        return None

    def cancel(self) -> None:
        """Cancel the accepts in flight; those that have a client already still complete with it."""
        self.ring.submit(io_uring.cancel_all(ACCEPT))


def begin(ring: Ring, connections: Connections, operations: Operations, server: Server, sock: socket.socket) -> None:
    """Serve a client."""
    connection = CompletionConnection(server, sock, ring)
    connections[sock.fileno()] = connection
    operations |= connection.operations()


def close(connections: Connections, operations: Operations, operation: int) -> None:
    """Forget a finished connection, known by one of its operations."""
    connection = connections.pop(operation >> KIND_BITS)
    for each in connection.operations():
        del operations[each]
    connection.close()


def drain(acceptor: Acceptor, connections: Connections, operations: Operations) -> None:
    """Accept the rest of the accept queue, then serve every connection until it is quiet and owed nothing."""
    server, ring = acceptor.server, acceptor.ring
    acceptor.cancel()
    completions = ring.wait(0)
    # accept(2) empties the queue from here on, and must not block. Set earlier, this would fail the ring's own accepts.
    server.listener.setblocking(False)
    while True:
        for operation, result, flags in completions:
            if advance := operations.get(operation):
                if not advance(result, flags):
                    close(connections, operations, operation)
            elif operation == ACCEPT and (sock := acceptor.accept(result)):
                begin(ring, connections, operations, server, sock)
        now = time.monotonic()
        for connection in connections.values():
            if not connection.drain(now):
                connection.cancel()
        for sock in server.admission.accept_some():
            begin(ring, connections, operations, server, sock)
        if not acceptor.in_flight and server.admission.close_listener() and not connections:
            return
        completions = ring.wait(DRAIN_TICK)
