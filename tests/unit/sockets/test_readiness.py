"""Ring 1 for readiness, over real TCP connections whose other end the test holds."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from iolab.registry import MODELS
from iolab.server.listener import listen
from iolab.server.server import SMALL_READ, Server
from iolab.server.stop import Stop
from iolab.settings import Settings, WorkDial
from iolab.sockets.farewell import finished, nothing_came, unacknowledged
from iolab.sockets.readiness import READ, WRITE, Connection

Pair = tuple[Server, Connection, socket.socket]
Open = Callable[..., Pair]
DEADLINE = 20.0


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens connections of servers with the given settings; the peer's end does not block."""
    with contextlib.ExitStack() as stack:

        def open_one(**settings: object) -> Pair:
            values = Settings(port=8004, **settings)  # type: ignore[arg-type]
            listener = stack.enter_context(contextlib.closing(listen(values_on_any_port(values))))
            peer = stack.enter_context(socket.create_connection(listener.getsockname()))
            peer.setblocking(False)
            server = Server(MODELS["epoll_loop"], values, listener, Stop())
            sock = next(server.admission.accept_some())
            stack.enter_context(sock)
            return server, Connection(server, sock, server.answer), peer

        yield open_one


def values_on_any_port(values: Settings) -> Settings:
    from iolab.configs import override

    return override(values, port=0)


def advance_until(connection: Connection, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        connection.advance()
        assert connection.interest, "it is over"


def flood(connection: Connection, peer: socket.socket, size: int) -> int:
    """Send up to `size` bytes that nobody reads back, until the server takes no more; return how many it read."""
    left = size
    while left:
        before = connection.received_bytes
        with contextlib.suppress(BlockingIOError):
            left -= peer.send(b"a" * min(left, 65536))
        connection.advance()
        if connection.received_bytes == before and not connection.interest & READ:
            break
    return connection.received_bytes


def reads(connection: Connection, peer: socket.socket, message: bytes) -> list[int]:
    """Send a message, and have it answered: in reads of how many bytes each."""
    peer.send(message)
    sizes: list[int] = []
    end = time.monotonic() + DEADLINE
    while sum(sizes) < len(message):
        assert time.monotonic() < end
        before = connection.received_bytes
        connection.advance()
        if connection.received_bytes > before:
            sizes.append(connection.received_bytes - before)
    assert read_all(peer, connection, len(message)) == message.upper()
    return sizes


class Meanwhile:
    """A socket at which something happens between a read and the answer."""

    def __init__(self, sock: socket.socket, happens: Callable[[], object]) -> None:
        self._sock = sock
        self._happens = happens
        self.send = sock.send

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        if data:
            self._happens()
            # The RST is there, or the answer would still go.
            while not select.select([self._sock], [], [], 0)[0]:
                pass
        return data


def read_all(peer: socket.socket, connection: Connection, size: int) -> bytes:
    got = bytearray()
    end = time.monotonic() + DEADLINE
    while len(got) < size:
        assert time.monotonic() < end, f"{len(got)} of {size} bytes came"
        with contextlib.suppress(BlockingIOError):
            got += peer.recv(65536)
        connection.advance()
    return bytes(got)


def test_nothing_there_is_no_end(opened: Open) -> None:
    _, connection, _ = opened()
    assert not connection.advance()
    assert connection.interest == READ


def test_what_came_is_answered_at_once(opened: Open) -> None:
    _, connection, peer = opened()
    peer.send(b"hi")
    advance_until(connection, lambda: connection.answers == 1)
    assert read_all(peer, connection, 2) == b"HI"
    assert (connection.received_bytes, connection.sent_bytes, connection.interest) == (2, 2, READ)


def test_it_says_when_it_waits_for_something_else(opened: Open) -> None:
    _, connection, peer = opened()
    changes = []
    end = time.monotonic() + DEADLINE
    while connection.interest:
        assert time.monotonic() < end
        before = connection.interest
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            peer.send(b"a" * 65536)
        changed = connection.advance()
        assert changed == (connection.interest != before)
        if changed:
            changes.append(connection.interest)
        if connection.interest == WRITE:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            with contextlib.suppress(BlockingIOError):
                peer.recv(65536)
    assert changes[0] & WRITE
    assert changes[-1] == 0


def test_one_read_takes_no_more_than_the_buffer(opened: Open) -> None:
    _, connection, peer = opened(buffer_size=3)
    peer.send(b"abcdefgh")
    advance_until(connection, lambda: connection.answers == 1)
    assert connection.received_bytes == 3


def test_who_sends_small_messages_is_read_from_in_small_pieces_until_one_is_large(opened: Open) -> None:
    _, connection, peer = opened()
    assert reads(connection, peer, b"small") == [5]
    assert reads(connection, peer, b"a" * 1000) == [SMALL_READ, 1000 - SMALL_READ]
    assert reads(connection, peer, b"a" * 1000) == [1000]
    assert reads(connection, peer, b"small") == [5]
    assert reads(connection, peer, b"a" * 1000) == [1000]


def test_a_first_message_that_is_large_is_read_at_once(opened: Open) -> None:
    _, connection, peer = opened()
    assert reads(connection, peer, b"a" * 1000) == [1000]


@pytest.mark.parametrize("work", [WorkDial(cpu_us=1), WorkDial(wait_ms=1)], ids=["to compute", "to wait"])
def test_no_message_is_cut_where_answers_take_their_time(opened: Open, work: WorkDial) -> None:
    _, connection, peer = opened(work=work)
    assert reads(connection, peer, b"small") == [5]
    assert reads(connection, peer, b"a" * 1000) == [1000]


def test_an_answer_that_takes_its_time_is_owed_meanwhile(opened: Open) -> None:
    server, first, peer = opened()
    seen = []

    def respond(data: bytes) -> bytes:
        seen.append((connection.received_bytes, connection.sent_bytes))
        return data.upper()

    connection = Connection(server, first.sock, respond)
    for _ in range(2):
        assert reads(connection, peer, b"hello") == [5]
    assert seen == [(5, 0), (10, 5)]
    assert connection.sent_bytes == 10


@pytest.mark.parametrize("messages", [1, 2], ids=["the first one", "a later one"])
def test_an_answer_that_its_peer_is_not_there_for_is_not_sent(opened: Open, messages: int) -> None:
    _, connection, peer = opened()
    for _ in range(messages - 1):
        assert reads(connection, peer, b"hello") == [5]
    peer.send(b"hello")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    # Read before the end is seen, which is what the answer meets.
    sock, connection.sock = connection.sock, Meanwhile(connection.sock, peer.close)  # type: ignore[assignment]
    end = time.monotonic() + DEADLINE
    while connection.interest:
        assert time.monotonic() < end
        connection.advance()
    connection.sock = sock
    assert isinstance(connection.error, (ConnectionResetError, BrokenPipeError))
    assert (connection.received_bytes, connection.sent_bytes) == (5 * messages, 5 * (messages - 1))


def test_what_the_socket_does_not_take_is_owed_and_comes_in_order(opened: Open) -> None:
    _, connection, peer = opened(high_water=1_000_000)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stream = bytes(range(256)) * 4000
    sent = 0
    got = bytearray()
    end = time.monotonic() + DEADLINE
    owed = False
    while len(got) < len(stream):
        assert time.monotonic() < end
        with contextlib.suppress(BlockingIOError):
            sent += peer.send(stream[sent : sent + 65536])
        connection.advance()
        owed = owed or bool(connection.interest & WRITE)
        # Nothing is read until the server has come to owe something.
        if owed:
            with contextlib.suppress(BlockingIOError):
                got += peer.recv(65536)
    assert bytes(got) == stream.upper()
    assert connection.interest == READ


def test_above_high_water_nothing_more_is_read_until_the_peer_reads(opened: Open) -> None:
    high_water, buffer_size = 100_000, 10_000
    _, connection, peer = opened(high_water=high_water, buffer_size=buffer_size)
    received = flood(connection, peer, 64 * 1024 * 1024)
    assert connection.interest == WRITE
    assert received - connection.sent_bytes <= high_water + buffer_size
    assert not connection.interest & READ
    before = connection.received_bytes
    assert not connection.advance()
    assert connection.received_bytes == before
    read_all(peer, connection, received)
    advance_until(connection, lambda: bool(connection.interest & READ))


def test_the_peers_end_waits_for_what_is_owed(opened: Open) -> None:
    _, connection, peer = opened()
    flood(connection, peer, 64 * 1024 * 1024)
    peer.shutdown(socket.SHUT_WR)
    got = 0
    end = time.monotonic() + DEADLINE
    while True:
        assert time.monotonic() < end
        with contextlib.suppress(BlockingIOError):
            got += len(peer.recv(65536))
        connection.advance()
        if not connection.interest:
            break
    connection.close()
    peer.setblocking(True)
    while data := peer.recv(65536):
        got += len(data)
    assert got == connection.received_bytes


def test_a_peer_that_resets_is_over_with_its_reason(opened: Open) -> None:
    server, connection, peer = opened()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    end = time.monotonic() + DEADLINE
    while connection.interest:
        connection.advance()
        assert time.monotonic() < end
    connection.close()
    assert isinstance(connection.error, ConnectionResetError)
    assert (server.totals().lost, server.open_count()) == (1, 0)


def test_a_closed_descriptor_is_a_bug_and_not_a_peers_fault(opened: Open) -> None:
    _, connection, _ = opened()
    connection.sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        connection.advance()


def test_silence_is_measured_from_the_look_that_saw_the_last_byte(opened: Open) -> None:
    _, connection, peer = opened(idle_seconds=10)
    assert not connection.is_idle(100.0)
    assert not connection.is_idle(109.9)
    peer.send(b"a")
    advance_until(connection, lambda: connection.answers == 1)
    assert not connection.is_idle(110.0)
    assert not connection.is_idle(119.9)
    assert connection.is_idle(120.0)


def test_a_byte_that_the_peer_takes_out_of_the_kernel_has_moved(opened: Open) -> None:
    _, connection, peer = opened(idle_seconds=10, high_water=1)
    received = flood(connection, peer, 64 * 1024 * 1024)
    assert not connection.is_idle(100.0)
    stuck = unacknowledged(connection.sock)
    assert stuck
    end = time.monotonic() + DEADLINE
    taken = 0
    while unacknowledged(connection.sock) >= stuck and taken < received:
        assert time.monotonic() < end
        with contextlib.suppress(BlockingIOError):
            taken += len(peer.recv(65536))
    assert not connection.is_idle(110.0), "the peer acknowledged something"


def test_the_drain_waits_for_quiet_then_sends_its_end_and_throws_away_what_still_comes(opened: Open) -> None:
    server, connection, peer = opened(drain_quiet_seconds=5)
    server.stop.request()
    now = server.stop.requested_at
    assert connection.drain(now)
    assert connection.drain(now + 4.9)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    peer.send(b"late")
    advance_until(connection, lambda: connection.answers == 1)
    assert read_all(peer, connection, 4) == b"LATE"
    assert connection.drain(now + 6)
    assert connection.drain(now + 10.9), "five seconds from the last byte are not over"
    connection.drain(now + 11)
    peer.settimeout(DEADLINE)
    assert peer.recv(1) == b""
    peer.send(b"too late")
    end = time.monotonic() + DEADLINE
    while connection.drain(now + 12):
        assert time.monotonic() < end
    assert connection.answers == 1


def test_what_comes_after_the_farewell_is_counted_and_not_answered(opened: Open) -> None:
    server, connection, peer = opened(drain_quiet_seconds=0)
    assert reads(connection, peer, b"in time") == [7]
    server.stop.request()
    connection.drain(server.stop.requested_at)
    connection.drain(server.stop.requested_at + 1)
    peer.send(b"too late")
    end = time.monotonic() + DEADLINE
    while connection.received_bytes == 7:
        assert time.monotonic() < end
        connection.advance()
    assert (connection.received_bytes, connection.sent_bytes, connection.answers) == (15, 7, 1)
    assert (connection.interest, connection.error) == (READ, None)


def test_a_byte_that_waits_unread_is_no_quiet_however_long_the_server_was_busy(opened: Open) -> None:
    server, connection, peer = opened(drain_quiet_seconds=5)
    server.stop.request()
    now = server.stop.requested_at
    assert connection.drain(now)
    peer.send(b"came in time")
    end = time.monotonic() + DEADLINE
    while nothing_came(connection.sock):
        assert time.monotonic() < end
    assert connection.drain(now + 60)
    advance_until(connection, lambda: connection.answers == 1)
    assert read_all(peer, connection, 12) == b"CAME IN TIME"


def test_a_farewell_is_over_when_the_peer_is_gone(opened: Open) -> None:
    _, connection, peer = opened()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    end = time.monotonic() + DEADLINE
    while not finished(connection.sock):
        assert time.monotonic() < end
