"""Connections that are closed here, while the kernel still sends their last answers.

A process may leave them to the kernel, a container may not: its network ends with it, and with the network the bytes.
They have no descriptor any more, but the kernel lists them: proc_pid_net(5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

# FIN-WAIT-1, LAST-ACK, CLOSING: the states in which our FIN is not acknowledged; linux/tcp_states.h.
UNACKNOWLEDGED_STATES = frozenset({b"04", b"09", b"0B"})
# How often the kernel is asked.
TICK_SECONDS = 0.02

# Both ends of a connection, and the kernel's name of its socket; that is zero where the kernel hides it.
Orphan = tuple[bytes, bytes, bytes]


class Orphans:
    """Those of one listener that came since this was made.

    What an earlier server on the same port has left to the kernel is remembered, and is none of ours. It is told from a
    connection of ours between the same ends by the kernel's name of the socket. Where that is hidden, by the ends: no
    connection can be made between them as long as the old one is there.

    The kernel's tables are opened once: at the stop there may be no descriptor left.
    """

    def __init__(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        self._suffix = f":{port:04X}".encode()
        self._addresses = _spellings(host)
        self._tables = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            # Without IPv6 in the kernel there is no such file.
            with contextlib.suppress(FileNotFoundError):
                self._tables.append(os.open(table, os.O_RDONLY | os.O_CLOEXEC))
        self._others = frozenset(self._found())

    def count(self) -> int:
        """How many of our connections are closed without their peer having acknowledged everything."""
        found = set(self._found())
        # One that has gone and comes again is another, and may be ours.
        self._others &= found
        return len(found - self._others)

    def wait(self) -> None:
        """Return when there are none. It is the stop's deadline that bounds this."""
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
                if state in UNACKNOWLEDGED_STATES and ours and local.endswith(self._suffix):
                    yield local, remote, fields[11]


def _read(table: int) -> bytes:
    """All of it, from its beginning: the kernel makes it anew."""
    os.lseek(table, 0, os.SEEK_SET)
    pieces = []
    while piece := os.read(table, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def _spellings(host: str) -> frozenset[bytes] | None:
    """How the tables spell the address of our end: also as a peer of IPv4 has it on a socket of IPv6. None: any."""
    address = host.partition("%")[0]
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    if not any(packed):
        return None
    mapped = bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed
    return frozenset(
        b"".join(b"%08X" % word for word in struct.unpack(f"={len(each) // 4}I", each)) for each in (packed, mapped)
    )
