"""Ring 1 for twisted: a client's protocol, and a descriptor that the reactor watches."""

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
    """One client: its back-pressure, its end and its counters. What becomes of its bytes is up to the model."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.stream = Stream(server, sock)

    def begin(self, reactor: EPollReactor) -> None:
        """Make the reactor serve the client."""
        settings, sock = self.server.settings, self.stream.sock
        transport = Transport(sock, self, sock.getsockname(), None, 0, reactor)
        # The transport reads this much at once, and pauses its producer when it holds more. So the last read and the
        # unsent answers are together at most high_water and one read.
        transport.bufferSize = min(settings.buffer_size, settings.high_water)
        self.makeConnection(transport)

    def connectionMade(self) -> None:
        """Pause reading while the peer takes no answers: the transport is its own producer."""
        self.transport.registerProducer(self.transport, True)
        # Set once the transport is there: the admin port's thread may ask at any time.
        self.stream.held, self.stream.cut = self.held, self.cut

    def held(self) -> int:
        """Bytes that the transport holds and the kernel has not taken."""
        transport = self.transport
        held: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return held

    def cut(self) -> None:
        """End the connection: in order if nothing is owed, else at once, and what is owed is dropped."""
        if self.held():
            self.transport.abortConnection()
        else:
            self.readConnectionLost()

    def readConnectionLost(self) -> None:
        """At the peer's FIN: close when everything is sent. A paused producer would keep it open for ever."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never called: the transport is not asked for a half-close."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take the client off the books: the socket is closed already."""
        if not reason.check(ConnectionDone):
            self.stream.error = ConnectionError(reason.getErrorMessage())
        self.server.books.closed(self.stream)


@implementer(IReadDescriptor)
class Readable:
    """A descriptor that the reactor watches, and what it calls when the descriptor is readable."""

    def __init__(self, descriptor: int, call: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self.doRead = call

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """The name under which the reactor would log an error."""
        return "iolab"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: neither the listener nor the stop is ever lost, and a bug has crashed already."""


def crash_at_bugs() -> None:
    """Make a bug end the process: the reactor would log it, in one of two ways, and go on."""

    def observe(event: LogEvent) -> None:
        if failure := event.get("log_failure") or event.get("failure"):
            crash(failure.value)

    # Replaces Twisted's own observer, which would first wait for the reader of stderr.
    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)
