"""A trial in words: the table of what was seen, the page for a browser, and docs/claims.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup

from iolab_client.report import palette
from iolab_client.report.page import templates
from iolab_client.report.words import NOTHING, number
from iolab_client.trial import claim as claims
from iolab_client.trial.claim import Claim
from iolab_client.trial.drawing import draw
from iolab_client.trial.seen import Seen
from iolab_client.trial.trials import Docket, Trial, doubts


@dataclass(frozen=True, kw_only=True)
class Account:
    """A trial as it is told: the claim, the table and the plot of it."""

    claim: Claim
    trial: Trial
    svg: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def account(trial: Trial) -> Account:
    """Of one trial."""
    claim = claims.find(trial.name)
    seen = Seen(trial.points)
    return Account(
        claim=claim,
        trial=trial,
        svg=draw(trial.name, claim.shows, seen),
        head=["", *([claim.shows.across] if claim.shows.across else []), *claim.shows.values.values()],
        rows=list(_rows(claim, seen)),
        notes=notes(trial),
    )


def _rows(claim: Claim, seen: Seen) -> Iterator[list[str]]:
    for side in seen.sides():
        for at in seen.dial(side):
            cells = [_cell(seen, (side, at), name) for name in claim.shows.values]
            yield [side, *([number(at)] if claim.shows.across else []), *cells]


def _cell(seen: Seen, spot: tuple[str, float], value: str) -> str:
    """The median, and between what the rounds lie."""
    rounds = seen.rounds(spot, value)
    if not rounds:
        return NOTHING
    low, middle, high = (number(of(spot, value)) for of in (seen.least, seen.median, seen.most))
    return middle if low == high else f"{middle} ({low} to {high})"


def notes(trial: Trial) -> list[str]:
    """What else is to be known: how it was measured, and which measurements are in doubt."""
    rounds = len({point.round for point in trial.points})
    pace = "quick" if trial.quick else "full"
    said = [f"{pace}, {rounds} round{'s' * (rounds != 1)}, {trial.seconds:.0f} s"] if trial.points else []
    return said + doubts(trial.points)


def page(docket: Docket) -> str:
    """The report: one file that asks no network for anything."""
    environment = templates()
    assert environment.loader is not None
    environment.loader = ChoiceLoader([PackageLoader("iolab_client.trial", "templates"), environment.loader])
    accounts = [(one, Markup(palette.themed(one.svg))) for one in map(account, docket.trials)]
    return environment.get_template("claims.html.j2").render(docket=docket, accounts=accounts)


def plots(docket: Docket) -> dict[str, str]:
    """The plots as files of their own, by name of the claim."""
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return {one.trial.name: head + palette.plain(one.svg) for one in map(account, docket.trials) if one.svg}


def markdown(docket: Docket, plots_folder: Path) -> str:
    """docs/claims.md. `plots_folder` is where its pictures are, as the page sees it."""
    environment = docket.environment
    lines = [
        "# Claims on trial",
        "",
        "What textbooks say about ways to wait, tried on a machine. Made of measured data by `make claims`, and not by",
        "hand; `.venv/bin/iolab-client experiment all` tries them on yours.",
        "",
        f"Measured {docket.started[:10]}: {environment.cpu}, {environment.cores} cores, kernel {environment.kernel}, "
        f"Python {environment.python}, {environment.place}"
        + (f", commit {environment.git_commit}" if environment.git_commit else "")
        + ".",
        "Values are medians over rounds, with the least and the largest; factors have an interval that is right in 95",
        "of 100 such experiments. CANNOT TELL: the difference is within what one server differs from itself here, or",
        "something is missing.",
        "",
        "| claim | found |",
        "|---|---|",
        *(
            f"| [{trial.name}](#{trial.name}): {claims.find(trial.name).claim} | **{trial.finding.word}**"
            f"{': ' + trial.finding.flip if trial.finding.flip else ''} |"
            for trial in docket.trials
        ),
    ]
    for one in map(account, docket.trials):
        lines += ["", *_section(one, plots_folder)]
    return "\n".join(lines) + "\n"


def _section(one: Account, plots_folder: Path) -> Iterator[str]:
    claim, finding = one.claim, one.trial.finding
    yield from (f"## {claim.name}", "", f"{claim.title}.", "", f"**Claim.** {claim.claim} ({claim.source})", "")
    yield f"**{finding.word}**{': ' + finding.flip if finding.flip else ''}. {finding.why}"
    if one.svg:
        yield from ("", f"![{claim.shows.up}]({plots_folder / claim.name}.svg)")
    if one.rows:
        yield from ("", f"| {' | '.join(one.head)} |", "|---" + "|---:" * (len(one.head) - 1) + "|")
        yield from (f"| {' | '.join(row)} |" for row in one.rows)
    yield from ("", f"Method: {claim.method}. {claim.decides}.")
    yield from ("", f"Measured: {'; '.join(one.notes) or 'nothing'}.")
