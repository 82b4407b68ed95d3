"""A comparison in containers: one server at a time, the others paused meanwhile, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from iolab import registry
from iolab.registry import YARDSTICK
from iolab_client.compare import containers
from iolab_client.contract import peers
from iolab_client.results import bundle
from iolab_client.servers.address import connect
from tests.support.compose import UNCHECKED, ComposeTarget, InContainer
from tests.support.waiting import eventually

EPOLL = registry.find("epoll_loop")
BESIDE = registry.find("select_loop")
CPUS = sorted(os.sched_getaffinity(0))


def test_who_runs_beside_it_is_paused_meanwhile_and_nothing_is_left(target: ComposeTarget, tmp_path: Path) -> None:
    beside = target.start_alone(BESIDE, {})
    assert beside.listening
    states: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            beside.container.reload()
            states.add(beside.container.status)

    watcher = threading.Thread(target=watch)
    watcher.start()
    command = [sys.executable, "-m", "iolab_client", "compare", EPOLL.slug, "--place", "containers", "--unchecked"]
    # Long enough for an answer, however crowded the machine.
    command += ["-c", "2", "-d", "2s", "--warmup", "0s", "--rounds", "1", "--pause", target.project]
    try:
        result = subprocess.run(
            [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
        )
    finally:
        over.set()
        watcher.join()

    assert result.returncode == 0, result.stderr
    assert "paused" in states
    beside.container.reload()
    assert beside.container.status == "running"
    with connect(beside.address) as peer:
        assert peers.exchange(peer, b"a") == b"A"
    mine: dict[str, Any] = {"label": f"{containers.PROJECT_LABEL}={containers.PROJECT}"}
    assert target.client.containers.list(all=True, filters=mine) == []
    assert target.client.networks.list(filters=mine) == []
    assert target.client.volumes.list(filters=mine) == []

    (folder,) = tmp_path.iterdir()
    run = bundle.read(folder)
    assert {one.subject for one in run.measurements} == {EPOLL.slug, YARDSTICK.slug}
    assert all(one.answers for one in run.measurements)
    assert all(one.server and one.server.cpus == (CPUS[0],) for one in run.measurements)
    said = "\n".join(other for one in run.measurements for other in one.others)
    # Suites that run at the same time may be named, but neither this one nor a flaw of the place.
    for unsaid in (str(beside.container.name), "pinned", "health", "of this comparison"):
        assert unsaid not in said
    assert run.environment.docker
    assert set(run.environment.images) >= {EPOLL.service, YARDSTICK.service, "client"}
    assert run.environment.limits[EPOLL.slug]["descriptors"] == 16384


def test_the_yardstick_is_hardened_like_a_model_and_not_published(target: ComposeTarget) -> None:
    variables = UNCHECKED | {"IOLAB_CONFIGS": str(target.configs({}))}
    printed = target.compose("run", "--detach", "--no-TTY", YARDSTICK.service, variables=variables)
    container = target.client.containers.get(printed.split()[-1])
    server = InContainer(YARDSTICK, {"port": YARDSTICK.port}, container)

    def answer() -> bytes:
        try:
            with connect((server.host, YARDSTICK.port)) as peer:
                return peers.exchange(peer, b"hello")
        except ConnectionRefusedError:
            return b""

    assert eventually(answer, "it listens") == b"HELLO"

    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"]
    assert host["PidsLimit"]
    assert not host["PortBindings"]
    assert not any(container.attrs["NetworkSettings"]["Ports"].values())
    tools = "for tool in cc gcc as ld make pip; do command -v $tool; done; true"
    assert server.beside("sh", "-c", tools) == ""
