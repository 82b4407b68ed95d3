"""Plots with a panel for each subject, all with the same axes: what would hide each other in one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

from iolab_client.report import palette
from iolab_client.report.drawing import INK, LABEL_POINTS, MUTED, drawing, numbers
from iolab_client.report.palette import Style
from iolab_client.report.words import case_in_words, number
from iolab_client.results.measurement import YARDSTICK, Measurement, Run
from iolab_client.results.recorded import Recorded
from iolab_client.results.summary import Case, case_of

COLUMNS = 4
# The finest percentile that is looked at: 99.999.
FINEST = 1e5
# Points of a percentile curve for each power of ten of what is left to 100 %.
POINTS = 12
# Below this percentile it is of no interest how quick the quickest were.
QUICKEST = 0.05
# Steps of a heat map's latencies for each power of ten.
HEAT_STEPS = 12
# The faintest that is still seen: one answer among thousands may be the one.
FAINTEST = 60


def merged(run: Run, cases: Mapping[str, Case]) -> dict[str, Recorded]:
    """All rounds of each subject together, under its load."""
    groups: dict[str, list[str]] = {}
    for one in _under(run, cases):
        if one.latency.count:
            groups.setdefault(one.subject, []).append(one.latency.histogram)
    return {subject: Recorded(histograms) for subject, histograms in groups.items()}


def timed(run: Run, cases: Mapping[str, Case]) -> dict[str, list[Measurement]]:
    """The rounds of each subject under its load, as far as they have latencies over time."""
    groups: dict[str, list[Measurement]] = {}
    for one in _under(run, cases):
        if one.over_time and any(one.over_time.histograms):
            groups.setdefault(one.subject, []).append(one)
    return groups


def _under(run: Run, cases: Mapping[str, Case]) -> list[Measurement]:
    return [one for one in run.measurements if cases.get(one.subject) == case_of(one)]


def percentiles(
    name: str, title: str, merged: Mapping[str, Recorded], cases: Mapping[str, Case], looks: Mapping[str, Style]
) -> str:
    """Curves of latency by percentile; behind each where the middle half of all is, and the yardstick's."""
    curves = {subject: _curve(recorded) for subject, recorded in merged.items()}
    common = [left for left in max((lefts for lefts, _ in curves.values()), key=len) if left < FINEST]
    there = [[values[at] for lefts, values in curves.values() if at < len(lefts)] for at in range(len(common))]
    half = [np.quantile(each, (0.25, 0.75)) for each in there]
    with drawing(name, title=title, height=_height(len(curves)), shape=_shape(len(curves))) as (figure, axes, done):
        for panel, (subject, (lefts, values)) in zip(axes.flat, curves.items(), strict=False):
            panel.fill_between(common, *np.transpose(half), color=MUTED, alpha=0.22, linewidth=0)
            if YARDSTICK in curves:
                panel.plot(*curves[YARDSTICK], color=INK, linestyle=(0, (1, 1.5)), linewidth=1.1)
            look = looks[subject]
            panel.plot(lefts, values, color=look.sentinel, linestyle=look.line, gid=f"line-{subject}")
        first = axes.flat[0]
        first.set_xscale("log")
        first.set_yscale("log")
        first.set_xlim(1, min(FINEST, max(lefts[-1] for lefts, _ in curves.values())))
        first.set_ylim(bottom=min(recorded.at(QUICKEST) for recorded in merged.values()) / 1.5)
        _axes(figure, axes, list(curves), cases)
        first.xaxis.set_major_locator(FixedLocator([1, 10, 100, 1000, 1e4, FINEST]))
        first.xaxis.set_major_formatter(FuncFormatter(_percentile))
        first.yaxis.set_major_locator(_decades(first.get_ylim()))
        numbers(first.yaxis)
        figure.supxlabel(f"percentile ({_where(cases)})", fontsize=9.5, color=MUTED, y=0.01)
        figure.supylabel("latency (µs)", fontsize=9.5, color=MUTED, x=0.005)
    slowest = "; ".join(f"{subject} {number(recorded.at(0.99))}" for subject, recorded in merged.items())
    return done(f"The p99 of all rounds in microseconds: {slowest}.")


def heat(name: str, title: str, timed: Mapping[str, Sequence[Measurement]], cases: Mapping[str, Case]) -> str:
    """Latencies over time: a column for each interval, a row for each step of latency."""
    recorded = {
        subject: [
            [Recorded([text]) if text else None for text in one.over_time.histograms] for one in rounds if one.over_time
        ]
        for subject, rounds in timed.items()
    }
    every = [moment for rounds in recorded.values() for moments in rounds for moment in moments if moment]
    low = math.floor(math.log10(min(moment.at(QUICKEST) for moment in every)) * HEAT_STEPS) / HEAT_STEPS
    high = math.ceil(math.log10(max(moment.at(1) for moment in every)) * HEAT_STEPS + 0.5) / HEAT_STEPS
    edges = np.linspace(low, high, max(2, round((high - low) * HEAT_STEPS) + 1))
    with drawing(name, title=title, height=_height(len(timed)), shape=_shape(len(timed))) as (figure, axes, done):
        longest = 0.0
        for panel, (subject, rounds) in zip(axes.flat, timed.items(), strict=False):
            counts = [_counts(moments, edges) for moments in recorded[subject]]
            most = max(float(each.max()) for each in counts)
            begin = 0.0
            for one, each in zip(rounds, counts, strict=True):
                assert one.over_time
                end = begin + one.over_time.interval_seconds * each.shape[1]
                panel.imshow(
                    _shades(each, most),
                    extent=(begin, end, low, high),
                    origin="lower",
                    aspect="auto",
                    interpolation="none",
                )
                if begin:
                    panel.axvline(begin, color=MUTED, linewidth=0.6)
                begin = end
            longest = max(longest, begin)
        first = axes.flat[0]
        first.set_xlim(0, longest)
        first.set_ylim(low, high)
        _axes(figure, axes, list(timed), cases)
        # The last number would touch the first one of the next panel.
        first.xaxis.set_major_locator(MaxNLocator(5, prune="upper"))
        numbers(first.xaxis)
        first.yaxis.set_major_locator(_logs(low, high))
        first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(round(10**value))))
        figure.supxlabel(f"seconds, round after round ({_where(cases)})", fontsize=9.5, color=MUTED, y=0.01)
        figure.supylabel("latency (µs)", fontsize=9.5, color=MUTED, x=0.005)
    return done(
        "A map of how long answers took, over time; the plots of percentiles and the tables have the same latencies."
    )


def _counts(moments: Sequence[Recorded | None], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many answers of each moment (column) took how long (row, the quickest first), between powers of ten."""
    # What is quicker than the first edge or slower than the last belongs to the row beside it.
    bounds = np.concatenate(([0.0], 10 ** edges[1:-1], [np.inf]))
    empty = np.zeros(len(edges) - 1, np.int64)
    return np.column_stack([moment.between(bounds) if moment else empty for moment in moments])


def _shades(counts: npt.NDArray[np.int64], most: float) -> npt.NDArray[np.uint8]:
    """An image in the colour of ink: transparent where nothing is, the darker the more. A dark page inverts it."""
    red, green, blue = (int(palette.INK["ink"][0][at : at + 2], 16) for at in (1, 3, 5))
    image = np.zeros((*counts.shape, 4), np.uint8)
    image[..., :3] = red, green, blue
    depth = FAINTEST + (255 - FAINTEST) * np.log1p(counts) / math.log1p(most)
    image[..., 3] = np.where(counts > 0, depth, 0)
    return image


def _shape(panels: int) -> tuple[int, int]:
    return -(-panels // COLUMNS), COLUMNS


def _height(panels: int) -> float:
    return 0.75 + 1.5 * _shape(panels)[0]


def _axes(figure: Figure, axes: Any, subjects: Sequence[str], cases: Mapping[str, Case]) -> None:
    """Names above the panels, small numbers beside the outer ones, and no panel without a subject."""
    figure.subplots_adjust(left=0.1, right=0.985, top=1 - 0.24 / figure.get_figheight(), hspace=0.28, wspace=0.15,
                           bottom=0.62 / figure.get_figheight())  # fmt: skip
    rates = len({case.rate for case in cases.values()}) > 1
    for place, panel in enumerate(axes.flat):
        if place >= len(subjects):
            panel.set_visible(False)
            continue
        subject = subjects[place]
        rate = cases[subject].rate
        own = f", {number(rate)}/s" if rates and rate else ""
        panel.set_title(f"{subject}{own}", loc="left", fontsize=LABEL_POINTS, pad=3, color=INK)
        panel.minorticks_off()
        panel.tick_params(labelsize=7.5, labelbottom=place + COLUMNS >= len(subjects))


def _where(cases: Mapping[str, Case]) -> str:
    """The load of all panels; a rate that differs stands in each."""
    case = next(iter(cases.values()))
    if len({each.rate for each in cases.values()}) == 1:
        return case_in_words(case)
    return f"{case_in_words(case, rate=False)}, of each the middle of its offered rates"


def _curve(recorded: Recorded) -> tuple[list[float], list[float]]:
    """1 / (1 - quantile), and the latency there in µs, as far as there are answers to tell it."""
    finest = min(FINEST, float(recorded.count))
    points = [10 ** (place / POINTS) for place in range(int(POINTS * math.log10(FINEST)))]
    left = [*(point for point in points if point < finest), finest]
    return left, [recorded.at(1 - 1 / each) for each in left]


def _percentile(left: float, _: Any) -> str:
    return f"{100 * (1 - 1 / left):.10g}" if left > 1 else "0"


def _decades(bounds: tuple[float, float]) -> LogLocator:
    """Powers of ten; where there are few of them, 2 and 5 between them, too."""
    return LogLocator(10) if bounds[1] / bounds[0] > 1000 else LogLocator(10, subs=(1, 2, 5))


def _logs(low: float, high: float) -> FixedLocator:
    """The same where it is the logarithm that is drawn."""
    steps = (1.0,) if high - low > 3 else (1.0, 2.0, 5.0)
    places = [decade + math.log10(step) for decade in range(math.floor(low), math.ceil(high)) for step in steps]
    return FixedLocator([place for place in places if low <= place <= high])
