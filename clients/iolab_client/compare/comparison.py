"""A comparison: every subject under every load, in rounds, each round with a fresh server and in another order.

What a machine does to one half of a run it would else do to one half of the subjects: so the order is drawn anew for
each round, and what is said of a subject is the median over rounds (`summary`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import click
import msgspec

from iolab.registry import YARDSTICK, Model
from iolab_client.compare.places import Place, PlaceFailed, Started
from iolab_client.contract.check import FAIL, Verdicts, checkers
from iolab_client.results.measurement import Measurement, Plan, Run, Size
from iolab_client.results.summary import AGAIN
from iolab_client.results.verdicts import judge_one

LIMITS = ("max_connections", "backlog", "descriptors", "threads", "receive_buffer_bytes", "send_buffer_bytes")


class OfferedRate(msgspec.Struct, frozen=True, kw_only=True):
    """An offered rate: requests a second, or a share of what the subject answers in the closed loop."""

    per_second: float | None = None
    share: float | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compared under which loads. Each subject has a closed loop of each size and number of connections,
    and beside it each of the offered rates."""

    models: tuple[str, ...]
    connections: tuple[int, ...]
    # Each is one load: a size, or a distribution of sizes.
    sizes: tuple[tuple[Size, ...], ...]
    rates: tuple[OfferedRate, ...] = ()
    duration_seconds: float
    warmup_seconds: float
    rounds: int
    processes: int = 1
    server_cpus: tuple[int, ...]
    client_cpus: tuple[int, ...]
    seed: int
    # Whether the first model is measured as two subjects.
    null: bool = False

    @property
    def loads(self) -> int:
        """Measurements of one subject in one round."""
        return len(self.connections) * len(self.sizes) * (1 + len(self.rates))

    def plan(self, connections: int, sizes: tuple[Size, ...], rate: float | None = None) -> Plan:
        """One load."""
        return Plan(
            connections=connections,
            sizes=sizes,
            rate=rate,
            duration_seconds=self.duration_seconds,
            warmup_seconds=self.warmup_seconds,
            processes=min(self.processes, connections),
            cpus=self.client_cpus,
        )


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is measured under a name of its own."""

    name: str
    model: Model


@dataclass(frozen=True, kw_only=True)
class News:
    """Where a comparison is: how many of how many measurements are done, as far as is known now."""

    text: str
    done: int
    total: int
    measurement: Measurement | None = None


class Comparison:
    """One comparison at one place. `run` is what there is of it at any moment, also when it is interrupted.

    `keep` is called with it after each measurement.
    """

    def __init__(
        self,
        asked: Asked,
        subjects: Sequence[Model],
        place: Place,
        command: str,
        *,
        tell: Callable[[News], None] = lambda news: None,
        keep: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self.asked = asked
        self.place = place
        self.subjects = [Contender(name=model.slug, model=model) for model in (*subjects, YARDSTICK)]
        if asked.null:
            # The first of them once more: what differs between the two is the machine.
            self.subjects.insert(1, Contender(name=f"{subjects[0].slug}{AGAIN}", model=subjects[0]))
        self.run = Run(
            command=command,
            started=_now(),
            settings=msgspec.to_builtins(asked),
            environment=place.environment(),
        )
        self._tell = tell
        self._keep = keep
        self._random = Random(asked.seed)
        # What a subject answered in the closed loop when it was first measured: what shares of it are taken of.
        self._closed: dict[tuple[str, int, tuple[Size, ...]], float] = {}

    def check(self) -> bool:
        """Hold the models to the contract; return whether all keep it. One that does not is left out, with its reason.

        One that does not start is left out too, without having broken anything.
        """
        models = dict.fromkeys(subject.model for subject in self.subjects if subject.model is not YARDSTICK)
        # Those that take longest to start are begun with.
        ordered = sorted(models, key=lambda model: not model.parts)
        kept = True
        with checkers() as pool:
            for model, found in zip(ordered, pool.map(self._check, ordered), strict=True):
                if isinstance(found, PlaceFailed):
                    self._leave_out(model, str(found))
                    continue
                self.run.checked[model.slug] = found
                broken = [
                    f"{clause}: {said.removeprefix(FAIL)}" for clause, said in found.items() if said.startswith(FAIL)
                ]
                if broken:
                    kept = False
                    self._leave_out(model, f"it breaks the contract: {'; '.join(broken)}")
        self._keep(self.run)
        return kept

    def measure(self) -> Run:
        """All rounds."""
        for number in range(1, self.asked.rounds + 1):
            for subject in self._random.sample(self.subjects, len(self.subjects)):
                # It may have been left out since, with its twin.
                if subject in self.subjects:
                    try:
                        self._measure(subject, number)
                    except PlaceFailed as error:
                        self._leave_out(subject.model, f"round {number}: {error}")
        self.run.ended = _now()
        self._keep(self.run)
        return self.run

    def _check(self, model: Model) -> Verdicts | PlaceFailed:
        self._news(f"check {model.slug}")
        try:
            with self.place.start(model) as started:
                return self.place.check(started)
        except PlaceFailed as error:
            return error

    def _leave_out(self, model: Model, reason: str) -> None:
        for subject in [subject for subject in self.subjects if subject.model is model]:
            self.run.left_out[subject.name] = reason
            self.subjects.remove(subject)
        self._news(f"{model.slug} is left out: {reason}")

    def _measure(self, subject: Contender, number: int) -> None:
        where = f"round {number}/{self.asked.rounds} {subject.name}"
        self._news(where)
        with self.place.start(subject.model) as started:
            self._note(subject.model, started)
            for plan in self._plans(subject):
                measurement = self._load(started, plan)
                measurement.subject = subject.name
                measurement.round = number
                self.run.measurements.append(measurement)
                if plan.rate is None:
                    key = subject.name, plan.connections, plan.sizes
                    self._closed.setdefault(key, measurement.rate)
                self._news(where, measurement)
                self._keep(self.run)

    def _plans(self, subject: Contender) -> Iterator[Plan]:
        """The loads of a round: closed loops, then, as their shares may be asked for, the offered rates."""
        asked = self.asked
        cases = [(connections, sizes) for connections in asked.connections for sizes in asked.sizes]
        for connections, sizes in self._random.sample(cases, len(cases)):
            yield asked.plan(connections, sizes)
        offered = [(*case, rate) for case in cases for rate in asked.rates]
        for connections, sizes, rate in self._random.sample(offered, len(offered)):
            per_second = rate.per_second
            if rate.share is not None:
                per_second = rounded(rate.share * self._closed[subject.name, connections, sizes])
            if per_second:
                yield asked.plan(connections, sizes, per_second)

    def _load(self, started: Started, plan: Plan) -> Measurement:
        try:
            measurement = self.place.load(started, plan)
        except click.ClickException as error:
            raise PlaceFailed(error.message) from None
        measurement.others = [*started.others, *measurement.others]
        if measurement.server and started.cpus:
            # Its settings do not tell who has pinned it from outside.
            measurement.server = msgspec.structs.replace(measurement.server, cpus=started.cpus)
            measurement.verdict = judge_one(measurement)
        return measurement

    def _note(self, model: Model, started: Started) -> None:
        """The limits and settings of a server, by its `listening` line."""
        if started.listening:
            limits = started.listening["limits"]
            self.run.environment.limits[model.slug] = {name: limits.get(name) for name in LIMITS}
            self.run.models[model.slug] = dict(started.listening["settings"])

    def _news(self, text: str, measurement: Measurement | None = None) -> None:
        done = len(self.run.measurements)
        # Who was left out after some rounds has measurements that are done.
        gone = sum(1 for one in self.run.measurements if one.subject in self.run.left_out)
        total = gone + len(self.subjects) * self.asked.loads * self.asked.rounds
        self._tell(News(text=text, done=done, total=total, measurement=measurement))


def rounded(rate: float) -> float:
    """To two significant digits, so that a share is a rate that one can name."""
    return float(f"{rate:.2g}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
