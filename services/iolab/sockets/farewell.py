"""The end of a connection: whoever closes it, no byte that either side has sent is lost."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios

from iolab.server.books import Peer
from iolab.server.errors import BUGS


def nothing_came(sock: socket.socket) -> bool:
    """Whether the socket holds no unread byte and no FIN: one may have come while the server was busy."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in BUGS:
            raise
    return False


def begin_farewell(sock: socket.socket) -> None:
    """Half-close: send our FIN behind the last answer. A peer that is gone needs none."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def finished(sock: socket.socket) -> bool:
    """One step after the half-close, without waiting: discard input, and return whether the socket can be closed.

    It can when the peer is gone, or has acknowledged everything, our FIN included. Closing earlier, with input unread,
    would send an RST that destroys answers on their way; in a container the exit would destroy them too.
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
    """Bytes that moved in either direction.

    A byte from the peer has moved once it has come, even if a busy server has not read it. A byte to the peer has moved
    once the peer has acknowledged it, and not while it is in a buffer.
    """
    came = peer.received_bytes + unread(peer.sock)
    return came + peer.sent_bytes - peer.buffered() - unacknowledged(peer.sock)


def unread(sock: socket.socket) -> int:
    """Bytes that have come and are not read yet: SIOCINQ, tcp(7)."""
    waiting: int = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return waiting


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel has taken and the peer has not acknowledged, a FIN counting as one: SIOCOUTQ, tcp(7)."""
    owed: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return owed
