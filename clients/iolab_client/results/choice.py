"""Which model to choose for a workload, by measurements alone.

A measurement counts if its load was near: connections, bytes, milliseconds of waiting and computing within a factor
of NEAR. Nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from iolab_client.results.measurement import VALID, YARDSTICK, Run
from iolab_client.results.summary import AGAIN, Case, Cell, summarise

# The factor by which a measured load may differ from the wanted one.
NEAR = 2.0


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be served: connections, requests a second over all, bytes of a message, the time that an answer waits
    (milliseconds) and computes (microseconds), and the wanted p99 (microseconds)."""

    connections: int
    rate: float
    size: int = 64
    wait_ms: float = 0
    cpu_us: float = 0
    p99: float


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of a bundle, and the work dial of its model."""

    source: str
    cell: Cell
    wait_ms: float
    cpu_us: float

    def is_near(self, wanted: Workload) -> bool:
        """Whether its load is near the wanted one."""
        case = self.cell.case
        pairs = (
            (case.connections, wanted.connections),
            (_size(case), wanted.size),
            (self.wait_ms, wanted.wait_ms),
            (self.cpu_us, wanted.cpu_us),
        )
        usual = case.pipeline == 1 and not case.churn and not case.idle
        return usual and all(_near(one, other) for one, other in pairs)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One model: whether it fits, by which numbers, and their source.

    `p99` is microseconds, from an open loop with at least the wanted rate, or else from the closed loop (`closed`),
    where a stall counts only once.
    """

    model: str
    fits: bool
    capacity: float
    p99: float
    closed: bool
    cost: float | None
    reason: str
    source: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The models, the best first. If there are none, `nearest` says what was measured."""

    candidates: list[Candidate]
    nearest: str = ""


def measured(runs: Mapping[str, Run]) -> Iterator[Evidence]:
    """All VALID cells of the runs, which are by folder name; without the yardstick."""
    for source, run in runs.items():
        for cell in summarise(run).cells:
            if cell.verdict.word == VALID and cell.subject != YARDSTICK and not cell.subject.endswith(AGAIN):
                work = run.models.get(cell.subject, {}).get("work")
                dial = work if isinstance(work, Mapping) else {}
                yield Evidence(
                    source=source,
                    cell=cell,
                    wait_ms=float(dial.get("wait_ms", 0)),
                    cpu_us=float(dial.get("cpu_us", 0)),
                )


def choose(cells: Iterable[Evidence], wanted: Workload) -> Choice:
    """Rank the models with near measurements: those that fit by cost, the others by what they lack."""
    known = list(cells)
    near: dict[str, list[Evidence]] = {}
    for one in known:
        if one.is_near(wanted):
            near.setdefault(one.cell.subject, []).append(one)
    found = [made for model, own in near.items() if (made := _candidate(model, own, wanted))]
    if not found:
        return Choice(candidates=[], nearest=_nearest(known))
    return Choice(candidates=sorted(found, key=lambda one: _order(one, wanted)))


def _candidate(model: str, own: Sequence[Evidence], wanted: Workload) -> Candidate | None:
    """The candidate; None if the closed loop, which shows the capacity, was not measured."""
    closed = [one for one in own if one.cell.case.rate is None]
    if not closed:
        return None
    # The last bundle is the newest.
    best = closed[-1]
    capacity = best.cell.rate.low
    # An open loop above the wanted rate is harder; one far above it is another workload.
    opened = [one for one in own if (rate := one.cell.case.rate) and wanted.rate <= rate <= NEAR * wanted.rate]
    shows = opened[-1] if opened else best
    p99 = shows.cell.p99.high
    lacks = []
    if capacity < wanted.rate:
        lacks.append(f"it answers {capacity:,.0f} a second at most, {wanted.rate:,.0f} are wanted")
    if p99 > wanted.p99:
        lacks.append(f"its p99 is {p99 / 1000:,.2f} ms, {wanted.p99 / 1000:,.2f} are wanted")
    rate = shows.cell.case.rate
    how = f"open loop at {rate:,.0f}/s" if rate else "closed loop: under a rate it may be more"
    does = f"it answers up to {capacity:,.0f} a second, with a p99 of {p99 / 1000:,.2f} ms ({how})"
    return Candidate(
        model=model,
        fits=not lacks,
        capacity=capacity,
        p99=p99,
        closed=not opened,
        cost=best.cell.cost.median if best.cell.cost else None,
        reason="; ".join(lacks) or does,
        source=f"{shows.source}: {shows.cell.case.connections:,} connections, {shows.cell.rounds} rounds",
    )


def _order(one: Candidate, wanted: Workload) -> tuple[bool, float, float]:
    """Models that fit first, by cost; then the others, by how much they lack."""
    if one.fits:
        return False, one.cost if one.cost is not None else float("inf"), one.p99
    return True, max(wanted.rate / max(one.capacity, 1e-9), one.p99 / wanted.p99), one.p99


def _nearest(known: Sequence[Evidence]) -> str:
    """What was measured, in words."""
    if not known:
        return "nothing VALID was measured at all"
    connections = sorted({one.cell.case.connections for one in known})
    sizes = sorted({round(_size(one.cell.case)) for one in known})
    waits = sorted({one.wait_ms for one in known})
    computes = sorted({one.cpu_us for one in known})
    return (
        f"measured were {_listed(connections)} connections, {_listed(sizes)} bytes, answers that wait "
        f"{_listed(waits)} ms and compute {_listed(computes)} µs"
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,g}" for value in values)


def _size(case: Case) -> float:
    """The mean size of a message."""
    return sum(one.size * one.share for one in case.sizes) / sum(one.share for one in case.sizes)


def _near(one: float, other: float) -> bool:
    """Whether two numbers are within the factor; only 0 is near 0."""
    low, high = sorted((one, other))
    return high <= NEAR * low
