"""deploy/stack.yml on a swarm of one node: some models and the task queue, as the file has them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.models.containers import Container

import docker
from iolab.registry import MODELS, Model
from iolab_client.compare.containers import FOLDER_LABEL, PROJECT_LABEL
from iolab_client.contract import payload, peers
from iolab_client.servers.address import Address, connect
from tests.support.compose import CHECKOUT, run_in
from tests.support.models import only
from tests.support.swarm import begin, named_by_others
from tests.support.waiting import DEADLINE_SECONDS, eventually

STACK = CHECKOUT / "deploy" / "stack.yml"
TASK_QUEUE = MODELS["task_queue"]
DEPLOYED = [MODELS["epoll_loop"], MODELS["poll_loop"], TASK_QUEUE]
BROKER, WORKER = TASK_QUEUE.parts
IMAGE = f"{os.environ.get('IOLAB_REGISTRY', '')}iolab/client"

deployed = only(*(model.slug for model in DEPLOYED))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * DEADLINE_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


class Deployed:
    """A stack of a few services of the file; in it differ only the ports, the password's name and where configs are."""

    def __init__(self, client: docker.DockerClient, folder: Path) -> None:
        self.client = client
        self.name = f"iolab-test-{secrets.token_hex(4)}"
        self.password = secrets.token_hex(24)
        self.ports = {model: free_port() for model in DEPLOYED}
        file = yaml.safe_load(STACK.read_text())
        services = {name: file["services"][name] for model in DEPLOYED for name in (model.service, *model.parts)}
        for model, port in self.ports.items():
            (services[model.service]["ports"][0])["published"] = port
        file["services"] = services
        used = {config["source"] for service in services.values() for config in service.get("configs", ())}
        file["configs"] = {
            name: {"file": str((STACK.parent / config["file"]).resolve())}
            for name, config in file["configs"].items()
            if name in used
        }
        (secret,) = file["secrets"].values()
        secret["name"] = f"{self.name}-password"
        self._file = folder / "stack.yml"
        self._file.write_text(yaml.safe_dump(file))
        self._secret = client.secrets.create(name=secret["name"], data=self.password.encode())

    def up(self) -> None:
        run("docker", "stack", "deploy", "--resolve-image", "never", "--compose-file", str(self._file), self.name)

    def tasks(self, service: str) -> list[Container]:
        """The running containers of a service."""
        label = f"com.docker.swarm.service.name={self.name}_{service}"
        found: list[Container] = self.client.containers.list(filters={"label": label}, ignore_removed=True)
        return found

    def task(self, service: str) -> Container:
        """The one container of a service, once it is healthy."""

        def look() -> Container | None:
            found = self.tasks(service)
            healthy = [one for one in found if one.attrs["State"].get("Health", {}).get("Status") == "healthy"]
            return healthy[0] if len(healthy) == 1 else None

        try:
            found = eventually(look, f"{service} is healthy", seconds=2 * DEADLINE_SECONDS)
        except AssertionError as error:
            tasks = run("docker", "service", "ps", "--no-trunc", f"{self.name}_{service}")
            log = run("docker", "service", "logs", "--tail", "20", f"{self.name}_{service}")
            raise AssertionError(f"{error}\n{tasks}{log}") from None
        assert found
        return found

    def address(self, model: Model) -> Address:
        return "127.0.0.1", self.ports[model]

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            run("docker", "stack", "rm", self.name)
        mine: dict[str, Any] = {"label": f"com.docker.stack.namespace={self.name}"}
        listed = self.client.containers.list
        eventually(lambda: not listed(all=True, filters=mine, ignore_removed=True), "its containers are gone")
        eventually(lambda: not self.client.networks.list(filters=mine), "its networks are gone")
        self._secret.remove()


@pytest.fixture(scope="module")
def swarm(engine: None) -> Iterator[docker.DockerClient]:
    """An engine that is a swarm's only node, and stays so until all tests are over."""
    with contextlib.closing(docker.from_env(timeout=60)) as client:
        begin(client)
        yield client


@pytest.fixture(scope="module")
def stack(swarm: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(swarm, tmp_path_factory.mktemp("stack"))
    try:
        made.up()
        for model in DEPLOYED:
            for service in (*model.parts, model.service):
                made.task(service)
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("mine", [False, True])
def test_there_is_no_swarm_where_others_have_names_to_lose(engine: None, mine: bool) -> None:
    labels = {PROJECT_LABEL: f"iolab-test-{secrets.token_hex(4)}", FOLDER_LABEL: str(CHECKOUT)} if mine else {}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(docker.from_env(timeout=60)))
        network = client.networks.create(f"iolab-test-{secrets.token_hex(4)}", labels=labels)
        stack.callback(network.remove)
        beside = client.containers.run(
            IMAGE, ["60"], entrypoint="sleep", detach=True, network=network.name, labels=labels
        )
        stack.callback(beside.remove, force=True)
        assert (beside.name in named_by_others(client)) is not mine
        if not mine:
            with pytest.raises(pytest.skip.Exception, match="their names; stop them"):
                begin(client)
            assert client.info()["Swarm"]["LocalNodeState"] == "inactive"


@deployed
def test_a_model_answers_at_its_nodes_own_port(stack: Deployed, model: Model) -> None:
    data = payload.make(3000)
    with connect(stack.address(model)) as peer:
        assert payload.difference(peers.exchange(peer, data), payload.answer(data)) is None


def test_the_client_finds_them_by_their_names_on_the_stacks_network(stack: Deployed) -> None:
    words = ["docker", "run", "--rm", "--network", f"{stack.name}_front", "--env", "IOLAB_IN_COMPOSE=1"]
    words += ["--volume", f"{CHECKOUT}/configs:/etc/iolab:ro", IMAGE]
    printed = run(*words, "check", MODELS["epoll_loop"].slug, "--json")
    assert '"failed"' not in printed
    assert "HELLO" in run(*words, "try", "hello", TASK_QUEUE.slug)


@deployed
def test_a_task_is_hardened_as_far_as_swarm_knows(stack: Deployed, model: Model) -> None:
    for service in (model.service, *model.parts):
        container = stack.task(service)
        host = container.attrs["HostConfig"]
        assert container.attrs["Config"]["User"] == "10001:10001"
        assert (host["ReadonlyRootfs"], host["Init"], host["CapDrop"]) == (True, True, ["ALL"])
        assert (host["Memory"], host["PidsLimit"]) == (512 << 20, 512)
        assert host["Ulimits"] == [{"Name": "nofile", "Hard": 16384, "Soft": 16384}]
        assert not host["Privileged"]
        assert not host["Binds"]


def test_the_broker_is_on_the_inner_network_only_and_publishes_nothing(stack: Deployed) -> None:
    broker = stack.task(BROKER)
    assert set(broker.attrs["NetworkSettings"]["Networks"]) == {f"{stack.name}_back"}
    assert not broker.attrs["NetworkSettings"]["Ports"].get("6379/tcp")
    (back,) = stack.client.networks.list(names=[f"{stack.name}_back"])
    assert (back.attrs["Internal"], back.attrs["Driver"], back.attrs["Attachable"]) == (True, "overlay", False)
    # Who is on the models' network does not even know its name.
    look = "import socket; socket.getaddrinfo('task-broker', 6379)"
    code, printed = run_in(stack.task("epoll-loop"), "python", "-c", look)
    assert code == 1
    assert "gaierror" in printed


def test_the_password_is_the_secret_and_for_its_user_only(stack: Deployed) -> None:
    for service in (BROKER, WORKER, TASK_QUEUE.service):
        told = run_in(stack.task(service), "stat", "-c", "%u %a", "/run/secrets/broker-password")
        assert told == (0, "10001 400\n")
    assert run_in(stack.task(BROKER), "cat", "/run/secrets/broker-password") == (0, stack.password)
    (broker,) = stack.client.services.list(filters={"name": f"{stack.name}_{BROKER}"})
    assert stack.password not in str(broker.attrs)


def test_task_workers_are_scaled_over_the_nodes(stack: Deployed) -> None:
    (worker,) = stack.client.services.list(filters={"name": f"{stack.name}_{WORKER}"})
    worker.scale(2)
    eventually(lambda: len(stack.tasks(WORKER)) == 2, "there are two workers")
    worker.reload()
    worker.scale(1)
    eventually(lambda: len(stack.tasks(WORKER)) == 1, "there is one worker")
