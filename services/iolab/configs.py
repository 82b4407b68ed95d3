"""The YAML files: `defaults.yaml`, then `models/<slug>.yaml`, then the command line."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import yaml

from iolab.registry import MODELS, Model
from iolab.settings import FD_SETSIZE, OWN_KEYS, SELECT_LIMIT, BadSetting, Settings, WorkDial, uses_select


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key may stand once only: PyYAML silently lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise BadSetting(f"{key}: stands {times} times; expected once")
        return super().construct_mapping(node, deep=deep)


def load(model: Model, folder: Path | None, file: Path | None = None) -> Settings:
    """A model's settings out of `folder` (defaults.yaml, models/<slug>.yaml), or out of `file` in the latter's place.

    Without a folder the defaults of the class hold. Raises BadSetting.
    """
    values: dict[str, Any] = {"port": model.port}
    if folder is not None:
        values |= _read(folder / "defaults.yaml", model, defaults=True)
        file = file or file_of(model, folder)
    if file is not None:
        own = _read(file, model)
        if isinstance(own.get("work"), dict) and isinstance(values.get("work"), dict):
            own["work"] = values["work"] | own["work"]
        values |= own
    settings = _convert(values, file)
    _check_together(settings, model, file or file_of(model, folder))
    return settings


def file_of(model: Model, folder: Path | None) -> Path:
    """The file that has a model's settings; without a folder, the words that stand for it in a message."""
    return folder / "models" / f"{model.slug}.yaml" if folder else Path(f"{model.slug} (built-in defaults)")


def load_all(folder: Path | None) -> dict[str, Settings]:
    """The settings of every model, checked against each other too. Raises BadSetting."""
    settings = {slug: load(model, folder) for slug, model in MODELS.items()}
    check_ports(settings, folder)
    return settings


def check_ports(settings: dict[str, Settings], folder: Path | None) -> None:
    """Raise BadSetting when two models would listen on one port."""
    owners: dict[int, Path] = {}
    for slug, values in settings.items():
        file = file_of(MODELS[slug], folder)
        other = owners.setdefault(values.port, file)
        if other != file:
            raise BadSetting(f"{file}: port: got {values.port}, which {other} has too; expected a port of its own")


def override(settings: Settings, **changes: Any) -> Settings:
    """Settings with what the command line says, where it says anything; those values are checked by its options."""
    return msgspec.structs.replace(settings, **{key: value for key, value in changes.items() if value is not None})


def check_compose(settings: Settings, model: Model, file: Path, environment: Mapping[str, str]) -> None:
    """Raise BadSetting where a container cannot keep what the file says: another port published, or killed too early.

    compose tells the port it published in IOLAB_PUBLISHED_PORT, its stop_grace_period in IOLAB_STOP_GRACE_SECONDS.
    """
    published = environment.get("IOLAB_PUBLISHED_PORT")
    if published and int(published) != settings.port:
        raise BadSetting(
            f"{file}: port: got {settings.port}, but docker-compose.yml publishes {published};"
            f" expected the same: run `make up`, or set {model.environment_prefix}_PORT={settings.port} in .env"
        )
    grace = environment.get("IOLAB_STOP_GRACE_SECONDS")
    if grace and settings.drain_seconds >= float(grace):
        raise BadSetting(
            f"{file}: drain_seconds: got {settings.drain_seconds:g}, but docker-compose.yml kills after {grace} s"
            " (stop_grace_period); expected less: lower it, or set STOP_GRACE_SECONDS in .env"
        )


def _read(file: Path, model: Model, *, defaults: bool = False) -> dict[str, Any]:
    """One file's own keys, each with a value that it may have."""
    try:
        text = file.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=_UniqueKeyLoader)
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read ({error.strerror}); expected a YAML file of settings") from None
    except UnicodeDecodeError:
        raise BadSetting(f"{file}: is not UTF-8; expected a YAML file of settings") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or "not YAML"
        raise BadSetting(f"{file}{line}: is not YAML ({reason}); expected lines of `key: value`") from None
    except BadSetting as error:
        raise BadSetting(f"{file}: {error}") from None
    if values is None:
        raise BadSetting(f"{file}: is empty; expected lines of `key: value`, such as `port: {model.port}`")
    if not isinstance(values, dict):
        raise BadSetting(f"{file}: holds a {type(values).__name__}; expected lines of `key: value`")
    allowed = set(Settings.__struct_fields__) - OWN_KEYS
    # What is every model's must not be one model's: a port or a selector has no place among the defaults.
    allowed = allowed - {"port"} if defaults else allowed | set(model.own_keys)
    for key, value in values.items():
        if key not in allowed:
            names = ", ".join(sorted(allowed))
            raise BadSetting(
                f"{file}: {key}: got {_shown(value)}, but no such key is known here; expected one of {names}"
            )
    _convert(values, file)
    return values


def _convert(values: dict[str, Any], file: Path | None) -> Settings:
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        key, value = path.removesuffix("`"), _at(values, path)
        if unknown := re.search(r"unknown field `(.*)`", message):
            key, value, message = f"{key}.{unknown[1]}", value[unknown[1]], f"Expected one of {_names(WorkDial)}"
        elif "enum" in message:
            message = f"Expected one of {', '.join(get_args(get_type_hints(Settings)[key]))}"
        expectation = message[0].lower() + message[1:].partition(", got ")[0].replace("`", "").replace("int", "integer")
        raise BadSetting(f"{file}: {key}: got {_shown(value)}, {expectation}") from None


def _at(values: Any, path: str) -> Any:
    """The value that msgspec found wrong, by its path: `work.cpu_us`, `cpus[0]`."""
    for part in re.findall(r"\w+", path):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _names(struct: type[msgspec.Struct]) -> str:
    return ", ".join(struct.__struct_fields__)


def _shown(value: Any) -> str:
    """The value as YAML spells it: true, null, 1.5."""
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n").removesuffix("\n...")


def _check_together(settings: Settings, model: Model, file: Path) -> None:
    """What one key alone does not show."""
    if settings.drain_quiet_seconds >= settings.drain_seconds:
        raise BadSetting(
            f"{file}: drain_quiet_seconds: got {settings.drain_quiet_seconds:g}, expected less than"
            f" drain_seconds ({settings.drain_seconds:g})"
        )
    if uses_select(settings, model) and (settings.max_connections or 0) > SELECT_LIMIT:
        raise BadSetting(
            f"{file}: max_connections: got {settings.max_connections}, expected at most {SELECT_LIMIT}:"
            f" select(2) watches descriptors below {FD_SETSIZE} only"
        )
    if settings.loop == "uvloop" and find_spec("uvloop") is None:
        raise BadSetting(f"{file}: loop: got uvloop, which is not installed; expected `pip install uvloop`, or asyncio")
    if "visibility_timeout" in model.own_keys:
        work_seconds = settings.work.cpu_us / 1_000_000 + settings.work.wait_ms / 1000
        if settings.visibility_timeout <= work_seconds:
            raise BadSetting(
                f"{file}: visibility_timeout: got {settings.visibility_timeout:g}, expected more than the"
                f" {work_seconds:g} s that one answer's work takes"
            )
        if settings.broker_seconds <= settings.visibility_timeout:
            raise BadSetting(
                f"{file}: broker_seconds: got {settings.broker_seconds:g}, expected more than visibility_timeout"
                f" ({settings.visibility_timeout:g}), after which another worker takes over"
            )
    if settings.buffers.bit_count() != 1:
        raise BadSetting(f"{file}: buffers: got {settings.buffers}, expected a power of two")
    absent = set(settings.cpus) - os.sched_getaffinity(0)
    if absent:
        raise BadSetting(
            f"{file}: cpus: got {sorted(settings.cpus)}, expected processors out of {sorted(os.sched_getaffinity(0))}"
        )
    try:
        socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadSetting(
            f"{file}: host: got {settings.host}, expected an address of this machine ({error.strerror})"
        ) from None
