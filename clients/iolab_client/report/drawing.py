"""How a plot is drawn: one style, names at the ends of lines, numbers on axes that do not cover each other, and an SVG
that has the same bytes for the same data."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from iolab_client.report import palette
from iolab_client.report.palette import Style
from iolab_client.report.words import number
from iolab_client.results.measurement import YARDSTICK

INK, MUTED, GRID = (palette.SENTINELS[name] for name in ("ink", "muted", "grid"))
WIDTH_INCHES = 9.2
LABEL_POINTS = 8.5
# Between two numbers of an axis: a reader's own font may be wider than the one they are measured with.
GAP_POINTS = 5.0
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
}


@contextmanager
def drawing(
    name: str, *, title: str = "", height: float = 4.4, shape: tuple[int, int] = (1, 1)
) -> Iterator[tuple[Figure, Any, Callable[..., str]]]:
    """A figure, its axes (an array of them where `shape` says more than one row or column), and what makes the SVG of a
    description in words, once the block has ended."""
    with matplotlib.rc_context():
        # The reader's own style, of a matplotlibrc, is for other plots.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH_INCHES, height))
        # It measures what text takes; SVG's own canvas can't.
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.subplots(*shape, squeeze=shape == (1, 1), sharex=True, sharey=True)
        drawn: list[str] = []
        yield figure, axes, lambda description="": _named(drawn[0], name, title or name, description)
        for each in figure.axes:
            if each.get_visible():
                _part(each.xaxis, canvas)
                _part(each.yaxis, canvas)
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
        drawn.append(_tidy(text.getvalue(), name))


def numbers(axis: Axis) -> None:
    """Numbers as a person reads them, at the axis' main places."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(NullFormatter())


def label_ends(figure: Figure, axes: Axes, looks: Mapping[str, Style]) -> None:
    """Each line's marker and name at its right end, pushed apart where they would cover each other."""
    figure.subplots_adjust(left=0.11, right=0.79, top=0.97, bottom=0.13)
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
    beside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for (x, y, subject), place in zip(ends, places, strict=True):
        look = looks[subject]
        axes.plot([x, 1.025], [y, place], color=look.sentinel, linewidth=0.7, alpha=0.6, **beside)
        axes.plot(1.036, place, look.marker, color=look.sentinel, markerfacecolor=look.fill, markersize=5, **beside)
        axes.text(
            1.05,
            place,
            subject,
            transform=axes.transAxes,
            va="center",
            fontsize=LABEL_POINTS,
            fontweight="bold" if subject == YARDSTICK else "normal",
            gid=f"label-{subject}",
        )


def key(look: Style) -> str:
    """A subject's line with its marker on it, in sentinel colours, to stand beside its name."""
    mark = MarkerStyle(look.marker)
    outlines: Any = mark.get_path().transformed(mark.get_transform()).to_polygons()
    outline = "".join(f"M{'L'.join(f'{16 + 4.4 * x:.1f} {7 - 4.4 * y:.1f}' for x, y in each)}Z" for each in outlines)
    dashes = " ".join(f"{1.6 * length:.1f}" for length in look.dashes)
    # It says nothing to who does not see it: the name does.
    return (
        '<svg class="key" viewBox="0 0 32 14" aria-hidden="true">'
        f'<path d="M1 7H31" stroke="{look.sentinel}" stroke-width="1.6" stroke-dasharray="{dashes or "none"}"/>'
        f'<path d="{outline}" fill="{look.fill}" stroke="{look.sentinel}" stroke-width="1.2"/></svg>'
    )


def _part(axis: Axis, canvas: Any) -> None:
    """Take away numbers that others would cover; their places keep a small tick."""
    low, high = sorted(axis.get_view_interval())
    along = 0 if isinstance(axis, XAxis) else 1
    shown = []
    # It puts the ticks where they belong first.
    axis.get_majorticklabels()
    for tick, place in zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=False):
        if tick.label1.get_text() and tick.label1.get_visible() and low <= place <= high:
            box = tick.label1.get_window_extent(canvas.get_renderer())
            shown.append((box.min[along], box.max[along], float(place)))
    kept = apart(shown, GAP_POINTS * canvas.figure.dpi / 72)
    if len(kept) < len(shown):
        dropped = sorted({place for *_, place in shown} - set(kept))
        axis.set_major_locator(FixedLocator(kept))
        axis.set_minor_locator(FixedLocator(dropped))
        axis.set_minor_formatter(NullFormatter())


def apart(labels: Sequence[tuple[float, float, float]], gap: float) -> list[float]:
    """Of labels, from where to where each goes and its place, the places of those that stay: the first and the last,
    and of the others all that have room."""
    if not labels:
        return []
    *others, last = sorted(labels)
    kept: list[tuple[float, float, float]] = []
    for one in others:
        if one[1] + gap <= last[0] and (not kept or kept[-1][1] + gap <= one[0]):
            kept.append(one)
    return [place for *_, place in (*kept, last)]


def _tidy(svg: str, name: str) -> str:
    """Without what belongs to a file of its own, and with ids that no other drawing on the page has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    return svg.replace("url(#", f"url(#{name}-")


def _named(svg: str, name: str, title: str, description: str) -> str:
    """With a title and a description for who does not see it; its height follows the width of the page."""
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return (
        f'{head} class="plot" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>{body}'
    )
