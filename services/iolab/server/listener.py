"""The listener: bound, with the options that accepted sockets inherit."""

from __future__ import annotations

import socket
import struct

from iolab.settings import Settings

EVERY_ADDRESS = "::"
EVERY_IPV4_ADDRESS = "0.0.0.0"


def listen(settings: Settings) -> socket.socket:
    """Bind and listen. On Linux accepted sockets inherit the options set here. Raises OSError."""
    listener = bind(settings, settings.port)
    set_options(listener, settings)
    listener.listen(settings.backlog)
    return listener


def listen_together(settings: Settings, count: int) -> list[socket.socket]:
    """A listener for each of `count` processes. Raises OSError.

    With `accept: reuseport` these are listeners on one port, to which the kernel deals the clients: SO_REUSEPORT,
    socket(7). Else all processes share one listener.

    With that option a second server of the same user would join them unnoticed. So a probe first binds without it,
    which fails while another server listens.
    """
    if settings.accept != "reuseport":
        return [listen(settings)] * count
    with bind(settings, settings.port) as probe:
        port = probe.getsockname()[1]
    listeners = [bind(settings, port, shared=True) for _ in range(count)]
    for listener in listeners:
        set_options(listener, settings)
        listener.listen(settings.backlog)
    return listeners


def bind(settings: Settings, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to the port, even while connections of an earlier server are left. Raises OSError.

    `::` is every address of both families, or of IPv4 alone where the kernel has no IPv6.
    """
    host = settings.host
    if host == EVERY_ADDRESS and not _has_ipv6():
        host = EVERY_IPV4_ADDRESS
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    if family == socket.AF_INET6:
        # Both families, whatever net.ipv6.bindv6only says.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def shown(host: str, port: int) -> str:
    """An address as people write it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_ipv6() -> bool:
    """Whether the kernel has IPv6: it may be built or booted without."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def set_options(listener: socket.socket, settings: Settings) -> None:
    """Set what accepted sockets inherit: answers leave at once, and a vanished peer is detected.

    A byte sent as urgent (MSG_OOB) stays in the stream: without SO_OOBINLINE recv(2) leaves it out, tcp(7).
    """
    probe_seconds = settings.keepalive_seconds
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe_seconds)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, probe_seconds // 4))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2 * probe_seconds * 1000)


def accept_queue(listener: socket.socket) -> int:
    """How many clients the kernel holds for accept(2) at this moment; 0 once the listener is closed."""
    return 0 if listener.fileno() < 0 else accept_queue_state(listener)[0]


def accept_queue_state(listener: socket.socket) -> tuple[int, int]:
    """The accept queue's length and its limit: tcpi_unacked and tcpi_sacked of a listener, linux/tcp.h."""
    length, limit = struct.unpack_from("II", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 24)
    return length, limit
