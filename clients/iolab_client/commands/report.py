"""`report`: make a run's report again from its data, or put two runs beside each other."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from iolab_client.report import tables
from iolab_client.report.folder import REPORT, write_folder
from iolab_client.report.versus import versus
from iolab_client.results import bundle
from iolab_client.results.measurement import Run
from iolab_client.results.summary import summarise
from iolab_client.terminal import screen


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("other", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the summary, or the comparison.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file.")
def command(folder: Path, other: Path | None, as_json: bool, html: Path | None) -> None:
    """Make the report in FOLDER again from its results.json; with OTHER, compare the two runs instead.

    The comparison tells, for each model and load of both, cost, rate and p99 as shares of the yardstick's, OTHER's over
    FOLDER's, and whether that is more than chance.
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
        tables.show(summary)
        click.echo(f"{html or folder / REPORT}", err=True)


def _two(first: Run, second: Run, folders: tuple[Path, Path], as_json: bool, html: Path | None) -> None:
    found = versus(first, second)
    if html:
        from iolab_client.report.page import render_versus

        _write(html, render_versus(found, *map(str, folders)))
    if as_json:
        screen.print_json(msgspec.to_builtins(found))
        return
    tables.show_versus(found)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror or error}") from None
