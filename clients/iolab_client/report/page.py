"""report.html: one file that asks no network for anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from iolab_client.report import palette
from iolab_client.report.charts import Chart, charts, focus_case
from iolab_client.report.drawing import key
from iolab_client.report.versus import Versus
from iolab_client.report.words import bytes_in_words, case_in_words, factor, middle, number, range_of
from iolab_client.results.measurement import VALID, YARDSTICK, Run
from iolab_client.results.summary import COVERAGE, Case, Cell, Summary, case_of, summarise

ORDINALS = ("first", "second", "third")


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The page, and its plots in the light colours as files of their own, by name."""

    html: str
    plots: dict[str, str]


def render(run: Run) -> Rendered:
    """The report of a run; of the same run the same bytes."""
    summary = summarise(run)
    drawn = charts(run, summary)
    plots = {chart.name: _alone(chart) for chart in drawn if chart.svg}
    cases = list(dict.fromkeys(cell.case for cell in summary.cells))
    looks = palette.looks(dict.fromkeys(cell.subject for cell in summary.cells))
    html = (
        templates()
        .get_template("page.html.j2")
        .render(
            run=run,
            charts=[(chart, Markup(palette.themed(chart.svg))) for chart in drawn],
            tables=[(case_in_words(case), case.rate is not None, _ordered(summary, case)) for case in cases],
            keys={subject: Markup(palette.themed(key(look))) for subject, look in looks.items()},
            bounds=_bounds(run),
            doubtful=[cell for cell in summary.cells if cell.verdict.word != VALID],
            notes=list(dict.fromkeys(cell.share_note for cell in summary.cells if cell.share_note)),
            cells=len(summary.cells),
            headline=headline(summary),
            coverage=_coverage(summary),
            broken=_broken(run),
            facts=_facts(run),
        )
    )
    return Rendered(html=html, plots=plots)


def render_versus(found: Versus, first: str, second: str) -> str:
    """Two runs, of the folders of these names, as one page."""
    return templates().get_template("versus.html.j2").render(found=found, first=first, second=second)


def templates() -> Environment:
    """The templates of this package; what they are given is text, never markup."""
    environment = Environment(
        loader=PackageLoader("iolab_client.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        light=palette.variables(dark=False), dark=palette.variables(dark=True), VALID=VALID, YARDSTICK=YARDSTICK
    )
    environment.filters.update(
        breakable=_breakable,
        middle=middle,
        range_of=range_of,
        number=number,
        bytes=bytes_in_words,
        case=case_in_words,
        factor=factor,
    )
    return environment


def headline(summary: Summary) -> list[str]:
    """What the run says, in a few sentences."""
    case = focus_case(summary, lambda case: case.rate is None) or focus_case(summary, lambda case: True)
    if not case:
        return ["Nothing was measured."]
    ranked = [cell for cell in summary.cells if cell.case == case and cell.rank]
    said = []
    if ranked:
        measure = "rate" if case.rate is None else "p99"
        places = sorted({cell.rank for cell in ranked if cell.rank})[:3]
        named = []
        for ordinal, place in zip(ORDINALS, places, strict=False):
            subjects = [cell.subject for cell in ranked if cell.rank == place]
            equal = " (not told apart)" if len(subjects) > 1 else ""
            named.append(f"{_listed(subjects)} {ordinal}{equal}")
        said.append(f"At {case_in_words(case)}, by {measure}: {'; '.join(named)}.")
        best = [cell for cell in ranked if cell.cost_rank == 1]
        if best:
            cheapest = " and ".join(f"{cell.subject} ({middle(cell.cost)} µs)" for cell in best)
            said.append(f"The least processor time per answer: {cheapest}.")
    else:
        said.append(f"At {case_in_words(case)} no result is VALID, so nothing is ranked.")
    return said


def _bounds(run: Run) -> set[tuple[str, Case, str]]:
    """Which percentiles are only lower bounds in some round: subject, load and number."""
    return {
        (one.subject, case_of(one), name)
        for one in run.measurements
        for name in ("p50", "p90", "p99", "p99_9", "max")
        if one.latency.is_bound(getattr(one.latency, name))
    }


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line before an underscore."""
    first, *others = name.split("_")
    return Markup("<wbr>").join([first, *(f"_{part}" for part in others)])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ordered(summary: Summary, case: Case) -> list[Cell]:
    """The yardstick, the ranked ones by place, then the others as they came."""
    cells = [cell for cell in summary.cells if cell.case == case]
    return sorted(cells, key=lambda cell: (cell.subject != YARDSTICK, cell.rank or len(cells) + 1))


def _alone(chart: Chart) -> str:
    """An SVG as a file: with the name of its kind, and a title for who does not see it."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n{palette.plain(chart.svg)}'


def _coverage(summary: Summary) -> str:
    """What the intervals are, in a sentence."""
    found = sorted({(cell.rate.rounds, cell.rate.coverage) for cell in summary.cells})
    if not found:
        return ""
    said = ", ".join(f"{rounds} round{'s' if rounds > 1 else ''}: {covered:.2%}" for rounds, covered in found)
    few = " Fewer rounds than five can't reach 90 %." if found[0][1] < COVERAGE else ""
    return (
        "Each value is the median over rounds, and the interval beside it lies between two of the rounds' own values: "
        f"it holds the true median with the probability that goes with the number of rounds ({said}).{few}"
    )


def _broken(run: Run) -> list[tuple[str, str, str]]:
    """What `check` found not to be right before anything was measured."""
    return [
        (subject, clause, found)
        for subject, clauses in run.checked.items()
        for clause, found in clauses.items()
        if found.startswith("FAIL")
    ]


def _facts(run: Run) -> list[tuple[str, list[tuple[str, Any]]]]:
    """The environment, by heading."""
    env = run.environment
    machine = [
        ("place", env.place),
        ("kernel", env.kernel),
        ("processor", f"{env.cpu}, {env.cores} cores"),
        ("memory", bytes_in_words(env.memory_bytes)),
        ("load before", env.load_average),
        ("Docker", env.docker),
        ("Python", env.python),
        ("commit", env.git_commit),
    ]
    limits = {name: ", ".join(f"{k} {_plain(v)}" for k, v in found.items()) for name, found in env.limits.items()}
    models = {name: ", ".join(f"{k} {_plain(v)}" for k, v in found.items()) for name, found in run.models.items()}
    headings: list[tuple[str, dict[str, Any]]] = [
        ("Asked for", {name: _plain(value) for name, value in run.settings.items()}),
        ("Libraries", dict(env.libraries)),
        ("Images", dict(env.images)),
        ("Limits", limits),
        ("Settings of the models", models),
    ]
    known = [(name, value) for name, value in machine if value is not None]
    return [("Machine", known), *((name, list(facts.items())) for name, facts in headings if facts)]


def _plain(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(_plain(each) for each in value)
        case dict():
            return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
        case _:
            return str(value)
