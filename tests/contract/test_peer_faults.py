"""docs/contract.md: a peer's fault ends that peer's connection only, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support.clients import flood_all, vanish
from tests.support.models import as_process
from tests.support.server import RunningServer
from tests.support.waiting import eventually

pytestmark = as_process

Share = Callable[..., RunningServer]


def used(server: RunningServer) -> tuple[int, float]:
    """Its descriptors and threads."""
    return len(server.descriptors()), server.metric("process_threads")


def no_more(now: tuple[int, float], before: tuple[int, float]) -> bool:
    """Whether neither grew. Fewer there may be: the first look may have seen one that was being closed."""
    return now[0] <= before[0] and now[1] <= before[1]


def test_peers_that_reset_at_every_moment_leave_nobody_behind(server: RunningServer) -> None:
    peers.exchange(server.connect(), b"warm")
    server.becomes("connections_open", 0)
    before = used(server)
    lost = server.metric("connections_lost_total")

    for sent in (b"", b"a", payload.make(300_000)):
        for _ in range(5):
            client = connect(server.address, receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
            # The server may be gone from it before all is sent: then that much is sent.
            peers.flood(client, sent, quiet_seconds=0.05)
            peers.reset(client)
    # Those that the server has not accepted yet are not open either: it is the books that tell when all were there.
    server.becomes("connections_lost_total", lost + 15)
    server.becomes("connections_open", 0)

    eventually(lambda: no_more(used(server), before), f"descriptors and threads are {before} again")


def test_a_peer_that_closes_while_answers_are_on_their_way_is_forgotten(server: RunningServer) -> None:
    client = connect(server.address)
    client.sendall(payload.make(200_000))
    # Unread answers: this close sends RST.
    client.close()

    server.becomes("connections_open", 0)


def test_the_others_go_on_while_one_resets(server: RunningServer) -> None:
    others = server.connect_many(3)
    for other in others:
        peers.ask(other, b"before")
    for _ in range(3):
        client = connect(server.address)
        client.sendall(b"then reset")
        peers.reset(client)

        assert [peers.ask(other, b"still here") for other in others] == [b"STILL HERE"] * 3


def test_a_client_that_leaves_before_it_was_accepted_does_no_harm(server: RunningServer) -> None:
    server.suspend()
    for _ in range(3):
        peers.reset(connect(server.address))
        connect(server.address).close()
    server.resume()

    assert peers.exchange(server.connect(), b"next") == b"NEXT"
    server.becomes("connections_open", 0)


def test_a_peer_that_vanished_is_found_out(share: Share) -> None:
    """One is silent, so that only keepalive probes tell; one is owed answers that nobody acknowledges."""
    server = share(keepalive_seconds=1)
    silent, owed = server.connect_many(2)
    for client in (silent, owed):
        assert peers.ask(client, b"here") == b"HERE"
        vanish(client)
    flood_all([owed], payload.make(100_000))
    stays = server.connect()
    assert peers.ask(stays, b"here") == b"HERE"
    lost = server.metric("connections_lost_total")

    server.becomes("connections_open", 1)
    assert server.metric("connections_lost_total") - lost == 2
    assert peers.ask(stays, b"still here") == b"STILL HERE"


def test_accepted_connections_are_probed_after_a_minute(server: RunningServer) -> None:
    client = server.connect()
    assert peers.ask(client, b"a") == b"A"

    # The timer column of proc(5)'s /proc/net/tcp: 02 is keepalive; then hundredths of a second until it fires.
    rows = [line.split() for line in server.beside("sh", "-c", "cat /proc/net/tcp*").splitlines()]
    port = f":{client.getsockname()[1]:04X}"
    (row,) = [row for row in rows if row[2].endswith(port) and row[1].endswith(f":{server.address[1]:04X}")]
    timer, _, hundredths = row[5].partition(":")
    assert timer == "02"
    assert 5000 < int(hundredths, 16) <= 6000
