"""`compare`: which model is faster, under which load, and is that to be believed."""

from __future__ import annotations

import os
import random
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from iolab.program import WholeNumber
from iolab.registry import MODELS, YARDSTICK, Model
from iolab_client.compare.comparison import Asked, Comparison, News, OfferedRate
from iolab_client.compare.places import AS_FOUND, CONTAINERS, PROCESSES, AsFound, Place, PlaceFailed, Processes
from iolab_client.report import tables
from iolab_client.report.folder import REPORT, write_folder
from iolab_client.report.words import case_in_words
from iolab_client.results import bundle, units
from iolab_client.results.measurement import Measurement, Run, Size
from iolab_client.results.summary import case_of, summarise
from iolab_client.results.thresholds import EXIT_MISSED, Condition, ThresholdType
from iolab_client.servers.targets import Wanted
from iolab_client.terminal import screen

# The shell's code for what Ctrl-C ended.
EXIT_INTERRUPTED = 130
# The bar is drawn so often: more would take processor time from what is measured.
DRAWN_PER_SECOND = 1

Value = TypeVar("Value")


class Several(click.ParamType[tuple[Any, ...]], Generic[Value]):
    """Values of one type with commas between them."""

    def __init__(self, one: click.ParamType[Value]) -> None:
        self._one = one
        self.name = f"{one.name},..."

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[Value, ...]:
        """The values, each once. Raises click.BadParameter."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(self._one.convert(part, parameter, context) for part in str(value).split(",")))


class Offered(click.ParamType[OfferedRate]):
    """A rate per second (10k), or a share of what the model answers in the closed loop (50%)."""

    name = "RATE"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> OfferedRate:
        """The rate. Raises click.BadParameter."""
        if isinstance(value, OfferedRate):
            return value
        text = str(value)
        number = units.Rate().convert(text.removesuffix("%"), parameter, context)
        return OfferedRate(share=number / 100) if text.endswith("%") else OfferedRate(per_second=number)


@click.command("compare")
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=Wanted())
@click.option("-c", "--connections", type=Several(units.Count()), help="Connection counts.  [default: 1,16,128]")
@click.option(
    "-s", "--size", "sizes", type=units.Sizes(), multiple=True, default=("64",), show_default=True,
    help="Bytes of a message, or a distribution of sizes as `load` has it; may be given several times.",
)  # fmt: skip
@click.option(
    "-R", "--rates", type=Several(Offered()), default=(),
    help="Offered rates beside the closed loop: 5k, or shares of the closed loop's rate: 25%,50%,75%,90%.",
)  # fmt: skip
@click.option("-d", "--duration", type=units.Duration(), help="Measured time of each load.  [default: 3s]")
@click.option("--warmup", type=units.Duration(zero=True), help="Loaded before that, not counted.  [default: 1s]")
@click.option("--rounds", type=units.Count(), help="Fresh processes of each server.  [default: 5]")
@click.option("--short", is_flag=True, help="-c 64 -d 1s --warmup 300ms --rounds 4, where they are not given.")
@click.option(
    "--processes",
    type=units.Count(most=1024),
    default="1",
    show_default=True,
    help="Processes of the generator, at most 1,024.",
)
@click.option("--server-cpus", type=units.Cpus(), help="Processors for the server.  [default: the first]")
@click.option("--client-cpus", type=units.Cpus(), help="Processors for the generator.  [default: the second]")
@click.option(
    "--seed", type=WholeNumber(0, 2**32 - 1), help="Of the order; the result has it.  [default: another each time]"
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="results", show_default=True,
              help="Where the folder of the result is made.")  # fmt: skip
@click.option(
    "--place", "place_name", type=click.Choice([CONTAINERS, PROCESSES, AS_FOUND.replace(" ", "-")]),
    help="Where: fresh containers, fresh processes, or what is running.  [default: the first that can be]",
)  # fmt: skip
@click.option(
    "--pause", metavar="PROJECT", multiple=True,
    help="Compose projects that are paused meanwhile.  [default: every other one of iolab]",
)  # fmt: skip
@click.option("--null", is_flag=True,
              help="Measure the first model as two subjects: what differs between them is the machine.")  # fmt: skip
@click.option("--unchecked", is_flag=True, help="Do without `check`: nobody is left out for what it breaks.")
@click.option("--fail-if", "thresholds", type=ThresholdType(), multiple=True,
              help="p99>5ms, rate<10k, cost>20us, in half of a model's rounds or more: exit 99.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    models: tuple[Any, ...],
    connections: tuple[int, ...] | None,
    sizes: tuple[tuple[Size, ...], ...],
    rates: tuple[OfferedRate, ...],
    duration: float | None,
    warmup: float | None,
    rounds: int | None,
    short: bool,
    processes: int,
    server_cpus: tuple[int, ...] | None,
    client_cpus: tuple[int, ...] | None,
    seed: int | None,
    out: Path,
    place_name: str | None,
    pause: tuple[str, ...],
    null: bool,
    unchecked: bool,
    thresholds: tuple[Condition, ...],
    as_json: bool,
) -> None:
    """Compare models (all, if none is named) with each other and with a yardstick in C.

    Each is held to the contract first. Then, in each round, every server is started afresh on processors of its own and
    loaded. What is measured is kept after each load, also at Ctrl-C, in a folder of --out. Exits 99 if a --fail-if
    holds, 1 if a model broke the contract.
    """
    subjects = _subjects(models)
    allowed = sorted(os.sched_getaffinity(0))
    asked = Asked(
        models=tuple(model.slug for model in subjects),
        connections=connections or ((64,) if short else (1, 16, 128)),
        sizes=sizes,
        rates=rates,
        # Short by its loads: with three rounds no difference is told apart that is not a factor.
        duration_seconds=duration or (1.0 if short else 3.0),
        warmup_seconds=warmup if warmup is not None else 0.3 if short else 1.0,
        rounds=rounds or (4 if short else 5),
        processes=processes,
        server_cpus=_allowed(server_cpus, allowed) or (allowed[0],),
        client_cpus=_allowed(client_cpus, allowed) or (allowed[min(1, len(allowed) - 1)],),
        seed=seed if seed is not None else random.SystemRandom().randrange(2**32),
        null=null,
    )
    folder = out / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    try:
        # Now, and not when all is measured.
        folder.mkdir(parents=True)
    except OSError as error:
        raise click.BadParameter(f"{error.filename}: {(error.strerror or '').lower()}", param_hint="--out") from None
    comparison: Comparison | None = None
    interrupted, kept = False, True
    try:
        with interruptible(), _place(place_name, subjects, asked, pause) as place, _telling(asked) as tell:
            words = f"iolab-client {shlex.join(sys.argv[1:])}"
            comparison = Comparison(asked, subjects, place, words, tell=tell, keep=lambda run: bundle.save(run, folder))
            kept = unchecked or comparison.check()
            comparison.measure()
    except KeyboardInterrupt:
        interrupted = True
    except PlaceFailed as error:
        raise click.ClickException(str(error)) from None
    finally:
        # Where nothing was measured it is empty, and goes.
        with suppress(OSError):
            folder.rmdir()
    if comparison is None:
        raise SystemExit(EXIT_INTERRUPTED)
    run = comparison.run
    write_folder(run, folder)
    summary = summarise(run)
    if as_json:
        screen.print_json({"folder": str(folder), "left_out": run.left_out, "summary": msgspec.to_builtins(summary)})
    else:
        tables.show(summary)
    for slug, reason in run.left_out.items():
        click.echo(f"left out: {slug}: {reason}", err=True)
    click.echo(f"report: {folder / REPORT}", err=True)
    raise SystemExit(_exit_code(run, thresholds, interrupted=interrupted, kept=kept))


def _subjects(models: Sequence[Any]) -> list[Model]:
    """The models, each once. Raises click.UsageError."""
    if not models:
        return list(MODELS.values())
    if addresses := [one for one in models if not isinstance(one, Model)]:
        raise click.UsageError(
            f"{':'.join(map(str, addresses[0]))}: only models are compared; `load` takes any address"
        )
    # The yardstick is always there.
    return [model for model in dict.fromkeys(models) if model is not YARDSTICK]


def _allowed(cpus: tuple[int, ...] | None, allowed: Sequence[int]) -> tuple[int, ...] | None:
    """Raises click.UsageError for a processor that is not there."""
    if absent := set(cpus or ()) - set(allowed):
        raise click.UsageError(f"processor {min(absent)} may not be used; there are {', '.join(map(str, allowed))}")
    return cpus


def _place(name: str | None, subjects: Sequence[Model], asked: Asked, pause: Sequence[str]) -> Place:
    """Where to measure: the place of that name, or the first that can be. Says on stderr why not in containers."""
    if name == AS_FOUND.replace(" ", "-") or (name is None and os.environ.get("IOLAB_IN_COMPOSE") == "1"):
        return AsFound(asked.client_cpus)
    if name != PROCESSES:
        # The SDK is slow to import.
        from iolab_client.compare import containers

        reason = containers.unavailable()
        if reason is None:
            return containers.Containers(
                [*subjects, YARDSTICK],
                asked.server_cpus,
                asked.client_cpus,
                pause=pause or None,
                notice=lambda text: click.echo(text, err=True),
            )
        if name == CONTAINERS:
            raise click.ClickException(f"no containers: {reason}")
        click.echo(f"measuring plain processes: {reason}", err=True)
    return Processes(asked.server_cpus, asked.client_cpus)


@contextmanager
def interruptible(kept: str = "what was measured is kept") -> Iterator[None]:
    """The first SIGINT or SIGTERM ends what is done in the block; what comes later does not end the tidying up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        click.echo(f"interrupted: tidying up; {kept}", err=True)
        raise KeyboardInterrupt

    before = [signal.signal(each, interrupt) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


@contextmanager
def _telling(asked: Asked) -> Iterator[Callable[[News], None]]:
    """On a terminal a bar with the time left; elsewhere a line for each measurement and whoever is left out."""
    stderr = Console(stderr=True)
    if not stderr.is_terminal:
        yield _tell_in_lines
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=stderr, transient=True, refresh_per_second=DRAWN_PER_SECOND) as progress:
        task = progress.add_task("", total=None)

        def tell(news: News) -> None:
            progress.update(task, description=news.text, completed=news.done, total=news.total)

        yield tell


def _tell_in_lines(news: News) -> None:
    if news.measurement:
        click.echo(f"{news.done}/{news.total} {news.text}: {in_words(news.measurement)}", err=True)


def in_words(one: Measurement) -> str:
    """A measurement in a line."""
    cost = f", {one.server.cost:.1f} CPU-µs" if one.server and one.server.cost else ""
    offered = f" of {one.plan.rate:,.0f}" if one.plan.rate else ""
    return (
        f"{one.plan.connections} connections, {one.rate:,.0f}{offered} answers/s, p99 {one.latency.p99:,.0f} µs"
        f"{cost}, {one.verdict.word}"
    )


def _exit_code(run: Run, thresholds: Sequence[Condition], *, interrupted: bool, kept: bool) -> int:
    """The worst of what came of it; says which threshold was missed."""
    missed = list(missed_thresholds(run, thresholds))
    for reason in missed:
        click.echo(f"threshold missed: {reason}", err=True)
    if interrupted:
        return EXIT_INTERRUPTED
    if missed:
        return EXIT_MISSED
    return 0 if kept else 1


def missed_thresholds(run: Run, thresholds: Sequence[Condition]) -> Iterator[str]:
    """Each that holds in half of the rounds or more of a model under a load: a median is no better than that."""
    for cell in summarise(run).cells:
        if cell.subject == YARDSTICK.slug:
            continue
        group = [one for one in run.measurements if one.subject == cell.subject and case_of(one) == cell.case]
        for threshold in thresholds:
            reasons = [reason for one in group if (reason := threshold.missed(one))]
            if 2 * len(reasons) >= len(group):
                where = f"{cell.subject}, {case_in_words(cell.case)}, in {len(reasons)} of {len(group)} rounds"
                yield f"{where}: {reasons[0]}"
