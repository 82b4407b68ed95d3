"""Thresholds: what fails a result, such as `p99>5ms`, `rate<10k`, `errors>0`, `cost>20us` or `verdict!=VALID`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from iolab_client.results.measurement import Measurement
from iolab_client.results.units import COUNTS, SECONDS, number
from iolab_client.results.verdicts import ORDER

# The exit code if a threshold is missed, as in k6.
EXIT_MISSED = 99

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
# Latencies and costs are microseconds in a measurement, and seconds here.
_TIMES: Mapping[str, Callable[[Measurement], float | None]] = {
    "p50": lambda one: one.latency.p50,
    "p90": lambda one: one.latency.p90,
    "p99": lambda one: one.latency.p99,
    "p99.9": lambda one: one.latency.p99_9,
    "max": lambda one: one.latency.max,
    "mean": lambda one: one.latency.mean,
    "cost": lambda one: one.server.cost if one.server else None,
}
_NUMBERS: Mapping[str, Callable[[Measurement], float | None]] = {
    "rate": lambda one: one.rate,
    "errors": lambda one: one.errors.total,
}


@dataclass(frozen=True)
class Threshold:
    """A condition that fails a result."""

    text: str
    what: str
    comparison: str
    limit: float

    def missed(self, measurement: Measurement) -> str | None:
        """Why the result fails, in words; None if it does not. An unknown number fails: it was not seen to be good."""
        if self.what in _NUMBERS:
            found, shown = _NUMBERS[self.what](measurement), ""
        else:
            microseconds = _TIMES[self.what](measurement) if measurement.latency.count else None
            found, shown = (None if microseconds is None else microseconds / 1e6), " µs"
        if found is None:
            return f"{self.text}: {self.what} is not known"
        if _COMPARISONS[self.comparison](found, self.limit):
            return f"{self.text}: {self.what} is {found * 1e6 if shown else found:,.0f}{shown}"
        return None


@dataclass(frozen=True)
class VerdictThreshold:
    """The verdicts that fail a result."""

    text: str
    words: frozenset[str]

    def missed(self, measurement: Measurement) -> str | None:
        """As in Threshold."""
        verdict = measurement.verdict
        return f"{self.text}: the verdict is {verdict.word}, {verdict.reason}" if verdict.word in self.words else None


# What --fail-if takes.
Condition = Threshold | VerdictThreshold


class ThresholdType(click.ParamType[Condition]):
    """A metric, a comparison, and a number with its unit."""

    name = "CONDITION"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Condition:
        """The threshold. Raises click.BadParameter."""
        if isinstance(value, Condition):
            return value
        if match := re.fullmatch(r"\s*verdict\s*(==|!=)\s*(\S+)\s*", str(value)):
            return self._of_verdict(str(value).strip(), match[1], match[2])
        match = re.fullmatch(r"\s*([a-z0-9.]+)\s*(>=|<=|>|<)\s*(\S+)\s*", str(value))
        if not match:
            self.fail(f"{value!r} is not a condition like p99>5ms", parameter, context)
        what, comparison, limit = match.groups()
        if what not in _TIMES and what not in _NUMBERS:
            self.fail(f"{value!r}: {what!r} is none of {', '.join([*_TIMES, *_NUMBERS])}", parameter, context)
        if what in _TIMES and limit[-1].isdigit():
            self.fail(f"{value!r}: a time needs its unit, as in 5ms or 20us", parameter, context)
        try:
            return Threshold(str(value).strip(), what, comparison, number(limit, SECONDS if what in _TIMES else COUNTS))
        except ValueError as error:
            self.fail(str(error), parameter, context)

    def _of_verdict(self, text: str, comparison: str, word: str) -> VerdictThreshold:
        if word not in ORDER:
            self.fail(f"{text!r}: {word!r} is none of {', '.join(ORDER)}")
        return VerdictThreshold(text, frozenset({word} if comparison == "==" else set(ORDER) - {word}))
