"""The page: the picture, to be looked at closely, and all that it shows as text. One file that asks for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from iolab_client.report import palette
from iolab_client.trace import drawing, story, telling
from iolab_client.trace.lanes import Timeline


def page(timelines: Sequence[Timeline]) -> str:
    """The HTML of a page with these models on one scale of time."""
    environment = Environment(
        loader=PackageLoader("iolab_client.trace", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = files("iolab_client.trace").joinpath("templates", "zoom.js").read_text()
    return environment.get_template("page.html.j2").render(
        title=telling.heading(timelines),
        caution=telling.caution(timelines),
        picture=Markup(drawing.draw(timelines, fine=True)),
        script=Markup(script),
        left=drawing.LEFT,
        right=drawing.RIGHT,
        begin=min(one.begin for one in timelines),
        end=max(one.end for one in timelines),
        models=[
            {
                "name": one.model,
                "passages": one.passages,
                "shares": [(lane.name, ", ".join(telling.shares(lane))) for lane in one.lanes],
                "quiet": telling.quiet(one.quiet) if one.quiet else "",
                "all": sum(one.calls.values()) / one.answers,
                "calls": telling.calls(one),
                "told": story.told(one),
                "story": story.story(one, story.told(one)),
            }
            for one in timelines
        ],
        light=palette.variables(dark=False),
        dark=palette.variables(dark=True),
    )
