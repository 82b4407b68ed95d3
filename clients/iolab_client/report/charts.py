"""The plots: each takes what a run came to and gives a drawing, or says why there is none and who is not in it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Locator, LogLocator

from iolab_client.report import palette, panels
from iolab_client.report.drawing import INK, LABEL_POINTS, MUTED, drawing, label_ends, numbers
from iolab_client.report.palette import Style
from iolab_client.report.words import case_in_words, number
from iolab_client.results.measurement import VALID, YARDSTICK, Run
from iolab_client.results.summary import Case, Cell, Interval, Summary

# Between the largest and the smallest, more than this is shown on a logarithmic axis: the rest would be in a corner.
WIDE = 20
# The part of an axis that a number of it takes.
LABEL_WIDTH = 0.07


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot of the report: `svg` in sentinel colours, or empty with the reason in `missing`.

    `left_out` are the subjects of the run that are not in it.
    """

    name: str
    title: str
    meaning: str
    svg: str = ""
    missing: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChartRow:
    """One subject's mark in a plot of rows."""

    cell: Cell
    value: Interval
    second: Interval | None = None


def charts(run: Run, summary: Summary) -> list[Chart]:
    """All of them, in the order of the page."""
    subjects = list(dict.fromkeys(cell.subject for cell in summary.cells))
    looks = palette.looks(subjects)
    focus = focus_case(summary, lambda case: case.rate is None) or focus_case(summary, lambda case: True)
    closed = {cell.subject: cell.case for cell in summary.cells if cell.case == focus}
    opened = middle_rates(summary)
    several = [(closed, "")] if focus and focus.rate is None else []
    several += [(opened, "-open")] if opened else []
    return [
        _throughput(summary, looks),
        _cost(summary, focus, looks),
        _shares(summary, focus, looks),
        *(_percentiles(run, cases, looks, ending) for cases, ending in several),
        *(_heat(run, cases, looks, ending) for cases, ending in several),
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


def middle_rates(summary: Summary) -> dict[str, Case]:
    """For each subject the open loop that stands for its others: the middle of its rates, with the connections and
    sizes that most subjects have. Where the rates were shares of what each can do, no two subjects have the same."""
    groups: dict[object, dict[str, list[Case]]] = {}
    for cell in summary.cells:
        if cell.case.rate is not None:
            group = groups.setdefault(_but_rate(cell.case), {})
            group.setdefault(cell.subject, []).append(cell.case)
    most = max(map(len, groups.values()), default=0)
    widest = [group for group in groups.values() if len(group) == most]
    widest.sort(key=lambda group: next(iter(group.values()))[0].connections)
    chosen = widest[len(widest) // 2] if widest else {}
    return {
        subject: sorted(cases, key=lambda case: case.rate or 0.0)[len(cases) // 2] for subject, cases in chosen.items()
    }


def _but_rate(case: Case) -> object:
    return case.connections, case.pipeline, case.sizes, case.churn, case.idle


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
    with drawing(name, title=title) as (figure, axes, done):
        _lines(axes, cells, looks, lambda cell: cell.case.connections, lambda cell: cell.rate)
        axes.set_xlabel(f"connections ({case_in_words(cells[0].case, connections=False)})")
        axes.set_ylabel("answers/s")
        label_ends(figure, axes, looks)
    most = max(cell.case.connections for cell in cells)
    said = _said(
        f"With {most:,} connections, answers a second",
        ((cell.subject, cell.rate) for cell in cells if cell.case.connections == most),
    )
    return Chart(name=name, title=title, meaning=meaning, svg=done(said), left_out=_without(cells, looks))


def _offered(summary: Summary, looks: Mapping[str, Style]) -> Chart:
    name, title = "offered", "Latency against offered rate"
    cells = _largest_group(
        [cell for cell in summary.cells if cell.case.rate is not None], _but_rate, lambda case: case.rate or 0.0
    )
    meaning = (
        "The p99 from when each request was due, as more of them are due a second: where a line turns up, requests "
        "come faster than they are answered and wait for each other."
    )
    if not cells:
        missing = "It needs an open loop (rates) with two rates or more."
        return Chart(name=name, title=title, meaning=meaning, missing=missing)
    with drawing(name, title=title) as (figure, axes, done):
        _lines(axes, cells, looks, lambda cell: cell.case.rate or 0.0, lambda cell: cell.p99)
        axes.set_xlabel(f"offered requests/s ({case_in_words(cells[0].case, rate=False)})")
        axes.set_ylabel("p99 (µs)")
        label_ends(figure, axes, looks)
    highest = {cell.subject: cell for cell in sorted(cells, key=lambda cell: cell.case.rate or 0.0)}
    said = _said(
        "The p99 in microseconds at the highest rate of each", ((each.subject, each.p99) for each in highest.values())
    )
    return Chart(name=name, title=title, meaning=meaning, svg=done(said), left_out=_without(cells, looks))


def _percentiles(run: Run, cases: Mapping[str, Case], looks: Mapping[str, Style], ending: str) -> Chart:
    title = f"Latency by percentile, {'open' if ending else 'closed'} loop"
    meaning = (
        "How long the slowest tenth, hundredth, thousandth of the answers took, all rounds together; "
        + (
            "counted from when a request was due, so that a stall is in it for each request that it kept waiting."
            if ending
            else "a closed loop asks nothing while it waits, so that a stall is counted once however long it was."
        )
        + " One panel each, the same axes in all; behind it, grey, the middle half of all subjects, and dotted the "
        "yardstick."
    )
    name = f"percentiles{ending}"
    merged = panels.merged(run, cases)
    if not merged:
        return Chart(name=name, title=title, meaning=meaning, missing="No answer was measured.")
    svg = panels.percentiles(name, title, merged, cases, looks)
    return Chart(name=name, title=title, meaning=meaning, svg=svg, left_out=_others(merged, looks))


def _heat(run: Run, cases: Mapping[str, Case], looks: Mapping[str, Style], ending: str) -> Chart:
    title = f"Latency over time, {'open' if ending else 'closed'} loop"
    meaning = (
        "When answers came, and how long each had taken: the denser, the more of them (logarithmic, each panel for "
        "itself). The rounds stand one after the other. A gap is a time without an answer; what had waited through it "
        "comes after it, higher up."
    )
    name = f"heat{ending}"
    timed = panels.timed(run, cases)
    if not timed:
        missing = "The run has no latencies over time: an earlier version made it."
        return Chart(name=name, title=title, meaning=meaning, missing=missing)
    svg = panels.heat(name, title, timed, cases)
    return Chart(name=name, title=title, meaning=meaning, svg=svg, left_out=_others(timed, looks))


def _said(what: str, values: Iterable[tuple[str, Interval]]) -> str:
    """What a drawing shows, for who does not see it."""
    return f"{what}: {'; '.join(f'{subject} {number(value.median)}' for subject, value in values)}."


def _without(cells: Iterable[Cell], looks: Mapping[str, Style]) -> tuple[str, ...]:
    return _others({cell.subject for cell in cells}, looks)


def _others(shown: Iterable[str], looks: Mapping[str, Style]) -> tuple[str, ...]:
    drawn = set(shown)
    return tuple(subject for subject in looks if subject not in drawn)


def _cost(summary: Summary, case: Case | None, looks: Mapping[str, Style]) -> Chart:
    rows = [ChartRow(cell=cell, value=cell.cost) for cell in summary.cells if cell.case == case and cell.cost]
    return _rows_chart(
        "cost",
        "Cost per answer",
        "Processor time of the server for one answer, the least first; usually steadier than the rate.",
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
        "What is left of a C server's speed, on the same processors in the same round: the mark is by cost, the "
        "upright stroke by rate; 1 is as good as the yardstick. These are the numbers to compare between machines.",
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
    highest = max(max(row.value.high, row.second.median if row.second else 0.0) for row in rows)
    least = min(row.value.median for row in rows)
    # A share is read against 1, whatever is far below.
    logarithmic = name != "share" and least > 0 and highest / least > WIDE
    with drawing(name, title=title, height=1.0 + 0.27 * len(rows)) as (figure, axes, done):
        for place, row in enumerate(rows):
            look, value, valid = looks[row.cell.subject], row.value, row.cell.verdict.word == VALID
            gid = f"row-{row.cell.subject}"
            axes.plot(
                [value.low, value.high], [place, place], color=look.sentinel, linewidth=1.6, gid=f"interval-{gid}"
            )
            _mark(axes, [value.median], [place], look, valid=valid, size=7, gid=gid)
            if row.second:
                axes.plot(row.second.median, place, "|", color=look.sentinel, markersize=12, markeredgewidth=1.6)
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
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        if logarithmic:
            axes.set_xscale("log")
        else:
            # A server may have grown by nothing, or even given back some memory.
            lowest = min(0.0, *(row.value.low for row in rows))
            axes.set_xlim(lowest * 1.02, (highest if highest > 0 else 0.0 if lowest < 0 else 1.0) * 1.02)
        numbers(axes.xaxis)
        if name == "share":
            axes.axvline(1.0, color=INK, linewidth=1, linestyle=":")
        axes.set_xlabel(f"{label} ({case_in_words(rows[0].cell.case)})")
        figure.subplots_adjust(left=0.2, right=0.82, top=0.97, bottom=0.55 / figure.get_figheight())
    said = _said(label, ((row.cell.subject, row.value) for row in rows))
    shown = {row.cell.subject for row in rows} | ({YARDSTICK} if name == "share" else set())
    return Chart(name=name, title=title, meaning=meaning, svg=done(said), left_out=_others(shown, looks))


def _mark(
    axes: Axes, places: Sequence[float], values: Sequence[float], look: Style, *, valid: bool, size: float, gid: str
) -> None:
    """A subject's own marker; of what is not VALID a cross."""
    axes.plot(
        places,
        values,
        look.marker if valid else "x",
        color=look.sentinel,
        markerfacecolor=look.fill,
        markersize=size if valid else 8,
        gid=gid,
    )


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
            linestyle=look.line,
            label=subject,
            gid=f"line-{subject}",
        )
        for valid in (True, False):
            these = [cell for cell in own if valid == _valid(cell)]
            if these:
                spots = [across(cell) for cell in these], [up(cell).median for cell in these]
                _mark(axes, *spots, look, valid=valid, size=5, gid=f"marks-{subject}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_places(sorted({across(cell) for cell in cells})))
    axes.minorticks_off()
    # The bands as well: one round may be far above the median of all.
    shown = [bound for cell in cells for bound in (up(cell).median, up(cell).high) if bound > 0]
    if shown and max(shown) / min(shown) > WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10))
    else:
        axes.set_ylim(bottom=0)
    numbers(axes.xaxis)
    numbers(axes.yaxis)


def _places(values: Sequence[float]) -> Locator:
    """Where a logarithmic axis has ticks: at the values, or at round numbers if these are too near to each other."""
    logs = [math.log(value) for value in values]
    gaps = [right - left for left, right in itertools.pairwise(logs)]
    if gaps and min(gaps) < LABEL_WIDTH * (logs[-1] - logs[0]):
        return LogLocator(10, subs=(1, 2, 5))
    return FixedLocator(values)


def _valid(cell: Cell) -> bool:
    return cell.verdict.word == VALID


def _largest_group(cells: Sequence[Cell], key: Callable[[Case], object], across: Callable[[Case], float]) -> list[Cell]:
    """Of the loads that differ in nothing but what is shown across, the group with most; empty if it has one."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell.case), []).append(cell)
    several = [group for group in groups.values() if len({across(cell.case) for cell in group}) > 1]
    return max(several, key=len, default=[])
