"""Ring 1 for readiness: one accepted socket that does not block, and the bytes still owed to its peer. Never waits."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import termios

from iolab.server import Peer, Server
from iolab.session import Respond

# What a connection waits for, in the bits of poll(2) and epoll(7).
READ = 1
WRITE = 4

# Errors that no peer can cause: a descriptor that is closed or no socket, a wrong argument or address.
BUGS = frozenset({errno.EBADF, errno.ENOTSOCK, errno.EINVAL, errno.EFAULT})


class LoopPeer(Peer):
    """What a loop asks of a connection now and then: is it idle, and is it over, while the server stops."""

    __slots__ = ("_finishing", "_server")

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(sock)
        self._server = server
        self._finishing = False

    def is_idle(self, now: float) -> bool:
        """Whether no byte moved either way for `idle_seconds`, as far as repeated looks can tell."""
        return self.silent_for(now, moved(self)) >= self._server.settings.idle_seconds

    def drain(self, now: float) -> bool:
        """One look at it while the server stops, at least every DRAIN_TICK seconds. False: it is over.

        Once quiet it is given its FIN; then what comes is thrown away until the peer has acknowledged everything.
        """
        if self._finishing:
            return not finished(self.sock)
        silent_for = min(self.silent_for(now, self.received_bytes), now - self._server.stop.requested_at)
        quiet = not self._owes() and silent_for >= self._server.settings.drain_quiet_seconds
        if quiet and nothing_came(self.sock):
            self._finishing = True
            begin_farewell(self.sock)
        return True

    def close(self) -> None:
        """Close the socket and the books on it."""
        # The socket first: once the books are empty the process may end, and only closed sockets are waited for.
        self.sock.close()
        self._server.closed(self)

    def _owes(self) -> bool:
        """Whether there are answers that the kernel has not taken yet."""
        raise NotImplementedError


class Connection(LoopPeer):
    """Reads, answers and writes as far as the socket allows.

    `interest` says what to wait for next. READ is off while more than `high_water` bytes are owed, so that a peer that
    does not read costs bounded memory, and after the peer's FIN.
    """

    __slots__ = (
        "_answer",
        "_buffer_size",
        "_owed",
        "_peer_finished",
        "_recv",
        "_send",
        "interest",
    )

    def __init__(self, server: Server, sock: socket.socket, answer: Respond) -> None:
        super().__init__(server, sock)
        # accept(2) does not hand O_NONBLOCK down from the listener.
        sock.setblocking(False)
        self.interest = READ
        self._answer = answer
        self._buffer_size = server.settings.buffer_size
        self._recv = sock.recv
        self._send = sock.send
        # None, not an empty buffer: most peers are never owed anything between two calls.
        self._owed: bytearray | None = None
        self._peer_finished = False
        server.opened(self)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    def advance(self) -> bool:
        """Read once, answer, and send what the socket takes. False: it is over, and to be closed.

        Raises OSError only for what no peer can cause.
        """
        try:
            if self._owed:
                self._send_owed()
            if not self.interest & READ:
                return self._owed is not None
            data = self._recv(self._buffer_size)
            if not data:
                self._peer_finished = True
                self.interest = WRITE
                return self._owed is not None
            self.received_bytes += len(data)
            if self._finishing:
                return True
            answer = self._answer(data)
            self.answers += 1
            if self._owed:
                self._owe(answer)
                return True
            try:
                sent = self._send(answer)
            except BlockingIOError:
                sent = 0
            self.sent_bytes += sent
            if sent < len(answer):
                self._owe(memoryview(answer)[sent:])
            return True
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in BUGS:
                raise
            self.error = error
            return False

    def _owes(self) -> bool:
        return self._owed is not None

    def _send_owed(self) -> None:
        assert self._owed is not None
        with contextlib.suppress(BlockingIOError):
            sent = self._send(self._owed)
            self.sent_bytes += sent
            del self._owed[:sent]
        if not self._owed:
            self._owed = None
            self.interest = 0 if self._peer_finished else READ
        elif len(self._owed) <= self._server.settings.high_water and not self._peer_finished:
            self.interest = READ | WRITE

    def _owe(self, answer: bytes | memoryview) -> None:
        if self._owed is None:
            self._owed = bytearray(answer)
        else:
            self._owed += answer
        self.interest = WRITE if len(self._owed) > self._server.settings.high_water else READ | WRITE


def nothing_came(sock: socket.socket) -> bool:
    """Whether nothing unread has come, no FIN either: the server may have been busy with others meanwhile."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in BUGS:
            raise
    return False


def begin_farewell(sock: socket.socket) -> None:
    """Send our FIN behind the last answer. A peer that is gone needs none."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def finished(sock: socket.socket) -> bool:
    """One step of a farewell, without waiting: throw away what came, and say whether the peer needs nothing more.

    It needs nothing more when it is gone, or has acknowledged everything, our FIN included. Closing earlier, with input
    unread, would send an RST that destroys answers on their way; in a container the exit would destroy them too.
    """
    try:
        with contextlib.suppress(BlockingIOError):
            sock.recv(65536, socket.MSG_DONTWAIT)
        return unacknowledged(sock) == 0
    except OSError as error:
        if error.errno in BUGS:
            raise
        return True


def moved(peer: Peer) -> int:
    """Bytes that moved either way: one has when the peer acknowledged it; those that sit in a buffer have not."""
    return peer.received_bytes + peer.sent_bytes - peer.buffered() - unacknowledged(peer.sock)


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel has taken and the peer has not acknowledged, a FIN counting as one: SIOCOUTQ, tcp(7)."""
    owed: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return owed
