"""The playground in its container: it sees all models over the network, and has no way to the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container

from iolab.registry import MODELS
from iolab_client.servers.address import Address, connect
from tests.docker.project import POLLS, Project
from tests.support.waiting import eventually

PORT = "8080/tcp"


@pytest.fixture(scope="module")
def container(project: Project) -> Iterator[Container]:
    """Its container beside those of the models, healthy."""
    project.compose(
        "up", "--detach", "--no-build", "--no-deps", "--wait", "playground", variables={"HEALTH_INTERVAL": "1s"}
    )
    (container,) = project.containers_of("playground")
    yield container
    project.compose("rm", "--stop", "--force", "playground")


@pytest.fixture
def published(container: Container) -> Address:
    """Where a browser of this machine finds it."""
    container.reload()
    (binding,) = container.attrs["NetworkSettings"]["Ports"][PORT]
    return binding["HostIp"], int(binding["HostPort"])


def snapshot(address: Address) -> dict[str, Any]:
    """What a page is told."""
    with connect(address) as peer:
        peer.sendall(b"GET /events?page=" + b"a" * 32 + b" HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
        heard = b""
        while b"\n\n" not in heard.partition(b"data: ")[2]:
            heard += peer.recv(65536)
    told: dict[str, Any] = json.loads(heard.partition(b"data: ")[2].partition(b"\n\n")[0].split(b"\r\n")[0])
    return told


def test_it_sees_every_model_and_may_turn_each_dial(project: Project, published: Address) -> None:
    # It may be paused, see Project.let_rest.
    project.service(POLLS)

    def not_seen() -> dict[str, str]:
        cards = {card["model"]: card for card in snapshot(published)["models"]}
        assert list(cards) == list(MODELS)
        return {
            slug: card["why"]
            for slug, card in cards.items()
            if not MODELS[slug].probe and (card["state"] != "running" or not card["hands_on"])
        }

    eventually(lambda: not not_seen(), "every model is seen")
    assert not_seen() == {}


def test_it_is_published_on_loopback_and_is_as_powerless_as_the_models(
    container: Container, published: Address
) -> None:
    host = container.attrs["HostConfig"]
    assert published[0] == "127.0.0.1"
    assert [port for port, bindings in container.attrs["NetworkSettings"]["Ports"].items() if bindings] == [PORT]
    assert container.attrs["Config"]["User"] == "10001:10001"
    assert (host["CapDrop"], host["CapAdd"] or [], host["Privileged"]) == (["ALL"], [], False)
    assert host["ReadonlyRootfs"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] > 0
    assert host["Memory"] > 0
    assert {mount["Destination"]: mount["RW"] for mount in container.attrs["Mounts"]} == {
        "/etc/iolab": False,
        "/usr/share/doc/iolab": False,
    }
    (network,) = container.attrs["NetworkSettings"]["Networks"]
    assert network.endswith("_front")


def test_a_name_that_was_pointed_here_is_refused_there_too(published: Address) -> None:
    with connect(published) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\nHost: evil.example:8080\r\n\r\n")
        assert peer.recv(12) == b"HTTP/1.0 403"
