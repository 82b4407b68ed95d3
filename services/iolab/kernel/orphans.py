"""Connections that are closed here, while the kernel still sends their last answers.

A process may leave them to the kernel. A container may not: its network ends with it, and those bytes are lost.
They have no descriptor any more, but the kernel lists them: proc_pid_net(5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

# FIN-WAIT-1, LAST-ACK, CLOSING: the states in which our FIN is unacknowledged; linux/tcp_states.h.
UNACKNOWLEDGED_STATES = frozenset({b"04", b"09", b"0B"})
# What the tables have for a socket that no process has. One that is only half-closed can be in these states, too.
NO_INODE = b"0"
# How often the tables are read.
TICK_SECONDS = 0.02

# The two addresses of a connection, and the kernel's address of its socket, which is zero where the kernel hides it.
Orphan = tuple[bytes, bytes, bytes]


class Orphans:
    """The orphans of one listener that appeared since this object was made.

    Orphans that an earlier server on the same port has left to the kernel are remembered, and do not count. The
    kernel's address of the socket tells them from a connection of ours between the same two addresses. Where that is
    hidden, the two addresses are enough: no new connection can have them while the old one exists.

    The kernel's tables are opened once: at the stop there may be no descriptor left.
    """

    def __init__(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        self._suffix = f":{port:04X}".encode()
        self._addresses = _spellings(host)
        self._tables = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            # Without IPv6 in the kernel there is no tcp6.
            with contextlib.suppress(FileNotFoundError):
                self._tables.append(os.open(table, os.O_RDONLY | os.O_CLOEXEC))
        self._others = frozenset(self._found())

    def count(self) -> int:
        """How many of our connections are closed although their peer has not acknowledged everything."""
        found = set(self._found())
        # An orphan that has gone and reappears is another connection, which may be ours.
        self._others &= found
        return len(found - self._others)

    def wait(self) -> None:
        """Return when there are none. The stop's deadline bounds the wait."""
        while self.count():
            time.sleep(TICK_SECONDS)

    def close(self) -> None:
        """Close the tables."""
        while self._tables:
            os.close(self._tables.pop())

    def _found(self) -> Iterator[Orphan]:
        for table in self._tables:
            for line in _read(table).splitlines()[1:]:
                fields = line.split()
                local, remote, state = fields[1:4]
                address, _, _ = local.partition(b":")
                ours = self._addresses is None or address in self._addresses
                closed = fields[9] == NO_INODE
                if closed and state in UNACKNOWLEDGED_STATES and ours and local.endswith(self._suffix):
                    yield local, remote, fields[11]


def _read(table: int) -> bytes:
    """The whole table, which the kernel makes anew when it is read from its beginning."""
    os.lseek(table, 0, os.SEEK_SET)
    pieces = []
    while piece := os.read(table, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def _spellings(host: str) -> frozenset[bytes] | None:
    """How the tables spell our address, also as an IPv4 address on an IPv6 socket. None: any address."""
    address = host.partition("%")[0]
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    if not any(packed):
        return None
    mapped = bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed
    return frozenset(
        b"".join(b"%08X" % word for word in struct.unpack(f"={len(each) // 4}I", each)) for each in (packed, mapped)
    )
