"""docs/contract.md: the server sends back what it receives, in order, a-z made A-Z, and ends when the client has."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support.clients import flood_all
from tests.support.models import as_process
from tests.support.server import RunningServer

MEBIBYTE = 1024 * 1024
# IAC WILL ECHO, IAC DO SUPPRESS-GO-AHEAD, IAC SB … IAC SE, and a doubled IAC: what a telnet client may send.
TELNET = b"\xff\xfb\x01\xff\xfd\x03\xff\xfa\x18\x00xterm\xff\xf0\xff\xff\r\n\x00"


@pytest.mark.parametrize(
    ("sent", "due"),
    [
        pytest.param(payload.ALL_BYTES, payload.answer(payload.ALL_BYTES), id="all 256 bytes"),
        pytest.param("grüße, žluťoučký kůň, 漢字, ß".encode(), "GRüßE, žLUťOUčKý Kůň, 漢字, ß".encode(), id="UTF-8"),
        pytest.param(TELNET, TELNET.replace(b"xterm", b"XTERM"), id="telnet"),
        pytest.param(b"\x00" * 70_000, b"\x00" * 70_000, id="zeros"),
    ],
)
def test_every_byte_comes_back_and_only_a_to_z_are_changed(server: RunningServer, sent: bytes, due: bytes) -> None:
    assert peers.exchange(server.connect(), sent) == due


def test_there_is_no_banner_and_no_prompt(server: RunningServer) -> None:
    client = server.connect()

    assert peers.ask(client, b"a") == b"A"
    assert peers.exchange(client, b"bc") == b"BC"


def test_a_message_is_answered_without_waiting_for_more(server: RunningServer) -> None:
    client = server.connect()

    for message in (b"a", b"no newline", b"one\n", b"x" * 3000):
        assert peers.ask(client, message) == message.upper()


def test_a_long_stream_comes_back_in_order(server: RunningServer) -> None:
    stream = payload.make(8 * MEBIBYTE)

    assert payload.difference(peers.exchange(server.connect(), stream), payload.answer(stream)) is None


def test_a_stream_of_single_bytes_comes_back_in_order(server: RunningServer) -> None:
    stream = payload.make(300)

    assert peers.drip(server.connect(), stream) == payload.answer(stream)


def test_a_byte_that_was_sent_as_urgent_stays_in_the_stream(server: RunningServer) -> None:
    client = server.connect()
    client.sendall(b"abc")
    client.send(b"x", socket.MSG_OOB)
    client.sendall(b"def")
    assert peers.read_exactly(client, 7) == b"ABCXDEF"

    # Nothing but the urgent byte says that there is something to read.
    for _ in range(3):
        client.send(b"y", socket.MSG_OOB)
        assert peers.read_exactly(client, 1) == b"Y"
    assert peers.exchange(client, b"still here") == b"STILL HERE"


def test_clients_at_the_same_time_each_get_their_own_answers(server: RunningServer) -> None:
    streams = [payload.make(MEBIBYTE // 2, seed) for seed in range(12)]

    answers = peers.exchange_all(server.connect_many(len(streams)), streams)

    assert [payload.difference(got, payload.answer(sent)) for sent, got in zip(streams, answers, strict=True)] == [
        None
    ] * 12


def test_a_client_that_half_closes_gets_its_answer_and_then_the_end(server: RunningServer) -> None:
    client = server.connect()
    client.sendall(b"hi")
    peers.half_close(client)

    assert peers.read_to_end(client) == b"HI"


def test_a_client_that_half_closes_while_its_answer_is_made_gets_it(share: Callable[..., RunningServer]) -> None:
    client = share(work={"wait_ms": 300}).connect()
    # The server waits for this client, and not for its first bytes.
    assert peers.ask(client, b"here") == b"HERE"
    client.sendall(b"patience")
    peers.half_close(client)

    assert peers.read_to_end(client) == b"PATIENCE"


def test_a_client_that_half_closes_without_a_word_gets_the_end(server: RunningServer) -> None:
    client = server.connect()
    peers.half_close(client)

    assert peers.read_to_end(client) == b""


@as_process
@pytest.mark.parametrize(
    "high_water",
    [
        pytest.param(131072, id="the end comes behind what the server does not read yet"),
        pytest.param(64 * MEBIBYTE, id="the end is read long before all is sent"),
    ],
)
def test_a_client_that_half_closes_while_much_is_owed_gets_all_of_it_however_late_it_reads(
    share: Callable[..., RunningServer], high_water: int
) -> None:
    server = share(high_water=high_water)
    stream = payload.make(16 * MEBIBYTE)
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    # It has begun: what its first answer takes is no silence.
    assert peers.ask(client, b"a") == b"A"
    taken = flood_all([client], stream)
    peers.half_close(client)
    # It still owes everything to this client.
    assert server.metric("connections_open") == 1

    assert payload.difference(peers.read_to_end(client), payload.answer(stream[:taken])) is None


def test_the_books_count_connections_answers_and_bytes(server: RunningServer) -> None:
    names = ("connections_accepted_total", "received_bytes_total", "sent_bytes_total", "answers_total")
    before = {name: server.metric(name) for name in names}
    with connect(server.address) as client:
        peers.drip(client, b"hello")
    server.becomes("connections_open", 0)

    assert {name: server.metric(name) - before[name] for name in names} == {
        "connections_accepted_total": 1,
        "received_bytes_total": 5,
        "sent_bytes_total": 5,
        "answers_total": 5,
    }
