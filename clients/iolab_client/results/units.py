"""Numbers with units, as the command line takes them: 10k, 500ms, 64KiB, and 64:0.9,64KiB:0.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import click

from iolab_client.results.measurement import Size

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Zµμ]*)")

COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
SECONDS = {"": 1.0, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"": 1.0, "B": 1.0}
for _power, _letter in enumerate("KMG", 1):
    BYTES[f"{_letter}iB"] = 1024.0**_power
    BYTES[f"{_letter}B"] = 1000.0**_power
BYTES |= {"kB": 1000.0}
# The requests of a process are slices of one pattern in memory.
MOST_BYTES = 64 << 20


def number(text: str, units: Mapping[str, float]) -> float:
    """The value of `10k` in the basic unit. Raises ValueError, which says what was expected."""
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a number{_with(units)}")
    if match[2] not in units:
        raise ValueError(f"{text!r}: the unit {match[2]!r} is not known{_with(units)}")
    return float(match[1]) * units[match[2]]


def _with(units: Mapping[str, float]) -> str:
    return f" (units: {', '.join(unit for unit in units if unit.isascii() and unit)})"


class Quantity(click.ParamType[float]):
    """A number with a unit, more than 0 unless `zero` is allowed."""

    units: ClassVar[Mapping[str, float]] = COUNTS

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """The number in the basic unit. Raises click.BadParameter."""
        if not isinstance(value, str):
            return float(value)
        try:
            found = number(value, self.units)
        except ValueError as error:
            self.fail(str(error), parameter, context)
        if not found and not self.zero:
            self.fail(f"{value!r} is not above 0", parameter, context)
        return found


class Rate(Quantity):
    """A rate per second: 500, 10k, 1.5M."""

    name = "RATE"


class Duration(Quantity):
    """Seconds, or a number with ms, s, m."""

    name = "TIME"
    units = SECONDS


class Count(click.ParamType[int]):
    """A whole number: 100, 10k; 1 or more unless `zero` is allowed."""

    name = "NUMBER"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        """The number. Raises click.BadParameter."""
        if isinstance(value, int):
            return value
        found = Quantity(zero=self.zero).convert(value, parameter, context)
        if not found.is_integer():
            self.fail(f"{value!r} is not a whole number", parameter, context)
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
        if not size.is_integer() or not 1 <= size <= MOST_BYTES:
            raise ValueError(f"{size_text!r} is not a whole number of bytes from 1 to {MOST_BYTES >> 20}MiB")
        if not share:
            raise ValueError(f"{text!r}: a share is above 0")
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
                self.fail(f"{value!r} is not a list of processors like 0,2-3", parameter, context)
            found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
        return tuple(sorted(found))
