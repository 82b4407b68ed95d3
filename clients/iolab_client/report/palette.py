"""How a subject looks: the same in each plot, in the table and in the next run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iolab.registry import MODELS
from iolab_client.results.measurement import YARDSTICK

# Seven hues that stay apart for colour-blind eyes too, on white and on near-black; the models after the seventh take
# them again with a broken line and a hollow marker. The yardstick is drawn in the colour of the text.
LIGHT = ("#2468c8", "#c65d00", "#12805c", "#c0304a", "#7345c9", "#0b7f92", "#b23a8e")
DARK = ("#6fa8ff", "#f7a04b", "#4cc991", "#ff7d8d", "#b798ff", "#45c8d8", "#f286cb")
# No cross among them: that is a result which is not VALID.
MARKERS = ("o", "s", "^", "D", "v", "P", "p")
PAPER = "#ffffff"
INK = {"ink": ("#1d2430", "#e6e9ef"), "muted": ("#5d6675", "#a3acba"), "grid": ("#dfe3ea", "#333b47")}

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
    dashes: str

    @property
    def sentinel(self) -> str:
        """The colour to draw with."""
        return SENTINELS[self.colour]

    @property
    def fill(self) -> str:
        """A marker's inside."""
        return "none" if self.hollow else self.sentinel


def looks(subjects: Iterable[str]) -> dict[str, Style]:
    """The look of each. A model's is by its place in the registry, an address's by its place among the others."""
    slots = {slug: slot for slot, slug in enumerate(MODELS)}
    found = {}
    for subject in subjects:
        if subject == YARDSTICK:
            found[subject] = Style(colour="ink", marker="*", hollow=False, dashes=":")
            continue
        turn, hue = divmod(slots.setdefault(subject, len(slots)), len(LIGHT))
        found[subject] = Style(
            colour=f"series-{hue}",
            marker=MARKERS[(hue + turn) % len(MARKERS)],
            hollow=turn % 2 == 1,
            dashes="--" if turn % 2 else "-",
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
