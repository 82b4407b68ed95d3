"""What clients can do to a server beyond iolab_client.peers."""

from __future__ import annotations

import ctypes
import selectors
import socket
import struct
from collections.abc import Sequence

# Nobody could send for that long: the server has stopped reading.
QUIET_SECONDS = 0.3
PIECE_BYTES = 65536
# asm-generic/socket.h
SO_ATTACH_FILTER = 26


def vanish(client: socket.socket) -> None:
    """Let no packet reach this socket any more: to the server it is a peer whose cable was cut.

    The filter is a program of one instruction, "keep 0 bytes": socket(7), linux/filter.h.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(instruction))
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def flood_all(clients: Sequence[socket.socket], data: bytes, *, at_least: int = 0) -> int:
    """Have all send `data` at the same time and read nothing, until none can send any more. Returns the bytes taken.

    Up to `at_least` bytes a silence is a slow machine's, and is waited out.
    """
    sent = dict.fromkeys(clients, 0)
    view = memoryview(data)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_WRITE, client)
        while selector.get_map() and ((ready := selector.select(QUIET_SECONDS)) or sum(sent.values()) < at_least):
            for key, _ in ready:
                client = key.data
                sent[client] += client.send(view[sent[client] : sent[client] + PIECE_BYTES])
                if sent[client] == len(data):
                    selector.unregister(client)
    return sum(sent.values())
