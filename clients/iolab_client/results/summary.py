"""The summary of a run: medians over its rounds with their intervals, shares of the yardstick, verdicts and ranks.

Pure functions of a Run. Each round has a fresh process of each server, so a round, not an answer, is an observation.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import comb

import msgspec

from iolab_client.results.effects import Effect, paired
from iolab_client.results.measurement import (
    CLIENT_BOUND,
    ERRORS,
    INCONSISTENT,
    STARVED,
    UNSTABLE,
    VALID,
    YARDSTICK,
    Measurement,
    Run,
    ServerUse,
    Size,
    Verdict,
)
from iolab_client.results.verdicts import worst

# Appended to the name of a server that is measured a second time as another subject.
AGAIN = " again"
# The interval is the narrowest of order statistics that covers the median at least this often.
COVERAGE = 0.90
# An interval wider than this share of its median is no result: a shared machine varies by 15 % either way.
RATE_SPREAD = 0.30
# Latency varies more, and its real differences are multiples.
LATENCY_SPREAD = 1.0
# These apply to a cell if they apply to one round: four rounds without a wrong answer do not excuse one. The others
# apply only if they apply to at least half of the rounds: a median withstands fewer.
IN_ANY_ROUND = (ERRORS, STARVED, INCONSISTENT)


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A median over rounds, and an interval of rounds' values that contains the true one, `coverage` of the time."""

    median: float
    low: float
    high: float
    coverage: float
    rounds: int

    @property
    def spread(self) -> float:
        """The width as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A load that was put on every subject: fields of Plan."""

    connections: int
    pipeline: int
    sizes: tuple[Size, ...]
    rate: float | None
    churn: int | None = None
    idle: int = 0


class Cell(msgspec.Struct, kw_only=True):
    """One subject under one load, over the rounds. Units as in Measurement; null: not known."""

    subject: str
    case: Case
    rounds: int
    verdict: Verdict
    # The place by rate (closed loop) or p99 (open loop) among the VALID cells of this load, without the yardstick; and
    # that by cost. Cells that share a place are not told apart from its best, which does not make them equal.
    rank: int | None = None
    cost_rank: int | None = None
    # Its rate (closed loop) or p99 (open loop) over that of the best, round by round.
    against_best: Effect | None = None
    rate: Interval
    p50: Interval
    p90: Interval
    p99: Interval
    p99_9: Interval
    max: Interval
    # The server's processor time, microseconds per answer.
    cost: Interval | None
    # Per answer.
    voluntary_switches: Interval | None
    involuntary_switches: Interval | None
    memory_bytes: Interval | None
    # The growth of a fresh server's memory, divided by the connections that it served.
    memory_per_connection: Interval | None
    answered_connections: Interval
    open_connections: Interval
    # Compared with the yardstick of the same round: its cost over this cost, this rate over its rate; and a caveat.
    share_by_cost: Interval | None = None
    share_by_rate: Interval | None = None
    share_note: str = ""


# The measurements of each load and subject; and a number for each round.
Groups = Mapping[tuple[Case, str], Sequence[Measurement]]
Rounds = Mapping[int, float]


class Null(msgspec.Struct, frozen=True, kw_only=True):
    """A server that was measured as two subjects under one load: the difference that this machine shows without any."""

    subject: str
    case: Case
    # The second over the first, round by round: the rate (closed loop) or p99 (open loop).
    ratio: Interval


class Summary(msgspec.Struct, kw_only=True):
    """All cells, in the order of their first appearance in the run."""

    cells: list[Cell]
    # How many comparisons the places took: their intervals hold together.
    comparisons: int = 0
    null: list[Null] = msgspec.field(default_factory=list)


def interval(values: Sequence[float]) -> Interval:
    """The median of independent observations and the interval of its order statistics.

    The true median lies between the k-th smallest and the k-th largest of n with a probability of
    1 - 2 * P(Binomial(n, 1/2) < k), for any distribution (H. A. David, H. N. Nagaraja, "Order Statistics", 7.1):
    93.75 % between the smallest and the largest of five. Raises ValueError if there are no values.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("no values")
    rank = 1
    while rank < (count + 1) // 2 and coverage(count, rank + 1) >= COVERAGE:
        rank += 1
    return Interval(
        median=statistics.median(ordered),
        low=ordered[rank - 1],
        high=ordered[-rank],
        coverage=coverage(count, rank),
        rounds=count,
    )


def coverage(count: int, rank: int) -> float:
    """How often the interval from the `rank`-th smallest to the `rank`-th largest of `count` contains the median."""
    tail: int = sum(comb(count, below) for below in range(rank))
    return 1 - 2 * tail / (1 << count)


def case_of(measurement: Measurement) -> Case:
    """The load of a measurement."""
    plan = measurement.plan
    return Case(
        connections=plan.connections,
        pipeline=plan.pipeline,
        sizes=plan.sizes,
        rate=plan.rate,
        churn=plan.churn,
        idle=plan.idle,
    )


def summarise(run: Run) -> Summary:
    """The summary of a run, complete or not."""
    cells: dict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for one in run.measurements:
        cells[case_of(one), one.subject].append(one)
    made = {key: _cell(key[1], key[0], group) for key, group in cells.items()}
    for (case, subject), group in cells.items():
        yardstick = cells.get((case, YARDSTICK))
        if yardstick and subject != YARDSTICK:
            _add_shares(made[case, subject], group, yardstick)
    fields = [_Field(made, cells, case) for case in dict.fromkeys(case for case, _ in cells)]
    comparisons = sum(field.comparisons for field in fields)
    for field in fields:
        field.rank(comparisons)
    return Summary(cells=list(made.values()), comparisons=comparisons, null=list(_null(cells)))


def places(values: Mapping[str, Rounds], best: Callable[..., float], comparisons: int) -> dict[str, int]:
    """The place of each name by its values in the rounds, 1 for the best; `best` is min or max.

    A name that is not told apart from the best of the place above shares that place; the next place counts all names
    before it. Sharing is not transitive: a long row of small differences does not make the first and the last equal.
    `comparisons` is the number in the whole report.
    """
    sign = 1 if best is min else -1
    ordered = sorted(values, key=lambda name: sign * statistics.median(values[name].values()))
    found = dict.fromkeys(ordered, 1)
    leader, place = ordered[:1], 1
    for position, name in enumerate(ordered):
        effect = between(values[leader[0]], values[name], comparisons)
        if name != leader[0] and effect and effect.told_apart:
            leader, place = [name], position + 1
        found[name] = place
    return found


def between(first: Rounds, second: Rounds, comparisons: int) -> Effect | None:
    """The effect of the second over the first, in the rounds that both have."""
    rounds = [number for number in first if number in second]
    return paired([first[number] for number in rounds], [second[number] for number in rounds], comparisons)


class _Field:
    """The VALID cells of one load, which are ranked against each other."""

    def __init__(self, made: Mapping[tuple[Case, str], Cell], groups: Groups, case: Case) -> None:
        valid = [cell for (of, _), cell in made.items() if of == case and cell.verdict.word == VALID]
        # The second subject of a server that is measured twice does not compete.
        self.cells = [cell for cell in valid if cell.subject != YARDSTICK and not cell.subject.endswith(AGAIN)]
        self._best = max if case.rate is None else min
        self._first = {cell.subject: by_round(groups[case, cell.subject], primary(case)) for cell in self.cells}
        self._cost = {
            cell.subject: by_round(groups[case, cell.subject], lambda one: _cost(one.server))
            for cell in self.cells
            if cell.cost
        }

    @property
    def comparisons(self) -> int:
        """How many comparisons there may be: any cell could be the leader."""
        return comb(len(self._first), 2) + comb(len(self._cost), 2)

    def rank(self, comparisons: int) -> None:
        """Give the cells their places."""
        by_first = places(self._first, self._best, comparisons)
        by_cost = places(self._cost, min, comparisons)
        leader = next(iter(by_first), "")
        for cell in self.cells:
            cell.rank, cell.cost_rank = by_first[cell.subject], by_cost.get(cell.subject)
            if cell.subject != leader:
                cell.against_best = between(self._first[leader], self._first[cell.subject], comparisons)


def primary(case: Case) -> Callable[[Measurement], float]:
    """The main result of a load: in a closed loop the rate, in an open one the p99."""
    return (lambda one: one.rate) if case.rate is None else (lambda one: one.latency.p99)


def by_round(group: Sequence[Measurement], value: Callable[[Measurement], float]) -> Rounds:
    """A number for each round in which it is known."""
    return {one.round: found for one in group if (found := value(one))}


def _null(groups: Groups) -> Iterator[Null]:
    for (case, subject), group in groups.items():
        if twin := groups.get((case, f"{subject}{AGAIN}")):
            first, second = by_round(group, primary(case)), by_round(twin, primary(case))
            if ratios := [second[number] / first[number] for number in first if number in second]:
                yield Null(subject=subject, case=case, ratio=interval(ratios))


def _cell(subject: str, case: Case, group: Sequence[Measurement]) -> Cell:
    rate = interval([one.rate for one in group])
    p50 = interval([one.latency.p50 for one in group])
    used = [one.server for one in group if one.server]
    answered = [server for server in used if server.answers]
    return Cell(
        subject=subject,
        case=case,
        rounds=len(group),
        verdict=_verdict(group, rate, p50),
        rate=rate,
        p50=p50,
        p90=interval([one.latency.p90 for one in group]),
        p99=interval([one.latency.p99 for one in group]),
        p99_9=interval([one.latency.p99_9 for one in group]),
        max=interval([one.latency.max for one in group]),
        cost=_known(server.cost for server in answered),
        voluntary_switches=_known(server.voluntary_switches / server.answers for server in answered),
        involuntary_switches=_known(server.involuntary_switches / server.answers for server in answered),
        memory_bytes=_known(server.memory_bytes for server in used),
        memory_per_connection=_known(
            one.server.memory_growth_bytes / one.server.served
            for one in group
            if one.server and one.server.fresh and one.server.served
        ),
        answered_connections=interval([one.answered_connections for one in group]),
        open_connections=interval([one.open_connections for one in group]),
    )


def _known(values: Iterable[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return interval(known) if known else None


def _verdict(group: Sequence[Measurement], rate: Interval, p50: Interval) -> Verdict:
    """The worst verdict that applies to the cell; see IN_ANY_ROUND."""
    found = []
    for word in dict.fromkeys(one.verdict.word for one in group):
        having = [one.verdict for one in group if one.verdict.word == word]
        if word != VALID and (word in IN_ANY_ROUND or 2 * len(having) >= len(group)):
            where = "" if len(group) == 1 else f"in {len(having)} of {len(group)} rounds: "
            found.append(Verdict(word=word, reason=f"{where}{having[0].reason}"))
    name, unit, seen, allowed = (
        ("rate", "answers/s", rate, RATE_SPREAD) if group[0].plan.rate is None else ("p50", "µs", p50, LATENCY_SPREAD)
    )
    if len(group) > 1 and seen.spread > allowed:
        reason = (
            f"the {name} lies between {seen.low:,.0f} and {seen.high:,.0f} {unit}, {seen.spread:.0%} of its median: "
            f"more than {allowed:.0%}"
        )
        found.append(Verdict(word=UNSTABLE, reason=reason))
    if found:
        return worst(found)
    if len(group) == 1:
        return Verdict(word=VALID, reason="one round, so its spread is not known")
    others = [one.verdict for one in group if one.verdict.word != VALID]
    but = f"; not so {len(others)}: {others[0].word}, {others[0].reason}" if others else ""
    return Verdict(word=VALID, reason=f"{len(group)} rounds, the {name} within {seen.spread:.0%} of its median{but}")


def _add_shares(cell: Cell, group: Sequence[Measurement], yardstick: Sequence[Measurement]) -> None:
    """Add the shares, paired by round: what the machine did in a round, it did to both."""
    measured = {one.round: one for one in yardstick}
    pairs = [(one, measured[one.round]) for one in group if one.round in measured]
    by_rate = [one.rate / unit.rate for one, unit in pairs if unit.rate]
    by_cost = [
        _cost(unit.server) / _cost(one.server) for one, unit in pairs if _cost(one.server) and _cost(unit.server)
    ]
    cell.share_by_rate = interval(by_rate) if by_rate else None
    cell.share_by_cost = interval(by_cost) if by_cost else None
    bound = sum(unit.verdict.word == CLIENT_BOUND for _, unit in pairs)
    bad = [unit.verdict for _, unit in pairs if unit.verdict.word not in (VALID, CLIENT_BOUND)]
    notes = []
    if bound:
        notes.append(
            f"the yardstick was CLIENT-BOUND in {bound} of {len(pairs)} rounds and could have answered more: "
            "the share by rate is an upper bound"
        )
    if bad:
        notes.append(f"the yardstick was {bad[0].word} in {len(bad)} of {len(pairs)} rounds: {bad[0].reason}")
    cell.share_note = "; ".join(notes)


def _cost(server: ServerUse | None) -> float:
    return (server and server.cost) or 0.0
