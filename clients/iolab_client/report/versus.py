"""Two runs beside each other: what changed, what did not, and what else was different."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from iolab_client.results.effects import Effect, independent
from iolab_client.results.measurement import VALID, YARDSTICK, Measurement, Run
from iolab_client.results.summary import Case, Interval, case_of, interval, summarise

# The values of each number, by its name.
Shares = dict[str, list[float]]
Word = Literal["better", "worse", "not told apart", "not judged"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One number of one cell in both runs: the second over the first, and what that says.

    Each is a share of the yardstick's of the same round: what the machine has become in between, it has become for
    both. `effect` is None where there are too few rounds.
    """

    name: str
    first: Interval
    second: Interval
    effect: Effect | None
    word: Word


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One subject under one load in both runs. `doubt` is why nothing is judged."""

    subject: str
    case: Case
    doubt: str
    changes: list[Change]


class Versus(msgspec.Struct, frozen=True, kw_only=True):
    """What two runs have in common, and what they do not."""

    pairs: list[Pair]
    # How many numbers were judged: their intervals hold together.
    comparisons: int
    # Cells of one run alone, as `subject` and load.
    only_first: list[tuple[str, Case]]
    only_second: list[tuple[str, Case]]
    # Facts of environment, settings and models that are not the same: name, and the value in each.
    differences: list[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class _Number:
    """A number of a measurement, and whether more of it is better."""

    name: str
    of: Callable[[Measurement], float | None]
    more_is_better: bool


NUMBERS = (
    _Number(name="cost", of=lambda one: one.server.cost if one.server else None, more_is_better=False),
    _Number(name="rate", of=lambda one: one.rate, more_is_better=True),
    _Number(name="p99", of=lambda one: one.latency.p99, more_is_better=False),
)


def versus(first: Run, second: Run) -> Versus:
    """Compare two runs, cell by cell, by their shares of the yardstick, which outlive a machine that has changed."""
    runs = _Cells(first), _Cells(second)
    both = [key for key in runs[0].cells if key in runs[1].cells and key[0] != YARDSTICK]
    doubts = {key: _doubt(runs, key) for key in both}
    shares = {key: (runs[0].shares(key), runs[1].shares(key)) for key in both}
    comparisons = sum(len(shares[key][0].keys() & shares[key][1].keys()) for key in both if not doubts[key])
    return Versus(
        pairs=[
            Pair(
                subject=key[0], case=key[1], doubt=doubts[key], changes=_changes(shares[key], doubts[key], comparisons)
            )
            for key in both
        ],
        comparisons=comparisons,
        only_first=[key for key in runs[0].cells if key not in runs[1].cells],
        only_second=[key for key in runs[1].cells if key not in runs[0].cells],
        differences=list(_differences(first, second)),
    )


class _Cells:
    """The cells of a run, and the measurements that they are made of."""

    def __init__(self, run: Run) -> None:
        self.cells = {(cell.subject, cell.case): cell for cell in summarise(run).cells}
        self._groups: dict[tuple[str, Case], list[Measurement]] = defaultdict(list)
        for one in run.measurements:
            self._groups[one.subject, case_of(one)].append(one)

    def has_yardstick(self, case: Case) -> bool:
        """Whether it was measured under that load."""
        return (YARDSTICK, case) in self.cells

    def shares(self, key: tuple[str, Case]) -> Shares:
        """Each number over the yardstick's of the same round; without one, as it is."""
        yardstick = {one.round: one for one in self._groups.get((YARDSTICK, key[1]), ())}
        found: Shares = {}
        for number in NUMBERS:
            values = []
            for one in self._groups[key]:
                value = number.of(one)
                unit = number.of(yardstick[one.round]) if one.round in yardstick else None if yardstick else 1.0
                if value and unit:
                    values.append(value / unit)
            if values:
                found[number.name] = values
        return found


def _doubt(runs: tuple[_Cells, _Cells], key: tuple[str, Case]) -> str:
    """Why a cell is not judged; empty if it is."""
    doubts = []
    for which, run in zip(("first", "second"), runs, strict=True):
        cell = run.cells[key]
        if cell.verdict.word != VALID:
            doubts.append(f"{cell.verdict.word} in the {which}: {cell.verdict.reason}")
        if not run.has_yardstick(key[1]):
            doubts.append(f"no yardstick in the {which}: nobody knows what the machine has become")
    return "; ".join(doubts)


def _changes(shares: tuple[Shares, Shares], doubt: str, comparisons: int) -> list[Change]:
    first, second = shares
    changes = []
    for number in NUMBERS:
        if number.name in first and number.name in second:
            one, other = first[number.name], second[number.name]
            effect = independent(one, other, comparisons)
            changes.append(
                Change(
                    name=number.name,
                    first=interval(one),
                    second=interval(other),
                    effect=effect,
                    word="not judged" if doubt else _word(effect, number.more_is_better),
                )
            )
    return changes


def _word(effect: Effect | None, more_is_better: bool) -> Word:
    if effect is None or not effect.told_apart:
        return "not told apart"
    return "better" if (effect.low > 1) == more_is_better else "worse"


def _differences(first: Run, second: Run) -> Iterator[tuple[str, str, str]]:
    one, other = (dict(_flat("", _facts(run))) for run in (first, second))
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield name, str(one.get(name, "none")), str(other.get(name, "none"))


def _facts(run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(run.environment)
    # It is never twice the same, and no setting.
    del facts["load_average"]
    return {**facts, "settings": run.settings, "models": run.models}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), below)
    elif value is not None:
        yield name, value
