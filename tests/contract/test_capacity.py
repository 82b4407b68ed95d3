"""DESIGN §1: out of descriptors or threads, a server pauses accepting, never spins, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

import pytest
from iolab_client import peers

from tests.support.compose import InContainer
from tests.support.server import RunningServer
from tests.support.waiting import eventually, for_a_while

Start = Callable[..., RunningServer]


class OutOfDescriptors:
    """A server that has none left, with a client whom it serves and some who came too late."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.served = server.connect()
        assert peers.ask(self.served, b"here") == b"HERE"
        server.limit_descriptors(server.descriptors()[-1] + 1)
        self.late = server.connect_many(8)
        for client in self.late:
            client.sendall(b"late")
        server.event("out_of_capacity")


@pytest.fixture
def out(start: Start) -> OutOfDescriptors:
    return OutOfDescriptors(start())


def test_out_of_descriptors_those_who_are_there_are_served_and_no_processor_is_burnt(out: OutOfDescriptors) -> None:
    begin, before = time.monotonic(), out.server.cpu_seconds()
    for _ in for_a_while(1, step=0.1):
        assert peers.ask(out.served, b"still here") == b"STILL HERE"
    burnt = (out.server.cpu_seconds() - before) / (time.monotonic() - begin)

    assert burnt < 0.4 or out.server.model.slug == "busy_poll"


def test_out_of_descriptors_the_log_says_so_once_a_second_at_most(out: OutOfDescriptors) -> None:
    eventually(lambda: len(out.server.events_called("out_of_capacity")) >= 3, "the log says so again and again")

    moments = [datetime.fromisoformat(event["time"]) for event in out.server.events_called("out_of_capacity")]
    assert all((later - earlier).total_seconds() > 0.99 for earlier, later in pairwise(moments))


def test_those_who_waited_are_served_when_descriptors_come_back(out: OutOfDescriptors) -> None:
    out.server.limit_descriptors(1024)

    for client in out.late:
        assert peers.read_exactly(client, 4) == b"LATE"
    assert out.server.metric("accept_pauses_total") >= 1
    assert peers.ask(out.served, b"still here") == b"STILL HERE"


def test_a_descriptor_that_a_client_gives_back_is_used_again(out: OutOfDescriptors) -> None:
    peers.half_close(out.served)
    assert peers.read_to_end(out.served) == b""

    assert peers.read_exactly(out.late[0], 4) == b"LATE"


def test_out_of_descriptors_a_look_at_the_admin_port_burns_no_processor_and_is_answered_later(
    out: OutOfDescriptors,
) -> None:
    host, port = out.server.admin_address
    scrape = peers.connect((host, port))
    out.server.adopt_client(scrape)
    scrape.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    begin, before = time.monotonic(), out.server.cpu_seconds()
    for _ in for_a_while(1):
        pass
    burnt = (out.server.cpu_seconds() - before) / (time.monotonic() - begin)
    out.server.limit_descriptors(1024)

    assert burnt < 0.4 or out.server.model.slug == "busy_poll"
    assert peers.read_to_end(scrape).startswith(b"HTTP/1.0 200")


def test_a_server_that_is_out_of_descriptors_can_be_stopped(out: OutOfDescriptors) -> None:
    out.server.stop()
    out.server.event("draining")
    out.server.limit_descriptors(1024)

    assert peers.read_to_end(out.served) == b""
    assert out.server.wait() == 0


def test_a_stop_while_out_of_descriptors_serves_the_accept_queue_when_they_come_back(out: OutOfDescriptors) -> None:
    out.server.stop()
    out.server.event("draining")
    out.server.limit_descriptors(1024)

    assert [peers.read_to_end(client) for client in out.late] == [b"LATE"] * len(out.late)
    assert out.server.wait() == 0


@pytest.mark.targets("compose")
def test_out_of_threads_those_who_are_there_are_served_and_the_rest_when_threads_come_back(start: Start) -> None:
    server = start()
    assert isinstance(server, InContainer)
    served = server.connect()
    assert peers.ask(served, b"here") == b"HERE"
    server.limit_threads(int(server.metric("process_threads")) + 1)  # init is one too
    late = server.connect_many(3)
    for client in late:
        client.sendall(b"late")
    for _ in for_a_while(0.3, step=0.1):
        assert peers.ask(served, b"still here") == b"STILL HERE"
    server.limit_threads(512)

    for client in late:
        assert peers.read_exactly(client, 4) == b"LATE"
    assert server.exit_code() is None
