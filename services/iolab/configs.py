"""The YAML files: `defaults.yaml`, then `models/<slug>.yaml`, then the command line."""

from __future__ import annotations

import math
import os
import re
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import inspect

from iolab.registry import MODELS, Model
from iolab.settings import FD_SETSIZE, OWN_KEYS, SELECT_LIMIT, BadSetting, PlaygroundSettings, Settings, WorkDial

# A file of settings is a screenful; a much larger one is something else.
MOST_CHARACTERS = 1 << 20
# How much of a value a message shows.
SHOWN_CHARACTERS = 80
# The struct that a file is read as.
Kind = TypeVar("Kind", bound=msgspec.Struct)
# What stands for the command line in a message.
SET = Path("--set")
BROKER_URL = re.compile(r"redis://[^/@\s]+(/\d{1,3})?|redis\+socket:///[^?\0]+")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which each key may occur once: PyYAML silently lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise BadSetting(f"{_shortened(key)}: stands {times} times; expected once")
        return super().construct_mapping(node, deep=deep)


def load(model: Model, folder: Path | None, file: Path | None = None, given: Sequence[str] = ()) -> Settings:
    """A model's settings from `folder` (defaults.yaml, models/<slug>.yaml), with `file` in place of the latter.

    Without a folder the defaults of the class apply. `given`, each KEY=VALUE, come from the command line and override
    both. Raises BadSetting.
    """
    values: dict[str, Any] = {"port": model.port}
    if folder is not None:
        values |= _read(folder / "defaults.yaml", model, defaults=True)
        file = file or file_of(model, folder)
    if file is not None:
        values |= _over(values, _read(file, model))
    if given:
        values |= _over(values, _checked(_assigned(given), SET, model))
    settings = _convert(values, file, Settings)
    _check_together(settings, model, file or file_of(model, folder))
    return settings


def _over(values: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own`, whose dials that it does not turn stand as `values` have them."""
    if isinstance(own.get("work"), dict) and isinstance(values.get("work"), dict):
        return own | {"work": values["work"] | own["work"]}
    return own


def _assigned(given: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE as a file would have it: the value is YAML, and `work.wait_ms` is a key in the mapping `work`."""
    values: dict[str, Any] = {}
    for assignment in given:
        key, equals, text = assignment.partition("=")
        if not key or not equals:
            raise BadSetting(f"{SET}: got {_shortened(assignment)}, expected KEY=VALUE, such as backlog=16")
        outer, dot, inner = key.partition(".")
        value = _parsed(text, Path(f"{SET} {_shortened(key)}"))
        if dot:
            mapping = values.get(outer)
            values[outer] = {**(mapping if isinstance(mapping, dict) else {}), inner: value}
        else:
            values[outer] = value
    return values


def file_of(model: Model, folder: Path | None) -> Path:
    """The file with a model's settings; without a folder, what a message shows in its place."""
    return folder / "models" / f"{model.slug}.yaml" if folder else Path(f"{model.slug} (built-in defaults)")


def load_all(folder: Path | None) -> dict[str, Settings]:
    """The settings of every model, also checked against each other. Raises BadSetting."""
    settings = {slug: load(model, folder) for slug, model in MODELS.items()}
    check_ports(settings, folder)
    return settings


def check_ports(settings: dict[str, Settings], folder: Path | None) -> None:
    """Raise BadSetting when two models, or a model and the playground, would listen on one port."""
    playground = (folder or Path()) / "playground.yaml"
    owners: dict[int, Path] = {load_playground(folder).port: playground}
    for slug, values in settings.items():
        file = file_of(MODELS[slug], folder)
        other = owners.setdefault(values.port, file)
        if other != file:
            raise BadSetting(f"{file}: port: got {values.port}, which {other} has too; expected a port of its own")


def override(settings: Settings, **changes: Any) -> Settings:
    """Settings with the command line's values, where it gives any; its options have checked all but the host.

    Raises BadSetting.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    if "host" in changes:
        _check_host(changes["host"], "--host")
    return msgspec.structs.replace(settings, **changes)


def check_compose(settings: Settings, model: Model, file: Path, environment: Mapping[str, str]) -> None:
    """Raise BadSetting where the container contradicts the file: it publishes another port, or is killed too early.

    compose gives the published port in IOLAB_PUBLISHED_PORT, and its stop_grace_period in IOLAB_STOP_GRACE_SECONDS.
    """
    check_published(settings.port, file, model.environment_prefix, environment)
    grace = _number(environment, "IOLAB_STOP_GRACE_SECONDS")
    if grace is not None and settings.drain_seconds >= grace:
        raise BadSetting(
            f"{file}: drain_seconds: got {settings.drain_seconds:g}, but docker-compose.yml kills after {grace:g} s"
            " (stop_grace_period); expected less: lower it, or set STOP_GRACE_SECONDS in .env"
        )


def check_work(settings: Settings, model: Model, work: WorkDial, where: str) -> None:
    """Raise BadSetting if a task would be given to another worker while the first one still does it."""
    work_seconds = work.cpu_us / 1_000_000 + work.wait_ms / 1000
    if "visibility_timeout" in model.own_keys and settings.visibility_timeout <= work_seconds:
        raise BadSetting(
            f"{where}: visibility_timeout: got {settings.visibility_timeout:g}, expected more than the"
            f" {work_seconds:g} s that one answer's work takes"
        )


def check_published(port: int, file: Path, prefix: str, environment: Mapping[str, str]) -> None:
    """Raise BadSetting if Compose publishes another port than the file's; `prefix` is that of its variables."""
    published = _number(environment, "IOLAB_PUBLISHED_PORT")
    if published is not None and published != port:
        raise BadSetting(
            f"{file}: port: got {port}, but docker-compose.yml publishes {published:g};"
            f" expected the same: run `make up`, or set {prefix}_PORT={port} in .env"
        )


def check_broker(url: str, where: str) -> None:
    """Raise BadSetting if the URL can be no broker's; whether a broker is there shows only when it is used."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        good = BROKER_URL.fullmatch(url) and parts.port != 0
    except ValueError:
        # A port above 65535, half a bracket, a host that IDNA doesn't take.
        good = False
    if not good:
        raise BadSetting(f"{where}: got {_shortened(url)}, expected redis://HOST:6379/0 or redis+socket:///PATH")


def check_environment(settings: Settings, model: Model, environment: Mapping[str, str]) -> None:
    """Raise BadSetting where a variable replaces a key and holds a value that the key may not have."""
    url = environment.get("IOLAB_BROKER_URL")
    if "broker_url" in model.own_keys and not settings.broker_url and url:
        check_broker(url, "IOLAB_BROKER_URL")


def _number(environment: Mapping[str, str], name: str) -> float | None:
    text = environment.get(name)
    if not text:
        return None
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text):
        raise BadSetting(f"{name}: got {_shortened(text)}, expected a number; docker-compose.yml sets it")
    return float(text)


def load_playground(folder: Path | None) -> PlaygroundSettings:
    """The playground's settings from `folder`/playground.yaml; without a folder or file, the built-in ones.

    Raises BadSetting.
    """
    file = folder / "playground.yaml" if folder else None
    if file is None or not file.exists():
        return PlaygroundSettings()
    settings = read_as(file, PlaygroundSettings, f"port: {PlaygroundSettings().port}")
    _check_host(settings.host, f"{file}: host")
    return settings


def read_as(file: Path, kind: type[Kind], example: str) -> Kind:
    """A YAML file as a struct of that kind; `example` is a line that could stand in it. Raises BadSetting."""
    return _convert(_read_mapping(file, example), file, kind)


def _read(file: Path, model: Model, *, defaults: bool = False) -> dict[str, Any]:
    """One file's own keys, each with a valid value."""
    return _checked(_read_mapping(file, f"port: {model.port}"), file, model, defaults=defaults)


def _checked(values: dict[str, Any], file: Path, model: Model, *, defaults: bool = False) -> dict[str, Any]:
    """The values, if each key is allowed there and has a valid value."""
    allowed = set(Settings.__struct_fields__) - OWN_KEYS
    # A key of one model alone, such as its port or loop, has no place among the defaults of all.
    allowed = allowed - {"port"} if defaults else allowed | set(model.own_keys)
    for key, value in values.items():
        if key not in allowed:
            names = ", ".join(sorted(allowed))
            raise BadSetting(
                f"{file}: {_shortened(str(key))}: got {_shown(value)}, but no such key is known here; expected one of"
                f" {names}"
            )
    _convert(values, file, Settings)
    return values


def _read_mapping(file: Path, example: str) -> dict[str, Any]:
    """The keys and values of one file; `example` is a line that could stand in it."""
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read ({error.strerror}); expected a YAML file of settings") from None
    except UnicodeDecodeError:
        raise BadSetting(f"{file}: is not UTF-8; expected a YAML file of settings") from None
    if len(text) > MOST_CHARACTERS:
        raise BadSetting(f"{file}: is larger than {MOST_CHARACTERS >> 20} MiB; expected a YAML file of settings")
    values = _parsed(text, file)
    if values is None:
        raise BadSetting(f"{file}: is empty; expected lines of `key: value`, such as `{example}`")
    if not isinstance(values, dict):
        raise BadSetting(f"{file}: holds a {type(values).__name__}; expected lines of `key: value`")
    return values


def _parsed(text: str, file: Path) -> Any:
    """What a text says in YAML."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or "not YAML"
        raise BadSetting(f"{file}{line}: is not YAML ({reason}); expected lines of `key: value`") from None
    except BadSetting as error:
        raise BadSetting(f"{file}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # PyYAML's own errors for a value that only looks like one of a type: a date of month 13, a number of 5,000
        # digits, `0x_`, `!!int abc`, a thousand brackets.
        reason = _shortened(str(error) or type(error).__name__)
        raise BadSetting(f"{file}: holds a value that YAML cannot read ({reason}); expected plain settings") from None


def _convert(values: dict[str, Any], file: Path | None, wanted: type[Kind]) -> Kind:
    try:
        settings = msgspec.convert(values, wanted)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        path = path.removesuffix("`")
        if unknown := re.search(r"unknown field `(.*)`", message):
            value = _at(values, path)[unknown[1]]
            key = f"{path}.{_shortened(unknown[1])}".removeprefix(".")
            raise _bad(file, key, value, f"one of {_keys(wanted, path)}") from None
        if missing := re.search(r"missing required field `(.*)`", message):
            key = f"{path}.{missing[1]}".removeprefix(".")
            raise BadSetting(f"{file}: {key}: is missing; expected {_expectation(wanted, key)}") from None
        raise _bad(file, path, _at(values, path), _expectation(wanted, path)) from None
    # No bound keeps NaN out: it is neither below nor above any number.
    for key, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, float) and math.isnan(value):
            raise _bad(file, key, value, _expectation(wanted, key))
    return settings


def _bad(file: Path | None, key: str, value: Any, expectation: str) -> BadSetting:
    return BadSetting(f"{file}: {key}: got {_shown(value)}, expected {expectation}")


def _at(values: Any, path: str) -> Any:
    """The value that msgspec found wrong, by its path: `work.cpu_us`, `cpus[0]`."""
    for part in re.findall(r"\w+", path):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _keys(wanted: type[msgspec.Struct], path: str) -> str:
    kind = _type_at(wanted, path)
    assert isinstance(kind, inspect.StructType)
    return ", ".join(field.name for field in kind.fields)


def _expectation(wanted: type[msgspec.Struct], path: str) -> str:
    """The values that a key may have, with their bounds: `an integer from 1 to 65535`."""
    return _in_words(_type_at(wanted, path))


def _type_at(wanted: type[msgspec.Struct], path: str) -> inspect.Type:
    kind: inspect.Type = inspect.type_info(wanted)
    for part in re.findall(r"\w+", path):
        if isinstance(kind, inspect.UnionType):
            kind = next((one for one in kind.types if isinstance(one, inspect.StructType)), kind)
        if isinstance(kind, inspect.StructType):
            kind = next(field.type for field in kind.fields if field.name == part)
        elif isinstance(kind, inspect.VarTupleType):
            kind = kind.item_type
        elif isinstance(kind, inspect.DictType):
            kind = kind.value_type
    return kind


def _in_words(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType(ge=least, le=most):
            return f"an integer from {least} to {most}"
        case inspect.FloatType(ge=least, le=most):
            return f"a number from {least or 0:g} to {int(most or 0)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.DictType(value_type=value):
            return f"names, each with {_in_words(value)}"
        case inspect.StrType(max_length=most):
            return f"text of 1 to {most} characters"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.VarTupleType(item_type=item):
            return f"a list: [] or [{_in_words(item)}, ...]"
        case inspect.StructType(fields=fields):
            return f"keys out of {', '.join(field.name for field in fields)}, as in {{{fields[0].name}: 100}}"
        case inspect.UnionType(types=types):
            return (
                " or ".join(_in_words(each) for each in types if not isinstance(each, inspect.NoneType)) + ", or null"
            )
    raise AssertionError(f"no words for {kind}")


def _shown(value: Any) -> str:
    """The value as YAML spells it: true, null, 1.5; a long one is shortened."""
    try:
        text = str(yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True))
    except (RecursionError, ValueError, yaml.YAMLError):
        return f"a {type(value).__name__}"
    return _shortened(text.removesuffix("\n").removesuffix("\n..."))


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text):,} characters)"


def _check_host(host: str, where: str) -> None:
    """Raise BadSetting if a server could not listen on the host."""
    try:
        socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        # A ValueError is from IDNA (`a..b`), or from a character that no name may have.
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise BadSetting(f"{where}: got {_shortened(host)}, expected an address of this machine ({reason})") from None


def _check_together(settings: Settings, model: Model, file: Path) -> None:
    """Check what depends on more than one key, or on this machine."""
    if settings.drain_quiet_seconds >= settings.drain_seconds:
        raise BadSetting(
            f"{file}: drain_quiet_seconds: got {settings.drain_quiet_seconds:g}, expected less than"
            f" drain_seconds ({settings.drain_seconds:g})"
        )
    if model.selects and (settings.max_connections or 0) > SELECT_LIMIT:
        raise BadSetting(
            f"{file}: max_connections: got {settings.max_connections}, expected at most {SELECT_LIMIT}:"
            f" select(2) watches descriptors below {FD_SETSIZE} only"
        )
    if settings.loop == "uvloop" and find_spec("uvloop") is None:
        raise BadSetting(
            f"{file}: loop: got uvloop, which is not installed;"
            " expected asyncio, or pip install 'iolab[asyncio-streams]'"
        )
    if "visibility_timeout" in model.own_keys:
        check_work(settings, model, settings.work, str(file))
        if settings.broker_seconds <= settings.visibility_timeout:
            raise BadSetting(
                f"{file}: broker_seconds: got {settings.broker_seconds:g}, expected more than visibility_timeout"
                f" ({settings.visibility_timeout:g}), after which another worker takes over"
            )
    if settings.broker_url:
        check_broker(settings.broker_url, f"{file}: broker_url")
    if settings.buffers.bit_count() != 1:
        raise BadSetting(f"{file}: buffers: got {settings.buffers}, expected a power of two")
    absent = set(settings.cpus) - os.sched_getaffinity(0)
    if absent:
        raise BadSetting(
            f"{file}: cpus: got {sorted(settings.cpus)}, expected processors out of {sorted(os.sched_getaffinity(0))}"
        )
    _check_host(settings.host, f"{file}: host")
