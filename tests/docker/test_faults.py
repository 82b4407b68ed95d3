"""What an operator, or bad luck, does to containers: afterwards they serve, and meanwhile the others do."""

from __future__ import annotations

import contextlib
import socket

from docker.errors import APIError

from iolab.registry import MODELS
from iolab_client.contract import peers
from iolab_client.servers.address import Address, connect
from tests.docker.project import Project, Service
from tests.support.models import only
from tests.support.waiting import eventually, for_a_while

UNHURT_SECONDS = 0.3


def speaks(address: Address) -> bool:
    """Whether a new client is answered there."""
    try:
        with connect(address, deadline_seconds=1) as client:
            return peers.exchange(client, b"new", deadline_seconds=5) == b"NEW"
    except OSError:
        return False


def assert_speaks(service: Service) -> None:
    """New clients are answered over the network and by the published port, as soon as the engine has set them up."""
    eventually(lambda: speaks(service.address), f"{service.model.service} answers over the network")
    eventually(lambda: speaks(service.published), f"{service.model.service} answers by its published port")


def test_after_docker_kill_it_starts_again_and_serves(service: Service) -> None:
    client = service.connect()
    assert peers.ask(client, b"here") == b"HERE"
    service.container.kill()
    assert service.wait() == 137

    again = service.again()
    assert again.listening["port"] == service.listening["port"]
    assert_speaks(again)


def freeze(service: Service) -> None:
    """`docker pause`; again if runc gives up on a container that is being throttled: "unable to freeze"."""

    def paused() -> bool:
        with contextlib.suppress(APIError):
            service.container.pause()
        service.container.reload()
        return bool(service.container.status == "paused")

    eventually(paused, f"{service.model.service} is paused")


def test_a_pause_loses_nothing(service: Service) -> None:
    """The kernel goes on for a frozen process: it accepts connections and takes bytes."""
    before = [service.connect(), service.adopt_client(connect(service.published))]
    for client in before:
        assert peers.ask(client, b"here") == b"HERE"
    freeze(service)
    during = [service.connect(), service.adopt_client(connect(service.published))]
    for client in before + during:
        client.sendall(b"meanwhile")
        client.setblocking(False)
    for _ in for_a_while(UNHURT_SECONDS):
        assert [client for client in before + during if readable(client)] == []
    service.container.unpause()

    for client in before + during:
        assert peers.read_exactly(client, len(b"meanwhile")) == b"MEANWHILE"
        assert peers.exchange(client, b"after") == b"AFTER"


def readable(client: socket.socket) -> bool:
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def test_after_a_network_disconnect_and_reconnect_it_serves(project: Project, service: Service) -> None:
    old = service.address
    client = service.connect()
    assert peers.ask(client, b"here") == b"HERE"
    project.network.disconnect(service.container)
    client.sendall(b"while it is gone")
    # It has not ended, it is out of reach.
    assert not speaks(old)
    assert service.exit_code() is None

    project.reconnect(service.model)
    # Its address and its published port may be others now.
    reconnected = project.service(service.model)
    assert_speaks(reconnected)
    if reconnected.address == old:
        assert peers.read_exactly(client, 16) == b"WHILE IT IS GONE"
    name = "exec 3<>/dev/tcp/$0/$1 && printf a >&3 && read -rN1 answer <&3 && echo $answer"
    other = next(project.service(model) for model in MODELS.values() if model is not service.model)
    assert other.beside("bash", "-c", name, service.model.service, str(service.listening["port"])) == "A\n"


# One alone, and one with parts of its own: whoever dies, the question is what the others notice.
@only("epoll_loop", "task_queue")
def test_the_death_of_one_leaves_the_others(project: Project, service: Service) -> None:
    others = [project.service(model) for model in MODELS.values() if model is not service.model]
    clients = [other.connect() for other in others]
    try:
        for client in clients:
            assert peers.ask(client, b"before") == b"BEFORE"
        service.container.kill()
        assert service.wait() == 137

        for other, client in zip(others, clients, strict=True):
            assert peers.exchange(client, b"after") == b"AFTER"
            assert_speaks(other)
            assert other.exit_code() is None
    finally:
        for other in others:
            other.close_clients()
