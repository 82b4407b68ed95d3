"""Containers serve whoever comes over IPv6 as well, on a network that has it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from docker.errors import APIError
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from iolab.registry import Model
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.docker.project import Outcomes, Project, Service, at_once
from tests.support.missing import skip_for_kernel
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def over_ipv6(project: Project) -> Iterator[Outcomes[str]]:
    """Every model's address in a network of both families. They leave it afterwards."""
    # RFC 4193: forty random bits, so that no two networks of a machine have the same.
    prefix = "fd" + secrets.token_hex(5)
    subnet = f"{prefix[:4]}:{prefix[4:8]}:{prefix[8:]}::/64"
    try:
        network = project.client.networks.create(
            f"{project.project}_ipv6", enable_ipv6=True, ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        )
    except APIError as error:
        skip_for_kernel(f"the engine makes no IPv6 network: {error.explanation}")
    try:
        yield at_once(lambda model: joined(project, network, model))
    finally:
        at_once(lambda model: network.disconnect(project.container(model), force=True))
        network.remove()


def joined(project: Project, network: Network, model: Model) -> str:
    """Connect a model's container to a network; its IPv6 address there."""
    container = project.container(model)
    network.connect(container)
    container.reload()
    return str(container.attrs["NetworkSettings"]["Networks"][network.name]["GlobalIPv6Address"])


def test_a_container_serves_ipv6_at_both_its_ports(over_ipv6: Outcomes[str], service: Service, model: Model) -> None:
    host = over_ipv6.of(model)
    assert ":" in host

    # An address is usable once the kernel has seen that nobody else has it.
    def answer() -> bytes:
        with connect((host, service.address[1])) as client:
            return peers.exchange(client, b"over six")

    def reached() -> bytes:
        try:
            return answer()
        except OSError:
            return b""

    assert eventually(reached, f"{host} is reached") == b"OVER SIX"
    with connect((host, service.admin_address[1])) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in peers.read_to_end(client).partition(b"\r\n")[0]
