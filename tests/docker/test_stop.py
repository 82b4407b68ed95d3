"""`docker stop`: nobody loses a byte, and the exit code tells.

A container's network goes with its process: what the kernel has not delivered by then is lost. Here are the containers
of a whole project, with published ports, and clients that come over both ways; the rest of the stop (idle, unserved and
stuck clients, the deadline, a second signal) is in tests/contract/test_stop.py, which stops containers the same way. A
stop is mostly waiting, so each is done to every model at the same time, and only looked at model by model.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from iolab.registry import Model
from iolab_client import payload, peers
from tests.docker.project import Outcomes, Project, Service, at_once
from tests.support.clients import flood_until_owed
from tests.support.compose import InContainer
from tests.support.waiting import pause

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


def read_slowly(client: socket.socket, size: int) -> bytes:
    """So many bytes, or all up to the end, a piece now and then."""
    received = bytearray()
    while piece := peers.read_exactly(client, min(CHUNK_BYTES, size - len(received))):
        received += piece
        pause(CHUNK_SECONDS)
    return bytes(received)


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
