"""Connections that are closed here, while the kernel still sends their last answers.

A process may leave them to the kernel, a container may not: its network ends with it, and with the network the bytes.
They have no descriptor any more, but the kernel lists them: proc_pid_net(5).
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

# How often the kernel is asked.
TICK_SECONDS = 0.02

# FIN-WAIT-1, LAST-ACK, CLOSING: the states in which our FIN is not acknowledged; linux/tcp_states.h.
UNACKNOWLEDGED_STATES = frozenset({"04", "09", "0B"})


def count(host: str, port: int) -> int:
    """How many connections from where we listen are closed without the peer having acknowledged everything.

    On another address of this machine the port may be a client's of somebody else; `host` is ours, as numbers.
    """
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    address = "".join(f"{word:08X}" for word in words) if any(words) else ""
    suffix = f"{address}:{port:04X}"
    found = 0
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        for line in lines:
            _, local, _, state = line.split(maxsplit=4)[:4]
            found += state in UNACKNOWLEDGED_STATES and local.endswith(suffix)
    return found


def wait_until_acknowledged(host: str, port: int) -> None:
    """Return when there are none. It is the stop's deadline that bounds this."""
    while count(host, port):
        time.sleep(TICK_SECONDS)
