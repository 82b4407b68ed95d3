"""`docker stop`: nobody loses a byte, and the exit code tells.

A container's network goes with its process: what the kernel has not delivered by then is lost. A stop is mostly
waiting, so each is done to every model at the same time, and only looked at model by model.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from iolab.registry import MODELS, Model
from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.docker.conftest import WORKERS
from tests.docker.project import Outcomes, Project, Service, at_once
from tests.support.clients import flood_until_owed
from tests.support.compose import InContainer
from tests.support.models import only, pools
from tests.support.waiting import pause

MEBIBYTE = 1024 * 1024
STREAM = payload.make(2 * MEBIBYTE)
CHUNK_BYTES = 65536
CHUNK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What came of a stop: the server's side, and the client's."""

    exit_code: int
    events: list[dict[str, Any]]
    clients: Mapping[str, Received] = field(default_factory=dict)
    # A slow reader had half of its answers, and the server was still there.
    waited: bool = False

    @property
    def names(self) -> list[str]:
        """What the log is about, line by line."""
        return [event["event"] for event in self.events]


@dataclass(frozen=True)
class Received:
    """What a client got until the end, and what it was due."""

    received: bytes
    due: bytes

    @property
    def lost(self) -> str | None:
        """What it did not get; None if it got all."""
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


class Reading:
    """A client that is owed 1 MiB and reads a piece now and then."""

    def __init__(self, service: Service) -> None:
        self._client = service.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
        assert peers.ask(self._client, b"a") == b"A"
        sent, self._received = flood_until_owed(self._client, STREAM, MEBIBYTE)
        self._due = payload.answer(STREAM[:sent])

    def half_close(self) -> None:
        peers.half_close(self._client)

    def read_half(self) -> None:
        """Read half of what it is still due."""
        self._read((len(self._due) - len(self._received)) // 2)

    def read_to_end(self) -> Received:
        """Read what it is still due and the end, or more if there is more."""
        self._read(len(self._due) - len(self._received) + 1)
        return Received(self._received, self._due)

    def _read(self, size: int) -> None:
        received = bytearray()
        while piece := peers.read_exactly(self._client, min(CHUNK_BYTES, size - len(received))):
            received += piece
            pause(CHUNK_SECONDS)
        self._received += received


def everyone(service: Service) -> Stopped:
    """One stop with clients of every kind; a pool has a worker for each."""
    idle = service.connect()
    # One over the Docker network, one by the published port.
    transfers = [service.connect(), service.adopt_client(connect(service.published))]
    begun, rest = STREAM[:MEBIBYTE], STREAM[MEBIBYTE:]
    first = [peers.ask(client, begun) for client in transfers]
    slow, half_closed = Reading(service), Reading(service)
    half_closed.half_close()
    docker_stop(service)
    last = peers.exchange_all(transfers, [rest] * 2)
    for reader in (slow, half_closed):
        reader.read_half()
    waited = service.exit_code() is None
    clients = {
        "idle": Received(peers.read_to_end(idle), b""),
        "over the network": Received(first[0] + last[0], payload.answer(STREAM)),
        "by the published port": Received(first[1] + last[1], payload.answer(STREAM)),
        "slow": slow.read_to_end(),
        "slow, half-closed": half_closed.read_to_end(),
    }
    return Stopped(exit_code=service.wait(), events=service.events, clients=clients, waited=waited)


def test_an_idle_client_gets_the_end(stops: Stops, model: Model) -> None:
    assert stops(everyone, model).clients["idle"].lost is None


@pytest.mark.parametrize("way", ["over the network", "by the published port"])
def test_a_transfer_in_flight_arrives_whole(stops: Stops, model: Model, way: str) -> None:
    assert stops(everyone, model).clients[way].lost is None


@pytest.mark.parametrize("reader", ["slow", "slow, half-closed"])
def test_a_slow_reader_that_is_owed_1_mib_gets_every_byte_then_the_end(stops: Stops, model: Model, reader: str) -> None:
    stopped = stops(everyone, model)

    assert len(stopped.clients[reader].due) >= MEBIBYTE
    assert stopped.clients[reader].lost is None
    assert stopped.waited


def test_the_exit_is_0_and_the_log_knows_of_nothing_lost(stops: Stops, model: Model) -> None:
    stopped = stops(everyone, model)

    assert stopped.exit_code == 0
    assert stopped.names == ["listening", "draining", "stopped"]
    assert stopped.events[-1]["totals"]["lost"] == 0


def second_signal(service: Service) -> Stopped:
    stuck_reader(service)
    docker_stop(service)
    # Within a second it would be the same stop, delivered twice.
    pause(1.1)
    service.container.kill(signal="SIGTERM")
    return Stopped(exit_code=service.wait(), events=service.events)


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
            return Stopped(exit_code=server.wait(), events=server.events)
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
    service.becomes("connections_waiting", 3)
    docker_stop(service)

    assert [peers.read_to_end(client) for client in unserved + served] == [b""] * (3 + WORKERS)
    assert service.wait() == 0
    assert service.event("stopped")["totals"]["unserved"] == 3
