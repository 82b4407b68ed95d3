"""What the kernel still sends for closed connections: ours are waited for, and nobody else's."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from iolab.kernel.orphans import Orphans
from tests.support.missing import skip_for_kernel
from tests.support.waiting import eventually

PIECE = b"a" * 65536


def listening(host: str) -> socket.socket:
    """A listener; `::` for both families."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET:
        return socket.create_server((host, 0))
    try:
        return socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    except OSError as error:
        skip_for_kernel(f"no IPv6 here: {error.strerror}")


def fill(sock: socket.socket) -> None:
    """Send as much as the kernel takes."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(PIECE)


@contextlib.contextmanager
def unread(listener: socket.socket, to: str) -> Iterator[socket.socket]:
    """A client that has not read what it was sent, while the connection is closed on the server's side."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect((to, listener.getsockname()[1]))
        sock, _ = listener.accept()
        with sock:
            fill(sock)
        yield peer


def read_to_end(peer: socket.socket) -> None:
    while peer.recv(1 << 20):
        pass


@pytest.mark.parametrize(
    ("host", "to"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")],
)
def test_a_closed_connection_is_an_orphan_until_its_peer_has_acknowledged_everything(host: str, to: str) -> None:
    with listening(host) as listener:
        ours = Orphans(listener)
        assert ours.count() == 0
        with unread(listener, to) as peer:
            assert ours.count() == 1
            read_to_end(peer)
            eventually(lambda: ours.count() == 0, "all is acknowledged")
            ours.wait()
        ours.close()


def test_one_of_another_address_with_the_same_port_is_somebody_elses() -> None:
    with listening("127.0.0.1") as listener, contextlib.ExitStack() as stack:
        other = stack.enter_context(socket.create_server(("127.0.0.2", listener.getsockname()[1])))
        ours = Orphans(listener)
        with unread(other, "127.0.0.2"):
            assert ours.count() == 0
        ours.close()


def test_what_an_earlier_owner_of_the_port_has_left_is_none_of_ours() -> None:
    with listening("127.0.0.1") as earlier, unread(earlier, "127.0.0.1"):
        port = earlier.getsockname()[1]
        earlier.close()
        later = socket.socket()
        later.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        later.bind(("127.0.0.1", port))
        later.listen()
        with later:
            ours = Orphans(later)
            assert ours.count() == 0
            ours.wait()
            with unread(later, "127.0.0.1") as mine:
                assert ours.count() == 1
                read_to_end(mine)
                eventually(lambda: ours.count() == 0, "ours is acknowledged")
            ours.close()


def test_a_connection_that_is_only_half_closed_is_none() -> None:
    with listening("127.0.0.1") as listener, socket.socket() as peer:
        ours = Orphans(listener)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listener.getsockname())
        sock, _ = listener.accept()
        with sock:
            fill(sock)
            sock.shutdown(socket.SHUT_WR)
            assert ours.count() == 0
        assert ours.count() == 1
