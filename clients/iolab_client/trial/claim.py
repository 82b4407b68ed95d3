"""The claims: found in `experiments`, and read from what their modules say of themselves."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from iolab_client.trial.finding import Finding
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

if TYPE_CHECKING:
    from iolab_client.trial.bench import Bench

PACKAGE = "iolab_client.experiments"
FIELDS = ("Claim", "Source", "Method", "Decides", "Costs")
COSTS = re.compile(r"quick (\d+) s, full (\d+) s")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim. `costs` is seconds, quick and full, on two processors."""

    name: str
    title: str
    claim: str
    source: str
    method: str
    decides: str
    costs: tuple[int, int]
    # By name, as Python spells them: how many clients, how many milliseconds.
    constants: Mapping[str, str]
    shows: Shows
    measure: Callable[[Bench], None]
    judge: Callable[[Seen], Finding]


def names() -> list[str]:
    """Of all claims, as they are typed: `pool-cap`."""
    folder = import_module(PACKAGE).__path__
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(folder))


def find(name: str) -> Claim:
    """The claim of that name. Raises KeyError with the names there are."""
    if name not in names():
        raise KeyError(f"no experiment is called {name!r}; there are: {', '.join(names())}")
    module = import_module(f"{PACKAGE}.{name.replace('-', '_')}")
    title, fields = _fields(inspect.getdoc(module) or "")
    quick, full = map(int, COSTS.fullmatch(fields["Costs"]).groups())  # type: ignore[union-attr]
    return Claim(
        name=name,
        title=title,
        claim=fields["Claim"],
        source=fields["Source"],
        method=fields["Method"],
        decides=fields["Decides"],
        costs=(quick, full),
        constants=_constants(module),
        shows=module.SHOWS,
        measure=module.measure,
        judge=module.judge,
    )


def _constants(module: ModuleType) -> dict[str, str]:
    """Those that the module itself gives a value."""
    assigned = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.Assign)]
    names = [
        name.id
        for node in assigned
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]
    return {name: repr(value) for name in names if _is_plain(value := getattr(module, name))}


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str)


def _fields(text: str) -> tuple[str, dict[str, str]]:
    """The first line without its stop, and the five fields; a field goes on in the lines that are indented."""
    title, _, rest = text.partition("\n")
    fields: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        word, _, said = line.partition(" ")
        if word in FIELDS:
            name = word
            fields[name] = said.strip()
        elif name and line.startswith(" "):
            fields[name] += f" {line.strip()}"
    return title.removesuffix("."), fields
