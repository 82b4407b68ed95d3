"""Two runs beside each other: what changed, what did not, and what else was different."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from iolab_client.report.page import templates
from iolab_client.results.measurement import VALID, Run
from iolab_client.results.summary import Case, Cell, Interval, differ, summarise

Word = Literal["better", "worse", "no difference seen", "not judged"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One number of one cell: the second run's median over the first one's, and what that says."""

    name: str
    unit: str
    first: Interval
    second: Interval
    ratio: float | None
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
    # Cells of one run alone, as `subject` and load.
    only_first: list[tuple[str, Case]]
    only_second: list[tuple[str, Case]]
    # Facts of environment, settings and models that are not the same: name, and the value in each.
    differences: list[tuple[str, str, str]]


def versus(first: Run, second: Run) -> Versus:
    """Compare two runs, cell by cell. A change is said only where the intervals do not overlap (see `differ`)."""
    one, other = ({(c.subject, c.case): c for c in summarise(run).cells} for run in (first, second))
    return Versus(
        pairs=[_pair(cell, other[key]) for key, cell in one.items() if key in other],
        only_first=[key for key in one if key not in other],
        only_second=[key for key in other if key not in one],
        differences=list(_differences(first, second)),
    )


def page(found: Versus, first: str, second: str) -> str:
    """The comparison as one page."""
    return templates().get_template("versus.html.j2").render(found=found, first=first, second=second)


def _pair(one: Cell, other: Cell) -> Pair:
    doubts = [
        f"{cell.verdict.word} in the {which}: {cell.verdict.reason}"
        for which, cell in (("first", one), ("second", other))
        if cell.verdict.word != VALID
    ]
    compared = [
        ("rate", "answers/s", one.rate, other.rate, True),
        ("p99", "µs", one.p99, other.p99, False),
        ("cost", "CPU-µs per answer", one.cost, other.cost, False),
    ]
    changes = [
        Change(
            name=name,
            unit=unit,
            first=a,
            second=b,
            ratio=b.median / a.median if a.median else None,
            word="not judged" if doubts else _word(a, b, more_is_better),
        )
        for name, unit, a, b, more_is_better in compared
        if a and b
    ]
    return Pair(subject=one.subject, case=one.case, doubt="; ".join(doubts), changes=changes)


def _word(one: Interval, other: Interval, more_is_better: bool) -> Word:
    if not differ(one, other):
        return "no difference seen"
    return "better" if (other.median > one.median) == more_is_better else "worse"


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
