"""A socket in another network namespace: setns(2), which Python has from 3.12 on."""

from __future__ import annotations

import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLONE_NEWNET = 0x40000000


def socket_inside(namespace: Path, family: int, kind: int) -> socket.socket:
    """A socket in the network namespace of a file such as /proc/PID/ns/net; it stays in that namespace.

    Raises OSError, which names the file: PermissionError without CAP_SYS_ADMIN.
    """

    def make() -> socket.socket:
        file = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(namespace))
        finally:
            os.close(file)
        return socket.socket(family, kind)

    # setns(2) moves one thread only: this one moves, and then ends.
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(make).result()
