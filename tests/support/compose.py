"""The target `compose`: servers in containers of the real compose services, with their whole hardening.

They belong to a Compose project of their own, publish no port and read a config folder of their own, so that the
tests run beside the user's containers. The tests reach them over the Docker network.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker.errors
import requests
import yaml
from docker.models.containers import Container

import docker
from iolab.registry import Model
from tests.support.fork_server import ForkServer
from tests.support.server import ForkedServer, RunningServer, Settings, Target
from tests.support.waiting import DEADLINE_SECONDS, eventually

CHECKOUT = Path(__file__).parents[2]
UNUSED_PORT = 1
# Ends a command that hangs; on a crowded machine a start of everything may take minutes.
COMPOSE_SECONDS = 240
# A health check is a client too: it is counted and takes a worker; and each is a process in a container.
UNCHECKED = {"HEALTH_INTERVAL": "1h"}
# Less than a user's has by default: it polls as long as it is up, beside everything else that is tested.
BUSY_POLL_CPUS = 0.25


def unavailable() -> str | None:
    """Why there is no engine to test with; None if there is one."""
    if os.environ.get("IOLAB_NO_DOCKER"):
        return "IOLAB_NO_DOCKER is set"
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        return f"no Docker engine: {error}"
    client.close()
    return None


def run_in(container: Container, *command: str, user: str = "") -> tuple[int, str]:
    """`docker exec`: the exit code, and what it printed on both streams.

    Engine 20.10 was seen to hand over nothing of what a command had printed. So a shell prints a last word after it,
    and where that is missing the command is run again.
    """
    end = secrets.token_hex(8)
    script = 'exec 2>&1; "$@"; code=$?; printf %s "$0"; exit $code'

    def run() -> tuple[int, str] | None:
        result: Any = container.exec_run(["sh", "-c", script, end, *command], user=user)
        printed = (result.output or b"").decode()
        return (result.exit_code, printed.removesuffix(end)) if printed.endswith(end) else None

    return eventually(run, f"what {shlex.join(command)} prints in the container")


class InContainer(RunningServer):
    """A server in a container."""

    def __init__(self, model: Model, settings: Settings, container: Container) -> None:
        super().__init__(model, settings)
        self.container = container
        self._stopper: threading.Thread | None = None
        self._address = ""

    @property
    def host(self) -> str:
        if not self._address:
            self._address = eventually(lambda: _front_address(self.container), "the container has an address")
        return self._address

    def output(self) -> str:
        return self.container.logs(stdout=True, stderr=False).decode()

    def errors(self) -> str:
        return self.container.logs(stdout=False, stderr=True).decode()

    def beside(self, *command: str) -> str:
        code, printed = run_in(self.container, *command)
        if code != 0:
            raise AssertionError(f"{shlex.join(command)} in the container: exit {code}: {printed}")
        return printed

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """The first SIGTERM is `docker stop`, with the grace period of the compose file."""
        if number is signal.SIGTERM and self._stopper is None:
            self._stopper = threading.Thread(target=_docker_stop, args=(self.container.id,), daemon=True)
            self._stopper.start()
        else:
            self.container.kill(signal=number.name)

    def limit_threads(self, count: int) -> None:
        """Let the container have that many threads, init included. The SDK has no such option."""
        assert self.container.id
        command = ["docker", "update", "--pids-limit", str(count), self.container.id]
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_SECONDS)

    def exit_code(self) -> int | None:
        self.container.reload()
        state = self.container.attrs["State"]
        return None if state["Status"] in ("created", "running", "paused") else int(state["ExitCode"])

    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        try:
            code = int(self.container.wait(timeout=seconds)["StatusCode"])
        except requests.exceptions.RequestException as error:
            raise TimeoutError(f"the container did not end within {seconds:g} s") from error
        if self._stopper:
            self._stopper.join(DEADLINE_SECONDS)
        return code

    def remove(self) -> None:
        self.container.remove(force=True)
        if self._stopper:
            self._stopper.join(DEADLINE_SECONDS)


class Shell:
    """A shell that stays open in a container: a `docker exec` for each look costs far more."""

    def __init__(self, container: Container) -> None:
        assert container.id
        start = ["docker", "exec", "--interactive", container.id, "sh"]
        self._shell = subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, *command: str) -> str:
        """Run a command; returns what it printed on both streams. AssertionError if it does not exit with 0."""
        assert self._shell.stdin
        assert self._shell.stdout
        end = secrets.token_hex(8).encode()
        line = f"{shlex.join(command)} </dev/null 2>&1; echo; echo {end.decode()} $?\n"
        self._shell.stdin.write(line.encode())
        self._shell.stdin.flush()
        printed = bytearray()
        for part in self._shell.stdout:
            if part.startswith(end):
                break
            printed += part
        else:
            raise AssertionError(f"{shlex.join(command)} in the container: its shell ended: {printed.decode()}")
        # The newline in front of the end is not the command's.
        output = printed[:-1].decode()
        if (code := int(part.split()[1])) != 0:
            raise AssertionError(f"{shlex.join(command)} in the container: exit {code}: {output}")
        return output

    def close(self) -> None:
        """Leave it: the end of its input is its end."""
        self._shell.communicate(timeout=DEADLINE_SECONDS)


class OwnContainer(InContainer):
    """A container that a test has to itself."""

    _shell: Shell | None = None

    def await_first_line(self) -> None:
        # Each look at a log by itself costs the engine some milliseconds, and a start takes many.
        assert self.container.id
        command = ["docker", "logs", "--follow", self.container.id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as follower:
            assert follower.stdout
            follower.stdout.readline()
            follower.kill()

    def beside(self, *command: str) -> str:
        self._shell = self._shell or Shell(self.container)
        return self._shell.run(*command)

    def limit_threads(self, count: int) -> None:
        # The shell would be counted.
        self._leave_shell()
        super().limit_threads(count)

    def remove(self) -> None:
        self._leave_shell()
        super().remove()

    def _leave_shell(self) -> None:
        if self._shell:
            self._shell.close()
            self._shell = None


class House:
    """A container of a service in which servers come and go: to start and end a container costs more than a test.

    It has the service's image, user, networks, limits and whole hardening; only what it runs waits for ever.
    """

    def __init__(self, container: Container, configs: Path) -> None:
        self.container = container
        self.configs = configs
        self.shell = Shell(container)
        assert container.id
        self.fork_server = ForkServer(["docker", "exec", "--interactive", container.id, "python"])
        self.address = eventually(lambda: _front_address(container), "the container has an address")

    def close(self) -> None:
        """Remove it, and whatever is still in it."""
        self.shell.close()
        self.fork_server.close()
        self.container.remove(force=True)


class Housed(ForkedServer):
    """A server in a house, on ports that the kernel picks. Its network stays when it ends."""

    def __init__(self, model: Model, settings: Settings, house: House, configs: Path) -> None:
        options = ["--host", "::", "--port", "0", "--admin-port", "0", "--configs", f"/etc/iolab/{configs.name}"]
        # The one place in which a hardened container can keep something.
        super().__init__(model, settings, house.fork_server, f"/dev/shm/{configs.name}", options)
        self._house = house

    @property
    def host(self) -> str:
        return self._house.address

    def beside(self, *command: str) -> str:
        return self._house.shell.run(*command)


def _front_address(container: Container) -> str:
    """Where this machine reaches a container; empty as long as it does not."""
    container.reload()
    networks = container.attrs["NetworkSettings"]["Networks"]
    # The front, where clients are; some have another one, on which only their own parts are.
    fronts = (network["IPAddress"] for name, network in networks.items() if name.endswith("_front"))
    address = next(fronts, "")
    return address if address and _is_reachable(address) else ""


def _is_reachable(address: str) -> bool:
    """Whether this machine has found the container, which may have the address of one that has just gone (arp(7))."""
    try:
        socket.create_connection((address, UNUSED_PORT), DEADLINE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def _docker_stop(container_id: str) -> None:
    # A connection of its own: the call lasts as long as the stop.
    client = docker.from_env(timeout=120)
    try:
        client.api.stop(container_id)
    except docker.errors.NotFound:
        pass  # A test that failed has removed it.
    finally:
        client.close()


class Recipe:
    """What the engine was asked for when a container was made; makes others that differ in the config folder only."""

    def __init__(self, container: Container, configs: Path) -> None:
        assert container.client
        self._client = container.client
        attributes = container.attrs
        first, *others = attributes["NetworkSettings"]["Networks"]
        # Else it would have the first one's name for itself.
        config = {key: value for key, value in attributes["Config"].items() if key != "Hostname"}
        host = attributes["HostConfig"] | {"NetworkMode": first}
        self._request = json.dumps(config | {"HostConfig": host})
        self._other_networks = others
        self._configs = json.dumps(str(configs))[1:-1]

    def make(self, configs: Path) -> Container:
        """Start another one, with this config folder."""
        request = json.loads(self._request.replace(self._configs, json.dumps(str(configs))[1:-1]))
        api: Any = self._client.api
        made = api.create_container_from_config(request)["Id"]
        for network in self._other_networks:
            api.connect_container_to_network(made, network)
        api.start(made)
        return self._client.containers.get(made)


class ComposeTarget(Target):
    """Starts servers in containers of one Compose project, and removes it."""

    name = "compose"

    def __init__(self) -> None:
        self.project = f"iolab-test-{secrets.token_hex(4)}"
        self.client = docker.from_env(timeout=60)
        self._folder = tempfile.TemporaryDirectory(prefix="iolab-test-")
        # Not the user's .env: his ports and limits are his.
        self._dotenv = Path(self._folder.name, ".env")
        self._dotenv.touch()
        self._parts: set[str] = set()
        self._recipes: dict[str, Recipe] = {}
        self._houses: dict[str, House] = {}
        Path(self._folder.name).chmod(0o755)

    def start(self, model: Model, settings: Settings) -> Housed:
        """Start a server in the house of its service, which is made if there is none."""
        if model.service not in self._houses:
            # One model comes after the other.
            self._close_houses()
            self._houses[model.service] = self._build_house(model)
        house = self._houses[model.service]
        return Housed(model, settings, house, self.configs({model.slug: settings}, house.configs))

    def _build_house(self, model: Model) -> House:
        self._start_parts(model)
        configs = self.configs({})
        variables = UNCHECKED | {"BUSY_POLL_CPUS": str(BUSY_POLL_CPUS), "IOLAB_CONFIGS": str(configs)}
        command = ["run", "--detach", "--no-deps", "--no-TTY", "--entrypoint", "sleep", model.service, "infinity"]
        printed = self.compose(*command, variables=variables)
        return House(self.client.containers.get(printed.split()[-1]), configs)

    def _close_houses(self) -> None:
        while self._houses:
            self._houses.popitem()[1].close()

    def start_alone(
        self, model: Model, settings: Settings, *, variables: Mapping[str, str] | None = None
    ) -> OwnContainer:
        """Start a container of its own. `variables` are those of the compose file, such as PIDS_LIMIT."""
        self._start_parts(model)
        values = {"port": model.port, **settings}
        configs = self.configs({model.slug: values})
        chosen = {
            f"{model.environment_prefix}_PORT": str(values["port"]),
            **UNCHECKED,
            "BUSY_POLL_CPUS": str(BUSY_POLL_CPUS),
            # For the tests whose deadline is not what they are about.
            "STOP_GRACE_SECONDS": "60",
            **(variables or {}),
        }
        container = self._like_another(model.service, chosen, configs)
        return OwnContainer(model, settings, container)

    def _like_another(self, service: str, variables: Mapping[str, str], configs: Path) -> Container:
        """Start a container of a service. Compose makes the first one; others are its copies with their own configs.

        What Compose asks the engine for is the same each time, and to find that out costs more than the container.
        """
        key = json.dumps([service, variables], sort_keys=True)
        if recipe := self._recipes.get(key):
            return recipe.make(configs)
        chosen = {**variables, "IOLAB_CONFIGS": str(configs)}
        printed = self.compose("run", "--detach", "--no-deps", "--no-TTY", service, variables=chosen)
        container = self.client.containers.get(printed.split()[-1])
        self._recipes[key] = Recipe(container, configs)
        return container

    def _start_parts(self, model: Model) -> None:
        """Start what a model needs beside its own container, once: all of its containers share it."""
        if missing := [part for part in model.parts if part not in self._parts]:
            configs = self.configs({model.slug: {"port": model.port}})
            for part in missing:
                self._start_service(part, UNCHECKED | {"IOLAB_CONFIGS": str(configs)})
            self._parts |= set(missing)

    def _start_service(self, service: str, variables: Mapping[str, str] | None = None) -> None:
        """`up` of a service, waited for until its own health check passes.

        It is asked here: the engine would go on asking as long as the container is up.
        """
        self.compose("up", "--detach", "--no-deps", "--no-build", service, variables=variables)
        (container,) = self.containers_of(service)
        _, *check = container.attrs["Config"]["Healthcheck"]["Test"]
        eventually(lambda: container.exec_run(check).exit_code == 0, f"{service} is healthy")

    def containers_of(self, service: str) -> list[Container]:
        """A service's containers, running or not; none that `run` has made."""
        labels = [f"project={self.project}", f"service={service}", "oneoff=False"]
        filters = [f"com.docker.compose.{label}" for label in labels]
        found: list[Container] = self.client.containers.list(all=True, filters={"label": filters})
        return found

    def containers(self, model: Model) -> list[Container]:
        """A model's container, and those of its parts."""
        return [container for service in (model.service, *model.parts) for container in self.containers_of(service)]

    def configs(self, models: Mapping[str, Settings], parent: Path | None = None) -> Path:
        """A config folder that a container may be given, with these models' settings in it."""
        folder = Path(tempfile.mkdtemp(dir=parent or self._folder.name))
        folder.chmod(0o755)
        (folder / "models").mkdir()
        (folder / "defaults.yaml").write_text("{}\n")
        for slug, settings in models.items():
            (folder / "models" / f"{slug}.yaml").write_text(yaml.safe_dump(dict(settings)))
        return folder

    def compose(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        """Run Docker Compose on the real compose file, in this project; return what it printed on stdout."""
        words = shlex.split(os.environ.get("IOLAB_COMPOSE", "docker compose"))
        command = [*words, "--project-directory", str(CHECKOUT), "--env-file", str(self._dotenv)]
        command += ["--project-name", self.project, *arguments]
        result = subprocess.run(
            command,
            env=compose_environment(variables or {}),
            capture_output=True,
            text=True,
            timeout=COMPOSE_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            raise AssertionError(f"{shlex.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    def leftovers(self) -> dict[str, list[Any]]:
        """The containers, networks and volumes of this project."""
        mine: dict[str, Any] = {"label": f"com.docker.compose.project={self.project}"}
        return {
            "containers": self.client.containers.list(all=True, filters=mine),
            "networks": self.client.networks.list(filters=mine),
            "volumes": self.client.volumes.list(filters=mine),
        }

    def close(self) -> None:
        try:
            self._close_houses()
            left = self.leftovers()
            for container in left["containers"]:
                container.remove(force=True, v=True)
            for network_or_volume in left["networks"] + left["volumes"]:
                network_or_volume.remove()
        finally:
            self.client.close()
            self._folder.cleanup()


def compose_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What Compose itself needs out of this process's environment, and nothing that the compose file would read."""
    kept = ("PATH", "HOME", "USER", "LANG", "XDG_RUNTIME_DIR", "BASE_IMAGE")
    return {
        key: value for key, value in os.environ.items() if key in kept or key.startswith(("DOCKER_", "COMPOSE_"))
    } | dict(variables)
