"""What clients can do to a server beyond iolab_client.peers."""

from __future__ import annotations

import ctypes
import selectors
import socket
import struct
from collections.abc import Sequence

from iolab_client.contract import peers

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


def flood_all(clients: Sequence[socket.socket], data: bytes) -> int:
    """Have all send `data` at the same time and read nothing, until none can send any more. Returns the bytes taken."""
    sent = dict.fromkeys(clients, 0)
    view = memoryview(data)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_WRITE, client)
        while selector.get_map() and (ready := selector.select(QUIET_SECONDS)):
            for key, _ in ready:
                client = key.data
                sent[client] += client.send(view[sent[client] : sent[client] + PIECE_BYTES])
                if sent[client] == len(data):
                    selector.unregister(client)
    return sum(sent.values())


def flood_until_owed(client: socket.socket, data: bytes, due_bytes: int) -> tuple[int, bytes]:
    """Have `client` send of `data` until nothing more is taken and answers to `due_bytes` at least are still to come.

    Where a server blocks in send(2), what is on its way lies in the kernel's buffers, and these are as large as the
    traffic has taught the kernel to make them: while they hold too little, the client reads some.

    Returns the bytes sent, and what was read.
    """
    sent = flood_all([client], data)
    received = b""
    while sent - len(received) < due_bytes:
        assert sent < len(data), f"{len(data)} bytes went through, and never were {due_bytes} on their way"
        received += peers.read_exactly(client, PIECE_BYTES)
        sent += flood_all([client], data[sent:])
    return sent, received
