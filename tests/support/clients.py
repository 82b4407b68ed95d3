"""What a client can do to a server beyond iolab_client.peers: vanish."""

from __future__ import annotations

import ctypes
import socket
import struct

# asm-generic/socket.h
SO_ATTACH_FILTER = 26


def vanish(client: socket.socket) -> None:
    """Let no packet reach this socket any more: to the server it is a peer whose cable was cut.

    The filter is a program of one instruction, "keep 0 bytes": socket(7), linux/filter.h.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(instruction))
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
