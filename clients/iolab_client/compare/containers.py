"""Containers to measure in: a Compose project of its own, of which one server runs at a time.

Compose makes the containers, with all of its file's hardening, and removes them; Docker's API starts, pins, pauses and
stops them. The load runs in the client's container, on the same network: published ports go through NAT.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from docker.errors import APIError, DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

import docker
from iolab.checkout import CHECKOUT
from iolab.registry import MODELS, Model
from iolab.run import run_files
from iolab_client.compare.places import (
    CONTAINERS,
    START_SECONDS,
    PlaceFailed,
    Started,
    pinning,
)
from iolab_client.contract.check import Verdicts
from iolab_client.results import environment
from iolab_client.results.measurement import Environment, Measurement, Plan
from iolab_client.servers.printed import find_listening, last_words
from iolab_client.servers.targets import ADMIN_PORT, Target

PROJECT = "iolab-compare"
# A suite's containers are not paused: a test that waits for one would fail.
TEST_PROJECTS = "iolab-test-"
CLIENT = "client"
FRONT = "front"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
# A health check costs 48 ms of processor time, so there is to be none during a measurement.
HEALTH_INTERVAL = "1h"
HEALTH_NANOSECONDS = 3600 * 10**9
COMPOSE_SECONDS = 300
API_SECONDS = 60
CHECK_SECONDS = 180
# Beyond its plan, for a load to begin and end.
LOAD_SECONDS = 60
TICK_SECONDS = 0.05


def compose_command() -> list[str]:
    """The words to call Compose with: $IOLAB_COMPOSE, else `docker compose`."""
    return shlex.split(os.environ.get("IOLAB_COMPOSE", "docker compose"))


def compose_environment() -> dict[str, str]:
    """Our environment, with the private copy of Compose that `make up` has fetched where there is one."""
    private = CHECKOUT / ".tools" / "docker" if CHECKOUT else None
    return {**({"DOCKER_CONFIG": str(private)} if private and private.is_dir() else {}), **os.environ}


def unavailable() -> str | None:
    """Why there are no containers to measure in; None if there are."""
    if os.environ.get("IOLAB_NO_DOCKER"):
        return "IOLAB_NO_DOCKER is set"
    if CHECKOUT is None:
        return "this is not run from a checkout, which has the docker-compose.yml"
    try:
        client = docker.from_env(timeout=API_SECONDS)
    except DockerException as error:
        return f"Docker does not answer: {error}"
    client.close()
    command = [*compose_command(), "version"]
    try:
        subprocess.run(command, env=compose_environment(), capture_output=True, timeout=API_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return f"`{shlex.join(command)}` fails; `make bench` brings a Compose along"
    return None


class Containers:
    """The servers in containers of the compose file; see Place.

    Running containers of other iolab projects are paused meanwhile: those of the projects `pause`, or, if that is
    None, all but a test suite's. Those left running are named in each result. `configs` is the folder of settings that
    the servers read in place of the user's; `tools` are the services beside the models that one_off is asked for.
    `notice` is told what takes time.
    """

    name = CONTAINERS

    def __init__(
        self,
        models: Sequence[Model],
        server_cpus: Sequence[int],
        client_cpus: Sequence[int],
        *,
        pause: Sequence[str] | None = None,
        configs: Path | None = None,
        tools: Sequence[str] = (CLIENT,),
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._models = tuple(models)
        self._server_cpus = tuple(server_cpus)
        self._client_cpus = tuple(client_cpus)
        self._pause = pause
        self._configs = configs
        self._tools = tuple(tools)
        self._notice = notice
        self._undo = contextlib.ExitStack()
        self._by_service: dict[str, Container] = {}
        self._started: set[str] = set()
        self._said: dict[str, int] = {}

    def __enter__(self) -> Containers:
        try:
            self._prepare()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _prepare(self) -> None:
        self._undo.enter_context(self._alone())
        self._docker = docker.from_env(timeout=API_SECONDS)
        self._undo.callback(self._docker.close)
        if self._listed(PROJECT_LABEL + "=" + PROJECT):
            self._remove()
        self._undo.callback(self._remove)
        self._make(*(model.service for model in self._models), *self._tools)
        self._undo.callback(self._unpause, paused := [])
        for other in self._others():
            project = other["Labels"].get(PROJECT_LABEL, "")
            wanted = not project.startswith(TEST_PROJECTS) if self._pause is None else project in self._pause
            # One that ends just now needs no pause.
            if wanted:
                with contextlib.suppress(APIError):
                    paused.append(other["Id"])
                    self._docker.api.pause(other["Id"])

    def _make(self, *services: str) -> None:
        """Have Compose make these containers and those that they need, without starting them."""
        self._compose("up", "--no-start", "--no-build", "--quiet-pull", *services)
        for one in self._docker.containers.list(all=True, filters={"label": f"{PROJECT_LABEL}={PROJECT}"}):
            self._by_service.setdefault(one.labels[SERVICE_LABEL], one)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One comparison at a time: the project's name, and the processors, are for one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with run_files.opened(run_files.folder(), make=True) as folder:
                descriptor = os.open("compare.lock", flags, 0o600, dir_fd=folder)
        except (OSError, run_files.UnusableFolder) as error:
            raise PlaceFailed(str(error)) from None
        with os.fdopen(descriptor, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._notice("waiting for another comparison on this machine to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _remove(self) -> None:
        self._compose("down", "--volumes", "--remove-orphans", "--timeout", "0")

    def _unpause(self, paused: Sequence[str]) -> None:
        for identity in paused:
            # Removed meanwhile, or unpaused by somebody else.
            with contextlib.suppress(APIError):
                self._docker.api.unpause(identity)

    def _compose(self, *arguments: str) -> None:
        variables = {
            "HEALTH_INTERVAL": HEALTH_INTERVAL,
            # What its own processors give is measured, and not what the cap leaves that spares a small machine.
            "BUSY_POLL_CPUS": str(len(self._server_cpus) or 1),
            # Empty: the engine picks a port, so that the user's servers keep theirs.
            **{f"{model.environment_prefix}_HOST_PORT": "" for model in MODELS.values()},
            "PLAYGROUND_HOST_PORT": "",
        }
        if self._configs:
            variables["IOLAB_CONFIGS"] = str(self._configs)
        command = [*compose_command(), "--project-directory", str(CHECKOUT), "--project-name", PROJECT]
        command += ["--profile", "*", *arguments]
        # A group of its own: Ctrl-C is for us.
        result = subprocess.run(
            command,
            env={**compose_environment(), **variables},
            capture_output=True,
            text=True,
            timeout=COMPOSE_SECONDS,
            process_group=0,
            check=False,
        )
        if result.returncode != 0:
            last = next(reversed(result.stderr.strip().splitlines()), f"exit {result.returncode}")
            raise PlaceFailed(f"docker compose {arguments[0]}: {last.strip()}; `make bench` builds what is missing")

    # Who is there

    def _listed(self, *labels: str, all: bool = True) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._docker.api.containers(all=all, filters={"label": list(labels)})
        return found

    def _others(self) -> list[dict[str, Any]]:
        """Containers of other iolab projects that run and are not paused."""
        running: list[dict[str, Any]] = self._docker.api.containers(filters={"status": "running"})
        return [
            one
            for one in running
            if one["State"] == "running"
            and one["Labels"].get(PROJECT_LABEL) != PROJECT
            and (one["Labels"].get(FOLDER_LABEL) == str(CHECKOUT) or one["Image"].startswith("iolab/"))
        ]

    def _seen(self) -> set[str]:
        """Of what could take processor time from a measurement: what is there, by the engine's own books."""
        seen = {f"the container {one['Names'][0].lstrip('/')} ran beside it" for one in self._others()}
        for one in self._listed(f"{PROJECT_LABEL}={PROJECT}", all=False):
            service = one["Labels"][SERVICE_LABEL]
            if (
                one["State"] == "running"
                and service not in self._started
                and one["Labels"].get(ONE_OFF_LABEL) != "True"
            ):
                seen.add(f"the container {service} of this comparison ran beside it")
        return seen

    # The servers

    @contextlib.contextmanager
    def start(self, model: Model) -> Iterator[Started]:
        """As Place has it; with the parts that the model needs, on the server's processors too.

        A model that was not named before is made now.
        """
        if model.service not in self._by_service:
            self._make(model.service)
        with contextlib.ExitStack() as stack:
            problems = []
            for part in model.parts:
                stack.enter_context(self._awake(part))
                problems.append(f"its {part} ran on the same processors, and is not in its CPU time and memory")
            container = stack.enter_context(self._running(model.service))
            listening = self._wait_for(model.service, find_listening)
            container.reload()
            networks = container.attrs["NetworkSettings"]["Networks"]
            address = networks[f"{PROJECT}_{FRONT}"]["IPAddress"]
            yield Started(
                model=model,
                target=Target(model=model, address=(address, listening["port"]), admin=(address, ADMIN_PORT)),
                listening=listening,
                others=(
                    *pinning(self._server_cpus, self._client_cpus),
                    *problems,
                    *_problems(container.attrs, self._server_cpus),
                ),
                cpus=self._server_cpus
                if container.attrs["HostConfig"]["CpusetCpus"] == _words(self._server_cpus)
                else (),
                pid=container.attrs["State"]["Pid"],
            )

    @contextlib.contextmanager
    def _awake(self, part: str) -> Iterator[None]:
        """A part of a model. Between rounds it is paused, not ended: it starts slowly, and is not the subject."""
        container = self._by_service[part]
        container.reload()
        self._started.add(part)
        try:
            if container.status == "paused":
                container.unpause()
            elif container.status != "running":
                container.start()
                self._undo.callback(self._unpause, [str(container.id)])
            self._wait_until_healthy(part)
            # Not before: on one processor the start takes three times as long.
            with contextlib.suppress(APIError):
                container.update(cpuset_cpus=_words(self._server_cpus))
            yield
        except DockerException as error:
            raise PlaceFailed(f"{part}: {error}") from None
        finally:
            with contextlib.suppress(APIError):
                container.pause()
            self._started.discard(part)

    @contextlib.contextmanager
    def _running(self, service: str) -> Iterator[Container]:
        container = self._by_service[service]
        self._started.add(service)
        # The engine keeps the log of all runs in one.
        self._said[service] = len(_log(container))
        try:
            # Where the engine cannot, the books tell, and so does each result.
            with contextlib.suppress(APIError):
                container.update(cpuset_cpus=_words(self._server_cpus))
            container.start()
            yield container
        except DockerException as error:
            raise PlaceFailed(f"{service}: {error}") from None
        finally:
            # Nobody is owed anything any more.
            with contextlib.suppress(APIError):
                container.kill()
            container.wait(timeout=API_SECONDS)
            self._started.discard(service)

    def _wait_for(self, service: str, find: Callable[[str], Any]) -> Any:
        """What `find` finds in what the container says from its start on."""
        container = self._by_service[service]
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            container.reload()
            printed = _log(container)[self._said[service] :]
            if found := find(printed):
                return found
            if container.status == "exited":
                raise PlaceFailed(f"{service}: {last_words(printed) or 'it ended'}")
            time.sleep(TICK_SECONDS)
        raise PlaceFailed(f"{service} did not start within {START_SECONDS:g} s")

    def _wait_until_healthy(self, service: str) -> None:
        """Make its health check by hand until it holds: the engine's own is an hour away."""
        container = self._by_service[service]
        test = container.attrs["Config"]["Healthcheck"]["Test"][1:]
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            container.reload()
            if container.status == "exited":
                raise PlaceFailed(f"{service}: {last_words(_log(container)) or 'it ended'}")
            if container.exec_run(test)[0] == 0:
                return
            time.sleep(TICK_SECONDS)
        raise PlaceFailed(f"{service} was not healthy within {START_SECONDS:g} s")

    # The client

    def check(self, started: Started) -> Verdicts:
        """As Place has it."""
        (verdicts,) = json.loads(self._client(["check", started.model.slug, "--json"], CHECK_SECONDS))
        clauses: Verdicts = verdicts["clauses"]
        return clauses

    def load(self, started: Started, plan: Plan) -> Measurement:
        """As Place has it."""
        before = self._seen()
        seconds = plan.warmup_seconds + plan.duration_seconds + plan.timeout_seconds + LOAD_SECONDS
        printed = self._client(["load", started.model.slug, *arguments(plan), "--json"], seconds)
        measurement = msgspec.json.decode(printed, type=Measurement)
        measurement.others += sorted(before | self._seen())
        return measurement

    def _client(self, arguments: Sequence[str], seconds: float, *, entrypoint: Sequence[str] = ()) -> bytes:
        """What the client prints on stdout. Raises PlaceFailed.

        Not by `docker exec`, whose output Engine 20.10 was seen to lose.
        """
        cpus = _words(self._client_cpus)
        with self.one_off(CLIENT, arguments, entrypoint=entrypoint, networks=(FRONT,), CpusetCpus=cpus) as container:
            try:
                code = container.wait(timeout=seconds)["StatusCode"]
            except RequestException as error:
                raise PlaceFailed(f"iolab-client {arguments[0]} did not end within {seconds:g} s: {error}") from None
            printed: bytes = container.logs(stdout=True, stderr=False)
            # With 1 a check has found something, and with 99 a threshold was missed.
            if not printed.strip():
                complaint = container.logs(stdout=False, stderr=True).decode(errors="replace")
                raise PlaceFailed(
                    f"iolab-client {arguments[0]}: {last_words(complaint) or f'exit {code}, and no word'}"
                )
            return printed

    @contextlib.contextmanager
    def one_off(
        self,
        service: str,
        arguments: Sequence[str],
        *,
        entrypoint: Sequence[str] = (),
        networks: Sequence[str] = (),
        **host: Any,
    ) -> Iterator[Container]:
        """A running container like the one that Compose has made of the service, gone at the end of the block.

        `host` is what its HostConfig has else than that one's. Raises PlaceFailed.
        """
        attributes = self._by_service[service].attrs
        config = attributes["Config"]
        try:
            made = self._docker.api.create_container_from_config(  # type: ignore[no-untyped-call]
                {
                    "Image": config["Image"],
                    "User": config["User"],
                    "Env": config["Env"],
                    "Labels": {**config["Labels"], ONE_OFF_LABEL: "True"},
                    "Entrypoint": list(entrypoint) or config["Entrypoint"],
                    "Cmd": list(arguments),
                    "HostConfig": {**attributes["HostConfig"], **host},
                    "NetworkingConfig": {"EndpointsConfig": {f"{PROJECT}_{network}": {} for network in networks}},
                }
            )
        except DockerException as error:
            raise PlaceFailed(f"{service}: {error}") from None
        try:
            container = self._docker.containers.get(made["Id"])
            container.start()
            yield container
        except DockerException as error:
            raise PlaceFailed(f"{service}: {error}") from None
        finally:
            self._docker.api.remove_container(made["Id"], force=True)

    def of_service(self, service: str) -> Container:
        """The container that Compose has made of it."""
        return self._by_service[service]

    def environment(self) -> Environment:
        """As Place has it; Python and the libraries are the client's image's."""
        here = environment.machine(self.name)
        printed = self._client(
            ["-m", "iolab_client.results.environment"],
            API_SECONDS,
            entrypoint=[os.path.join("/opt/iolab/bin", "python")],
        )
        inside = msgspec.json.decode(printed, type=environment.Interpreter)
        here.python, here.libraries = inside.python, inside.libraries
        here.docker = str(self._docker.version()["Version"])
        here.images = {service: str(one.attrs["Image"]) for service, one in sorted(self._by_service.items())}
        return here


def arguments(plan: Plan) -> list[str]:
    """A plan in the words of `iolab-client load`."""
    words = {
        "-c": plan.connections,
        "--pipeline": plan.pipeline,
        "-R": plan.rate,
        "-d": f"{plan.duration_seconds:g}s",
        "-n": plan.requests,
        "-s": ",".join(f"{one.size}:{one.share:g}" for one in plan.sizes)
        if len(plan.sizes) > 1
        else plan.sizes[0].size,
        "--connect-rate": plan.connect_rate,
        "--churn": plan.churn,
        "--idle": plan.idle or None,
        "--warmup": f"{plan.warmup_seconds:g}s",
        "--timeout": f"{plan.timeout_seconds:g}s",
        "--processes": plan.processes,
        "--cpus": _words(plan.cpus) or None,
    }
    return [word for key, value in words.items() if value is not None for word in (key, str(value))]


def _words(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus))


def _log(container: Container) -> str:
    text: bytes = container.logs()
    return text.decode(errors="replace")


def _problems(attributes: Mapping[str, Any], server_cpus: Sequence[int]) -> list[str]:
    """What a container's own books say against a measurement of it."""
    problems = []
    given = attributes["HostConfig"]["CpusetCpus"]
    if given != _words(server_cpus):
        problems.append(f"the container was not pinned to processors {_words(server_cpus)}, but to {given or 'none'}")
    interval = (attributes["Config"].get("Healthcheck") or {}).get("Interval", HEALTH_NANOSECONDS)
    if interval < HEALTH_NANOSECONDS:
        problems.append(f"its health was checked every {interval / 1e9:g} s")
    return problems
