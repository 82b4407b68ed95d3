"""Ring 1 for completions, of which a round may bring several for one connection."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from iolab.configs import override
from iolab.kernel import io_uring_probe
from iolab.kernel.io_uring import UNHEARD, Ring
from iolab.registry import MODELS
from iolab.server.listener import listen
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings, WorkDial
from iolab.sockets.completion import CompletionConnection, ring_for
from iolab_client.contract import peers
from tests.support.missing import skip


class Round:
    """A connection whose peer sends small messages, and what its ring brings."""

    def __init__(self, server: Server, ring: Ring, connection: CompletionConnection, peer: socket.socket) -> None:
        self.server = server
        self.ring = ring
        self.peer = peer
        self._connection = connection
        self._advance = connection.operations()
        # Of the first one its connection learns that they are small.
        assert self.ask(b"small") == b"SMALL"

    def ask(self, data: bytes) -> bytes:
        """Send, and have the server go round until all of the answer is there."""
        self.peer.sendall(data)
        return self.answer(len(data))

    def answer(self, size: int) -> bytes:
        """Have the server go round until so many bytes of answers are there."""
        got = bytearray()
        self.peer.settimeout(0)
        while len(got) < size:
            assert self.go_on([*self.ring.wait(0.01)])
            with contextlib.suppress(BlockingIOError):
                got += self.peer.recv(size - len(got))
        return bytes(got)

    def come(self) -> list[tuple[int, int, int]]:
        """What has come with the next round, not gone on with yet."""
        completions: list[tuple[int, int, int]] = []
        while not completions:
            completions += self.ring.wait(10)
        return completions

    def go_on(self, completions: list[tuple[int, int, int]]) -> bool:
        """Go on with them; whether the connection does after the last."""
        # A cancellation that found nothing is of no connection.
        mine = [one for one in completions if one[0] in self._advance]
        return [self._advance[operation](result, flags) for operation, result, flags in mine][-1] if mine else True

    def end(self) -> None:
        """Close it, when the kernel is done with it."""
        self._connection.cancel()
        while self.go_on(self.come()):
            pass
        self._connection.close()


@pytest.fixture
def a_round() -> Iterator[Round]:
    if reason := io_uring_probe.unavailable(Settings()):
        skip(reason)
    settings = Settings(port=8012)
    with ExitStack() as stack:
        listener = stack.enter_context(closing(listen(override(settings, port=0))))
        peer = stack.enter_context(socket.create_connection(listener.getsockname()))
        server = Server(MODELS["io_uring_ring"], settings, listener, Stop())
        sock = next(server.admission.accept_some())
        stack.enter_context(sock)
        ring = stack.enter_context(closing(ring_for(server)))
        yield Round(server, ring, CompletionConnection(server, sock, ring), peer)


def test_answers_of_one_round_are_sent_in_their_order_and_none_twice(a_round: Round) -> None:
    completions = []
    for data in (b"one", b"two", b"three"):
        a_round.peer.sendall(data)
        completions += a_round.come()
    assert a_round.go_on(completions)

    assert a_round.answer(11) == b"ONETWOTHREE"
    a_round.end()


@pytest.mark.parametrize("turned_back", [False, True])
def test_what_is_on_its_way_when_the_work_dial_is_turned_keeps_its_order(a_round: Round, turned_back: bool) -> None:
    completions = []
    for data in (b"one", b"two", b"three"):
        a_round.peer.sendall(data)
        completions += a_round.come()
    a_round.server.turn(WorkDial(wait_ms=20))
    assert a_round.go_on(completions[:1])
    if turned_back:
        a_round.server.turn(WorkDial())
    assert a_round.go_on(completions[1:])

    assert a_round.answer(11) == b"ONETWOTHREE"
    assert a_round.ask(b"later") == b"LATER"
    assert a_round.ask(b"large" * 1000) == b"LARGE" * 1000
    a_round.end()


def test_an_end_in_the_round_of_an_answer_is_not_the_connections_before_that_is_sent(a_round: Round) -> None:
    a_round.peer.sendall(b"last")
    completions = a_round.come()
    peers.half_close(a_round.peer)
    completions += a_round.come()
    assert [result for _, result, _ in completions] == [4, 0]
    assert a_round.go_on(completions)

    assert not a_round.go_on(a_round.come())
    assert peers.read_exactly(a_round.peer, 4) == b"LAST"


def test_an_error_in_the_round_of_an_answer_leaves_nothing_to_hand_over(a_round: Round) -> None:
    a_round.peer.sendall(b"last")
    completions = a_round.come()
    peers.reset(a_round.peer)
    completions += a_round.come()
    assert completions[-1][1] == -errno.ECONNRESET
    assert not a_round.go_on(completions)

    # But cancellations.
    assert {operation for operation, _, _ in a_round.ring.wait(0)} == {UNHEARD}


def test_after_a_message_that_fills_a_small_buffer_each_receive_is_asked_for(a_round: Round) -> None:
    size = a_round.ring.small_size
    a_round.peer.sendall(b"x" * size * 3)
    small = a_round.come()
    assert [result for _, result, _ in small] == [size] * 3
    assert a_round.go_on(small)
    assert a_round.answer(size * 3) == b"X" * size * 3

    assert a_round.ask(b"y" * size * 3) == b"Y" * size * 3
    assert a_round.ask(b"z") == b"Z"
    a_round.peer.sendall(b"y" * size * 3)
    assert [result for _, result, _ in a_round.come()] == [size * 3]
