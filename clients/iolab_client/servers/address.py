"""Where a server listens, and a connection to it."""

from __future__ import annotations

import errno
import os
import re
import socket
import time

from iolab.checkout import CHECKOUT

Address = tuple[str, int]


# Long, because speed is not judged, and a server's work dial may delay each answer.
DEADLINE_SECONDS = 30.0


class Deadline:
    """A moment some seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def left(self, undone: str = "nothing happened") -> float:
        """The seconds until then. Raises TimeoutError, which says what is `undone`, when there are none left."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise self.passed(undone)
        return left

    def passed(self, undone: str) -> TimeoutError:
        """The error that says what is `undone`."""
        return TimeoutError(f"{undone} within {self.seconds:g} s")


def connect(
    address: Address,
    *,
    receive_buffer_bytes: int | None = None,
    send_buffer_bytes: int | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> socket.socket:
    """A connection to `address` without Nagle's delay; the deadline applies to each of its calls too.

    Buffer sizes are set before connecting, because the handshake fixes the receive window (tcp(7)).
    """
    deadline = Deadline(deadline_seconds)
    host, port = address
    failure: OSError | None = None
    for family, kind, protocol, _, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        peer = socket.socket(family, kind, protocol)
        try:
            if receive_buffer_bytes is not None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            if send_buffer_bytes is not None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.settimeout(deadline_seconds)
            peer.connect(found)
            return peer
        except OSError as error:
            peer.close()
            failure = deadline.passed("no connection was made") if isinstance(error, TimeoutError) else error
    raise failure or OSError(f"{host} has no address")


def half_close(peer: socket.socket) -> None:
    """Send FIN: nothing more will come, but answers are still read.

    Raises the error that broke the connection, such as ConnectionResetError: shutdown(2) itself only says ENOTCONN, as
    if there never had been one.
    """
    try:
        peer.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        code = peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
        raise OSError(code, os.strerror(code)) from None


REMEDY = f"start it with `{'make' if CHECKOUT else 'iolab'} up`"


def parse(text: str) -> Address | None:
    """HOST:PORT, an IPv6 host in brackets or without; None where it is not."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and is_port(port)):
        return None
    host = host.removeprefix("[").removesuffix("]")
    try:
        host.encode("idna")
    except UnicodeError:
        return None
    return (host, int(port)) if host.isprintable() else None


def is_port(text: str) -> bool:
    """Whether it is the number of a port, in ASCII digits."""
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def show(address: Address) -> str:
    """An address as HOST:PORT, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
