"""What every model is given: limits, pauses, the clock and the books."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from iolab.configs import override
from iolab.processes.child import ChildServer, SharedPlaces
from iolab.processes.messages import MESSAGE_BYTES, Trouble
from iolab.registry import MODELS
from iolab.server.admission import ACCEPTS_A_TURN
from iolab.server.books import Peer, Silence
from iolab.server.listener import accept_queue, listen, listen_together, set_options
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import FD_SETSIZE, SELECT_LIMIT, Settings


class Counted(Peer):
    """A peer that is told its numbers."""

    sent_bytes = 0


class Listener:
    """A listener whose accept(2) fails, or yields, as it is told."""

    def __init__(self, *results: int | socket.socket) -> None:
        self.results = list(results)
        self.asked = 0

    def fileno(self) -> int:
        return 3

    def accept(self) -> tuple[socket.socket, None]:
        self.asked += 1
        if not self.results:
            raise BlockingIOError
        result = self.results.pop(0)
        if isinstance(result, int):
            raise OSError(result, "as told")
        return result, None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the server sees, to be set by the test."""
    now = [1000.0]
    monkeypatch.setattr("iolab.server.server.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen(override(Settings(backlog=5), port=0)) as sock:
        yield sock


def a_server(listener: socket.socket, slug: str = "epoll_loop", accepts: Any = None, **settings: Any) -> Server:
    server = Server(MODELS[slug], Settings(**settings), listener, Stop())
    if accepts is not None:
        server.admission._listener = accepts
    return server


def a_socket() -> socket.socket:
    return socket.socket()


def test_out_of_capacity_accepting_pauses_instead_of_asking_again(listener: socket.socket, clock: list[float]) -> None:
    for error in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        fake = Listener(error)
        server = a_server(listener, accepts=fake)
        assert list(server.admission.accept_some()) == []
        assert list(server.admission.accept_some()) == []
        assert fake.asked == 1
        assert server.timeout() == pytest.approx(0.1)
        clock[0] += 0.05
        assert not server.admission.resumed()
        clock[0] += 0.06
        assert server.admission.resumed()
        assert not server.admission.resumed()
        assert server.totals().pauses == 1
        assert server.timeout() is None


def test_a_client_that_left_before_it_was_accepted_is_passed_over(listener: socket.socket) -> None:
    with a_socket() as sock:
        fake = Listener(errno.ECONNABORTED, errno.EPROTO, sock)
        assert list(a_server(listener, accepts=fake).admission.accept_some()) == [sock]


def test_an_error_that_is_a_bug_is_not_hidden(listener: socket.socket) -> None:
    with pytest.raises(OSError, match="as told"):
        next(a_server(listener, accepts=Listener(errno.EINVAL)).admission.accept_some())


def test_one_more_than_max_connections_is_closed_at_once_and_counted(listener: socket.socket) -> None:
    first, second, third = a_socket(), a_socket(), a_socket()
    server = a_server(listener, accepts=Listener(first, second, third), max_connections=1)
    assert next(server.admission.accept_some()) is first
    peer = Counted(first)
    server.books.opened(peer)
    assert list(server.admission.accept_some()) == []
    assert second.fileno() == third.fileno() == -1
    assert server.totals().refused == 2
    server.books.closed(peer)
    with a_socket() as sock:
        server.admission._listener = Listener(sock)  # type: ignore[assignment]
        assert list(server.admission.accept_some()) == [sock]
    first.close()


@pytest.mark.parametrize("room", [1, 40])
def test_a_turn_accepts_or_refuses_so_many_and_leaves_the_rest_to_the_next(listener: socket.socket, room: int) -> None:
    crowd = [a_socket() for _ in range(40)]
    fake = Listener(*crowd)
    server = a_server(listener, accepts=fake, max_connections=room)
    for turn in (1, 2):
        for sock in server.admission.accept_some():
            server.books.opened(Counted(sock))
        assert fake.asked == turn * ACCEPTS_A_TURN
    assert server.open_count() == min(room, 2 * ACCEPTS_A_TURN)
    assert server.totals().refused == 2 * ACCEPTS_A_TURN - server.open_count()
    for sock in crowd:
        sock.close()


def test_at_the_stop_everyone_in_the_queue_is_accepted(listener: socket.socket) -> None:
    listener.setblocking(False)
    listener.listen(64)
    with contextlib.ExitStack() as stack:
        for _ in range(3 * ACCEPTS_A_TURN):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        server = a_server(listener)
        server.stop.request()
        assert len([stack.enter_context(sock) for sock in server.admission.accept_some()]) == 3 * ACCEPTS_A_TURN


def test_the_log_tells_of_trouble_once_a_second_at_most(
    listener: socket.socket, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("iolab.server.server.log.warning", lambda event, **_fields: lines.append(event))
    server = a_server(listener)
    for _ in range(30):
        server.admission.pause(OSError(errno.EMFILE, "Too many open files"))
        clock[0] += 0.1
    assert lines == ["out_of_capacity"] * 3


def test_one_kind_of_trouble_hides_no_other(
    listener: socket.socket, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("iolab.server.server.log.warning", lambda event, **_fields: lines.append(event))
    server = a_server(listener)
    for _ in range(20):
        server.warn("refused")
        server.warn("no_answer")
        clock[0] += 0.1
    assert lines == ["refused", "no_answer"] * 2


def test_a_child_tells_its_supervisor_of_each_kind_of_trouble(listener: socket.socket, clock: list[float]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        places = SharedPlaces(memoryview(bytearray(8)).cast("q"), 0)
        child = ChildServer(MODELS["prefork_epoll"], Settings(), listener, theirs, places)
        for _ in range(10):
            child.warn("refused")
            child.warn("out_of_capacity")
        told = [msgspec.json.decode(ours.recv(MESSAGE_BYTES), type=Trouble).event for _ in range(2)]
        assert told == ["refused", "out_of_capacity"]
        with pytest.raises(BlockingIOError):
            ours.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)


def test_the_stop_keeps_the_listener_open_while_a_pause_keeps_clients_in_its_queue(
    listener: socket.socket, clock: list[float]
) -> None:
    server = a_server(listener)
    listener.setblocking(False)
    server.admission.pause(OSError(errno.EMFILE, "Too many open files"))
    assert not server.admission.close_listener()
    clock[0] += 1
    assert list(server.admission.accept_some()) == []
    assert server.admission.close_listener()
    assert listener.fileno() == -1
    assert list(server.admission.accept_some()) == []


def test_idle_connections_are_looked_for_ten_times_in_idle_seconds(listener: socket.socket, clock: list[float]) -> None:
    server = a_server(listener, idle_seconds=5)
    assert server.timeout() == pytest.approx(0.5)
    assert not server.sweep.is_due()
    clock[0] += 0.5
    assert server.timeout() == 0
    assert server.sweep.is_due()
    assert not server.sweep.is_due()


def test_a_turn_in_which_the_server_was_busy_counts_as_two_looks_at_most(
    listener: socket.socket, clock: list[float]
) -> None:
    server = a_server(listener, idle_seconds=5)
    begin = server.sweep.clock()
    clock[0] += 0.5
    assert server.sweep.clock() - begin == pytest.approx(0.5)
    clock[0] += 60
    assert server.sweep.clock() - begin == pytest.approx(0.5 + 1.0)


def test_two_who_look_at_one_silence_each_have_a_memory_of_their_own() -> None:
    one, other = Silence(), Silence()
    assert (one.seconds(100, 7), other.seconds(101, 8)) == (0, 0)
    assert (one.seconds(105, 7), other.seconds(105, 8)) == (5, 4)
    one.end()
    assert (one.seconds(106, 7), other.seconds(106, 8)) == (0, 5)


def test_what_befell_a_peer_that_this_side_had_ended_is_no_loss(listener: socket.socket) -> None:
    server = a_server(listener)
    with a_socket() as sock:
        for finishing, lost in ((True, 0), (False, 1)):
            peer = Counted(sock)
            server.books.opened(peer)
            peer.finishing, peer.error = finishing, BrokenPipeError()
            server.books.closed(peer)
            assert server.totals().lost == lost


def test_the_books_hold_open_and_closed_connections(listener: socket.socket) -> None:
    server = a_server(listener)
    with a_socket() as one, a_socket() as two:
        first, second = Counted(one), Counted(two)
        server.books.opened(first)
        server.books.opened(second)
        first.answers, first.received_bytes, first.sent_bytes = 2, 20, 18
        second.answers, second.received_bytes, second.sent_bytes = 1, 5, 5
        before = server.totals()
        assert (before.answers, before.received_bytes, before.sent_bytes) == (3, 25, 23)
        second.error = ConnectionResetError()
        server.books.closed(second)
        after = server.totals()
        assert (after.answers, after.lost, server.open_count()) == (3, 1, 1)
        server.books.turn_away(first)
        assert (server.totals().unserved, server.open_count(), one.fileno()) == (1, 0, -1)


class Numbered(socket.socket):
    """A socket that says it is the descriptor of that number."""

    number = 0

    def fileno(self) -> int:
        return self.number


@pytest.mark.parametrize(
    ("slug", "number", "stays"),
    [
        ("select_loop", FD_SETSIZE - 1, True),
        ("select_loop", FD_SETSIZE, False),
        ("poll_loop", FD_SETSIZE, True),
    ],
)
def test_select_refuses_by_the_descriptors_number_however_few_are_open(
    listener: socket.socket, slug: str, number: int, stays: bool
) -> None:
    server = a_server(listener, slug)
    with Numbered() as sock:
        sock.number = number
        assert server.admission.admitted(sock) is stays
    assert server.totals().refused == (0 if stays else 1)


def test_accepted_sockets_inherit_what_finds_a_peer_that_vanished(listener: socket.socket) -> None:
    set_options(listener, Settings(keepalive_seconds=40))
    with socket.create_connection(listener.getsockname()):
        sock, _ = listener.accept()
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 40
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 80_000


def test_the_limits_are_the_kernels(listener: socket.socket) -> None:
    limits = a_server(listener).limits
    assert limits.backlog == 5
    assert limits.receive_buffer_bytes == listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert limits.max_connections == limits.descriptors - 64
    assert a_server(listener, "select_loop").limits.max_connections == min(SELECT_LIMIT, limits.max_connections)
    assert a_server(listener, max_connections=7).limits.max_connections == 7


def test_listeners_on_one_port_share_its_clients_and_let_no_second_server_in() -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(sock) for sock in listen_together(override(Settings(), port=0), 3)]
        address = listeners[0].getsockname()
        assert {sock.getsockname() for sock in listeners} == {address}
        for _ in range(60):
            stack.enter_context(socket.create_connection(address))
        queues = [accept_queue(sock) for sock in listeners]
        assert sum(queues) == 60
        assert min(queues) > 0
        with pytest.raises(OSError, match="Address already in use"):
            listen_together(override(Settings(), port=address[1]), 3)


def test_the_accept_queue_is_the_kernels(listener: socket.socket) -> None:
    assert accept_queue(listener) == 0
    with socket.create_connection(listener.getsockname()), socket.create_connection(listener.getsockname()):
        assert accept_queue(listener) == 2
    listener.close()
    assert accept_queue(listener) == 0


def test_the_fields_of_tcp_info_are_where_they_are_looked_for(listener: socket.socket) -> None:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    assert struct.unpack_from("II", info, 24) == (0, 5)
