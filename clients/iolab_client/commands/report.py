"""`report`: make a run's report again from its data, or put two runs beside each other."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.table import Table

from iolab_client.report.folder import REPORT, write_folder
from iolab_client.report.words import case_in_words, effect_in_words, middle, range_of
from iolab_client.results import bundle
from iolab_client.results.measurement import VALID, Run
from iolab_client.results.summary import Cell, summarise
from iolab_client.terminal import screen

STYLES = {"better": "green", "worse": "bold red", "not judged": "yellow", "not told apart": "dim"}


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("other", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the summary, or the comparison.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file.")
def command(folder: Path, other: Path | None, as_json: bool, html: Path | None) -> None:
    """Make the report in FOLDER again from its results.json; with OTHER, compare the two runs instead.

    The comparison tells, for each model and load of both, OTHER's rate, p99 and cost as a ratio to FOLDER's, and
    whether that is a change: whether the intervals of the medians do not overlap.
    """
    run = bundle.read(folder)
    if other is None:
        _one(run, folder, as_json, html)
    else:
        _two(run, bundle.read(other), (folder, other), as_json, html)


def _one(run: Run, folder: Path, as_json: bool, html: Path | None) -> None:
    # matplotlib takes a second to import.
    from iolab_client.report.page import render

    if html:
        _write(html, render(run).html)
    else:
        try:
            write_folder(run, folder)
        except OSError as error:
            raise click.ClickException(f"{folder}: {error.strerror or error}") from None
    summary = summarise(run)
    if as_json:
        screen.print_json(msgspec.to_builtins(summary))
    else:
        screen.print_table(table(summary.cells))
        click.echo(f"{html or folder / REPORT}", err=True)


def _two(first: Run, second: Run, folders: tuple[Path, Path], as_json: bool, html: Path | None) -> None:
    from iolab_client.report.versus import page, versus

    found = versus(first, second)
    if html:
        _write(html, page(found, *map(str, folders)))
    if as_json:
        screen.print_json(msgspec.to_builtins(found))
        return
    shown = Table("subject", "load", "share of the yardstick's")
    for name in ("first", "second", "effect"):
        shown.add_column(name, justify="right")
    shown.add_column("change")
    for pair in found.pairs:
        for change in pair.changes:
            shown.add_row(
                screen.plain(pair.subject),
                case_in_words(pair.case),
                change.name,
                middle(change.first),
                middle(change.second),
                effect_in_words(change.effect),
                screen.plain(change.word + (f": {pair.doubt}" if pair.doubt else ""), STYLES[change.word]),
            )
    screen.print_table(shown)
    for which, cells in (("first", found.only_first), ("second", found.only_second)):
        for subject, case in cells:
            screen.console().print(screen.plain(f"only in the {which}: {subject}, {case_in_words(case)}"))
    for name, one, other in found.differences:
        screen.console().print(screen.plain(f"different: {name}: {one} / {other}"))


def table(cells: list[Cell]) -> Table:
    """The cells of a run, one row each."""
    shown = Table("subject", "load")
    for name in ("place", "answers/s", "p50 (µs)", "p99 (µs)", "CPU-µs", "share by cost", "by rate"):
        shown.add_column(name, justify="right")
    shown.add_column("verdict")
    for cell in cells:
        valid = cell.verdict.word == VALID
        shown.add_row(
            screen.plain(cell.subject),
            case_in_words(cell.case),
            str(cell.rank or ""),
            f"{middle(cell.rate)} ({range_of(cell.rate)})" if cell.rounds > 1 else middle(cell.rate),
            *map(middle, (cell.p50, cell.p99, cell.cost, cell.share_by_cost, cell.share_by_rate)),
            screen.plain(
                cell.verdict.word if valid else f"{cell.verdict.word}: {cell.verdict.reason}", "" if valid else "yellow"
            ),
        )
    return shown


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror or error}") from None
