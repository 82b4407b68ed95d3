"""Numbers with units, as the command line takes them: 10k, 500ms, 64KiB, and 64:0.9,64KiB:0.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import click

from iolab.program import shortened
from iolab_client.results.measurement import Size

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Zµμ]*)")

COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
SECONDS = {"": 1.0, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"": 1.0, "B": 1.0}
for _power, _letter in enumerate("KMG", 1):
    BYTES[f"{_letter}iB"] = 1024.0**_power
    BYTES[f"{_letter}B"] = 1000.0**_power
BYTES |= {"kB": 1000.0}
# A limit, because the requests of a process are slices of one pattern in memory.
MOST_BYTES = 64 << 20
# The highest number of a processor that Linux can be built for.
MOST_CPU = 8191


def number(text: str, units: Mapping[str, float]) -> float:
    """The value of a text such as `10k` in the basic unit. Raises ValueError, which says what was expected."""
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{shortened(text)} is not a number{_with(units)}")
    if match[2] not in units:
        raise ValueError(f"{shortened(text)}: the unit {shortened(match[2])} is not known{_with(units)}")
    return float(match[1]) * units[match[2]]


def _with(units: Mapping[str, float]) -> str:
    return f" (units: {', '.join(unit for unit in units if unit.isascii() and unit)})"


class Quantity(click.ParamType[float]):
    """A number with a unit, from `least` to `most` of the basic unit, or 0 if `zero` is allowed."""

    units: ClassVar[Mapping[str, float]] = COUNTS
    least: ClassVar[float] = 1e-9
    most: ClassVar[float] = 1e9
    # The two in words.
    bounds: ClassVar[str] = "1 in 1G to 1G"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """The number in the basic unit. Raises click.BadParameter, which gives the bounds."""
        if not isinstance(value, str):
            return float(value)
        bounds = f"from {'0, or ' * self.zero}{self.bounds}"
        try:
            found = number(value, self.units)
        except ValueError as error:
            self.fail(f"{error}, {bounds}", parameter, context)
        if not (self.least <= found <= self.most or (self.zero and not found)):
            self.fail(f"{shortened(value)} is not {bounds}", parameter, context)
        return found


class Rate(Quantity):
    """A rate per second: 500, 10k, 1.5M."""

    name = "RATE"
    least = 0.001
    bounds = "0.001 to 1G"


class Duration(Quantity):
    """Seconds, or a number with ms, s, m; a day at most."""

    name = "TIME"
    units = SECONDS
    least = 1e-6
    most = 86400.0
    bounds = "1us to 24h"


class Count(click.ParamType[int]):
    """A whole number: 100, 10k; from 1, or 0 if `zero` is allowed, to `most`."""

    name = "NUMBER"

    def __init__(self, *, zero: bool = False, most: int = 1_000_000_000) -> None:
        self.least = 0 if zero else 1
        self.most = most

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        """The number. Raises click.BadParameter."""
        if isinstance(value, int):
            return value
        bounds = f"from {self.least} to {self.most:,}"
        try:
            found = number(str(value), COUNTS)
        except ValueError as error:
            self.fail(f"{error}, {bounds}", parameter, context)
        if not self.least <= found <= self.most or not found.is_integer():
            self.fail(f"{shortened(str(value))} is not a whole number {bounds}", parameter, context)
        return int(found)


class Sizes(click.ParamType[tuple[Size, ...]]):
    """Bytes of a message, or several sizes with the share of each: 64, 64KiB, 64:0.9,64KiB:0.1."""

    name = "SIZE"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[Size, ...]:
        """The sizes. Raises click.BadParameter."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._one(part) for part in str(value).split(","))
        except ValueError as error:
            self.fail(str(error), parameter, context)

    def _one(self, text: str) -> Size:
        size_text, colon, share_text = text.partition(":")
        size = number(size_text, BYTES)
        share = number(share_text, {"": 1.0}) if colon else 1.0
        if not 1 <= size <= MOST_BYTES or not size.is_integer():
            raise ValueError(f"{shortened(size_text)} is not a whole number of bytes from 1 to {MOST_BYTES >> 20}MiB")
        if not 1e-9 <= share <= 1e9:
            raise ValueError(f"{shortened(text)}: a share is above 0, from 1e-9 to 1e9")
        return Size(size=int(size), share=share)


class Cpus(click.ParamType[tuple[int, ...]]):
    """Processors by number: 0, 1,3, 2-5."""

    name = "CPUS"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        """The numbers, each once. Raises click.BadParameter."""
        if isinstance(value, tuple):
            return value
        found: set[int] = set()
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
            if not match:
                self.fail(f"{shortened(str(value))} is not a list of processors like 0,2-3", parameter, context)
            first, last = (
                int(digits) if len(digits) < 5 else MOST_CPU + 1 for digits in (match[1], match[2] or match[1])
            )
            if not first <= last <= MOST_CPU:
                bounds = f"from 0 to {MOST_CPU}, the smaller number first"
                self.fail(f"{shortened(part)} is not a range of processors {bounds}", parameter, context)
            found.update(range(first, last + 1))
        return tuple(sorted(found))
