"""Owns what is in front of a path and what is behind it: makes connections through it and finds both of their ends."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from iolab.kernel.network_namespace import socket_inside
from iolab_client.path.arrivals import TOKEN_BYTES, Arrivals
from iolab_client.path.ends import End, Ends, Fault, letters
from iolab_client.servers.address import Address, connect, show

BACKLOG = 128
LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The times of an examination, in seconds."""

    # Nothing moved for so long: it never will.
    deadline_seconds: float = 30.0
    # How long a connection is silent before it is used again.
    idle_seconds: float = 10.0
    # How long after a FIN the other side reads or answers.
    late_seconds: float = 1.0
    # Nothing more was taken for so long: what can be held is full.
    quiet_seconds: float = 1.0


class NotReached(Fault):
    """The front takes no connection."""


class CannotListen(OSError):
    """The server's end cannot be where it was asked for; the message says why."""


class Back:
    """Where the path leads to. Its address stays taken also while nobody listens there."""

    def __init__(self, host: str | None, port: int, namespace: Path | None = None) -> None:
        """Listen; no `host`: on both addresses of loopback, as far as there are two. Raises CannotListen."""
        self._namespace = namespace
        self._holders = ExitStack()
        self._addresses: dict[int, Address] = {}
        self.listeners: list[socket.socket] = []
        with ExitStack() as stack:
            stack.callback(self.close)
            for one in [host] if host else LOOPBACK:
                self._hold(one, port)
            self.listen()
            stack.pop_all()

    def _hold(self, host: str, port: int) -> None:
        try:
            family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            holder = self._holders.enter_context(self._bound(family, (str(found[0]), int(found[1]))))
        except OSError as error:
            # A machine may have IPv6, or not.
            if not (self._addresses and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)):
                raise CannotListen(_why_not((host, port), error)) from None
        else:
            self._addresses[family] = holder.getsockname()[:2]

    def _bound(self, family: int, address: Address) -> socket.socket:
        if self._namespace:
            sock = socket_inside(self._namespace, family, socket.SOCK_STREAM)
        else:
            sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Several sockets may have an address as long as only one listens: socket(7).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        return sock

    @property
    def address(self) -> Address:
        """The first address."""
        return next(iter(self._addresses.values()))

    def __str__(self) -> str:
        return " and ".join(map(show, self._addresses.values()))

    def listen(self) -> None:
        """Accept connections from now on. Raises CannotListen."""
        for family, address in self._addresses.items():
            try:
                listener = self._bound(family, address)
                self.listeners.append(listener)
                listener.listen(BACKLOG)
            except OSError as error:
                raise CannotListen(_why_not(address, error)) from None

    def refuse(self) -> None:
        """Refuse connections from now on."""
        while self.listeners:
            self.listeners.pop().close()

    def close(self) -> None:
        """Leave the address."""
        self.refuse()
        self._holders.close()


def _why_not(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{show(address)} is in use: stop who listens there, or choose another port and lead the path to it"
    if error.filename:
        return f"{error.filename}: {_words(error)}; it takes root and a network namespace, such as /proc/PID/ns/net"
    return f"{show(address)}: {_words(error)}"


def _words(error: OSError) -> str:
    return "no such host" if isinstance(error, socket.gaierror) else (error.strerror or str(error)).lower()


class Harness:
    """Both sides of a path."""

    def __init__(self, front: Address, back: Back, patience: Patience) -> None:
        self.front = front
        self.back = back
        self.patience = patience

    def connect(self) -> End:
        """The client's end of a new connection, of whose other end nothing is known. Raises NotReached."""
        try:
            sock = connect(self.front, deadline_seconds=self.patience.deadline_seconds)
        except ConnectionRefusedError:
            # At first nobody is there; later it is what serves one connection and ends.
            raise NotReached(f"{show(self.front)} refuses connections", "socat: ...,fork; ncat: --keep-open") from None
        except OSError as error:
            raise NotReached(f"no connection to {show(self.front)}: {_words(error)}") from None
        return End(sock, "client", self.patience.deadline_seconds)

    def open(self) -> Ends:
        """A connection through the path; each end has heard of the other. Raises Fault."""
        (ends,) = self.open_many(1)
        return ends

    def open_many(self, count: int) -> list[Ends]:
        """So many connections at the same time. Raises Fault.

        A path may connect late, early, in another order, or for purposes of its own: the client's first bytes tell
        which connection is which.
        """
        with ExitStack() as stack:
            clients: dict[bytes, End] = {}
            for number in range(count):
                token = letters(TOKEN_BYTES, secrets.token_hex())
                try:
                    client = self.connect()
                    stack.callback(client.close)
                    client.send(token)
                except Fault as fault:
                    if not number:
                        raise
                    raise Fault(f"connection {number + 1} of {count}: {fault}", fault.remedy) from None
                clients[token] = client
            servers = Arrivals(self.back.listeners, set(clients), self.patience.deadline_seconds).find()
            for server in servers.values():
                stack.callback(server.close)
            for token, server in servers.items():
                server.send(token)
                clients[token].expect(token)
            stack.pop_all()
        return [Ends(client, servers[token]) for token, client in clients.items()]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens at the back while the block lasts."""
        self.back.refuse()
        try:
            yield
        finally:
            self.back.listen()
