"""How a subject looks: the same in each plot, in the table and in the next run.

Hue, line and marker are told together. No two markers are alike; where two lines are dashed in the same way their hues
stay apart, on white and on near-black, for eyes with three kinds of cones and with any two of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iolab.registry import MODELS
from iolab_client.results.measurement import YARDSTICK

# Seven hues. Neighbours may be near to each other for some eyes; those two and three places apart, around the circle,
# are not: the subjects with the same dashes have such hues.
LIGHT = ("#472aff", "#d07400", "#852b00", "#950092", "#2a3c6e", "#00a0a3", "#9e78e4")
DARK = ("#53adff", "#ff9017", "#966a41", "#cf0f95", "#6a50ff", "#7afbe9", "#febaff")
# Ink and gap in turn, in widths of the line; nothing: a whole line.
DASHES: tuple[tuple[float, ...], ...] = ((), (3, 1.5), (9, 2), (6.5, 1.6, 1, 1.6), (5, 1.5, 1, 1.5, 1, 1.5))
# Full ones, then hollow ones. No cross among them: that is a result which is not VALID.
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<")
# In light and in dark: what is written and drawn with, and on.
INK = {
    "ink": ("#1d2430", "#e6e9ef"),
    "muted": ("#5d6675", "#a3acba"),
    "grid": ("#dfe3ea", "#333b47"),
    "card": ("#ffffff", "#1a2029"),
}
PAPER = INK["card"][0]

# What matplotlib draws with: colours of no plot, found again in its SVG.
SENTINELS = {
    **{f"series-{slot}": f"#a1b2{slot:02x}" for slot in range(len(LIGHT))},
    **{name: f"#a1b3{slot:02x}" for slot, name in enumerate(INK)},
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colour (a name of the style sheet), line and marker."""

    colour: str
    marker: str
    hollow: bool
    dashes: tuple[float, ...]

    @property
    def sentinel(self) -> str:
        """The colour to draw with."""
        return SENTINELS[self.colour]

    @property
    def fill(self) -> str:
        """A marker's inside: of a hollow one, what it is drawn on."""
        return SENTINELS["card"] if self.hollow else self.sentinel

    @property
    def line(self) -> tuple[float, tuple[float, ...] | None]:
        """The line as matplotlib has it."""
        return 0, self.dashes or None


def looks(subjects: Iterable[str]) -> dict[str, Style]:
    """The look of each. A model's is by its place in the registry, another's by its place among the others."""
    slots = {slug: slot for slot, slug in enumerate(MODELS)}
    found = {}
    for subject in subjects:
        if subject == YARDSTICK:
            # In the colour of the text, dotted, a star: none of the others' are like that.
            found[subject] = Style(colour="ink", marker="*", hollow=False, dashes=(1, 1.5))
            continue
        slot = slots.setdefault(subject, len(slots))
        found[subject] = Style(
            colour=f"series-{slot % len(LIGHT)}",
            marker=MARKERS[slot % len(MARKERS)],
            hollow=slot // len(MARKERS) % 2 == 1,
            dashes=DASHES[slot % len(DASHES)],
        )
    return found


def variables(dark: bool) -> str:
    """The style sheet's declarations of all colours."""
    series = {f"series-{slot}": colour for slot, colour in enumerate(DARK if dark else LIGHT)}
    inks = {name: pair[dark] for name, pair in INK.items()}
    return " ".join(f"--{name}: {colour};" for name, colour in (series | inks).items())


def themed(svg: str) -> str:
    """A drawing whose colours are the page's, light or dark."""
    for name, sentinel in SENTINELS.items():
        svg = svg.replace(sentinel, f"var(--{name})")
    return svg


def plain(svg: str) -> str:
    """A drawing in the light colours and on paper of its own, for a page that is not ours and may be dark."""
    colours = {f"series-{slot}": colour for slot, colour in enumerate(LIGHT)} | {k: v[0] for k, v in INK.items()}
    for name, sentinel in SENTINELS.items():
        svg = svg.replace(sentinel, colours[name])
    head, drawing = svg.split(">", 1)
    return f'{head}><rect width="100%" height="100%" fill="{PAPER}"/>{drawing}'
