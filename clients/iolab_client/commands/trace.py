"""`trace`: a recorded timeline of what every thread of a model waits in while a few clients ask it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from iolab.program import WholeNumber
from iolab.registry import MODELS, Model
from iolab_client.commands.compare import EXIT_INTERRUPTED, interruptible
from iolab_client.servers.targets import Wanted, configs_folder
from iolab_client.terminal import screen
from iolab_client.trace import telling
from iolab_client.trace.drawing import draw
from iolab_client.trace.lanes import Timeline
from iolab_client.trace.page import page
from iolab_client.trace.recording import CannotTrace, Recording, Script, clearest, record
from iolab_client.trace.story import lines, story, told

MOST_CLIENTS, MOST_MESSAGES, MOST_WAIT_MS = 16, 20, 2000


@click.command("trace")
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=Wanted())
@click.option(
    "-c", "--clients", type=WholeNumber(1, MOST_CLIENTS), default=3, show_default=True,
    help=f"How many clients ask, one a little after the other; at most {MOST_CLIENTS}.",
)  # fmt: skip
@click.option(
    "-n", "--messages", type=WholeNumber(1, MOST_MESSAGES), default=2, show_default=True,
    help=f"Messages of each; at most {MOST_MESSAGES}.",
)  # fmt: skip
@click.option(
    "--wait-ms", type=WholeNumber(0, MOST_WAIT_MS), default=50, show_default=True,
    help=f"How long each answer waits, in the model's own way: milliseconds, at most {MOST_WAIT_MS:,}.",
)  # fmt: skip
@click.option(
    "--tries", type=WholeNumber(1, 20), default=1, show_default=True,
    help="Record each model so often, and take the clearest recording: on a busy machine.",
)  # fmt: skip
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw all models in one picture.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Make a page of it in which one can zoom."
)
@click.option("--each", type=click.Path(path_type=Path, file_okay=False), help="Draw a picture of each in this folder.")
@click.option(
    "--strace", "raw", type=click.Path(path_type=Path, file_okay=False),
    help="Keep what strace wrote in this folder; https://ui.perfetto.dev opens it.",
)  # fmt: skip
@click.option("--containers", is_flag=True, help="Record servers in their containers, by a tracer in its own.")
@click.option("--explain", is_flag=True, help="Tell the life of one message of each model, call by call.")
@click.option("--json", "as_json", is_flag=True, help="Print the timelines as JSON.")
def command(
    models: tuple[Any, ...],
    clients: int,
    messages: int,
    wait_ms: int,
    tries: int,
    svg: Path | None,
    html: Path | None,
    each: Path | None,
    raw: Path | None,
    containers: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Record what every thread of MODEL (of all, if none is named) waits in while a few clients ask it.

    A fresh server is started under strace; ptrace slows every call of it. Prints the system calls for each answer.
    """
    script = Script(clients=clients, messages=messages, wait_ms=wait_ms)
    subjects = _subjects(models)
    try:
        with interruptible("nothing is kept"):
            recordings = [_recorded(model, script, tries, containers=containers) for model in subjects]
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    timelines = [one.timeline for one in recordings]
    if raw:
        for one in recordings:
            for name, text in one.texts.items():
                _write(raw / f"{name}.strace", text)
    if each:
        span = max(one.end for one in timelines)
        for timeline in timelines:
            _write(each / f"{timeline.model}.svg", draw([timeline], span=span))
    if svg:
        _write(svg, draw(timelines))
    if html:
        _write(html, page(timelines))
    if as_json:
        screen.print_json([_data(one, explain=explain) for one in timelines])
        return
    if explain:
        for timeline in timelines:
            click.echo(f"{timeline.model}: {telling.life(told(timeline))}")
            click.echo("\n".join(lines(story(timeline, told(timeline)))) + "\n")
    screen.print_table(table(timelines))


def _subjects(models: Sequence[Any]) -> list[Model]:
    """The models, each once. Raises click.UsageError."""
    for one in models:
        if not isinstance(one, Model) or one.slug not in MODELS:
            name = one.slug if isinstance(one, Model) else ":".join(map(str, one))
            raise click.UsageError(f"{name}: only models are traced, because the server is started for it")
    return list(dict.fromkeys(models)) or list(MODELS.values())


def _recorded(model: Model, script: Script, tries: int, *, containers: bool) -> Recording:
    try:
        if not containers:
            return clearest(partial(record, model, script, configs_folder()), tries)
        # The SDK is slow to import.
        from iolab_client.trace.attached import record_container

        return clearest(partial(record_container, model, script, configs_folder()), tries)
    except CannotTrace as error:
        raise click.ClickException(str(error)) from None


def _data(one: Timeline, *, explain: bool) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(one)
    return data | ({"story": msgspec.to_builtins(story(one, told(one)))} if explain else {})


def table(timelines: Sequence[Timeline]) -> Table:
    """System calls for each answer, by name: a row for each model, those that fail in brackets."""
    shown = Table(title="system calls for each answer", title_justify="left", caption=telling.CAUTION)
    shown.add_column("model")
    shown.add_column("all", justify="right")
    shown.add_column("by name")
    for one in timelines:
        shown.add_row(one.model, f"{sum(one.calls.values()) / one.answers:.1f}", screen.plain(telling.calls(one)))
    return shown


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as error:
        raise click.ClickException(f"{error.filename or file}: {error.strerror or error}") from None
