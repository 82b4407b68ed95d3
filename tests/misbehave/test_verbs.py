"""Each verb, as a raw socket sees it."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.misbehave import misbehaving
from tests.support.waiting import eventually

# A wait that a machine cannot be taken for, and one that is waited for in vain.
WAIT_SECONDS = 0.3
IN_VAIN_SECONDS = 0.3
RESET = "reset"


def talk(script: str, *messages: bytes, message_bytes: int | None = None, seed: int | None = None) -> list[bytes | str]:
    """What comes for each message, which is sent when the one before is answered; then what comes after our FIN."""
    with misbehaving(script, message_bytes=message_bytes, seed=seed) as server:
        return conversation(server.address, *messages)


def conversation(address: tuple[str, int], *messages: bytes) -> list[bytes | str]:
    came: list[bytes | str] = []
    with connect(address) as peer:
        try:
            for message in messages:
                peer.sendall(message)
                if not (data := peer.recv(4096)):
                    return [*came, b""]
                came.append(data)
            peers.half_close(peer)
            came.append(peers.read_to_end(peer))
        except ConnectionError:
            came.append(RESET)
    return came


def test_what_no_script_says_is_honest() -> None:
    every = bytes(range(256))
    assert talk("answer", every, b"more") == [every.upper(), b"MORE", b""]
    assert talk("answer 1", b"one", b"two", b"three") == [b"ONE", b"TWO", b"THREE", b""]
    assert talk("wait 1ms", b"one", b"two") == [b"ONE", b"TWO", b""]


def test_answer_counts_messages_by_their_size_whatever_one_read_takes() -> None:
    with misbehaving("answer 2; reset", message_bytes=4) as server, connect(server.address) as peer:
        for byte in b"abcdefg":
            assert peers.ask(peer, bytes([byte])) == bytes([byte]).upper()
        peer.sendall(b"h")
        # The answer may come before the RST, or be lost to it.
        with pytest.raises(ConnectionResetError):
            peers.read_to_end(peer)


def test_ignore_reads_and_answers_nothing() -> None:
    with misbehaving("ignore 2", message_bytes=3) as server, connect(server.address) as peer:
        peer.sendall(b"onetwothree")
        assert peers.read_exactly(peer, 5) == b"THREE"


def test_wait_lets_the_time_pass() -> None:
    with misbehaving(f"wait {WAIT_SECONDS}s; answer") as server, connect(server.address) as peer:
        began = time.monotonic()
        assert peers.ask(peer, b"a") == b"A"
        assert time.monotonic() - began >= 0.9 * WAIT_SECONDS


def test_drip_sends_pieces_with_a_wait_before_each() -> None:
    with misbehaving("drip 2 every 100ms", message_bytes=5) as server, connect(server.address) as peer:
        began = time.monotonic()
        peer.sendall(b"abcde")
        assert peers.read_exactly(peer, 2) == b"AB"
        assert peers.read_exactly(peer, 3) == b"CDE"
        assert time.monotonic() - began >= 0.27
        assert peers.ask(peer, b"after") == b"AFTER"


@pytest.mark.parametrize("message_bytes", [None, 6])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_corrupt_changes_one_bit_of_one_byte(at: int, message_bytes: int | None) -> None:
    with misbehaving(f"corrupt {at}", message_bytes=message_bytes) as server, connect(server.address) as peer:
        got = peers.ask(peer, b"abcdef")
        wrong = [place for place in range(6) if got[place] != b"ABCDEF"[place]]
        assert wrong == [at]
        assert (got[at] ^ b"ABCDEF"[at]).bit_count() == 1
        assert peers.ask(peer, b"after") == b"AFTER"


def test_double_sends_an_answer_twice() -> None:
    with misbehaving("double", message_bytes=3) as server, connect(server.address) as peer:
        assert peers.exchange(peer, b"abcdef") == b"ABCABCDEF"


def test_swap_sends_the_second_answer_first() -> None:
    with misbehaving("swap", message_bytes=2) as server, connect(server.address) as peer:
        assert peers.exchange(peer, b"abcdef") == b"CDABEF"
    # Without a size, whatever one read takes is a message.
    with misbehaving("swap") as server, connect(server.address) as peer:
        peer.sendall(b"one")
        assert not heard(peer)
        peer.sendall(b"two")
        assert peers.read_exactly(peer, 6) == b"TWOONE"


@pytest.mark.parametrize("message_bytes", [None, 8])
def test_cut_sends_a_part_and_fin(message_bytes: int | None) -> None:
    with misbehaving("cut 3", message_bytes=message_bytes) as server, connect(server.address) as peer:
        peer.sendall(b"message!")
        assert peers.read_to_end(peer) == b"MES"


def test_fin_goes_on_reading() -> None:
    with misbehaving("answer 1; fin") as server, connect(server.address) as peer:
        assert peers.ask(peer, b"a") == b"A"
        assert peer.recv(1) == b""
        # More than the kernel holds, so that somebody must have read it, and no RST for an answer.
        assert peers.flood(peer, bytes(16 << 20)) == 16 << 20
        peers.half_close(peer)
        assert peer.recv(1) == b""


def test_reset_sends_rst_and_close_sends_fin() -> None:
    assert talk("answer 1; ignore; reset", b"a", b"b") == [b"A", RESET]
    assert talk("answer 1; ignore; close", b"a", b"b") == [b"A", b""]
    with misbehaving("close") as server, connect(server.address) as peer:
        assert peers.read_to_end(peer) == b""
    with (
        misbehaving("reset") as server,
        pytest.raises(ConnectionResetError),
        connect(server.address) as peer,
    ):
        peers.read_to_end(peer)


def test_after_close_whatever_is_sent_is_answered_with_rst() -> None:
    with misbehaving("close") as server, connect(server.address) as peer:
        assert peer.recv(1) == b""

        def breaks() -> bool:
            try:
                return not peer.send(b"x")
            except OSError:
                return True

        assert eventually(breaks, "the connection breaks")


def test_never_accept_leaves_it_and_all_others_in_the_queue() -> None:
    with misbehaving("answer | never-accept") as server, connect(server.address) as first:
        assert peers.ask(first, b"a") == b"A"
        with connect(server.address) as second, connect(server.address) as third:
            second.sendall(b"b")
            third.sendall(b"c")
            assert not heard(second, third)
            assert peers.ask(first, b"a") == b"A"
            server.scripts.receive("/script", b"answer")
            assert peers.read_exactly(second, 1) == b"B"
            assert peers.read_exactly(third, 1) == b"C"


def test_never_read_takes_what_the_kernel_holds() -> None:
    with misbehaving("answer 1; never-read") as server, connect(server.address) as peer:
        assert peers.ask(peer, b"a") == b"A"
        data = bytes(64 << 20)
        assert 0 < peers.flood(peer, data) < len(data)
        peers.half_close(peer)
        assert not heard(peer)


def test_never_answer_takes_everything_and_closes_behind_our_fin() -> None:
    with misbehaving("never-answer") as server, connect(server.address) as peer:
        assert peers.flood(peer, bytes(16 << 20)) == 16 << 20
        assert not heard(peer)
        assert peers.exchange(peer, b"") == b""


def test_a_banner_comes_before_anybody_has_asked() -> None:
    with misbehaving(r'banner "220 ready\r\n"; answer') as server, connect(server.address) as peer:
        assert peers.read_exactly(peer, 11) == b"220 ready\r\n"
        assert peers.ask(peer, b"helo") == b"HELO"
    assert talk("answer; banner bye", b"a") == [b"A", b"bye"]


def test_repeat_begins_anew_until_our_fin() -> None:
    assert talk("answer 1; double; repeat", b"a", b"b", b"c", b"d") == [b"A", b"BB", b"C", b"DD", b""]


def test_scripts_go_in_turn() -> None:
    with misbehaving("double | answer | close") as server:
        for _ in range(2):
            assert conversation(server.address, b"a") == [b"AA", b""]
            assert conversation(server.address, b"a") == [b"A", b""]
            assert conversation(server.address) in ([b""], [RESET])


def test_a_client_that_leaves_in_place_of_a_message_is_closed_as_it_is_owed() -> None:
    assert talk("answer 5; reset", b"a", b"b") == [b"A", b"B", b""]
    with misbehaving("double", message_bytes=4) as server, connect(server.address) as peer:
        assert peers.exchange(peer, b"ab") == b"ABAB"


def test_the_same_seed_does_the_same() -> None:
    def drawn(seed: int) -> list[list[bytes | str]]:
        with misbehaving("50%: double; answer 1; repeat", message_bytes=1, seed=seed) as server:
            return [ask_all(server.address) for _ in range(3)]

    def ask_all(address: tuple[str, int]) -> list[bytes | str]:
        with connect(address) as peer:
            return [peers.exchange(peer, b"abcdefghijklmnop")]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    # Neither are all connections the same.
    assert len({str(one) for one in drawn(1)}) > 1


def test_a_percentage_is_about_that_often() -> None:
    script = "30%: ignore; answer 1; repeat"
    with misbehaving(script, message_bytes=1, seed=4) as server, connect(server.address) as peer:
        answered = len(peers.exchange(peer, b"a" * 4000))
    # Of every 1.3 messages one is answered: 3077, give or take six standard deviations.
    assert 2920 < answered < 3230


def test_a_client_that_resets_harms_nobody() -> None:
    with misbehaving("answer | never-read | wait 60s; answer") as server:
        for _ in range(3):
            peer = connect(server.address)
            peer.sendall(b"x" * 100)
            peers.reset(peer)
        assert conversation(server.address, b"a") == [b"A", b""]


def heard(*peers_: socket.socket) -> list[bytes]:
    """What they hear within a moment."""
    came = []
    for peer in peers_:
        peer.settimeout(IN_VAIN_SECONDS)
        with contextlib.suppress(TimeoutError):
            came.append(peer.recv(4096))
    return came
