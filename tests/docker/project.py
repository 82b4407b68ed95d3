"""The whole compose file up as one project, as `make up` leaves it, with ports and a config folder of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from docker.errors import APIError
from docker.models.containers import Container
from docker.models.networks import Network

from iolab.registry import MODELS, Model
from iolab_client.contract import peers
from iolab_client.servers.address import Address, connect
from tests.support.compose import (
    BUSY_POLL_CPUS,
    CHECKOUT,
    UNCHECKED,
    ComposeTarget,
    InContainer,
    compose_environment,
    run_in,
)
from tests.support.server import Settings
from tests.support.waiting import eventually

POLLS = MODELS["busy_poll"]
LISTENING = '"event": "listening"'

Result = TypeVar("Result")


class Service(InContainer):
    """A model's container of a project. One object is one run of it: `again` gives the next."""

    def __init__(self, model: Model, settings: Settings, container: Container, run: int) -> None:
        super().__init__(model, settings, container)
        self._run = run

    @property
    def published(self) -> Address:
        """Where this machine reaches it without knowing of its network; the engine picks the port at each start."""

        def look() -> list[dict[str, str]]:
            self.container.reload()
            return self.container.attrs["NetworkSettings"]["Ports"].get(f"{self.address[1]}/tcp") or []

        (binding,) = eventually(look, f"{self.model.service} is published")
        return binding["HostIp"], int(binding["HostPort"])

    @property
    def health(self) -> str:
        """What its health check says: starting, healthy or unhealthy."""
        self.container.reload()
        return str(self.container.attrs["State"]["Health"]["Status"])

    def output(self) -> str:
        """Its log since this run began; the engine keeps all runs in one."""
        lines = super().output().splitlines(keepends=True)
        begins = [number for number, line in enumerate(lines) if LISTENING in line]
        return "".join(lines[begins[self._run] :]) if self._run < len(begins) else ""

    def run_in_it(self, *command: str, user: str = "") -> tuple[int, str]:
        """`docker exec`: the exit code, and what it printed on both streams."""
        return run_in(self.container, *command, user=user)

    def again(self) -> Service:
        """`docker start` it after its end; the next run, listening."""
        self.container.start()
        started = Service(self.model, self.settings, self.container, self._run + 1)
        assert started.listening
        return started


class Outcomes(Generic[Result]):
    """What came of doing one thing with every model at the same time; each test looks at its own model's."""

    def __init__(self, futures: Mapping[str, Future[Result]]) -> None:
        self._futures = futures

    def of(self, model: Model) -> Result:
        """Its result; raises what was raised."""
        return self._futures[model.slug].result()

    def all(self) -> list[Result]:
        """Every model's result; raises what was raised."""
        return [future.result() for future in self._futures.values()]


def at_once(act: Callable[[Model], Result], models: Iterable[Model] = tuple(MODELS.values())) -> Outcomes[Result]:
    """Do something with every model at the same time: a stop is mostly waiting."""
    chosen = list(models)
    with ThreadPoolExecutor(len(chosen)) as pool:
        return Outcomes({model.slug: pool.submit(act, model) for model in chosen})


class Project(ComposeTarget):
    """A Compose project of every model. `settings` are by slug, what is not there as the class has it."""

    def __init__(self, settings: Mapping[str, Settings] | None = None, **variables: str) -> None:
        super().__init__()
        self.settings = {slug: {"port": model.port, **(settings or {}).get(slug, {})} for slug, model in MODELS.items()}
        self.folder = self.configs(self.settings)
        # Everyone may write there, so that it is the mount alone which keeps a container from it.
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        self._waking = threading.Lock()
        self._variables = {
            "IOLAB_CONFIGS": str(self.folder),
            # Who waits until they are healthy says how often they are looked at.
            **UNCHECKED,
            "BUSY_POLL_CPUS": str(BUSY_POLL_CPUS),
            # Empty: the engine picks one.
            "PLAYGROUND_HOST_PORT": "",
            **{f"{model.environment_prefix}_HOST_PORT": "" for model in MODELS.values()},
            **variables,
        }

    # The commands of a user

    def compose(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        if arguments[0] == "run":
            # Whoever is run may want an answer of every model.
            self._wake()
        return super().compose(*arguments, variables=self._variables | dict(variables or {}))

    def up(self, *arguments: str) -> None:
        """`docker compose up`, of images that are there. AssertionError if it does not exit with 0."""
        self.compose("up", "--detach", "--no-build", *arguments)

    def up_unchecked(self) -> None:
        """Every model up and listening, without the checks that `up --wait` waits for and that never end."""
        for part in (part for model in MODELS.values() for part in model.parts):
            self._start_service(part)
        self.up("--no-deps", *(model.service for model in MODELS.values()))
        at_once(lambda model: self.service(model).listening).all()

    def down(self) -> str:
        """What `make down` does."""
        return self.compose("--profile", "*", "down", "--volumes", "--remove-orphans")

    def run_client(self, *arguments: str) -> str:
        """`docker compose run --rm client …`; returns what it printed. AssertionError if it does not exit with 0."""
        return self.compose("run", "--rm", "--no-TTY", "client", *arguments)

    def write(self, model: Model, **changes: Any) -> Path:
        """Change a model's YAML file; returns it."""
        self.settings[model.slug] |= changes
        file = self.folder / "models" / f"{model.slug}.yaml"
        file.write_text(yaml.safe_dump(self.settings[model.slug]))
        return file

    def follow_configs(self) -> subprocess.CompletedProcess[str]:
        """What `make up` does about the YAML files before it calls Compose, on this project's .env."""
        script = '. "$1/scripts/setup.sh"; venv=$2; cd "$3"; setup_configs docker'
        command = ["bash", "-c", script, "make-up", str(CHECKOUT), sys.prefix, str(self._dotenv.parent)]
        environment = compose_environment({"IOLAB_CONFIGS": str(self.folder)})
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    # What is there

    def container(self, model: Model) -> Container:
        """A model's container, running or not."""
        (found,) = self.containers_of(model.service)
        return found

    def service(self, model: Model) -> Service:
        """A model's container in its present run."""
        if model is POLLS:
            self._wake()
        container = self.container(model)
        printed = container.logs(stdout=True, stderr=False).decode()
        return Service(model, self.settings[model.slug], container, max(0, printed.count(LISTENING) - 1))

    def let_rest(self) -> None:
        """Pause what polls until somebody asks for it: it would take its share from the tests that are about others."""
        for container in self.containers_of(POLLS.service):
            # runc gives up on a container that is being throttled: then it rests after the next test.
            with contextlib.suppress(APIError):
                if container.status == "running":
                    container.pause()

    def _wake(self) -> None:
        # Tests start several containers at once, and what is awake can't be woken. A project may be up without it.
        with self._waking:
            for container in self.containers_of(POLLS.service):
                if container.status == "paused":
                    container.unpause()

    def close(self) -> None:
        """Remove all of it."""
        # An engine may refuse to kill what is paused.
        with contextlib.suppress(APIError):
            self._wake()
        super().close()

    @property
    def network(self) -> Network:
        """The network that the clients share with the models."""
        (found,) = self.client.networks.list(names=[f"{self.project}_front"])
        return found

    def reconnect(self, model: Model) -> None:
        """`docker network connect` it, under the name that Compose gave it."""
        self.network.connect(self.container(model), aliases=[model.service])

    def restore(self, model: Model) -> None:
        """Undo what a test did to a model's container: afterwards it serves. Complains of what it printed on stderr."""
        container = self.container(model)
        if container.status == "paused":
            container.unpause()
        if self.network.name not in container.attrs["NetworkSettings"]["Networks"]:
            self.reconnect(model)
        service = self.service(model)
        if container.status != "running":
            service = service.again()
        eventually(lambda: _answers(service), f"{model.service} answers again")
        assert service.errors() == ""


def _answers(service: Service) -> bool:
    try:
        with connect(service.address) as client:
            return peers.exchange(client, b"a") == b"A"
    except OSError:
        return False
