"""Effects: by what factor two things differ, and whether that is more than chance.

Logarithms are compared, so that a factor becomes a difference; Student's t is made for their spread over the rounds.
All intervals of a report hold together: of reports in which nothing differs, at most one in twenty claims a difference
(C. E. Bonferroni, 1936; Student, "The Probable Error of a Mean", 1908).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import cache

import msgspec

# How often a report may claim a difference when there is none.
FALSE_ALARMS = 0.05


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """The second over the first: the median of the rounds' ratios, and an interval for the true factor.

    The intervals of all `comparisons` of the report hold together 95 % of the time.
    """

    ratio: float
    low: float
    high: float
    comparisons: int
    rounds: int

    @property
    def told_apart(self) -> bool:
        """Whether the two differ by more than chance. If not, they need not be equal."""
        return self.low > 1 or self.high < 1


def paired(first: Sequence[float], second: Sequence[float], comparisons: int) -> Effect | None:
    """The effect in numbers measured side by side: what the machine did in a round, it did to both.

    None if there are fewer than two rounds, or a number is not above 0.
    """
    if len(first) < 2 or min(*first, *second) <= 0:
        return None
    ratios = [later / earlier for earlier, later in zip(first, second, strict=True)]
    logs = [math.log(ratio) for ratio in ratios]
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    return _effect(statistics.median(ratios), statistics.fmean(logs), error, len(logs) - 1, comparisons, len(logs))


def independent(first: Sequence[float], second: Sequence[float], comparisons: int) -> Effect | None:
    """The effect in numbers measured in two runs. None if a run has fewer than two, or a number is not above 0.

    The runs may have different variances: B. L. Welch, "The generalization of Student's problem", 1947.
    """
    if min(len(first), len(second)) < 2 or min(*first, *second) <= 0:
        return None
    logs = [[math.log(value) for value in values] for values in (first, second)]
    parts = [statistics.variance(each) / len(each) for each in logs]
    error = math.sqrt(sum(parts))
    weights = sum(part**2 / (len(each) - 1) for part, each in zip(parts, logs, strict=True))
    # Whole degrees of freedom, rounded down, which makes the interval wider.
    freedom = int(sum(parts) ** 2 / weights) if weights else min(map(len, logs)) - 1
    middle = statistics.fmean(logs[1]) - statistics.fmean(logs[0])
    ratio = statistics.median(second) / statistics.median(first)
    return _effect(ratio, middle, error, max(1, freedom), comparisons, min(map(len, logs)))


def _effect(ratio: float, middle: float, error: float, freedom: int, comparisons: int, rounds: int) -> Effect:
    reach = error * student(1 - FALSE_ALARMS / max(1, comparisons), freedom)
    low, high = (math.exp(max(-700.0, min(700.0, middle + sign * reach))) for sign in (-1, 1))
    return Effect(ratio=ratio, low=low, high=high, comparisons=comparisons, rounds=rounds)


@cache
def student(probability: float, freedom: int) -> float:
    """How far from 0 Student's t stays with that probability, on both sides; `freedom` is a whole number from 1 on."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < probability and high < 1e12:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < probability else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """The probability that Student's t stays within -t and t: M. Abramowitz, I. A. Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for step in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
