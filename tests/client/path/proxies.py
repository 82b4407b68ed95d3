"""A small proxy that keeps every clause, and the same with one fault: what each clause is about, broken on purpose."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from fcntl import ioctl
from queue import SimpleQueue
from struct import unpack
from termios import TIOCOUTQ

from iolab_client.contract.peers import reset
from iolab_client.servers.address import Address

READ_BYTES = 1 << 16


class Relay:
    """One connection through the proxy. A fault is a subclass; it holds for what `faulty` says, or for both."""

    # After so long a silence it calls `silent`.
    silence_seconds: float | None = None

    def __init__(self, client: socket.socket, server: socket.socket, faulty: socket.socket) -> None:
        self.client, self.server, self.faulty = client, server, faulty
        # Whom to read from, and where to.
        self.sinks = {client: server, server: client}

    def run(self) -> None:
        while self.sinks:
            readable, _, _ = select.select(list(self.sinks), [], [], self.silence_seconds)
            if not readable:
                self.close()
            for source in readable:
                if source not in self.sinks:
                    continue
                sink = self.sinks[source]
                try:
                    data = source.recv(READ_BYTES)
                    if data:
                        self.carry(source, sink, data)
                    else:
                        self.end(source, sink)
                except OSError:
                    self.broken(sink)
        self.close()

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        sink.sendall(data)

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        """FIN came."""
        del self.sinks[source]
        sink.shutdown(socket.SHUT_WR)

    def broken(self, sink: socket.socket) -> None:
        """RST came."""
        self.abort()

    def abort(self) -> None:
        """RST both ways."""
        self.sinks.clear()
        for sock in (self.client, self.server):
            if sock.fileno() >= 0:
                reset(sock)

    def close(self) -> None:
        self.sinks.clear()
        for sock in (self.client, self.server):
            sock.close()


class ChangesBytes(Relay):
    """As a text or telnet conversion does."""

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        super().carry(source, sink, data.replace(b"\xff", b"?") if source is self.faulty else data)


class Doubles(Relay):
    """Once a stream is long, a piece comes twice."""

    def __init__(self, client: socket.socket, server: socket.socket, faulty: socket.socket) -> None:
        super().__init__(client, server, faulty)
        self.left_bytes = 1 << 19

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        if source is self.faulty:
            before, self.left_bytes = self.left_bytes, self.left_bytes - len(data)
            if before > 0 >= self.left_bytes:
                super().carry(source, sink, data)
        super().carry(source, sink, data)


class WaitsForMore(Relay):
    """Bytes leave in blocks; the rest, with the FIN."""

    block_bytes = 4

    def __init__(self, client: socket.socket, server: socket.socket, faulty: socket.socket) -> None:
        super().__init__(client, server, faulty)
        self.rest = b""

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        if source is self.faulty:
            data = self.rest + data
            whole = len(data) - len(data) % self.block_bytes
            data, self.rest = data[:whole], data[whole:]
        super().carry(source, sink, data)

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        if source is self.faulty:
            sink.sendall(self.rest)
        super().end(source, sink)


class ClosesAtFin(Relay):
    """One side's FIN ends the other one's way, too."""

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        if source is self.faulty:
            self.close()
        else:
            super().end(source, sink)


class ClosesSoonAfterFin(Relay):
    """The other side has a moment to answer."""

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        super().end(source, sink)
        if source is self.faulty:
            self.silence_seconds = 0.1


class ThrowsAwayUnread(Relay):
    """What is not taken when FIN comes is lost."""

    allowed_bytes = 1 << 18

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        (unsent,) = unpack("i", ioctl(sink, TIOCOUTQ, bytes(4)))
        if source is self.faulty and unsent > self.allowed_bytes:
            self.abort()
        else:
            super().end(source, sink)


class FinOvertakes(Relay):
    """What comes right before a FIN is lost."""

    def __init__(self, client: socket.socket, server: socket.socket, faulty: socket.socket) -> None:
        super().__init__(client, server, faulty)
        self.carried_bytes = 0

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        # Longer than messages are, so that only the end of a stream is waited for, in however small pieces it comes.
        self.carried_bytes += len(data) if source is self.faulty else 0
        if source is self.faulty and self.carried_bytes > 4096:
            select.select([source], [], [], 2)
            with contextlib.suppress(BlockingIOError):
                if not source.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return
        super().carry(source, sink, data)


class ResetAsFin(Relay):
    """A break looks like an end."""

    def broken(self, sink: socket.socket) -> None:
        if sink is self.sinks.get(self.faulty):
            self.close()
        else:
            super().broken(sink)


class Unbounded(Relay):
    """It reads on, whoever does not."""

    def __init__(self, client: socket.socket, server: socket.socket, faulty: socket.socket) -> None:
        super().__init__(client, server, faulty)
        self.memory: SimpleQueue[bytes] = SimpleQueue()
        self.sink = self.sinks[faulty]
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    def write(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.memory.get():
                self.sink.sendall(data)
            self.sink.shutdown(socket.SHUT_WR)

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        if source is self.faulty:
            self.memory.put(data)
        else:
            super().carry(source, sink, data)

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        if source is self.faulty:
            del self.sinks[source]
            self.memory.put(b"")
        else:
            super().end(source, sink)

    def close(self) -> None:
        self.memory.put(b"")
        self.writer.join()
        super().close()


class ClosesIdle(Relay):
    """Whoever says nothing for long is not kept."""

    # Longer than a busy machine takes between two words of one connection among many.
    silence_seconds = 10.0


class ResetsAtSecondFin(Relay):
    """Two FINs that cross are taken for a break."""

    def end(self, source: socket.socket, sink: socket.socket) -> None:
        # Long enough that the second one is there if it was sent at the same moment.
        if sink in self.sinks and select.select([sink], [], [], 1)[0] and not sink.recv(1, socket.MSG_PEEK):
            self.abort()
        else:
            super().end(source, sink)


class SaysWhoComes(Relay):
    """A header of the PROXY protocol, which nobody asked for."""

    def run(self) -> None:
        self.server.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
        super().run()


class Swallows(Relay):
    """Nothing gets through."""

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        pass


class Proxy:
    """Listens, connects, relays. A fault of connecting is a subclass."""

    relay = Relay

    def __init__(self, back: Address, host: str = "127.0.0.1", faulty: str = "client") -> None:
        self.back = back
        self.faulty = faulty
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, backlog=128)
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def front(self) -> Address:
        host, port = self.listener.getsockname()[:2]
        return host, port

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.back)
        except OSError:
            self.nobody(client)
            return
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.relay(client, server, client if self.faulty == "client" else server).run()

    def nobody(self, client: socket.socket) -> None:
        """Nobody listens behind."""
        client.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class KeepsTheRefused(Proxy):
    """A client is not told that there is nobody."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.kept: list[socket.socket] = []

    def nobody(self, client: socket.socket) -> None:
        self.kept.append(client)

    def close(self) -> None:
        super().close()
        for client in self.kept:
            client.close()


class FewAtOnce(Proxy):
    """Whoever comes when it is full waits for somebody to leave."""

    def accept(self) -> None:
        self.room = threading.Semaphore(8)
        super().accept()

    def serve(self, client: socket.socket) -> None:
        with self.room:
            super().serve(client)


class WaitsForTheClient(Proxy):
    """Where it leads to depends on what the client says first."""

    def serve(self, client: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            client.recv(1, socket.MSG_PEEK)
        super().serve(client)


class ServesOne(Proxy):
    """After the first connection it is gone."""

    def accept(self) -> None:
        client, _ = self.listener.accept()
        self.close()
        self.serve(client)


@contextlib.contextmanager
def between(
    back: Address, fault: type[Relay] | type[Proxy], host: str = "127.0.0.1", faulty: str = "client"
) -> Iterator[Address]:
    """A proxy with this fault; gives its front."""
    if issubclass(fault, Proxy):
        proxy = fault(back, host, faulty)
    else:
        proxy = Proxy(back, host, faulty)
        proxy.relay = fault
    try:
        yield proxy.front
    finally:
        proxy.close()
