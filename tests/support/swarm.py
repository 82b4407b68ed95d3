"""The swarm of this machine alone that the tests of the stack have, from the first of them until all tests are over.

An engine that leaves a swarm forgets the names of all containers that run, also of those that have nothing to do with
it (https://github.com/moby/moby/issues/45144): from then on none of them finds another. So there is none where others
run, and the tests' own containers are gone when it ends.
"""

from __future__ import annotations

import contextlib
import os

from docker.errors import APIError, DockerException

import docker
from iolab_client.compare import containers
from tests.support.compose import CHECKOUT
from tests.support.missing import skip

# By its value .ci/run knows its own, should the tests be killed.
LABEL = "iolab-test"
# Made with a swarm, and left behind by it.
BRIDGE = "docker_gwbridge"
HAD_BRIDGE = "had-bridge"
# Whoever is in no other network has no name to lose.
NAMELESS = {"bridge", "host", "none"}


def begin(client: docker.DockerClient) -> None:
    """Make a swarm. Skips the test where there is another one, where one would do harm, and where none can be."""
    state = client.info()["Swarm"]["LocalNodeState"]
    if state != "inactive":
        skip(f"the engine is in a swarm that is not the tests' own ({state}): docker swarm leave")
    if others := named_by_others(client):
        skip(f"leaving a swarm costs {others[0]} and {len(others) - 1} more their names; stop them, as by `make down`")
    had_bridge = bool(client.networks.list(names=[BRIDGE]))
    labels = {LABEL: os.environ["CI_RUN_ID"], HAD_BRIDGE: str(had_bridge)}
    try:
        client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377", labels=labels)
    except APIError as error:
        skip(f"this engine can't be a swarm: {error.explanation}; it needs overlay networks, of the kernel's vxlan")


def named_by_others(client: docker.DockerClient) -> list[str]:
    """The running containers with names to lose that no test of this checkout has started."""
    return [
        str(container.name)
        for container in client.containers.list(ignore_removed=True)
        if not is_the_tests(container.labels) and set(container.attrs["NetworkSettings"]["Networks"]) - NAMELESS
    ]


def is_the_tests(labels: dict[str, str]) -> bool:
    """Whether a container is of a project of this checkout's tests, or of a comparison that they make."""
    project, folder = labels.get(containers.PROJECT_LABEL, ""), labels.get(containers.FOLDER_LABEL)
    return folder == str(CHECKOUT) and (project.startswith("iolab-test-") or project == containers.PROJECT)


def end() -> None:
    """Leave the swarm that these tests have made, if they have."""
    try:
        client = docker.from_env(timeout=60)
    except DockerException:
        return
    with contextlib.closing(client), contextlib.suppress(DockerException):
        labels = client.info()["Swarm"].get("Cluster", {}).get("Spec", {}).get("Labels") or {}
        if labels.get(LABEL) == os.environ["CI_RUN_ID"]:
            client.swarm.leave(force=True)
            for bridge in client.networks.list(names=[BRIDGE]) if labels[HAD_BRIDGE] == "False" else ():
                bridge.remove()
