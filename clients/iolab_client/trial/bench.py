"""What an experiment is measured with: fresh servers with settings of their own, loads, and rounds.

In each round every side is measured once, in an order that is drawn anew, and the first side once more as its own twin:
what differs between these two is the machine.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import click
import msgspec
import yaml

from iolab.registry import MODELS, Model
from iolab.settings import OWN_KEYS, Settings
from iolab_client.compare.places import Place, PlaceFailed, Started
from iolab_client.contract.peers import ask
from iolab_client.results.measurement import Measurement, Plan, Size
from iolab_client.results.summary import AGAIN
from iolab_client.results.verdicts import CHECKS
from iolab_client.servers import metrics
from iolab_client.servers.address import connect
from iolab_client.servers.admin import Unreachable
from iolab_client.servers.targets import configured
from iolab_client.trial.finding import Missing
from iolab_client.trial.seen import Point

# Digits of a value that are kept: more are not known.
DIGITS = 6
# For a client of our own to be answered.
PEER_SECONDS = 20.0
REACH_SECONDS = 2.0
# For a thread that learns late of its client, because the machine has other things to do.
FOR_ALL_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is measured under a name of its own: a model, with settings in place of the built-in ones."""

    name: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long is measured, and how often."""

    rounds: int
    seconds: float
    warmup_seconds: float


QUICK = Pace(rounds=3, seconds=0.5, warmup_seconds=0.15)
FULL = Pace(rounds=7, seconds=2.0, warmup_seconds=0.5)


@dataclass(frozen=True, kw_only=True)
class Means:
    """What all experiments of one call are measured with.

    `here`: plain processes of this machine, for what cannot be done to a container; `everywhere`: the same, on all
    processors. `configs`: the folder that all servers read. `python`: the interpreter that `--python` names.
    """

    place: Place
    here: Place
    everywhere: Place
    configs: Path
    quick: bool
    server_cpus: tuple[int, ...]
    client_cpus: tuple[int, ...]
    seed: int
    python: str | None = None

    @property
    def allowed(self) -> list[int]:
        """All processors that may be used."""
        return sorted({*self.server_cpus, *self.client_cpus})


class Bench:
    """One experiment's rounds, loads and points. `tell` hears whose turn it is."""

    def __init__(self, means: Means, tell: Callable[[str], None] = lambda text: None) -> None:
        self.means = means
        self.pace = QUICK if means.quick else FULL
        self._points: dict[tuple[str, float, int], Point] = {}
        self._order: list[str] = []
        self._random = Random(means.seed)
        self._tell = tell

    @property
    def points(self) -> list[Point]:
        """What was noted, in the order in which the sides were named."""
        return sorted(self._points.values(), key=lambda one: (self._order.index(one.side), one.at, one.round))

    @property
    def seconds_for_all(self) -> float:
        """How long a load is in which everybody who is served at all has an answer."""
        return max(self.pace.seconds, FOR_ALL_SECONDS)

    def note(self, point: Point) -> None:
        """Add a point; values of the same side, round and place of the dial are one."""
        key = point.side, point.at, point.round
        if known := self._points.get(key):
            values = {**known.values, **point.values}
            point = msgspec.structs.replace(point, values=values, doubt=known.doubt or point.doubt)
        self._points[key] = point

    def pick(self, quick: Any, full: Any) -> Any:
        """The one that is asked for."""
        return quick if self.means.quick else full

    def turns(
        self,
        *sides: Side,
        twin: bool = True,
        place: Place | Mapping[str, Place] | None = None,
        rounds: int | None = None,
    ) -> Iterator[Turn]:
        """Each side in each round; the first one twice, unless nothing is timed.

        `place`: elsewhere than all others; by the name of the side, each at a place of its own.
        """
        entered = [*sides, *([replace(sides[0], name=f"{sides[0].name}{AGAIN}")] * twin)]
        self._order = list(dict.fromkeys([*self._order, *(side.name for side in entered)]))
        for number in range(1, (rounds or self.pace.rounds) + 1):
            for side in self._random.sample(entered, len(entered)):
                self._tell(f"round {number}: {side.name}")
                own = place[side.name.removesuffix(AGAIN)] if isinstance(place, Mapping) else place
                yield Turn(self, own or self.means.place, side, number)

    def plan(self, **asked: Any) -> Plan:
        """A load of this pace."""
        if "size" in asked:
            asked["sizes"] = (Size(size=asked.pop("size")),)
        pace = {
            "duration_seconds": self.pace.seconds,
            "warmup_seconds": self.pace.warmup_seconds,
            "cpus": self.means.client_cpus,
        }
        return Plan(**{**pace, **asked})


@dataclass(frozen=True)
class Turn:
    """One side in one round, at a place."""

    bench: Bench
    place: Place
    side: Side
    round: int

    @contextlib.contextmanager
    def server(self, **settings: Any) -> Iterator[Started]:
        """A fresh one of this side, with more settings than the side has. Raises PlaceFailed."""
        model = MODELS[self.side.model]
        write_configs(self.bench.means.configs, model, {**self.side.settings, **settings})
        with self.place.start(model) as started:
            yield started

    def load(self, started: Started, *, at: float, expected: Collection[str] = (), **asked: Any) -> Measurement:
        """Load it, and note what that came to. `expected`: verdicts that are what the claim is about."""
        # A client's container for each load would take longer than the load.
        loader = self.bench.means.here if _is_reached(started) else self.place
        try:
            one = loader.load(started, self.bench.plan(**asked))
        except click.ClickException as error:
            raise PlaceFailed(error.message) from None
        self.note(at=at, doubt=_doubt(one, expected), **values_of(one))
        return one

    def note(self, *, at: float, doubt: str = "", **values: float) -> None:
        """Note values, with those of the same spot in this round."""
        kept = {name: float(f"{value:.{DIGITS}g}") for name, value in values.items()}
        self.bench.note(Point(side=self.side.name, at=at, round=self.round, values=kept, doubt=doubt))


def _doubt(one: Measurement, expected: Collection[str]) -> str:
    """The worst that speaks against a measurement, beside what is expected: that hides nothing else."""
    found = ((word, finds(one)) for word, finds in CHECKS if word not in expected)
    return next((f"{word}: {reason}" for word, reason in found if reason), "")


def _is_reached(started: Started) -> bool:
    """Whether this process reaches the server: with a rootless engine only the containers' own network does.

    Its admin port is asked: to the other one nobody is to have connected before.
    """
    if started.target.admin is None:
        return False
    try:
        connect(started.target.admin, deadline_seconds=REACH_SECONDS).close()
    except OSError:
        return False
    return True


def values_of(one: Measurement) -> dict[str, float]:
    """What a measurement came to, by name."""
    found: dict[str, float | None] = {
        "rate": one.rate,
        "p50": one.latency.p50,
        "p99": one.latency.p99,
        "max": one.latency.max,
        "answered": one.answered_connections,
        "errors": one.errors.total,
        "least": one.fairness.least if one.fairness else None,
        "most": one.fairness.most if one.fairness else None,
    }
    if (server := one.server) is not None:
        found |= {"busy": server.busy, "cost": server.cost, "memory": server.memory_bytes, "threads": server.threads}
        if server.answers:
            found["switches"] = server.voluntary_switches / server.answers
            found["preempted"] = server.involuntary_switches / server.answers
        if server.fresh and server.served:
            found["memory_each"] = server.memory_growth_bytes / server.served
    return {name: float(value) for name, value in found.items() if value is not None}


def busy(started: Started, seconds: float) -> float:
    """Processors that the server keeps busy meanwhile; at least a thousandth: less is not told apart."""
    try:
        first = metrics.read(started.target)
        time.sleep(seconds)
        second = metrics.read(started.target)
    except Unreachable as error:
        raise PlaceFailed(error.message) from None
    return max(0.001, (second.cpu_seconds - first.cpu_seconds) / (second.at - first.at))


@contextlib.contextmanager
def silent(started: Started, clients: int) -> Iterator[list[socket.socket]]:
    """So many clients that say nothing, each with one answer behind it: it is known to be served."""
    with contextlib.ExitStack() as stack:
        address = started.target.address
        peers = [stack.enter_context(connect(address, deadline_seconds=PEER_SECONDS)) for _ in range(clients)]
        for peer in peers:
            ask(peer, b"a", deadline_seconds=PEER_SECONDS)
        yield peers


def send_signal(started: Started, number: int) -> None:
    """Send the server a signal. Raises Missing where that is not ours to do."""
    assert started.pid is not None
    try:
        os.kill(started.pid, number)
    except PermissionError:
        raise Missing(
            "the server is another user's, and cannot be sent a signal: run with --place processes, or as root"
        ) from None


def write_configs(folder: Path, model: Model, settings: Mapping[str, Any]) -> None:
    """The folder that a server reads: built-in defaults, and these settings. The port is the user's, for containers."""
    defaults = msgspec.to_builtins(Settings())
    usual = {key: value for key, value in defaults.items() if key not in {*OWN_KEYS, "port"}}
    own = {"port": configured(model).port, **settings}
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for file, values in ((folder / "defaults.yaml", usual), (folder / "models" / f"{model.slug}.yaml", own)):
        file.write_text(yaml.safe_dump(values))
