"""The end of a connection: nothing that either side has sent is lost, however it is closed."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios

from iolab.server.books import Peer
from iolab.server.errors import BUGS


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
    """Bytes that moved either way. One of the peer's has when it came, also while the server is busy with others.

    One of ours has when the peer acknowledged it; those that sit in a buffer have not.
    """
    came = peer.received_bytes + unread(peer.sock)
    return came + peer.sent_bytes - peer.buffered() - unacknowledged(peer.sock)


def unread(sock: socket.socket) -> int:
    """Bytes that came and were not received yet: SIOCINQ, tcp(7)."""
    waiting: int = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return waiting


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel has taken and the peer has not acknowledged, a FIN counting as one: SIOCOUTQ, tcp(7)."""
    owed: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return owed
