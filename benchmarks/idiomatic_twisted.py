"""Twisted's own echo server, a Protocol that writes what it is given: what twisted_reactor is measured against.

It keeps no contract: it holds all that a client does not read, and drops answers at a half-close with a late reader.
"""

from twisted.internet import protocol, reactor


class Upper(protocol.Protocol):
    """Answers with upper case."""

    def connectionMade(self):
        """One client."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        """Some bytes of his."""
        self.transport.write(data.upper())


port = reactor.listenTCP(0, protocol.Factory.forProtocol(Upper), backlog=1024, interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
