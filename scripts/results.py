"""Write docs/results.md and its plots from the runs that are committed beside it: no number in it is typed.

    .venv/bin/python scripts/results.py            # write
    .venv/bin/python scripts/results.py --check    # exit 1 if what is there is something else

docs/results/results.md.j2 is the text. It takes every figure from docs/results/closed (every model, as fast as answers
come) and docs/results/open (several, at offered rates), each a results.json as `iolab-client compare` wrote it. A
sentence that holds only for some data stands in a condition on that data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from iolab_client.report.page import render
from iolab_client.report.words import case_in_words, middle, number, range_of
from iolab_client.results import bundle
from iolab_client.results.effects import Effect
from iolab_client.results.measurement import VALID, YARDSTICK, Measurement, Run
from iolab_client.results.summary import Case, Cell, Summary, between, by_round, case_of, summarise

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = DOCS / "results"
PAGE = DOCS / "results.md"
TEMPLATE = "results.md.j2"
# The plots that the page shows, and the run that each is of.
PLOTS = {"throughput": "closed", "cost": "closed", "memory": "closed", "percentiles": "closed", "offered": "open"}

Value = Callable[[Measurement], float | None]


class Figures:
    """What the text may ask of one run. A cell is one model with so many connections."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.summary: Summary = summarise(run)
        self.subjects = list(dict.fromkeys(cell.subject for cell in self.summary.cells))
        self.models = [subject for subject in self.subjects if subject != YARDSTICK]

    def cells(self, connections: int, *, offered: bool = False) -> list[Cell]:
        """Every model's, the yardstick's too, in the run's order."""
        return [
            cell
            for cell in self.summary.cells
            if cell.case.connections == connections and (cell.case.rate is not None) == offered
        ]

    def cell(self, subject: str, connections: int) -> Cell:
        """One of the closed loop. Raises KeyError."""
        for cell in self.cells(connections):
            if cell.subject == subject:
                return cell
        raise KeyError(f"{subject} at {connections} connections")

    def offered(self, subject: str) -> list[Cell]:
        """Those of the open loop, the lowest rate first."""
        found = [cell for cell in self.summary.cells if cell.subject == subject and cell.case.rate is not None]
        return sorted(found, key=lambda cell: cell.case.rate or 0)

    def by_cost(self, connections: int) -> list[Cell]:
        """The models, the cheapest answer first."""
        models = [cell for cell in self.cells(connections) if cell.subject != YARDSTICK]
        return sorted(models, key=lambda cell: cell.cost.median if cell.cost else float("inf"))

    def cheapest(self, connections: int) -> list[Cell]:
        """Those that share the first place by cost."""
        return [cell for cell in self.by_cost(connections) if cell.cost_rank == 1]

    def doubtful(self) -> list[Cell]:
        """The cells that are not VALID."""
        return [cell for cell in self.summary.cells if cell.verdict.word != VALID]

    def loads(self) -> int:
        """How many measurements there are."""
        return len(self.run.measurements)

    def invalid(self) -> list[Measurement]:
        """The single loads that are not VALID."""
        return [one for one in self.run.measurements if one.verdict.word != VALID]

    def effect(self, first: str, second: str, connections: int, what: str = "cost") -> str:
        """In words: how much more or less the second has than the first, corrected for all of the run's comparisons."""
        value: Value = (lambda one: one.server.cost if one.server else None) if what == "cost" else _rate
        found = between(
            self._rounds(first, connections, value), self._rounds(second, connections, value), self.summary.comparisons
        )
        return _in_words(found)

    def generator_busy(self, connections: int) -> float:
        """Of the generator's busiest process, the most in any round of a model, from 0 to 1."""
        return max(
            one.generator.busy
            for one in self.run.measurements
            if one.plan.connections == connections and one.subject != YARDSTICK and one.plan.rate is None
        )

    def _rounds(self, subject: str, connections: int, value: Value) -> dict[int, float]:
        case: Case = self.cell(subject, connections).case
        group = [one for one in self.run.measurements if one.subject == subject and case_of(one) == case]
        return dict(by_round(group, lambda one: value(one) or 0.0))


def _rate(one: Measurement) -> float:
    return one.rate


def _in_words(effect: Effect | None) -> str:
    if effect is None:
        return "not compared"
    if not effect.told_apart:
        return f"not told apart ({_percent(effect.low)} to {_percent(effect.high)})"
    return f"{_percent(effect.ratio)} ({_percent(effect.low)} to {_percent(effect.high)})"


def _percent(factor: float) -> str:
    return f"{factor - 1:+.0%}" if factor < 2 else f"{factor:.1f} times"


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *front, last = list(names) or ["nobody"]
    return f"{', '.join(front)} and {last}" if front else last


@cache
def figures(name: str) -> Figures:
    """Those of a committed run. Raises BadBundle."""
    return Figures(bundle.read(RESULTS / name))


def pages() -> dict[Path, str]:
    """What is to be written: the page and its plots. Raises BadBundle."""
    environment = Environment(
        loader=FileSystemLoader(RESULTS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "middle": middle,
        "range": range_of,
        "load": case_in_words,
        "listed": listed,
    }
    text = environment.get_template(TEMPLATE).render(closed=figures("closed"), open=figures("open"))
    drawn = {name: render(figures(name).run).plots for name in dict.fromkeys(PLOTS.values())}
    return {PAGE: text} | {RESULTS / f"{plot}.svg": drawn[run][plot] for plot, run in PLOTS.items()}


def main() -> None:
    """Write, or compare."""
    made = pages()
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in made.items() if not path.exists() or path.read_text() != text]
        if stale:
            sys.exit(f"not what the committed runs come to: {', '.join(stale)}; run scripts/results.py")
        return
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
