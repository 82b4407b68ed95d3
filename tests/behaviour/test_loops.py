"""Loops: one thread for everyone, and where that ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from iolab.registry import MODELS
from iolab_client.contract import peers
from tests.support.models import as_process, only, waiting
from tests.support.server import RunningServer
from tests.support.waiting import for_a_while

pytestmark = as_process

Start = Callable[..., RunningServer]

DIALLED_SECONDS = 0.1


@waiting
def test_a_model_that_waits_costs_nothing_while_nothing_happens(start: Start) -> None:
    server = start()
    server.connect_many(3)
    server.becomes("connections_open", 3)
    before = server.cpu_seconds()
    for _ in for_a_while(1.0):
        pass
    # A spin would cost a second; a look at the descriptors now and then, some milliseconds.
    assert server.cpu_seconds() - before < 0.3


@only("select_loop")
def test_select_holds_960_clients_and_refuses_one_more(start: Start) -> None:
    server = start()
    assert server.listening["limits"]["max_connections"] == 960
    clients = server.connect_many(960)
    assert peers.ask(clients[-1], b"the last") == b"THE LAST"
    one_more = server.connect()
    assert peers.read_to_end(one_more) == b""
    server.becomes("connections_refused_total", 1)
    clients.pop().close()
    server.becomes("connections_open", 959)
    assert peers.ask(server.connect(), b"room again") == b"ROOM AGAIN"


@only("epoll_loop", "poll_loop", "select_loop")
def test_one_slow_answer_delays_everyone_in_a_loop(start: Start) -> None:
    server = start(work={"wait_ms": int(DIALLED_SECONDS * 1000)})
    clients = server.connect_many(4)
    begin = time.monotonic()
    for client in clients:
        client.sendall(b"a")
    for client in clients:
        assert peers.read_exactly(client, 1) == b"A"
    # A slow machine takes longer still: only a loop that overlaps its answers could be faster.
    assert time.monotonic() - begin >= 4 * DIALLED_SECONDS


@only(*(model.slug for model in MODELS.values() if not model.forks and model.slug != "task_queue"))
def test_a_client_whose_bytes_are_always_there_does_not_keep_the_server_to_itself(start: Start) -> None:
    messages = 32
    server = start(buffer_size=64, work={"cpu_us": 10_000})
    greedy = server.connect()
    greedy.sendall(bytes(64 * messages))
    greedy.recv(1, socket.MSG_PEEK)
    assert peers.ask(server.connect(), b"newcomer") == b"NEWCOMER"
    # Each took its turn: the greedy one still has answers to come.
    assert len(greedy.recv(64 * messages, socket.MSG_PEEK)) < 64 * messages
    assert len(peers.read_exactly(greedy, 64 * messages)) == 64 * messages
