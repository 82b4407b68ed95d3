"""The stop: everyone is served until quiet, gets every byte and then the end, and only then the process goes.

In a container the network dies with the process: there a server in a hurry loses bytes that a plain process would not.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support.clients import flood_all, flood_until_owed
from tests.support.fleet import Lab
from tests.support.models import as_process, only, pools
from tests.support.process import ProcessTarget
from tests.support.server import RunningServer
from tests.support.waiting import eventually, for_a_while, pause

Start = Callable[..., RunningServer]

MEBIBYTE = 1024 * 1024
# More than any server and its kernel take from a client that reads nothing.
STREAM = payload.make(16 * MEBIBYTE)
# `drain_seconds` of a server whose test is not about them: all the time that a slow machine takes.
PATIENCE_SECONDS = 50
# What a kernel takes for a client that reads nothing, and does not get rid of.
UNREAD_BYTES = 12 * 1024
# As long after the first signal there is a second one.
AGAIN_SECONDS = 1.1


def stop(server: RunningServer) -> None:
    """Tell it to stop, and wait until it has begun to."""
    server.stop()
    server.event("draining")


def stuck_reader(server: RunningServer) -> tuple[socket.socket, int]:
    """A client that sent until nothing more was taken, and has read nothing; and how much it sent."""
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    # It has begun: what its first answer takes is no silence.
    assert peers.ask(client, b"a") == b"A"
    return client, flood_all([client], STREAM)


def test_with_nobody_there_a_server_stops_at_once_with_0(start: Start) -> None:
    server = start(drain_seconds=PATIENCE_SECONDS)
    stop(server)

    assert server.wait() == 0
    assert [event["event"] for event in server.events] == ["listening", "draining", "stopped"]


@as_process
def test_idle_clients_get_the_end_and_the_exit_is_0(start: Start) -> None:
    server = start(drain_seconds=PATIENCE_SECONDS)
    clients = server.connect_many(3)
    assert peers.ask(clients[0], b"one word") == b"ONE WORD"
    server.becomes("connections_open", 3)
    stop(server)

    assert [peers.read_to_end(client) for client in clients] == [b""] * 3
    assert server.wait() == 0
    totals = server.event("stopped")["totals"]
    assert (totals["accepted"], totals["answers"], totals["lost"], totals["unserved"]) == (3, 1, 0, 0)


@as_process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT], ids=lambda number: number.name)
def test_other_signals_are_the_same_as_sigterm(start: Start, number: signal.Signals) -> None:
    """What a terminal sends: at Ctrl-C, when it is closed, at Ctrl-\\."""
    server = start(drain_seconds=PATIENCE_SECONDS)
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    server.stop(number)

    assert peers.read_to_end(client) == b""
    assert server.wait() == 0


def test_clients_in_the_accept_queue_are_accepted_and_answered(start_alone: Start) -> None:
    server = start_alone(drain_seconds=PATIENCE_SECONDS)
    server.suspend()
    clients = server.connect_many(3)
    for client in clients:
        client.sendall(b"queued")
    server.stop()
    eventually(lambda: server.is_told(signal.SIGTERM), "the signal has reached the server")
    server.resume()

    assert [peers.read_to_end(client) for client in clients] == [b"QUEUED"] * 3
    assert server.wait() == 0


def test_clients_who_came_while_an_answer_was_being_made_are_accepted_and_answered(start: Start) -> None:
    """In a loop nobody is accepted before the answer is made, and then the stop is there already."""
    server = start(work={"wait_ms": 400}, drain_seconds=PATIENCE_SECONDS)
    busy = server.connect()
    busy.sendall(b"slow")
    eventually(lambda: server.metric("received_bytes_total") > 0, "the server has begun with an answer")
    clients = server.connect_many(2)
    for client in clients:
        client.sendall(b"queued")
    stop(server)

    assert [peers.read_to_end(client) for client in clients] == [b"QUEUED"] * 2
    assert peers.read_to_end(busy) == b"SLOW"
    assert server.wait() == 0


@as_process
def test_a_transfer_in_flight_ends_whole(start: Start) -> None:
    server = start(drain_quiet_seconds=10, drain_seconds=PATIENCE_SECONDS)
    stream = payload.make(24 * MEBIBYTE)
    begun, rest = stream[:MEBIBYTE], stream[MEBIBYTE:]
    client = server.connect()
    assert peers.ask(client, begun) == payload.answer(begun)
    stop(server)

    assert payload.difference(peers.exchange(client, rest), payload.answer(rest)) is None
    assert server.wait() == 0


@as_process
def test_a_slow_reader_that_is_owed_1_mib_gets_every_byte_then_the_end(start: Start) -> None:
    server = start(high_water=MEBIBYTE, drain_seconds=PATIENCE_SECONDS)
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    # It has begun: what its first answer takes is no silence.
    assert peers.ask(client, b"a") == b"A"
    sent, received = flood_until_owed(client, STREAM, MEBIBYTE)
    # A thread that blocks in send(2) owes one read only; the rest of the 1 MiB is in the kernel.
    eventually(
        lambda: server.metric("received_bytes_total") > server.metric("sent_bytes_total"), "the server owes an answer"
    )
    stop(server)
    for _ in for_a_while(0.6):
        assert server.exit_code() is None

    received += peers.read_to_end(client)
    assert payload.difference(received, payload.answer(STREAM[:sent])) is None
    assert server.wait() == 0


@as_process
def test_what_a_half_closed_slow_reader_is_still_owed_by_the_kernel_arrives(start_alone: Start) -> None:
    """The server is done with this client before the stop: it has closed the connection, and the kernel still sends."""
    server = start_alone(drain_seconds=PATIENCE_SECONDS)
    stream = payload.make(40_000)
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    client.sendall(stream)
    peers.half_close(client)
    server.becomes("connections_open", 0)
    stop(server)
    for _ in for_a_while(0.6):
        assert server.exit_code() is None

    assert payload.difference(peers.read_to_end(client), payload.answer(stream)) is None
    assert server.wait() == 0


def test_a_client_that_half_closed_and_is_owed_more_than_the_kernel_takes_gets_it(start: Start) -> None:
    server = start(high_water=64 * MEBIBYTE, drain_seconds=PATIENCE_SECONDS)
    client, sent = stuck_reader(server)
    peers.half_close(client)
    stop(server)

    assert payload.difference(peers.read_to_end(client), payload.answer(STREAM[:sent])) is None
    assert server.wait() == 0


def test_a_client_that_sends_within_the_quiet_time_is_answered(start: Start) -> None:
    server = start(drain_quiet_seconds=2, drain_seconds=PATIENCE_SECONDS)
    client = server.connect()
    stop(server)

    for _ in for_a_while(2.5, step=0.25):
        assert peers.ask(client, b"one more") == b"ONE MORE"
    assert peers.read_to_end(client) == b""
    assert server.wait() == 0


def test_a_client_that_half_closes_during_the_stop_is_not_waited_for(start: Start) -> None:
    server = start(drain_quiet_seconds=20, drain_seconds=PATIENCE_SECONDS)
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    stop(server)

    assert peers.exchange(client, b"last") == b"LAST"
    assert server.wait() == 0
    assert server.event("stopped")["seconds"] < 20


@as_process
def test_what_comes_after_the_end_does_not_destroy_answers(start_alone: Start) -> None:
    server = start_alone(drain_seconds=PATIENCE_SECONDS)
    stream = payload.make(40_000)
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    client.sendall(stream)
    stop(server)
    # Longer than the quiet time: the server has said farewell, or does so once the answers are acknowledged.
    for _ in for_a_while(0.6):
        pass
    late = b"too late" * 2000
    client.sendall(late)

    got = peers.read_to_end(client)
    assert payload.difference(got[: len(stream)], payload.answer(stream)) is None
    assert payload.answer(stream + late).startswith(got)
    assert server.wait() == 0


@as_process
@pools
def test_clients_whom_no_worker_serves_are_closed_and_counted_and_the_exit_is_0(start: Start) -> None:
    server = start(workers=1, drain_seconds=PATIENCE_SECONDS)
    served = server.connect()
    assert peers.ask(served, b"here") == b"HERE"
    unserved = server.connect_many(3)
    server.becomes("connections_waiting", 3)
    stop(server)

    assert [peers.read_to_end(client) for client in unserved] == [b""] * 3
    assert peers.read_to_end(served) == b""
    assert server.wait() == 0
    assert server.event("stopped")["totals"]["unserved"] == 3


@as_process
def test_a_stuck_reader_is_cut_at_the_deadline_logged_with_its_number_and_the_exit_is_1(start: Start) -> None:
    server = start(drain_seconds=1)
    flood_all(server.connect_many(2, receive_buffer_bytes=peers.SMALL_BUFFER_BYTES), STREAM)
    stop(server)

    assert server.wait() == 1
    cut = server.event("cut")
    assert (cut["reason"], cut["connections"]) == ("deadline", 2)
    assert server.events_called("stopped") == []


@as_process
def test_who_was_told_the_end_and_still_owes_his_own_is_cut_as_one(start: Start) -> None:
    # The answers are with the kernel, and so is the FIN behind them; the connections are open all the same.
    server = start(drain_seconds=1)
    clients = server.connect_many(2, receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    for client in clients:
        client.sendall(STREAM[:UNREAD_BYTES])
    eventually(lambda: server.metric("sent_bytes_total") == 2 * UNREAD_BYTES, "all is handed to the kernel")
    stop(server)

    assert server.wait() == 1
    cut = server.event("cut")
    assert (cut["reason"], cut["connections"]) == ("deadline", 2)


@as_process
def test_a_second_signal_cuts_at_once_and_the_exit_is_1(start: Start) -> None:
    server = start(drain_seconds=9)
    stuck_reader(server)
    stop(server)
    pause(AGAIN_SECONDS)
    server.stop(signal.SIGINT)

    assert server.wait() == 1
    cut = server.event("cut")
    assert (cut["reason"], cut["connections"]) == ("second signal", 1)


@pytest.mark.targets("process")
@pytest.mark.parametrize("children_first", [False, True])
def test_one_stop_that_is_delivered_twice_cuts_nobody(lab: Lab, children_first: bool) -> None:
    """timeout(1) signals its child and then the group, systemd every process of the service, in no certain order."""
    server = lab.start(drain_seconds=PATIENCE_SECONDS)
    clients = server.connect_many(4, receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    for client in clients:
        assert peers.ask(client, b"a") == b"A"
    sent = [flood_all([client], STREAM) for client in clients]
    pids = server.pids()
    if children_first:
        for pid in sorted(pids, reverse=True):
            os.kill(pid, signal.SIGTERM)
    else:
        os.kill(server.pid, signal.SIGTERM)
    server.event("draining")
    os.killpg(server.pid, signal.SIGTERM)

    for client, size in zip(clients, sent, strict=True):
        assert payload.difference(peers.read_to_end(client), payload.answer(STREAM[:size])) is None
    assert server.wait() == 0
    assert [event["event"] for event in server.events] == ["listening", "draining", "stopped"]


@only("epoll_loop", "prefork_epoll")
@pytest.mark.targets("process")
def test_a_hangup_that_nohup_has_ignored_is_no_stop(lab: Lab) -> None:
    target = lab.target
    assert isinstance(target, ProcessTarget)
    server = lab.adopt(target.start(lab.model, {}, prefix=["nohup"]))
    client = server.connect()
    server.stop(signal.SIGHUP)
    # Whoever takes it for a stop has begun by now to see off a client that is quiet.
    pause(0.5)
    assert peers.ask(client, b"here") == b"HERE"
    server.stop()

    assert peers.read_to_end(client) == b""
    assert server.wait() == 0


def test_while_it_stops_nobody_is_accepted_and_the_admin_port_says_so(start: Start) -> None:
    server = start(drain_seconds=PATIENCE_SECONDS)
    assert server.page("/healthz")[0] == 200
    client, _ = stuck_reader(server)
    stop(server)

    def refused() -> bool:
        try:
            connect(server.address).close()
        except ConnectionError:
            return True
        return False

    eventually(refused, "new clients are refused")
    assert server.page("/healthz")[0] == 503
    peers.half_close(client)
    peers.read_to_end(client)
    assert server.wait() == 0


@pytest.mark.targets("process")
def test_the_port_can_be_bound_again_immediately(lab: Lab) -> None:
    server = lab.start(drain_seconds=PATIENCE_SECONDS)
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    stop(server)
    # The server's FIN came first: its side of this connection stays in TIME-WAIT.
    assert peers.read_to_end(client) == b""
    client.close()
    assert server.wait() == 0

    target = lab.target
    assert isinstance(target, ProcessTarget)
    again = lab.adopt(target.start(lab.model, {}, port=server.address[1]))
    assert again.address == server.address
    assert peers.exchange(again.connect(), b"again") == b"AGAIN"
