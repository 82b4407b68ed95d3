"""The task queue in containers: its broker and its workers, what nobody else may see of them, and what befalls them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from iolab.registry import MODELS
from iolab_client.contract import payload, peers
from tests.docker.conftest import CONTAINERS
from tests.docker.project import Project, Service
from tests.support.compose import run_in
from tests.support.waiting import eventually

TASK_QUEUE = MODELS["task_queue"]
BROKER, WORKER = TASK_QUEUE.parts
WAIT_MS = 500
SETTINGS = {"broker_seconds": 60, "visibility_timeout": 2, "work": {"wait_ms": WAIT_MS}, "buffer_size": 64}

as_anybody = pytest.mark.parametrize("part", TASK_QUEUE.parts)


@pytest.fixture(scope="module")
def queue(engine: None) -> Iterator[Project]:
    """The task queue with its broker and one worker, and no other model."""
    # Three containers that wait for each other: each is waited for until its first check.
    project = Project({TASK_QUEUE.slug: SETTINGS}, HEALTH_INTERVAL="2s")
    try:
        project.up("--wait", TASK_QUEUE.service)
        yield project
    finally:
        project.close()


@pytest.fixture
def service(queue: Project, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Its server, which answers before and after the test."""
    request.node.stash[CONTAINERS] = partial(queue.containers, TASK_QUEUE)
    service = queue.service(TASK_QUEUE)
    with service.connect() as client:
        assert peers.ask(client, b"before") == b"BEFORE"
    yield service
    service.close_clients()


def scale(queue: Project, count: int) -> None:
    """So many workers. Neither theirs nor the broker's checks are waited for: on a busy machine these run into their
    time limit, and what a worker does is seen by its answers."""
    queue.up("--no-deps", "--no-recreate", "--scale", f"{WORKER}={count}", WORKER)


@as_anybody
def test_a_part_is_hardened_and_publishes_nothing(queue: Project, part: str) -> None:
    (container,) = queue.containers_of(part)
    host = container.attrs["HostConfig"]
    assert container.attrs["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["PidsLimit"] == 512
    assert host["Memory"] == 512 * 1024 * 1024
    assert not any(container.attrs["NetworkSettings"]["Ports"].values())
    assert list(container.attrs["NetworkSettings"]["Networks"]) == [f"{queue.project}_back"]


def test_the_brokers_network_has_no_way_out(queue: Project) -> None:
    (network,) = queue.client.networks.list(names=[f"{queue.project}_back"])
    network.reload()
    assert network.attrs["Internal"] is True
    assert {container.name for container in network.containers} == {
        container.name for container in queue.containers(TASK_QUEUE)
    }


def test_the_broker_answers_nobody_without_the_password(queue: Project) -> None:
    (broker,) = queue.containers_of(BROKER)
    ask = "exec 3<>/dev/tcp/127.0.0.1/6379; printf 'KEYS *\\r\\n' >&3; read -r answer <&3; echo \"$answer\""
    code, printed = run_in(broker, "bash", "-c", ask)
    assert code == 0
    assert "NOAUTH" in printed


def test_the_password_is_where_it_is_needed_and_is_shown_nowhere(queue: Project, service: Service) -> None:
    code, password = service.run_in_it("cat", "/run/broker/password")
    assert code == 0
    assert len(password) == 48
    for container in queue.containers(TASK_QUEUE):
        assert password not in json.dumps(container.attrs)
        assert password not in container.logs().decode()
        assert password not in json.dumps(container.top(ps_args="-eo pid,args"))
    assert password not in service.page("/metrics")[1]


def test_a_broker_keeps_its_memory_bounded_and_refuses_rather_than_forgets(queue: Project) -> None:
    (broker,) = queue.containers_of(BROKER)
    ask = 'valkey-cli --no-auth-warning -a "$(cat /run/broker/password)" config get "maxmemory*"'
    code, printed = run_in(broker, "bash", "-c", ask)
    assert code == 0
    words = printed.split()
    assert words[words.index("maxmemory") + 1] == str(128 * 1024 * 1024)
    assert words[words.index("maxmemory-policy") + 1] == "noeviction"


def test_more_workers_do_more_at_once(queue: Project, service: Service) -> None:
    def seconds(count: int) -> float:
        clients = service.connect_many(count)
        begun = time.monotonic()
        for client in clients:
            client.sendall(b"work")
        for client in clients:
            assert peers.read_exactly(client, 4) == b"WORK"
        return time.monotonic() - begun

    count = 8
    # One after the other, however fast the machine.
    assert seconds(count) >= count * WAIT_MS / 1000
    scale(queue, 4)
    try:
        assert len(queue.containers_of(WORKER)) == 4
        eventually(lambda: seconds(count) < count * WAIT_MS / 1000, "four workers are faster than one can be")
    finally:
        scale(queue, 1)


def test_a_worker_that_is_killed_in_the_middle_of_a_stream_costs_no_byte(queue: Project, service: Service) -> None:
    data = payload.make(64 * 20)
    answers: list[bytes] = []
    client, before = service.connect(), service.metric("answers_total")
    reader = threading.Thread(target=lambda: answers.append(peers.exchange(client, data, deadline_seconds=120)))
    reader.start()
    eventually(lambda: service.metric("answers_total") >= before + 3, "the stream is under way")
    # The only one, and a task takes its time: it has the stream's next one in its hands.
    (worker,) = queue.containers_of(WORKER)
    worker.kill()
    worker.remove()
    scale(queue, 1)
    reader.join(150)

    assert payload.difference(answers[0], payload.answer(data)) is None


def test_who_waits_while_the_broker_is_killed_and_started_again_gets_every_byte(
    queue: Project, service: Service
) -> None:
    (broker,) = queue.containers_of(BROKER)
    client = service.connect()
    broker.kill()
    assert service.event("broker_lost")
    client.sendall(b"hello")
    broker.start()

    assert peers.read_exactly(client, 5, deadline_seconds=120) == b"HELLO"
    assert service.event("broker_back")


def test_a_server_that_is_stopped_waits_for_the_answers_that_it_owes(queue: Project, service: Service) -> None:
    client = service.connect()
    client.sendall(b"hello")
    eventually(lambda: service.metric("received_bytes_total") >= 5, "the task is sent")
    service.stop()
    assert peers.read_to_end(client) == b"HELLO"
    assert service.wait() == 0
    service.again()
