"""Twisted reactor: one thread asks the kernel who is ready, and calls back the protocol of each.

Waits in   epoll_wait(2), in the reactor; a protocol never waits, it is called
Runs       one thread: a slow answer delays everyone, unless it comes later by a timer
Costs      a transport and a protocol per client; an answer waits for the reactor's next turn to be sent
Breaks at  the descriptor limit
Compare    epoll_loop (same wait, no callbacks), asyncio_streams (same wait, coroutines in place of callbacks)
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Server as Transport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.framework import Stream

Streams = set[Stream]


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    reactor = EPollReactor()
    streams: Streams = set()
    globalLogPublisher.addObserver(crash)

    def ready() -> None:
        accept(reactor, streams, server)
        if server.paused_until:
            reactor.removeReader(listener)
            reactor.callLater(server.pause_left(), listen)

    def listen() -> None:
        if not server.stop.requested:
            reactor.addReader(listener)

    def stopped() -> None:
        reactor.removeReader(stop)
        reactor.removeReader(listener)
        drain(reactor, streams, server)

    listener = Readable(server.listener.fileno(), ready)
    stop = Readable(server.stop.fileno(), stopped)
    server.listener.setblocking(False)
    reactor.addReader(listener)
    reactor.addReader(stop)
    if server.sweep_seconds:
        sweep(reactor, streams, server)
    reactor.run(installSignalHandlers=False)


def accept(reactor: EPollReactor, streams: Streams, server: Server) -> None:
    """Give each of those whose turn it is to be accepted a transport and a protocol."""
    for sock in server.accept_some():
        stream = Stream(server, sock)
        streams.add(stream)
        protocol = Echo(reactor, streams, server, stream)
        transport = Transport(sock, protocol, sock.getsockname(), None, 0, reactor)
        # What was read last and what waits to be sent are together high_water and one read at most: the transport
        # reads this much at once, and pauses its producer when it holds more than this.
        transport.bufferSize = min(server.settings.buffer_size, server.settings.high_water)
        protocol.makeConnection(transport)


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """One client."""

    def __init__(self, reactor: EPollReactor, streams: Streams, server: Server, stream: Stream) -> None:
        self._reactor = reactor
        self._streams = streams
        self._server = server
        self._stream = stream
        self._respond = server.work.respond
        self._wait_seconds = server.work.wait_seconds

    def connectionMade(self) -> None:
        """Have the transport read no more while the peer takes no answers: it is its own producer."""
        self.transport.registerProducer(self.transport, True)
        # Not before it has its transport: the admin's thread asks at any time.
        self._stream.held = self.held
        self._stream.cut = self.cut

    def dataReceived(self, data: bytes) -> None:
        """Answer, at once or, with nothing read meanwhile, when the dial's wait is over."""
        stream = self._stream
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
            self._stream.answers += 1
            self._stream.sent_bytes += len(answer)
            transport.write(answer)
            if not transport.producerPaused:
                transport.resumeProducing()

    def held(self) -> int:
        """What the transport was given and the kernel was not."""
        transport = self.transport
        held: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return held

    def cut(self) -> None:
        """End it: in order if nothing is owed, else with what is owed."""
        if self.held():
            self.transport.abortConnection()
        else:
            self.readConnectionLost()

    def readConnectionLost(self) -> None:
        """At the peer's FIN: close when everything is sent. A producer that is paused would keep it open for ever."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never: the transport is not asked for a half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close the books: the socket is closed already."""
        if not reason.check(ConnectionDone):
            self._stream.error = ConnectionError(reason.getErrorMessage())
        self._streams.discard(self._stream)
        self._server.closed(self._stream)


@implementer(IReadDescriptor)
class Readable:
    """A descriptor that the reactor watches, and whom it calls when there is something to read."""

    def __init__(self, descriptor: int, call: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self.doRead = call

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """What the reactor would log an error with."""
        return "iolab"

    def connectionLost(self, reason: Failure) -> None:
        """Neither the listener nor the stop is ever lost; a bug was logged, and crashed."""


def sweep(reactor: EPollReactor, streams: Streams, server: Server) -> None:
    """Look for idle connections, again and again until the stop."""
    if server.stop.requested:
        return
    now = server.idle_clock()
    for stream in list(streams):
        stream.look(now)
    reactor.callLater(server.sweep_seconds, sweep, reactor, streams, server)


def crash(event: LogEvent) -> None:
    """A bug ends the process: the reactor would log it and go on."""
    if failure := event.get("log_failure"):
        traceback.print_exception(failure.value)
        os._exit(70)


def drain(reactor: EPollReactor, streams: Streams, server: Server) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    accept(reactor, streams, server)
    if server.close_listener() and not streams:
        reactor.stop()
        return
    now = time.monotonic()
    for stream in list(streams):
        stream.drain(now)
    reactor.callLater(DRAIN_TICK, drain, reactor, streams, server)
