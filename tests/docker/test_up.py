"""`docker compose up`: every model on this machine's loopback only, and on the Docker network."""

from __future__ import annotations

import pytest

from iolab.registry import MODELS
from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.docker.project import Project, Service

STREAM = payload.make(3 * 1024 * 1024)


def test_nothing_else_runs(project: Project) -> None:
    names = {container.labels["com.docker.compose.service"] for container in project.leftovers()["containers"]}

    assert names == {service for model in MODELS.values() for service in (model.service, *model.parts)}


def test_one_port_is_published_and_on_loopback_only(service: Service) -> None:
    ports = service.container.attrs["NetworkSettings"]["Ports"]
    published = {port: bindings for port, bindings in ports.items() if bindings}

    assert list(published) == [f"{service.model.port}/tcp"]
    assert [binding["HostIp"] for binding in published[f"{service.model.port}/tcp"]] == ["127.0.0.1"]


def test_a_project_with_ports_of_its_own_leaves_the_users_alone(service: Service) -> None:
    assert service.published[1] != service.model.port


@pytest.mark.parametrize("way", ["published", "address"])
def test_every_byte_comes_back_by_the_published_port_and_over_the_network(service: Service, way: str) -> None:
    with connect(getattr(service, way)) as client:
        answer = peers.exchange(client, STREAM)

    assert payload.difference(answer, payload.answer(STREAM)) is None


def test_models_share_a_network_of_the_projects_own(project: Project, service: Service) -> None:
    # Another one only leads to the parts that are the model's own.
    own = {f"{project.project}_back"} if service.model.parts else set()
    assert set(service.container.attrs["NetworkSettings"]["Networks"]) == {project.network.name} | own
    assert project.network.attrs["Driver"] == "bridge"
