"""The plot of an experiment: a line for each side over the dial, or a bar for each where the dial stands still."""

from __future__ import annotations

from iolab_client.report import palette
from iolab_client.report.drawing import INK, LABEL_POINTS, drawing, label_ends
from iolab_client.report.words import number
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

# Between the largest and the smallest, more than this is shown on a logarithmic axis.
WIDE = 20


def draw(name: str, shows: Shows, seen: Seen) -> str:
    """The SVG, in sentinel colours; empty where nothing was measured."""
    sides = [side for side in seen.sides() if any(seen.has((side, at), shows.draws) for at in seen.dial(side))]
    if not sides:
        return ""
    several = shows.across and len(seen.dial()) > 1
    return (_lines if several else _bars)(name, shows, seen, sides)


def _lines(name: str, shows: Shows, seen: Seen, sides: list[str]) -> str:
    looks = palette.looks(sides)
    with drawing(name, title=shows.up) as (figure, axes, done):
        highest, lowest = 0.0, float("inf")
        for side in sides:
            look = looks[side]
            places = [at for at in seen.dial(side) if seen.has((side, at), shows.draws)]
            middles = [seen.median((side, at), shows.draws) for at in places]
            lows = [seen.least((side, at), shows.draws) for at in places]
            highs = [seen.most((side, at), shows.draws) for at in places]
            highest, lowest = max([highest, *highs]), min([lowest, *(low for low in lows if low > 0)])
            axes.fill_between(places, lows, highs, color=look.sentinel, alpha=0.16, linewidth=0)
            axes.plot(
                places, middles, marker=look.marker, color=look.sentinel, linestyle=look.line,
                markerfacecolor=look.fill, label=side, gid=f"line-{side}",
            )  # fmt: skip
        dial = seen.dial()
        if shows.logarithmic and dial[0] > 0:
            axes.set_xscale("log")
        elif shows.logarithmic:
            # None, and then some: below the first of these it is linear.
            axes.set_xscale("symlog", linthresh=dial[1])
        axes.set_xticks(dial, [number(at) for at in dial])
        axes.minorticks_off()
        if lowest < highest and highest / lowest > WIDE:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        else:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: number(value))
        axes.set_xlabel(shows.across)
        axes.set_ylabel(shows.up)
        label_ends(figure, axes, looks)
    return done()


def _bars(name: str, shows: Shows, seen: Seen, sides: list[str]) -> str:
    looks = palette.looks(sides)
    with drawing(name, title=shows.up, height=1.0 + 0.3 * len(sides)) as (figure, axes, done):
        for place, side in enumerate(sides):
            spot = side, seen.dial(side)[0]
            middle, high = seen.median(spot, shows.draws), seen.most(spot, shows.draws)
            axes.barh(place, middle, 0.62, color=looks[side].sentinel, alpha=0.8, gid=f"row-{side}")
            axes.plot([seen.least(spot, shows.draws), high], [place, place], color=INK, linewidth=1.6)
            axes.annotate(
                number(middle), (high, place), xytext=(9, 0), textcoords="offset points", va="center",
                fontsize=LABEL_POINTS, color=INK, annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(sides)), sides)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        axes.set_xlabel(shows.up)
        figure.subplots_adjust(left=0.25, right=0.86, top=0.97, bottom=0.55 / figure.get_figheight())
    return done()
