"""Numbers and loads as a person reads them."""

from __future__ import annotations

from iolab_client.results.effects import Effect
from iolab_client.results.measurement import Size
from iolab_client.results.summary import Case, Interval

NOTHING = "\N{EN DASH}"


def number(value: float) -> str:
    """Three digits that matter, thousands with commas: 0.0123, 8.21, 123, 104,532."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 10 else 3
    return f"{value:.{digits}g}" if abs(value) < 10 else f"{value:.1f}".removesuffix(".0")


def middle(value: Interval | None) -> str:
    """The median."""
    return number(value.median) if value else NOTHING


def range_of(value: Interval | None) -> str:
    """The interval, nothing for one round."""
    return f"{number(value.low)} to {number(value.high)}" if value and value.rounds > 1 else ""


def size_in_words(sizes: tuple[Size, ...]) -> str:
    """`64 B`, `16 KiB`, or several with their shares."""
    total = sum(each.share for each in sizes)
    several = len(sizes) > 1
    return " + ".join(bytes_in_words(each.size) + (f" ({each.share / total:.0%})" if several else "") for each in sizes)


def bytes_in_words(size: float) -> str:
    """`64 B`, `16 KiB`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def case_in_words(case: Case, *, connections: bool = True, rate: bool = True) -> str:
    """`64 connections, 64 B`, and what is not usual."""
    parts = [f"{case.connections:,} connection{'s' if case.connections > 1 else ''}"] if connections else []
    parts.append(size_in_words(case.sizes))
    if case.pipeline > 1:
        parts.append(f"{case.pipeline} in flight on each")
    if rate and case.rate is not None:
        parts.append(f"{number(case.rate)} requests/s offered")
    if case.churn:
        parts.append(f"a new connection every {case.churn:,} requests")
    if case.idle:
        parts.append(f"{case.idle:,} idle beside")
    return ", ".join(parts)


def effect_in_words(effect: Effect | None) -> str:
    """`1.050 (0.990-1.110)`, with an en dash: the factor, and between which ones the true one lies."""
    return "" if effect is None else f"{factor(effect.ratio)} ({factor(effect.low)}\N{EN DASH}{factor(effect.high)})"


def factor(value: float) -> str:
    """`1.050`; of what is out of all proportion, as two rounds leave it, only that: `>1000`, `<0.001`."""
    if value > 1000:
        return ">1000"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 10 else f"{value:.0f}"
