"""`make timelines`: records models as `iolab-client trace` does, and draws what docs/timelines.md and docs/models show.

Each model is recorded several times: on a busy machine chance puts gaps into a picture that the model does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from iolab.registry import MODELS, find
from iolab_client.trace import telling
from iolab_client.trace.drawing import draw
from iolab_client.trace.lanes import Timeline
from iolab_client.trace.recording import CannotTrace, Script, clearest, record

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TRIES = 7
FOLDER, PAGE = DOCS / "timelines", DOCS / "timelines.md"
# Side by side, one after the other, overlapping in one thread: what the README shows.
THREE = ("blocking_pool", "epoll_loop", "asyncio_streams")
BEGIN, END = "<!-- made by `make timelines` -->\n", "<!-- to here -->\n"


def main(slugs: Sequence[str]) -> int:
    """Record the models (all, if none is named) and write the pictures. Exit 1 if one could not be recorded."""
    models = [find(slug) for slug in slugs] or list(MODELS.values())
    timelines: list[Timeline] = []
    failed = 0
    for model in models:
        print(f"iolab: recording {model.slug}", file=sys.stderr)
        try:
            timelines.append(clearest(partial(record, model, Script(), ROOT / "configs"), TRIES).timeline)
        except CannotTrace as error:
            failed = 1
            print(f"iolab: {error}; its picture stays as it was", file=sys.stderr)
    FOLDER.mkdir(exist_ok=True)
    span = max((one.end for one in timelines), default=0.0)
    for one in timelines:
        (FOLDER / f"{one.model}.svg").write_text(draw([one], span=span))
    # The sheets and the table are made anew only when all that is in them is.
    three = [one for slug in THREE for one in timelines if one.model == slug]
    if len(three) == len(THREE):
        (FOLDER / "three.svg").write_text(draw(three))
    if len(timelines) == len(MODELS):
        (FOLDER / "all.svg").write_text(draw(timelines))
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table(timelines)}{END}{rest.partition(END)[2]}")
    return failed


def table(timelines: Sequence[Timeline]) -> str:
    """System calls for each answer, as Markdown."""
    rows = [
        (f"[{one.model}](models/{one.model}.md)", f"{sum(one.calls.values()) / one.answers:.1f}", telling.calls(one, 8))
        for one in timelines
    ]
    heading = [("model", "calls for each answer", "by name"), ("---",) * 3]
    return "".join(f"| {' | '.join(row)} |\n" for row in [*heading, *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
