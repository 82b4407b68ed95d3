"""The plots: each takes what a run came to and gives a drawing, or says why there is none."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, NullFormatter

from iolab_client.report import palette
from iolab_client.report.palette import Style
from iolab_client.report.words import case_in_words, number
from iolab_client.results.measurement import VALID, YARDSTICK, Latency, Measurement, Run
from iolab_client.results.recorded import Recorded
from iolab_client.results.summary import Case, Cell, Interval, Summary, case_of

INK, MUTED, GRID = (palette.SENTINELS[name] for name in ("ink", "muted", "grid"))
# Between the largest and the smallest, more than this is shown on a logarithmic axis: bars would be slivers.
WIDE = 20
# The finest percentile that is looked at: 99.999.
FINEST = 1e5
# Points of a percentile curve for each power of ten of what is left to 100 %.
POINTS = 24
LABEL_POINTS = 8.5
# The part of an axis that a number of it takes.
LABEL_WIDTH = 0.07
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # A subject's name is text, with whatever dollars are in it.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot of the report: `svg` in sentinel colours, or empty with the reason in `missing`."""

    name: str
    title: str
    meaning: str
    svg: str = ""
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class ChartRow:
    """One subject's mark in a plot of rows."""

    cell: Cell
    value: Interval
    second: Interval | None = None


def charts(run: Run, summary: Summary) -> list[Chart]:
    """All of them, in the order of the page."""
    looks = palette.looks(dict.fromkeys(cell.subject for cell in summary.cells))
    focus = focus_case(summary, lambda case: case.rate is None) or focus_case(summary, lambda case: True)
    opened = focus_case(summary, lambda case: case.rate is not None)
    return [
        _throughput(summary, looks),
        _cost(summary, focus, looks),
        _shares(summary, focus, looks),
        _percentiles(run, focus, looks, "percentiles"),
        *([_percentiles(run, opened, looks, "percentiles-open")] if opened and opened != focus else []),
        _offered(summary, looks),
        _memory(summary, focus, looks),
    ]


def focus_case(summary: Summary, wanted: Callable[[Case], bool]) -> Case | None:
    """The load that stands for the others: of those that most subjects were under, the middle one."""
    cells = [cell for cell in summary.cells if wanted(cell.case)]
    under = Counter(cell.case for cell in cells)
    most = [case for case in under if under[case] == max(under.values())]
    most.sort(key=lambda case: (case.connections, case.rate or 0))
    return most[len(most) // 2] if most else None


def _throughput(summary: Summary, looks: Mapping[str, Style]) -> Chart:
    name, title = "throughput", "Throughput against connections"
    cells = _largest_group(
        [cell for cell in summary.cells if cell.case.rate is None],
        lambda case: (case.pipeline, case.sizes, case.churn, case.idle),
        lambda case: case.connections,
    )
    if not cells:
        return Chart(
            name=name,
            title=title,
            meaning="How many answers a second a server gives as more clients ask at once.",
            missing="It needs a closed loop with two connection counts or more.",
        )
    meaning = (
        "Answers a second as more clients ask at once, each waiting for its answer before it asks again: a line that "
        "flattens has found its limit, one that falls pays for watching many. Bands hold the median over the rounds."
    )
    with drawing(name) as (figure, axes, done):
        _lines(axes, cells, looks, lambda cell: cell.case.connections, lambda cell: cell.rate)
        axes.set_xlabel(f"connections ({case_in_words(cells[0].case, connections=False)})")
        axes.set_ylabel("answers/s")
        label_ends(figure, axes, looks)
    return Chart(name=name, title=title, meaning=meaning, svg=done())


def _offered(summary: Summary, looks: Mapping[str, Style]) -> Chart:
    name, title = "offered", "Latency against offered rate"
    cells = _largest_group(
        [cell for cell in summary.cells if cell.case.rate is not None],
        lambda case: (case.connections, case.pipeline, case.sizes, case.churn, case.idle),
        lambda case: case.rate or 0.0,
    )
    meaning = (
        "The p99 from when each request was due, as more of them are due a second: where a line turns up, requests "
        "come faster than they are answered and wait for each other."
    )
    if not cells:
        missing = "It needs an open loop (rates) with two rates or more."
        return Chart(name=name, title=title, meaning=meaning, missing=missing)
    with drawing(name) as (figure, axes, done):
        _lines(axes, cells, looks, lambda cell: cell.case.rate or 0.0, lambda cell: cell.p99)
        axes.set_xlabel(f"offered requests/s ({case_in_words(cells[0].case, rate=False)})")
        axes.set_ylabel("p99 (µs)")
        label_ends(figure, axes, looks)
    return Chart(name=name, title=title, meaning=meaning, svg=done())


def _percentiles(run: Run, case: Case | None, looks: Mapping[str, Style], name: str) -> Chart:
    opened = case is not None and case.rate is not None
    title = "Latency by percentile, " + ("open loop" if opened else "closed loop")
    meaning = "How long the slowest tenth, hundredth, thousandth of the answers took, all rounds together; " + (
        "counted from when a request was due, so that a stall is in it for each request that it kept waiting."
        if opened
        else "a closed loop asks nothing while it waits, so that a stall is counted once however long it was."
    )
    merged = _merged([one for one in run.measurements if case_of(one) == case])
    if not merged or not case:
        return Chart(name=name, title=title, meaning=meaning, missing="No answer was measured.")
    with drawing(name) as (figure, axes, done):
        for subject, recorded in merged.items():
            left, values = _curve(recorded)
            look = looks[subject]
            axes.plot(left, values, color=look.sentinel, linestyle=look.dashes, label=subject, gid=f"line-{subject}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1, FINEST)
        # The quickest answers of all are of no interest, and would take half of the height.
        axes.set_ylim(bottom=min(recorded.at(0.05) for recorded in merged.values()) / 1.5)
        axes.xaxis.set_major_formatter(FuncFormatter(_percentile))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"percentile ({case_in_words(case)})")
        axes.set_ylabel("latency (µs)")
        label_ends(figure, axes, looks)
    return Chart(name=name, title=title, meaning=meaning, svg=done())


def _cost(summary: Summary, case: Case | None, looks: Mapping[str, Style]) -> Chart:
    rows = [ChartRow(cell=cell, value=cell.cost) for cell in summary.cells if cell.case == case and cell.cost]
    return _rows_chart(
        "cost",
        "Cost per answer",
        "Processor time of the server for one answer, the least first: steadier than the rate, because it does not "
        "change with what else the machine had to do.",
        sorted(rows, key=lambda row: row.value.median),
        looks,
        "CPU-µs per answer",
        "It needs the admin port of a server, where its processor time is told.",
    )


def _shares(summary: Summary, case: Case | None, looks: Mapping[str, Style]) -> Chart:
    rows = [
        ChartRow(cell=cell, value=cell.share_by_cost or cell.share_by_rate, second=cell.share_by_rate)
        for cell in summary.cells
        if cell.case == case and cell.share_by_rate
    ]
    return _rows_chart(
        "share",
        "Share of the yardstick",
        "What is left of a C server's speed, on the same processors in the same round: the mark is by cost, the hollow "
        "ring by rate; 1 is as good as the yardstick. These are the numbers to compare between machines.",
        sorted(rows, key=lambda row: -row.value.median),
        looks,
        "share of the yardstick",
        "It needs the yardstick under the same load, in the same round.",
    )


def _memory(summary: Summary, case: Case | None, looks: Mapping[str, Style]) -> Chart:
    # The fewer connections, the more of the growth is the server's own.
    closed = [cell for cell in summary.cells if cell.case.rate is None and cell.memory_per_connection]
    most = max((cell.case.connections for cell in closed), default=0)
    at_most = [cell for cell in closed if cell.case.connections == most and (not case or cell.case.sizes == case.sizes)]
    rows = {c.subject: ChartRow(cell=c, value=c.memory_per_connection) for c in at_most if c.memory_per_connection}
    return _rows_chart(
        "memory",
        "Memory per connection",
        f"By how much the server grew for each connection that was open, with {most:,} of them; buffers in the kernel "
        "are not in it.",
        sorted(rows.values(), key=lambda row: row.value.median),
        looks,
        "bytes per connection",
        "It needs the admin port of a server, where its memory is told.",
    )


def _rows_chart(
    name: str, title: str, meaning: str, rows: Sequence[ChartRow], looks: Mapping[str, Style], label: str, missing: str
) -> Chart:
    if not rows:
        return Chart(name=name, title=title, meaning=meaning, missing=missing)
    highest = max(row.value.high for row in rows)
    least = min(row.value.median for row in rows)
    # A share is read against 1, whatever is far below.
    logarithmic = name != "share" and least > 0 and highest / least > WIDE
    bars = not logarithmic and all(row.second is None for row in rows)
    with drawing(name, height=1.0 + 0.27 * len(rows)) as (figure, axes, done):
        for place, row in enumerate(rows):
            look, value, valid = looks[row.cell.subject], row.value, row.cell.verdict.word == VALID
            gid = f"row-{row.cell.subject}"
            if bars:
                axes.barh(place, value.median, 0.62, color=look.sentinel, alpha=0.8 if valid else 0.3, gid=gid)
            whisker = INK if bars else look.sentinel
            axes.plot([value.low, value.high], [place, place], color=whisker, linewidth=1.6, gid=f"interval-{gid}")
            if not bars:
                mark = look.marker if valid else "x"
                axes.plot(value.median, place, mark, color=look.sentinel, markersize=7, gid=gid)
            if row.second:
                axes.plot(row.second.median, place, "o", color=look.sentinel, markerfacecolor="none", markersize=9)
            word = "" if valid else f"  {row.cell.verdict.word}"
            end = max(value.high, row.second.median if row.second else value.high)
            axes.annotate(
                f"{number(value.median)}{word}",
                (end, place),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                fontsize=LABEL_POINTS,
                color=INK if valid else MUTED,
                annotation_clip=False,
            )
        axes.set_yticks(range(len(rows)), [row.cell.subject for row in rows])
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            # A server may have grown by nothing, or even given back some memory.
            lowest = min(0.0, *(row.value.low for row in rows))
            axes.set_xlim(lowest * 1.02, (highest if highest > 0 else 0.0 if lowest < 0 else 1.0) * 1.02)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        if name == "share":
            axes.axvline(1.0, color=INK, linewidth=1, linestyle=":")
        where = case_in_words(rows[0].cell.case)
        axes.set_xlabel(f"{label} ({where})")
        figure.subplots_adjust(left=0.2, right=0.86, top=0.97, bottom=0.55 / figure.get_figheight())
    return Chart(name=name, title=title, meaning=meaning, svg=done())


def _lines(
    axes: Axes,
    cells: Sequence[Cell],
    looks: Mapping[str, Style],
    across: Callable[[Cell], float],
    up: Callable[[Cell], Interval],
) -> None:
    """One line per subject with the band of its interval; what is not VALID is a cross."""
    for subject in dict.fromkeys(cell.subject for cell in cells):
        look = looks[subject]
        own = sorted((cell for cell in cells if cell.subject == subject), key=across)
        places, values = [across(cell) for cell in own], [up(cell) for cell in own]
        lows, highs = [value.low for value in values], [value.high for value in values]
        axes.fill_between(places, lows, highs, color=look.sentinel, alpha=0.16, linewidth=0, gid=f"band-{subject}")
        axes.plot(
            places,
            [value.median for value in values],
            color=look.sentinel,
            linestyle=look.dashes,
            label=subject,
            gid=f"line-{subject}",
        )
        for valid in (True, False):
            points = [(a, v.median) for a, v, cell in zip(places, values, own, strict=True) if valid == _valid(cell)]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    look.marker if valid else "x",
                    color=look.sentinel,
                    markerfacecolor=look.fill if valid else look.sentinel,
                    markersize=5 if valid else 8,
                    gid=f"marks-{subject}",
                )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_places(sorted({across(cell) for cell in cells})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.minorticks_off()
    # The bands as well: one round may be far above the median of all.
    shown = [bound for cell in cells for bound in (up(cell).median, up(cell).high) if bound > 0]
    if shown and max(shown) / min(shown) > WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _places(values: Sequence[float]) -> Locator:
    """Where a logarithmic axis has ticks: at the values, or at round numbers if these are too near to each other."""
    logs = [math.log(value) for value in values]
    gaps = [right - left for left, right in itertools.pairwise(logs)]
    if gaps and min(gaps) < LABEL_WIDTH * (logs[-1] - logs[0]):
        return LogLocator(10, subs=(1, 2, 5))
    return FixedLocator(values)


def _valid(cell: Cell) -> bool:
    return cell.verdict.word == VALID


def label_ends(figure: Figure, axes: Axes, looks: Mapping[str, Style]) -> None:
    """Each line's name at its right end, pushed apart where they would cover each other."""
    figure.subplots_adjust(left=0.11, right=0.8, top=0.97, bottom=0.13)
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    height = figure.get_figheight() * 0.84 * 72
    step = (LABEL_POINTS + 3.5) / height
    to_axes = axes.transAxes.inverted()
    ends = []
    for line in lines:
        x, y = np.asarray(line.get_xydata(), dtype=float)[-1]
        ends.append((*to_axes.transform(axes.transData.transform((x, y))), str(line.get_label())))
    ends.sort(key=lambda end: end[1])
    places: list[float] = []
    for _, y, _ in ends:
        places.append(max(y, places[-1] + step) if places else y)
    # Those pushed out at the top push the others down.
    limit = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - step
    for (x, y, subject), place in zip(ends, places, strict=True):
        colour = looks[subject].sentinel
        axes.plot(
            [x, 1.025], [y, place], transform=axes.transAxes, color=colour, linewidth=0.7, alpha=0.5, clip_on=False
        )
        axes.text(
            1.032,
            place,
            subject,
            transform=axes.transAxes,
            color=colour,
            va="center",
            fontsize=LABEL_POINTS,
            fontweight="bold" if subject == YARDSTICK else "normal",
            gid=f"label-{subject}",
        )


def _largest_group(cells: Sequence[Cell], key: Callable[[Case], object], across: Callable[[Case], float]) -> list[Cell]:
    """Of the loads that differ in nothing but what is shown across, the group with most; empty if it has one."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell.case), []).append(cell)
    several = [group for group in groups.values() if len({across(cell.case) for cell in group}) > 1]
    return max(several, key=len, default=[])


def _merged(measurements: Sequence[Measurement]) -> dict[str, Recorded]:
    """All rounds of each subject together."""
    groups: dict[str, list[Latency]] = {}
    for one in measurements:
        if one.latency.count:
            groups.setdefault(one.subject, []).append(one.latency)
    return {subject: Recorded(latencies) for subject, latencies in groups.items()}


def _curve(recorded: Recorded) -> tuple[list[float], list[float]]:
    """1 / (1 - quantile), and the latency there in µs, as far as there are answers to tell it."""
    finest = min(FINEST, float(recorded.count))
    points = [10 ** (place / POINTS) for place in range(int(POINTS * math.log10(FINEST)))]
    left = [*(point for point in points if point < finest), finest]
    return left, [recorded.at(1 - 1 / each) for each in left]


def _percentile(left: float, _: Any) -> str:
    return f"{100 * (1 - 1 / left):.10g}" if left > 1 else "0"


@contextmanager
def drawing(name: str, height: float = 4.4) -> Iterator[tuple[Figure, Axes, Callable[[], str]]]:
    """A figure and what makes its SVG: the same bytes for the same data."""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(9.2, height))
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        drawn: list[str] = []
        yield figure, axes, lambda: drawn[0]
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
        drawn.append(_tidy(text.getvalue(), name))


def _tidy(svg: str, name: str) -> str:
    """Without what belongs to a file of its own, and with ids that no other drawing on the page has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    # The height follows the width of the page.
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} class="plot" role="img" aria-label="{name}">{body}'
