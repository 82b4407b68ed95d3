"""Twisted reactor: one thread asks the kernel who is ready, and calls back the protocol of each.

Waits in   epoll_wait(2), in the reactor; a protocol never waits, it is called
Runs       one thread: a slow answer delays everyone, unless it comes later by a timer
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
    """Serve until the stop was requested and every peer has what it is owed."""
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
    """Give each of those whose turn it is to be accepted a protocol."""
    for sock in server.admission.accept_some():
        Echo(reactor, server, sock).begin(reactor)


class Echo(StreamProtocol):
    """One client, whose bytes are answered when the reactor says that they have come."""

    def __init__(self, reactor: EPollReactor, server: Server, sock: socket.socket) -> None:
        super().__init__(server, sock)
        self._reactor = reactor
        self._respond = server.work.respond
        self._wait_seconds = server.work.wait_seconds

    def dataReceived(self, data: bytes) -> None:
        """Answer, at once or, with nothing read meanwhile, when the dial's wait is over."""
        stream = self.stream
        stream.received_bytes += len(data)
        if stream.finishing:
            return
        if self._wait_seconds:
            self.transport.pauseProducing()
            self._reactor.callLater(self._wait_seconds, self.answer_late, data)
            return
        answer = self._respond(data)
        stream.answers += 1
        stream.sent_bytes += len(answer)
        self.transport.write(answer)

    def answer_late(self, data: bytes) -> None:
        """Answer after a wait, unless the peer is gone, and read again if the answer can go."""
        transport = self.transport
        if transport.connected:
            answer = self._respond(data)
            self.stream.answers += 1
            self.stream.sent_bytes += len(answer)
            transport.write(answer)
            if not transport.producerPaused:
                transport.resumeProducing()


def sweep(reactor: EPollReactor, server: Server) -> None:
    """Look for idle connections, again and again until the stop."""
    if not server.stop.requested:
        look_for_idle(server)
        reactor.callLater(server.sweep.seconds, sweep, reactor, server)


def drain(reactor: EPollReactor, server: Server) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    accept(reactor, server)
    if server.admission.close_listener() and not server.open_count():
        reactor.stop()
    else:
        look_for_quiet(server)
        reactor.callLater(DRAIN_TICK, drain, reactor, server)
