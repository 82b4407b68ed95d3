"""`docker stop`: nobody loses a byte, and the exit code tells.

A container's network goes with its process: what the kernel has not delivered by then is lost. A stop is mostly
waiting, so each is done to every model at the same time, and only looked at model by model.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from iolab.registry import MODELS, Model
from iolab_client import payload, peers
from tests.docker.conftest import WORKERS
from tests.docker.project import Outcomes, Project, Service, at_once
from tests.support.clients import flood_until_owed
from tests.support.compose import InContainer
from tests.support.models import only, pools
from tests.support.waiting import eventually, pause

MEBIBYTE = 1024 * 1024
STREAM = payload.make(2 * MEBIBYTE)
CHUNK_BYTES = 65536
CHUNK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What came of a stop: the client's side, then the server's."""

    due: bytes
    received: bytes
    exit_code: int
    events: list[dict[str, Any]]
    # Half of a slow reader's answers were read, and the server was still there.
    waited: bool = True

    @property
    def names(self) -> list[str]:
        """What the log is about, line by line."""
        return [event["event"] for event in self.events]

    @property
    def lost(self) -> str | None:
        """What the client did not get; None if it got all."""
        return payload.difference(self.received, self.due)


Scenario = Callable[[Service], Stopped]
Stops = Callable[[Scenario, Model], Stopped]


@pytest.fixture(scope="module")
def stops(project: Project) -> Stops:
    """Gives what came of a scenario for a model; whoever asks first has it happen to all."""
    done: dict[Scenario, Outcomes[Stopped]] = {}

    def come_of(scenario: Scenario, model: Model) -> Stopped:
        if scenario not in done:

            def happen(model: Model) -> Stopped:
                service = project.service(model)
                try:
                    return scenario(service)
                finally:
                    service.close_clients()

            done[scenario] = at_once(happen)
            at_once(project.restore).all()
        return done[scenario].of(model)

    return come_of


def docker_stop(server: InContainer) -> None:
    """Have `docker stop` under way, until the server drains."""
    server.stop()
    server.event("draining")


def stuck_reader(server: InContainer) -> tuple[socket.socket, bytes]:
    """A client on this machine that has read nothing and sends until nothing more is taken; and what it is owed."""
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    return client, payload.answer(STREAM[: peers.flood(client, STREAM)])


def read_slowly(client: socket.socket, size: int) -> bytes:
    """So many bytes, or all up to the end, a piece now and then."""
    received = bytearray()
    while piece := peers.read_exactly(client, min(CHUNK_BYTES, size - len(received))):
        received += piece
        pause(CHUNK_SECONDS)
    return bytes(received)


def idle_client(service: Service) -> Stopped:
    client = service.connect()
    docker_stop(service)
    received = peers.read_to_end(client)
    return Stopped(due=b"", received=received, exit_code=service.wait(), events=service.events)


def test_an_idle_client_gets_the_end_and_the_exit_is_0(stops: Stops, model: Model) -> None:
    stopped = stops(idle_client, model)

    assert stopped.lost is None
    assert stopped.exit_code == 0
    assert stopped.names == ["listening", "draining", "stopped"]


def transfers(service: Service) -> Stopped:
    """One over the Docker network, one by the published port."""
    clients = [service.connect(), service.adopt_client(peers.connect(service.published))]
    begun, rest = STREAM[:MEBIBYTE], STREAM[MEBIBYTE:]
    first = [peers.ask(client, begun) for client in clients]
    docker_stop(service)
    last = peers.exchange_all(clients, [rest] * 2)
    received = first[0] + last[0] + first[1] + last[1]
    code = service.wait()
    return Stopped(due=payload.answer(STREAM) * 2, received=received, exit_code=code, events=service.events)


def test_transfers_in_flight_arrive_whole(stops: Stops, model: Model) -> None:
    stopped = stops(transfers, model)

    assert stopped.lost is None
    assert stopped.exit_code == 0
    assert stopped.events[-1]["totals"]["lost"] == 0


def slow_reader(service: Service, *, half_closed: bool = False) -> Stopped:
    client = service.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    assert peers.ask(client, b"a") == b"A"
    sent, received = flood_until_owed(client, STREAM, MEBIBYTE)
    due = payload.answer(STREAM[:sent])
    owed_bytes = sent - len(received)
    if half_closed:
        peers.half_close(client)
    docker_stop(service)
    received += read_slowly(client, owed_bytes // 2)
    waited = service.exit_code() is None
    received += read_slowly(client, owed_bytes)
    code = service.wait()
    return Stopped(due=due, received=received, exit_code=code, events=service.events, waited=waited)


def slow_reader_that_half_closed(service: Service) -> Stopped:
    return slow_reader(service, half_closed=True)


@pytest.mark.parametrize("scenario", [slow_reader, slow_reader_that_half_closed])
def test_a_slow_reader_that_is_owed_1_mib_gets_every_byte_then_the_end(
    stops: Stops, model: Model, scenario: Scenario
) -> None:
    stopped = stops(scenario, model)

    assert len(stopped.due) >= MEBIBYTE
    assert stopped.lost is None
    assert stopped.waited
    assert stopped.exit_code == 0
    assert stopped.events[-1]["totals"]["lost"] == 0


def second_signal(service: Service) -> Stopped:
    stuck_reader(service)
    docker_stop(service)
    service.container.kill(signal="SIGTERM")
    return Stopped(due=b"", received=b"", exit_code=service.wait(), events=service.events)


def test_a_second_signal_cuts_who_is_left_and_the_exit_is_1(stops: Stops, model: Model) -> None:
    stopped = stops(second_signal, model)

    assert stopped.exit_code == 1
    assert stopped.names == ["listening", "draining", "cut"]
    assert (stopped.events[-1]["reason"], stopped.events[-1]["connections"]) == ("second signal", 1)


# A thread for each client, a loop, a supervisor with its processes. That each model cuts, the contract's suite shows.
CUT = [MODELS[slug] for slug in ("blocking_pool", "epoll_loop", "prefork_epoll")]


@pytest.fixture(scope="module")
def cut(project: Project) -> Outcomes[Stopped]:
    """Containers with a short deadline, each with two clients that never read."""

    def cut(model: Model) -> Stopped:
        server = project.start_alone(model, {"drain_seconds": 2})
        try:
            for _ in range(2):
                stuck_reader(server)
            docker_stop(server)
            return Stopped(due=b"", received=b"", exit_code=server.wait(), events=server.events)
        finally:
            server.close_clients()
            server.remove()

    return at_once(cut, CUT)


@only(*(model.slug for model in CUT))
def test_a_stuck_reader_is_cut_at_the_deadline_and_the_exit_is_1(cut: Outcomes[Stopped], model: Model) -> None:
    """1 is the server's own word; the engine's, after the grace period, would be 137."""
    stopped = cut.of(model)

    assert stopped.exit_code == 1
    assert stopped.names == ["listening", "draining", "cut"]
    assert (stopped.events[-1]["reason"], stopped.events[-1]["connections"]) == ("deadline", 2)


@pools
def test_clients_whom_no_worker_serves_are_closed_and_counted_and_the_exit_is_0(service: Service) -> None:
    served = service.connect_many(WORKERS)
    for client in served:
        assert peers.ask(client, b"here") == b"HERE"
    unserved = service.connect_many(3)
    # Health checks that have given up wait too: there is no worker to see that they left.
    eventually(lambda: service.metric("connections_waiting") >= 3, "three and more wait")
    docker_stop(service)

    assert [peers.read_to_end(client) for client in unserved + served] == [b""] * (3 + WORKERS)
    assert service.wait() == 0
    assert service.event("stopped")["totals"]["unserved"] >= 3
