"""The harness finds its connections among others, and waits for what is slow; its address is its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iolab_client.path import clauses
from iolab_client.path.ends import Fault, Way, carry, letters, letters_at
from iolab_client.path.harness import Back, CannotListen, Harness, Patience
from tests.client.path.proxies import Proxy, Relay, between

WORD = letters(64)


@pytest.fixture
def back() -> Iterator[Back]:
    """Where the paths lead to."""
    found = Back("127.0.0.1", 0)
    yield found
    found.close()


class ComesWithStrangers(Proxy):
    """Before each connection there are two of its own: one that says something, and one that only looks."""

    def serve(self, client: socket.socket) -> None:
        for said in (b"HEAD / HTTP/1.0\r\n\r\n", b""):
            with socket.create_connection(self.back) as stranger:
                stranger.sendall(said)
        super().serve(client)


class ComesInTurn(Proxy):
    """The last one that came is led on first."""

    def accept(self) -> None:
        waiting = [self.listener.accept()[0] for _ in range(3)]
        for client in reversed(waiting):
            self.serve_later(client)

    def serve_later(self, client: socket.socket) -> None:
        threading.Thread(target=self.serve, args=(client,), daemon=True).start()
        time.sleep(0.05)


class InPieces(Relay):
    """What is said arrives a few bytes at a time."""

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        for start in range(0, len(data), 5):
            sink.sendall(data[start : start + 5])
            time.sleep(0.01)


class Slow(Relay):
    """Each piece takes its time, and all together take longer than the deadline."""

    def carry(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        time.sleep(1)
        super().carry(source, sink, data)


@pytest.mark.parametrize(("fault", "count"), [(ComesWithStrangers, 2), (ComesInTurn, 3), (InPieces, 2)])
def test_each_client_is_joined_to_its_own_server(fault: type[Relay] | type[Proxy], count: int, back: Back) -> None:
    with between(back.address, fault) as front:
        opened = Harness(front, back, Patience(deadline_seconds=60)).open_many(count)
        for number, ends in enumerate(opened):
            for way in Way:
                carry(*ends.of(way), letters(64, number))
        for ends in opened:
            ends.client.close()
            ends.server.close()


def test_a_path_that_is_slow_is_not_broken(back: Back, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clauses, "BULK_BYTES", 8 << 16)
    deadline_seconds = 6.0
    with between(back.address, Slow) as front:
        started = time.monotonic()
        clauses.bulk(Harness(front, back, Patience(deadline_seconds=deadline_seconds)), Way.CLIENT_TO_SERVER)
        assert time.monotonic() - started > deadline_seconds


def test_the_address_is_kept_while_nobody_listens_there(back: Back) -> None:
    harness = Harness(back.address, back, Patience())
    with harness.refusing():
        with pytest.raises(Fault, match="refuses connections"):
            harness.connect()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(back.address)
    with harness.open() as ends:
        carry(ends.client, ends.server, WORD)


def test_two_harnesses_have_no_address_together(back: Back) -> None:
    with pytest.raises(CannotListen, match="is in use"):
        Back("127.0.0.1", back.address[1])


def test_a_flood_is_known_by_its_places() -> None:
    whole = b"".join(letters_at(place, 200_000) for place in range(0, 2_000_000, 200_000))
    assert len(whole) == 2_000_000
    assert whole[:1_000_003].isascii()
    for place in (0, 123, 999_999, 1_000_003, 1_100_000):
        assert letters_at(place, 1000) == whole[place : place + 1000]
    assert whole[: 1 << 18] not in whole[1:1_000_000]


def test_a_server_may_be_in_another_network_namespace(other_network: Path) -> None:
    # What is in use there is free here.
    with closing(Back("127.0.0.1", 0)) as here, closing(Back(*here.address, other_network)) as there:
        assert there.address == here.address
