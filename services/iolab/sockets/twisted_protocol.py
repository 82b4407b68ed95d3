"""Ring 1 for twisted: one client as the reactor calls it back, and a descriptor that the reactor watches."""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Server as Transport
from twisted.logger import LogEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from iolab.server.ending import crash
from iolab.server.server import Server
from iolab.sockets.framework import Stream


@implementer(IHalfCloseableProtocol)
class StreamProtocol(Protocol):
    """One client: its back-pressure, its end and its books. What comes of its bytes is the model's."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.stream = Stream(server, sock)

    def begin(self, reactor: EPollReactor) -> None:
        """Have the reactor serve the client."""
        settings, sock = self.server.settings, self.stream.sock
        transport = Transport(sock, self, sock.getsockname(), None, 0, reactor)
        # What was read last and what waits to be sent are together high_water and one read at most: the transport
        # reads this much at once, and pauses its producer when it holds more than this.
        transport.bufferSize = min(settings.buffer_size, settings.high_water)
        self.makeConnection(transport)

    def connectionMade(self) -> None:
        """Have the transport read no more while the peer takes no answers: it is its own producer."""
        self.transport.registerProducer(self.transport, True)
        # Not before it has its transport: the admin's thread asks at any time.
        self.stream.held, self.stream.cut = self.held, self.cut

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
            self.stream.error = ConnectionError(reason.getErrorMessage())
        self.server.books.closed(self.stream)


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


def crash_at_bugs() -> None:
    """Have a bug end the process: the reactor would log it, in one of two ways, and go on."""

    def observe(event: LogEvent) -> None:
        if failure := event.get("log_failure") or event.get("failure"):
            crash(failure.value)

    # In place of Twisted's own observer, which would wait for the reader of stderr first.
    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)
