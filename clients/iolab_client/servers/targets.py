"""Where a model is: its data address, and its admin address if that can be reached.

These places are searched in order, and the first match is taken:

1. an address given as HOST:PORT;
2. in the client's container (IOLAB_IN_COMPOSE=1), the service of that name on the Docker network;
3. a server that runs as a plain process on this machine and left a run file (`iolab serve`, `iolab up`);
4. a container of the Compose project (COMPOSE_PROJECT_NAME, else `iolab`) on this machine;
5. 127.0.0.1 and the port of the model's YAML file, with no admin port.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from iolab import registry
from iolab.configs import load
from iolab.program import shortened
from iolab.registry import MODELS, YARDSTICK, Model
from iolab.run import run_files
from iolab.settings import BadSetting, Settings
from iolab_client.servers.address import REMEDY, Address, connect, parse, show

# The servers with a name: the models, and the yardstick.
NAMED = {**MODELS, YARDSTICK.slug: YARDSTICK}
# How a server on every address is announced, and where it is reached from its own machine.
EVERYWHERE = frozenset({"0.0.0.0", "::"})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# The admin port of a container; it is not published.
ADMIN_PORT = 9100
# A container's own address is one hop away or, with a rootless engine, unreachable.
REACH_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to talk to. Without `model` only its address is known."""

    model: Model | None
    address: Address
    admin: Address | None = None
    # Why there is no admin address.
    no_admin: str = "only its own port is known"

    @property
    def name(self) -> str:
        """The model's slug, or the address."""
        return self.model.slug if self.model else self.shown_address

    @property
    def shown_address(self) -> str:
        """HOST:PORT, as the command line takes it."""
        return show(self.address)


class Wanted(click.ParamType[Model | Address]):
    """A model's name in either spelling, `yardstick`, or HOST:PORT."""

    name = "MODEL"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Model | Address:
        """The model or address. Raises click.BadParameter, which lists the models."""
        if isinstance(value, (Model, tuple)):
            return value
        if ":" in str(value):
            if address := parse(str(value)):
                return address
            self.fail(f"{shortened(str(value))} is not HOST:PORT", parameter, context)
        if value == YARDSTICK.slug:
            return YARDSTICK
        try:
            return registry.find(value)
        except KeyError as error:
            self.fail(error.args[0], parameter, context)


class BadConfig(click.ClickException):
    """A setting that is refused: one line, and the exit code of a usage error."""

    exit_code = 2


def configs_folder() -> Path | None:
    """The folder of YAML files: $IOLAB_CONFIGS or ./configs; None: there is none, and the built-in settings apply."""
    folder = Path(os.environ.get("IOLAB_CONFIGS") or "configs")
    return folder if "IOLAB_CONFIGS" in os.environ or folder.is_dir() else None


def configured(model: Model) -> Settings:
    """The model's settings from the YAML files in $IOLAB_CONFIGS or ./configs, else the built-in ones.

    Raises BadConfig.
    """
    try:
        return load(model, configs_folder() if model.slug in MODELS else None)
    except BadSetting as error:
        raise BadConfig(str(error)) from None


def resolve(wanted: Sequence[Model | Address]) -> list[Target]:
    """Where each of them is; all models if none is named. Raises BadConfig if a YAML file is needed and bad."""
    given = wanted or list(MODELS.values())
    models = [one for one in given if isinstance(one, Model)]
    found = _in_compose(models) if os.environ.get("IOLAB_IN_COMPOSE") == "1" else _on_this_machine(models)
    return [found[one.slug] if isinstance(one, Model) else _given(one) for one in given]


def resolve_admins(wanted: Sequence[Model | Address]) -> list[Target]:
    """`resolve` for the admin pages: an address of no known server is taken for that of an admin port."""
    return [target if target.model else replace(target, admin=target.address) for target in resolve(wanted)]


def resolve_known() -> dict[str, Target]:
    """Where the models are that can be found without asking the engine: in the client's container all of them, on the
    Docker network; elsewhere those with a run file.

    Raises BadConfig if a YAML file is needed and bad.
    """
    if os.environ.get("IOLAB_IN_COMPOSE") == "1":
        return _in_compose(list(MODELS.values()))
    return {server.model: _process(server) for server in run_files.running() if server.model in MODELS}


def resolve_admin(wanted: Model | Address) -> Target:
    """Where the admin pages of one server are."""
    (target,) = resolve_admins([wanted])
    return target


def _given(address: Address) -> Target:
    for server in run_files.running():
        host, port = address
        everywhere = server.host in EVERYWHERE and host in LOOPBACK
        if port == server.port and (everywhere or host == server.host):
            return _process(server)
    return Target(model=None, address=address)


def _in_compose(models: Sequence[Model]) -> dict[str, Target]:
    return {
        model.slug: Target(
            model=model,
            address=(model.service, configured(model).port),
            admin=(model.service, ADMIN_PORT),
        )
        for model in models
    }


def _on_this_machine(models: Sequence[Model]) -> dict[str, Target]:
    # Of two servers of one model the later one wins: running() begins with the oldest.
    found = {server.model: _process(server) for server in run_files.running() if server.model in NAMED}
    missing = [model for model in models if model.slug not in found]
    if missing:
        containers, reason = _containers()
        for model in missing:
            container = containers.get(model.service)
            found[model.slug] = (container and _container(model, container)) or Target(
                model=model, address=("127.0.0.1", configured(model).port), no_admin=reason
            )
    return found


def _process(server: run_files.Running) -> Target:
    host = _reachable(server.host)
    return Target(model=NAMED.get(server.model), address=(host, server.port), admin=(host, server.admin_port))


def _reachable(host: str) -> str:
    """The address to connect to for a server on `host`; loopback if it listens on every address."""
    return "127.0.0.1" if host in EVERYWHERE else host


def _containers() -> tuple[dict[str, dict[str, Any]], str]:
    """The engine's attributes of each running service of the project; and, if there is none, why."""
    project = os.environ.get("COMPOSE_PROJECT_NAME", "iolab")
    try:
        # Imported here: it is slow, and missing if only the servers are installed.
        from docker.errors import DockerException

        from docker import from_env
    except ImportError:
        return {}, "no run file, and the Docker SDK is not installed: pip install 'iolab[client]'"
    try:
        client = from_env()
    except DockerException as error:
        return {}, f"no run file, and Docker does not answer ({_innermost(error)})"
    try:
        listed = client.containers.list(
            filters={"label": [f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False"]},
            ignore_removed=True,
        )
        services = {one.labels["com.docker.compose.service"]: dict(one.attrs) for one in listed}
    except DockerException as error:
        return {}, f"no run file, and Docker does not answer ({_innermost(error)})"
    finally:
        client.close()
    return services, f"no run file, and no running container of it in the project {project!r}; {REMEDY}"


def _container(model: Model, attributes: dict[str, Any]) -> Target | None:
    """A container, by its own address on its network or, with a rootless engine, by its published one."""
    settings = attributes["NetworkSettings"]
    variables = dict(entry.partition("=")[::2] for entry in attributes["Config"]["Env"])
    # The server refuses to start on another port than compose has published.
    port = int(variables.get("IOLAB_PUBLISHED_PORT") or configured(model).port)
    for network in settings["Networks"].values():
        admin = (network["IPAddress"], ADMIN_PORT)
        if admin[0] and _answers(admin):
            return Target(model=model, address=(admin[0], port), admin=admin)
    for published in settings["Ports"].get(f"{port}/tcp") or ():
        host = _reachable(published["HostIp"])
        reason = "the container's own address cannot be reached from here"
        return Target(model=model, address=(host, int(published["HostPort"])), no_admin=reason)
    return None


def _answers(address: Address) -> bool:
    try:
        connect(address, deadline_seconds=REACH_SECONDS).close()
    except OSError:
        return False
    return True


def _innermost(error: BaseException) -> str:
    """The original error, which the SDK wraps in three of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)
