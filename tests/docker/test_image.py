"""The image `iolab`, as `docker run` and a CI file use it, and as the pytest plugin does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

import docker
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from iolab_pytest import MisbehavingFactory, ServerFactory
from tests.support.waiting import eventually

IMAGE = "iolab"
PORT = 8000
# Each asks for its containers, tells where they are, and waits to be killed.
WAITS = """
import json, os, time


def test_waits(iolab_server):
    address = iolab_server(backend="docker").address
    with open("address.part", "w") as file:
        json.dump(address, file)
    os.rename("address.part", "address")
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def client(engine: None) -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


class Run:
    """`docker run` of the image, for one test."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._containers: list[Container] = []

    def __call__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Container:
        container: Container = self._client.containers.run(
            IMAGE, list(arguments), environment=dict(environment or {}), detach=True
        )
        self._containers.append(container)
        return container

    def remove(self) -> None:
        for container in self._containers:
            container.remove(force=True)


@pytest.fixture
def run(client: docker.DockerClient) -> Iterator[Run]:
    run = Run(client)
    yield run
    run.remove()


def says(container: Container) -> dict[str, Any]:
    """Its `listening` line, by the time that its own health check holds."""

    def healthy() -> bool:
        container.reload()
        assert container.status != "exited", container.logs().decode()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    eventually(healthy, "it is healthy")
    said: dict[str, Any] = json.loads(container.logs().splitlines()[0])
    return said


def answer(container: Container, message: bytes) -> bytes:
    with connect((container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], PORT)) as peer:
        return peers.exchange(peer, message)


@pytest.mark.parametrize(
    ("arguments", "environment", "slug", "settings"),
    [
        ([], {}, "epoll_loop", {}),
        ([], {"IOLAB_MODEL": "task_queue", "IOLAB_SET": "backlog=7 work.wait_ms=1"}, "task_queue", {"backlog": 7}),
        (["serve", "twisted_reactor", "--set", "high_water=4096"], {}, "twisted_reactor", {"high_water": 4096}),
        ([], {"IOLAB_SCRIPT": "double"}, "misbehave", {"script": "double"}),
    ],
    ids=["by default", "by variables", "by arguments", "misbehaving"],
)
def test_it_serves_on_one_port_whatever_it_is_told(
    arguments: Sequence[str], environment: Mapping[str, str], slug: str, settings: Mapping[str, object], run: Run
) -> None:
    container = run(*arguments, environment=environment)
    said = says(container)
    assert (said["model"], said["port"], said["admin_port"]) == (slug, PORT, 9100)
    assert said["settings"].items() >= settings.items()
    # The health check took nobody's turn.
    assert answer(container, b"ab") == (b"ABAB" if slug == "misbehave" else b"AB")
    container.stop(timeout=60)
    assert container.wait()["StatusCode"] == 0


def test_every_model_is_in_it(client: docker.DockerClient) -> None:
    program = "from iolab.registry import MODELS; print([model.not_installed() for model in MODELS.values()])"
    printed = client.containers.run(IMAGE, ["-c", program], entrypoint="python", remove=True)
    assert set(json.loads(printed.decode().replace("None", "null"))) == {None}


def test_the_fixtures_use_it(engine: None, iolab_server: ServerFactory, iolab_misbehaving: MisbehavingFactory) -> None:
    server = iolab_server("prefork_epoll", backend="docker", processes=1)
    with connect(server.address) as peer:
        assert peers.exchange(peer, b"word") == b"WORD"
    assert server.metrics().processes == 2
    cut = iolab_misbehaving("cut 2", backend="docker")
    with connect(cut.address) as peer:
        peer.sendall(b"word")
        assert b"".join(iter(lambda: peer.recv(16), b"")) == b"WO"


def test_no_container_is_left_when_pytest_is_killed(client: docker.DockerClient, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WAITS)
    known = Path(pytester.path, "address")
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], cwd=pytester.path, stdout=subprocess.DEVNULL
    ) as session:
        try:
            eventually(known.exists, "its container is there")
            _, port = json.loads(known.read_text())
            (container,) = client.containers.list(filters={"publish": str(port)})
        finally:
            session.send_signal(signal.SIGKILL)
    eventually(
        lambda: client.containers.list(all=True, filters={"id": str(container.id)}, ignore_removed=True) == [],
        "it is removed",
    )
