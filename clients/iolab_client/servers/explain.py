"""A network error in words, with the remedy if there is one."""

from __future__ import annotations

import socket

from iolab_client.servers.address import REMEDY


def explain(error: OSError) -> str:
    """One line that says what went wrong: `connection refused; start it with `make up``."""
    match error:
        case ConnectionRefusedError():
            return f"connection refused; {REMEDY}"
        case socket.gaierror():
            return f"no such host; {REMEDY}"
        case ConnectionResetError():
            return "the server reset the connection"
        case BrokenPipeError():
            return "the server closed while it was sent to"
        case _:
            text = error.strerror or str(error)
            return text[:1].lower() + text[1:]
