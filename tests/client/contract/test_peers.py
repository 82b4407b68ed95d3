"""The peers do what they say, and never wait for ever."""

from __future__ import annotations

import select
import socket
import time

import pytest

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.client import fakes
from tests.client.fakes import serving
from tests.support.misbehave import misbehaving


def test_the_payload_of_a_seed_is_always_the_same_and_no_other_seeds() -> None:
    assert payload.make(1000, seed=1) == payload.make(1000, seed=1) != payload.make(1000, seed=2)


def test_the_answer_is_due_as_the_contract_says() -> None:
    assert payload.answer("größer az{`".encode()) == "GRößER AZ{`".encode()
    changed = [byte for byte in range(256) if payload.answer(payload.ALL_BYTES)[byte] != byte]
    assert bytes(changed) == b"abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (b"ABC", None),
        (b"AXC", "byte 1 of 3 is 0x58, expected 0x42"),
        (b"A", "ended after 1 of 3 bytes"),
        (b"ABCD", "1 bytes more than the 3 expected"),
    ],
)
def test_a_difference_is_told_by_its_first_place(got: bytes, said: str | None) -> None:
    assert payload.difference(got, b"ABC") == said


def test_an_exchange_larger_than_every_buffer_does_not_block() -> None:
    data = payload.make(16 * 1024 * 1024)
    with serving(fakes.honest) as fake, connect(fake.address) as peer:
        assert peers.exchange(peer, data) == payload.answer(data)


def test_exchanges_with_many_peers_run_at_the_same_time() -> None:
    data = [payload.make(100_000, seed=seed) for seed in range(3)]
    with serving(fakes.honest) as fake, peers.silent(fake.address, 3) as clients:
        assert peers.exchange_all(clients, data) == [payload.answer(sent) for sent in data]


def test_an_ask_leaves_the_connection_open() -> None:
    with serving(fakes.honest) as fake, connect(fake.address) as peer:
        assert peers.ask(peer, b"one") == b"ONE"
        assert peers.ask(peer, b"") == b""
        assert peers.ask(peer, b"two") == b"TWO"


def test_a_half_close_after_a_reset_tells_of_the_reset() -> None:
    with misbehaving("banner !; wait 50ms; reset") as fake, connect(fake.address) as peer:
        # Broken before the half-close, and not yet told.
        poll = select.poll()
        poll.register(peer, 0)
        assert poll.poll(10_000)
        with pytest.raises(ConnectionResetError, match="reset"):
            peers.half_close(peer)


def test_a_drip_is_a_segment_for_each_byte() -> None:
    reads: list[int] = []

    def count(fake: fakes.Fake, sock: socket.socket) -> None:
        while data := sock.recv(100):
            reads.append(len(data))
            sock.sendall(data.upper())

    with serving(count) as fake, connect(fake.address) as peer:
        assert peers.drip(peer, b"drop") == b"DROP"
    assert reads == [1, 1, 1, 1]


def test_a_slow_reader_gets_everything_in_the_end() -> None:
    data = payload.make(2 * 1024 * 1024)
    with serving(fakes.honest) as fake:
        assert peers.slow_reader(fake.address, data, quiet_seconds=0.05) == payload.answer(data)


def test_a_flood_ends_when_nothing_more_is_taken() -> None:
    with serving(fakes.honest) as fake, connect(fake.address, receive_buffer_bytes=4096) as peer:
        assert 0 < peers.flood(peer, bytes(256 * 1024 * 1024), quiet_seconds=0.1) < 256 * 1024 * 1024


def test_a_reset_is_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = connect(listener.getsockname())
        sock, _ = listener.accept()
        with sock:
            peers.reset(peer)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


@pytest.mark.parametrize(
    "act",
    [
        lambda peer: peers.ask(peer, b"hi", deadline_seconds=0.05),
        lambda peer: peers.exchange(peer, b"hi", deadline_seconds=0.05),
        lambda peer: peers.drip(peer, b"hi", deadline_seconds=0.05),
        lambda peer: peers.read_exactly(peer, 2, deadline_seconds=0.05),
        lambda peer: peers.read_to_end(peer, deadline_seconds=0.05),
    ],
)
def test_a_server_that_says_nothing_costs_the_deadline_and_no_more(act: object) -> None:
    assert callable(act)
    with socket.create_server(("127.0.0.1", 0)) as listener, connect(listener.getsockname()) as peer:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            act(peer)
        assert time.monotonic() - started < 5


def test_a_server_that_closes_early_leaves_a_short_answer() -> None:
    def one_byte(fake: fakes.Fake, sock: socket.socket) -> None:
        sock.sendall(sock.recv(4)[:1])

    with serving(one_byte) as fake, connect(fake.address) as peer:
        assert peers.read_exactly(peer, 0) == b""
        assert peers.ask(peer, b"abcd") == b"a"
