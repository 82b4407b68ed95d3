"""What a run comes to: medians over its rounds with their intervals, shares of the yardstick, verdicts and ranks.

Pure functions of a Run. Each round has a fresh process of each server: a round, not an answer, is one observation.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import comb

import msgspec

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

# Of the intervals that order statistics make, the narrowest that covers the median at least this often.
COVERAGE = 0.90
# With too few rounds for that, this is asked for on top: the same code started again differs by so much.
RESTART = 0.10
# An interval wider than this, as a share of its median, is no result: a shared machine swings by 15 % either way.
RATE_SPREAD = 0.30
# Latency swings more, and what differs in it differs by multiples.
LATENCY_SPREAD = 1.0
# These hold for a cell if they hold in one round: a wrong answer is not made right by four rounds without. The others
# only if they hold in half of the rounds or more: a median withstands fewer.
IN_ANY_ROUND = (ERRORS, STARVED, INCONSISTENT)


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A median over rounds, and between which of the rounds' values the true one lies, `coverage` of the time."""

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
    """A load that every subject was put under: fields of Plan."""

    connections: int
    pipeline: int
    sizes: tuple[Size, ...]
    rate: float | None
    churn: int | None = None
    idle: int = 0


class Cell(msgspec.Struct, kw_only=True):
    """One subject under one load, over the rounds. Units as in Measurement; null where nobody knows."""

    subject: str
    case: Case
    rounds: int
    verdict: Verdict
    # The place by rate (closed loop) or p99 (open loop) among the VALID cells of this load, the yardstick left out;
    # equal where the intervals overlap. And the place by cost.
    rank: int | None = None
    cost_rank: int | None = None
    rate: Interval
    p50: Interval
    p90: Interval
    p99: Interval
    p99_9: Interval
    max: Interval
    # Of the server's processor time, microseconds per answer.
    cost: Interval | None
    # Per answer.
    voluntary_switches: Interval | None
    involuntary_switches: Interval | None
    memory_bytes: Interval | None
    # By how much a fresh server's memory grew, over the connections that it served.
    memory_per_connection: Interval | None
    answered_connections: Interval
    open_connections: Interval
    # Of the yardstick in the same round: its cost over this cost, this rate over its rate; and what to know of it.
    share_by_cost: Interval | None = None
    share_by_rate: Interval | None = None
    share_note: str = ""


class Summary(msgspec.Struct, kw_only=True):
    """All cells, in the order in which they first appear in the run."""

    cells: list[Cell]


def interval(values: Sequence[float]) -> Interval:
    """The median of independent observations and the interval of its order statistics.

    Between the k-th smallest and the k-th largest of n lies the true median with a probability of
    1 - 2 * P(Binomial(n, 1/2) < k), whatever the distribution (H. A. David, H. N. Nagaraja, "Order Statistics", 7.1):
    93.75 % between the smallest and the largest of five. Raises ValueError if there are none.
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
    """How often the interval from the `rank`-th smallest to the `rank`-th largest of `count` holds the median."""
    tail: int = sum(comb(count, below) for below in range(rank))
    return 1 - 2 * tail / (1 << count)


def differ(one: Interval, other: Interval) -> bool:
    """Whether two are told apart: their intervals do not overlap.

    Where there were too few rounds for an interval that covers anything, the medians are a restart's difference apart
    too.
    """
    apart = one.high < other.low or other.high < one.low
    if min(one.coverage, other.coverage) >= COVERAGE:
        return apart
    return apart and abs(one.median - other.median) > RESTART * max(one.median, other.median)


def case_of(measurement: Measurement) -> Case:
    """The load that a measurement was made under."""
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
    """The summary of a run, whole or as far as it came."""
    cells: dict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for one in run.measurements:
        cells[case_of(one), one.subject].append(one)
    made = {key: _cell(key[1], key[0], group) for key, group in cells.items()}
    for (case, subject), group in cells.items():
        yardstick = cells.get((case, YARDSTICK))
        if yardstick and subject != YARDSTICK:
            _add_shares(made[case, subject], group, yardstick)
    for case in dict.fromkeys(case for case, _ in cells):
        _rank([cell for cell in made.values() if cell.case == case])
    return Summary(cells=list(made.values()))


def places(cells: Sequence[Cell], value: Callable[[Cell], Interval], best: Callable[..., float]) -> list[int]:
    """The place of each, the best is 1: `best` is min or max.

    One that is not told apart from the best of the place above it shares that place; the next one's place counts all
    before it. Equality is not handed on: a long row of small differences does not make the first and the last equal.
    """
    sign = 1 if best is min else -1
    ordered = sorted(range(len(cells)), key=lambda index: sign * value(cells[index]).median)
    found = [1] * len(cells)
    leader, place = ordered[:1], 1
    for position, index in enumerate(ordered):
        if differ(value(cells[leader[0]]), value(cells[index])):
            leader, place = [index], position + 1
        found[index] = place
    return found


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
    """The worst that holds for the cell; see IN_ANY_ROUND."""
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
        return Verdict(word=VALID, reason="one round, so that nothing is known of its spread")
    others = [one.verdict for one in group if one.verdict.word != VALID]
    but = f"; not so {len(others)}: {others[0].word}, {others[0].reason}" if others else ""
    return Verdict(word=VALID, reason=f"{len(group)} rounds, the {name} within {seen.spread:.0%} of its median{but}")


def _add_shares(cell: Cell, group: Sequence[Measurement], yardstick: Sequence[Measurement]) -> None:
    """Paired: what the machine did in a round, it did to both."""
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


def _rank(cells: Sequence[Cell]) -> None:
    """Give the VALID cells of one load their places."""
    ranked = [cell for cell in cells if cell.verdict.word == VALID and cell.subject != YARDSTICK]
    closed = not ranked or ranked[0].case.rate is None
    value, best = (_rate, max) if closed else (_p99, min)
    for cell, place in zip(ranked, places(ranked, value, best), strict=True):
        cell.rank = place
    known = [cell for cell in ranked if cell.cost]
    for cell, place in zip(known, places(known, _cost_interval, min), strict=True):
        cell.cost_rank = place


def _rate(cell: Cell) -> Interval:
    return cell.rate


def _p99(cell: Cell) -> Interval:
    return cell.p99


def _cost_interval(cell: Cell) -> Interval:
    assert cell.cost
    return cell.cost
