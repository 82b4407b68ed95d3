"""Twisted reactor: one thread asks the kernel which sockets are ready, and calls each one's protocol.

Waits in   epoll_wait(2), in the reactor; a protocol never waits, it is called
Runs       one thread: a slow answer delays everyone, unless a timer gives it later
Costs      a transport and a protocol per client; an answer waits for the reactor's next turn to be sent
Breaks at  the descriptor limit
Compare    epoll_loop (same wait, no callbacks), asyncio_streams (same wait, coroutines in place of callbacks)
"""

from __future__ import annotations

import socket

from twisted.internet.epollreactor import EPollReactor

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.framework import look_for_idle, look_for_quiet
from iolab.sockets.twisted_protocol import Readable, StreamProtocol, crash_at_bugs


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    reactor = EPollReactor()
    crash_at_bugs()

    def ready() -> None:
        accept(reactor, server)
        if server.admission.paused_until:
            reactor.removeReader(listener)
            reactor.callLater(server.admission.pause_left(), listen)

    def listen() -> None:
        if not server.stop.requested:
            reactor.addReader(listener)

    def stopped() -> None:
        reactor.removeReader(stop)
        reactor.removeReader(listener)
        drain(reactor, server)

    listener = Readable(server.listener.fileno(), ready)
    stop = Readable(server.stop.fileno(), stopped)
    server.listener.setblocking(False)
    listen()
    reactor.addReader(stop)
    if server.sweep.seconds:
        sweep(reactor, server)
    reactor.run(installSignalHandlers=False)


def accept(reactor: EPollReactor, server: Server) -> None:
    """Accept this turn's clients, and give each a protocol."""
    for sock in server.admission.accept_some():
        Echo(reactor, server, sock).begin(reactor)


class Echo(StreamProtocol):
    """One client: the reactor calls it with the bytes that have come, and it answers them."""

    def __init__(self, reactor: EPollReactor, server: Server, sock: socket.socket) -> None:
        super().__init__(server, sock)
        self._reactor = reactor
        self._work = server.work

    def dataReceived(self, data: bytes) -> None:
        """Answer at once, or after the work dial's wait with reading paused meanwhile."""
        stream = self.stream
        stream.received_bytes += len(data)
        if stream.finishing:
            return
        work = self._work
        if work.wait_seconds:
            self.transport.pauseProducing()
            self._reactor.callLater(work.wait_seconds, self.answer_late, data)
            return
        respond = work.respond
        answer = respond(data)
        stream.answers += 1
        stream.sent_bytes += len(answer)
        self.transport.write(answer)

    def answer_late(self, data: bytes) -> None:
        """Answer after the wait, unless the peer is gone; resume reading unless the answer is held back."""
        transport = self.transport
        if transport.connected:
            answer = self._work.respond(data)
            self.stream.answers += 1
            self.stream.sent_bytes += len(answer)
            transport.write(answer)
            if not transport.producerPaused:
                transport.resumeProducing()


def sweep(reactor: EPollReactor, server: Server) -> None:
    """Look for idle connections at intervals, until the stop."""
    if not server.stop.requested:
        look_for_idle(server)
        reactor.callLater(server.sweep.seconds, sweep, reactor, server)


def drain(reactor: EPollReactor, server: Server) -> None:
    """Accept the rest of the accept queue, then serve every connection until it is quiet and owed nothing."""
    accept(reactor, server)
    if server.admission.close_listener() and not server.open_count():
        reactor.stop()
    else:
        look_for_quiet(server)
        reactor.callLater(DRAIN_TICK, drain, reactor, server)
