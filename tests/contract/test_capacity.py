"""docs/contract.md: out of descriptors or threads, a server pauses accepting, never spins, and comes back."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import pytest

from iolab_client.contract import peers
from iolab_client.servers.address import DEADLINE_SECONDS, connect
from tests.support.compose import InContainer
from tests.support.fleet import Lab
from tests.support.models import as_process, waiting
from tests.support.server import RunningServer
from tests.support.waiting import for_a_while

Start = Callable[..., RunningServer]


class OutOfDescriptors:
    """A server that has none left, with a client whom it serves and some who came too late."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        # Threads that start have one for a moment: who is served meanwhile would leave free numbers below his own.
        server.descriptors_at_rest()
        self.served = server.connect()
        assert peers.ask(self.served, b"here") == b"HERE"
        server.take_free_descriptors()
        # So many that no process is left out, where the kernel deals them out among several, and that a pool's free
        # workers can begin with all of them at once.
        self.late = server.connect_many(12)
        for client in self.late:
            client.sendall(b"late")
        server.event("out_of_capacity")


@dataclass
class Seen:
    """What was seen of a server while it had no descriptors, and after it got some."""

    answers: list[bytes] = field(default_factory=list)
    cores: float = 0.0
    warned_at: list[datetime] = field(default_factory=list)
    answered_late: list[bytes] = field(default_factory=list)
    scrape: bytes = b""
    pauses: float = 0.0


SEEN: dict[tuple[str, str], Seen] = {}


@pytest.fixture
def out(start: Start) -> OutOfDescriptors:
    return OutOfDescriptors(start())


@pytest.fixture
def seen(lab: Lab) -> Seen:
    """One look for all tests of a model: it lasts seconds."""
    key = (lab.target.name, lab.variant.name)
    if key not in SEEN:
        SEEN[key] = look(lab.start())
    return SEEN[key]


def look(server: RunningServer) -> Seen:
    seen = Seen()
    out = OutOfDescriptors(server)
    scrape = server.adopt_client(connect(server.admin_address))
    scrape.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    begin, before = time.monotonic(), server.cpu_seconds()
    for _ in for_a_while(2.2, step=0.1):
        seen.answers.append(peers.ask(out.served, b"still here"))
    seen.cores = (server.cpu_seconds() - before) / (time.monotonic() - begin)
    seen.warned_at = [datetime.fromisoformat(event["time"]) for event in server.events_called("out_of_capacity")]
    server.limit_descriptors(1024)
    seen.answered_late = [peers.read_exactly(client, 4) for client in out.late]
    seen.scrape = peers.read_to_end(scrape)
    seen.pauses = server.metric("accept_pauses_total")
    return seen


def test_out_of_descriptors_those_who_are_there_are_served(seen: Seen) -> None:
    assert set(seen.answers) == {b"STILL HERE"}


@waiting
def test_out_of_descriptors_no_processor_is_burnt_also_not_by_the_admin_port(seen: Seen) -> None:
    # A spin takes a core, or what a busy machine leaves of it.
    assert seen.cores < 0.15


@as_process
def test_out_of_descriptors_the_log_says_so_once_a_second_at_most(seen: Seen) -> None:
    assert len(seen.warned_at) >= 2
    assert all((later - earlier).total_seconds() > 0.99 for earlier, later in pairwise(seen.warned_at))


def test_those_who_waited_are_served_when_descriptors_come_back(seen: Seen) -> None:
    assert set(seen.answered_late) == {b"LATE"}
    assert seen.scrape.startswith(b"HTTP/1.1 200")


@as_process
def test_the_pauses_are_counted(seen: Seen) -> None:
    assert seen.pauses >= 1


@as_process
def test_a_descriptor_that_a_client_gives_back_is_used_again(out: OutOfDescriptors) -> None:
    peers.half_close(out.served)
    assert peers.read_to_end(out.served) == b""

    (answered, *_), _, _ = select.select(out.late, (), (), DEADLINE_SECONDS)
    assert peers.read_exactly(answered, 4) == b"LATE"


@as_process
def test_a_stop_while_out_of_descriptors_serves_the_accept_queue_when_they_come_back(out: OutOfDescriptors) -> None:
    out.server.stop()
    out.server.event("draining")
    out.server.limit_descriptors(1024)

    assert [peers.read_to_end(client) for client in out.late] == [b"LATE"] * len(out.late)
    assert peers.read_to_end(out.served) == b""
    assert out.server.wait() == 0


def test_a_limit_that_is_lowered_below_what_is_open_costs_nobody_who_is_there(start: Start) -> None:
    server = start()
    clients = server.connect_many(4)
    assert [peers.ask(client, b"here") for client in clients] == [b"HERE"] * 4
    server.limit_descriptors(4)
    for _ in range(3):
        assert [peers.ask(client, b"still here") for client in clients] == [b"STILL HERE"] * 4
    server.limit_descriptors(1024)
    clients[0].close()
    assert peers.ask(server.connect(), b"room again") == b"ROOM AGAIN"


@pytest.mark.targets("compose")
def test_out_of_threads_those_who_are_there_are_served_and_the_rest_when_threads_come_back(
    start_alone: Start,
) -> None:
    server = start_alone()
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
