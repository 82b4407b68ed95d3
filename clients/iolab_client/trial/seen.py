"""What was seen in an experiment, point by point, and how two points compare."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import msgspec

from iolab_client.results.effects import Effect, paired
from iolab_client.results.summary import AGAIN

# A side, and where its dial stood.
Spot = tuple[str, float]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One side in one round, with the dial at one place. Values by name: µs, bytes, a second, an answer.

    `doubt` is the verdict of the measurement with its reason, if that was not VALID.
    """

    side: str
    at: float
    round: int
    values: dict[str, float]
    doubt: str = ""


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """By what factor a second spot differs from a first, and by what one side differs from itself on this machine."""

    effect: Effect | None
    # The largest factor between one server and the same again, in any round: 1.1 is ten per cent, either way.
    spread: float

    def above(self, limit: float = 1.0) -> bool | None:
        """Whether the factor is above the limit, or below it, by more than chance and more than the spread.

        None: it is not told.
        """
        if self.effect is None:
            return None
        if self.effect.low > limit and self.effect.ratio > limit * self.spread:
            return True
        if self.effect.high < limit and self.effect.ratio * self.spread < limit:
            return False
        return None

    def at_most(self, limit: float) -> bool:
        """Whether it is known not to be above the limit."""
        return self.effect is not None and self.effect.high <= limit

    def __str__(self) -> str:
        if self.effect is None:
            return "a factor that nobody knows"
        return f"a factor of {shown(self.effect.ratio)} ({shown(self.effect.low)} to {shown(self.effect.high)})"


class Seen:
    """The points of one experiment."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points

    def sides(self) -> list[str]:
        """All of them, without the twin."""
        return list(dict.fromkeys(point.side for point in self.points if not point.side.endswith(AGAIN)))

    def dial(self, side: str | None = None) -> list[float]:
        """Where a side's dial stood, or any side's."""
        return sorted({point.at for point in self.points if side in (None, point.side)})

    def rounds(self, spot: Spot, value: str) -> dict[int, float]:
        """A value of each round in which it is known."""
        return {
            point.round: point.values[value]
            for point in self.points
            if (point.side, point.at) == spot and value in point.values
        }

    def has(self, spot: Spot, value: str) -> bool:
        """Whether it was measured."""
        return bool(self.rounds(spot, value))

    def median(self, spot: Spot, value: str) -> float:
        """Of the rounds; not a number where there is none."""
        values = list(self.rounds(spot, value).values())
        return statistics.median(values) if values else math.nan

    def least(self, spot: Spot, value: str) -> float:
        """Of the rounds; not a number where there is none."""
        return min(self.rounds(spot, value).values(), default=math.nan)

    def most(self, spot: Spot, value: str) -> float:
        """Of the rounds; not a number where there is none."""
        return max(self.rounds(spot, value).values(), default=math.nan)

    def told(self, value: str, sides: Sequence[str], dial: Sequence[float], *, unit: float = 1.0) -> str:
        """The medians in words, for each side at each place of the dial: `epoll_loop 1.2 and 3.4; ...`."""
        return "; ".join(
            f"{side} {' and '.join(shown(self.median((side, at), value) / unit) for at in dial)}" for side in sides
        )

    def factor(self, value: str, first: Spot, second: Spot, comparisons: int = 1) -> Factor:
        """The second over the first, paired by round. `comparisons`: how many the verdict rests on."""
        one, other = self.rounds(first, value), self.rounds(second, value)
        both = [number for number in one if number in other]
        effect = paired([one[number] for number in both], [other[number] for number in both], comparisons)
        return Factor(effect=effect, spread=self.spread(value))

    def spread(self, value: str) -> float:
        """The A/A spread: the largest factor between a side and its twin, in any round and place of the dial."""
        largest = 1.0
        for twin in {point.side for point in self.points if point.side.endswith(AGAIN)}:
            for at in self.dial(twin):
                own, again = self.rounds((twin.removesuffix(AGAIN), at), value), self.rounds((twin, at), value)
                ratios = [again[number] / own[number] for number in own if own[number] > 0 and again.get(number, 0) > 0]
                largest = max([largest, *ratios, *(1 / ratio for ratio in ratios)])
        return largest

    def course(self, value: str, first: str, second: str, others: int = 0) -> Course:
        """At each place of the dial that both have, whether the second's value is above the first's.

        `others`: how many more comparisons the verdict rests on.
        """
        places = [at for at in self.dial(first) if at in self.dial(second)]
        count = len(places) + others
        return Course(told=[(at, self.factor(value, (first, at), (second, at), count).above()) for at in places])


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How two sides compare over the dial: whether the second is above the first at each place; None: not told."""

    told: list[tuple[float, bool | None]]

    def always(self) -> bool | None:
        """Whether it is above wherever it is told, or below; None: neither, or told nowhere."""
        known = {above for _, above in self.told if above is not None}
        return known.pop() if len(known) == 1 else None

    def turn(self) -> tuple[float, float] | None:
        """Between which places it turns: the nearest two that are told and differ; None if it never does."""
        known = [(at, above) for at, above in self.told if above is not None]
        for (before, one), (after, other) in itertools.pairwise(known):
            if one != other:
                return before, after
        return None


def shown(value: float) -> str:
    """Three digits that matter."""
    if math.isnan(value):
        return "nobody knows"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
