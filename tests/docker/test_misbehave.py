"""The server that misbehaves on command, in its container."""

from __future__ import annotations

import http.client

from iolab.registry import MISBEHAVE
from iolab_client.contract import peers
from iolab_client.servers.address import Address, connect
from tests.support.compose import ComposeTarget

ADMIN_PORT = 9100
# Ports of the engine's choice, and a script in place of an honest one.
VARIABLES = {"MISBEHAVE_HOST_PORT": "", "MISBEHAVE_ADMIN_HOST_PORT": "", "MISBEHAVE_SCRIPT": "double | answer"}


def said(address: Address) -> bytes:
    with connect(address) as peer:
        return peers.exchange(peer, b"ab")


def test_it_is_healthy_and_does_what_it_is_told(target: ComposeTarget) -> None:
    variables = VARIABLES | {"IOLAB_CONFIGS": str(target.configs({}))}
    profile = ("--profile", "misbehave")
    target.compose(*profile, "up", "--detach", "--no-build", "--wait", MISBEHAVE.service, variables=variables)
    (container,) = target.client.containers.list(
        filters={"label": [f"com.docker.compose.project={target.project}", "com.docker.compose.service=misbehave"]}
    )
    ports = container.attrs["NetworkSettings"]["Ports"]
    address, admin = (
        (ports[f"{port}/tcp"][0]["HostIp"], int(ports[f"{port}/tcp"][0]["HostPort"]))
        for port in (MISBEHAVE.port, ADMIN_PORT)
    )
    assert address[0] == admin[0] == "127.0.0.1"
    # Its health check took nobody's turn.
    assert [said(address) for _ in range(3)] == [b"ABAB", b"AB", b"ABAB"]
    asked = http.client.HTTPConnection(*admin, timeout=60)
    asked.request("POST", "/next", "banner told; answer")
    assert asked.getresponse().status == 200
    asked.close()
    assert said(address) == b"toldAB"
    host = container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    container.stop(timeout=60)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
