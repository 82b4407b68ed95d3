"""The colours and patterns of a timeline: light, dark and print, and apart from each other without colour, too.

Classes of a style sheet, so that one drawing serves all three. Each kind of waiting has a pattern of its own, running
is solid, and a client's lane has its number beside its colour.
"""

from __future__ import annotations

from iolab_client.report.palette import DARK, INK, LIGHT
from iolab_client.trace.meaning import Kind

# Class, and of each kind of waiting: the ground and the pattern on it, light and dark.
CLASSES = {Kind.SOCKETS: "s", Kind.CLOCK: "c", Kind.OTHERS: "o", Kind.RUNS: "r", Kind.MOVES: "m"}
WAITS = {
    "s": (("#e3edf9", "#86a9da"), ("#1d2c42", "#5f86bd")),
    "c": (("#fdefd2", "#d79a2b"), ("#3a2e17", "#c48f2e")),
    "o": (("#efe7f7", "#a98bcb"), ("#2f2540", "#9177b5")),
}
RUNS = ("#1f7a4f", "#4cc991")
PAPER = ("#ffffff", "#12161c")
# Lines, dots and bars: what tells the kinds of waiting apart in print.
PATTERNS = (
    '<pattern id="s" width="7" height="7" patternUnits="userSpaceOnUse"><rect class="s0" width="7" height="7"/>'
    '<path class="s1" d="M-1 8L8 -1M-1 1L1 -1M6 8L8 6"/></pattern>'
    '<pattern id="c" width="6" height="6" patternUnits="userSpaceOnUse"><rect class="c0" width="6" height="6"/>'
    '<circle class="c1" cx="1.5" cy="1.5" r="1"/><circle class="c1" cx="4.5" cy="4.5" r="1"/></pattern>'
    '<pattern id="o" width="5" height="5" patternUnits="userSpaceOnUse"><rect class="o0" width="5" height="5"/>'
    '<path class="o1" d="M1 0V5"/></pattern>'
)
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif'


def hue(client: int) -> str:
    """The class of a client's colour; of nobody's, that of the text. After the last one the first is taken again."""
    return f"k{(client - 1) % len(LIGHT)}" if client else "k"


def style_sheet() -> str:
    """All rules, for what is inside of an element of the class `timeline`. Who prints, or prefers light, has these."""
    return f"{_shapes()}{_colours(dark=False)}@media screen and (prefers-color-scheme:dark){{{_colours(dark=True)}}}"


def _shapes() -> str:
    return _rules(
        {
            "text": f"font:11px {FONT}",
            ".h": "font-weight:700;font-size:15px",
            ".y": "font-size:11.5px;font-weight:400",
            ".u": "font-size:9.5px",
            ".e": "text-anchor:end",
            ".a": "stroke-width:1.2;fill-opacity:.3",
            ".b": "stroke:none",
            ".q": "stroke-width:1.2;stroke-dasharray:3 2.5",
            ".w": "stroke-width:.9;fill:none",
            ".v": "stroke-width:1;stroke-opacity:.75",
            ".i": "font-weight:600",
            ".l": "paint-order:stroke;stroke-width:2.5px;stroke-opacity:.7",
            **{f".{name}": f"fill:url(#{name})" for name in WAITS},
        }
    )


def _colours(*, dark: bool) -> str:
    ink, muted, grid = (INK[name][dark] for name in ("ink", "muted", "grid"))
    rules = {
        ".p": f"fill:{PAPER[dark]}",
        "text": f"fill:{ink}",
        ".u,.timeline .y": f"fill:{muted}",
        ".l": f"fill:{ink};stroke:{PAPER[dark]}",
        ".i": f"fill:{PAPER[dark]}",
        ".g": f"stroke:{grid}",
        ".r": f"fill:{RUNS[dark]}",
        ".w": f"stroke:{muted}",
        ".z": f"fill:{muted}",
        ".k": f"fill:{ink};stroke:{ink}",
    }
    for name, shades in WAITS.items():
        ground, mark = shades[dark]
        rules[f".{name}0"] = f"fill:{ground}"
        rules[f".{name}1"] = f"fill:{mark}" if name == "c" else f"stroke:{mark};stroke-width:1.2"
    rules |= {f".k{slot}": f"fill:{hue};stroke:{hue}" for slot, hue in enumerate(DARK if dark else LIGHT)}
    # Its outline only: after the rules that fill.
    rules["rect.q"] = "fill:none"
    return _rules(rules)


def _rules(rules: dict[str, str]) -> str:
    return "".join(f".timeline {selector}{{{declarations}}}" for selector, declarations in rules.items())
