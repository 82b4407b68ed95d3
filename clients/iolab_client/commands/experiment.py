"""`experiment`: what textbooks claim, tried on this machine."""

from __future__ import annotations

import os
import random
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import msgspec
from rich.table import Table

from iolab.program import WholeNumber
from iolab_client.commands.compare import EXIT_INTERRUPTED, interruptible
from iolab_client.compare.places import CONTAINERS, PROCESSES, Place, PlaceFailed, Processes
from iolab_client.results import bundle
from iolab_client.terminal import screen
from iolab_client.trial import claim as claims
from iolab_client.trial import trials
from iolab_client.trial.bench import Bench, Means
from iolab_client.trial.claim import Claim
from iolab_client.trial.finding import CANNOT_TELL, DEPENDS, FAILS, HOLDS, WORDS, Word
from iolab_client.trial.trials import Docket, Trial

REPORT = "report.html"
STYLES = {HOLDS: "green", FAILS: "bold red", DEPENDS: "yellow", CANNOT_TELL: "dim"}


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How they are to be tried: the options of that name."""

    quick: bool
    predict: bool
    python: str | None
    place: str | None
    pause: tuple[str, ...]
    seed: int | None


@click.command("experiment")
@click.argument("names", metavar="[NAME]...|list|all", nargs=-1)
@click.option("--quick", is_flag=True, help="Fewer rounds and shorter loads: all of them in ten minutes.")
@click.option("--predict", is_flag=True, help="Ask what you think before each, and tell afterwards.")
@click.option("--python", metavar="PATH", help="A free-threaded interpreter with iolab installed, for free-threads.")
@click.option(
    "--place", "place_name", type=click.Choice([CONTAINERS, PROCESSES]),
    help="Fresh containers or fresh processes.  [default: the first that can be]",
)  # fmt: skip
@click.option(
    "--pause", metavar="PROJECT", multiple=True,
    help="Compose projects that are paused meanwhile.  [default: every other one of iolab]",
)  # fmt: skip
@click.option("--seed", type=WholeNumber(0, 2**32 - 1), help="Of the order.  [default: another each time]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="results", show_default=True,
              help="Where the folder of the result is made.")  # fmt: skip
@click.option("--from", "again", type=click.Path(path_type=Path), metavar="FILE",
              help="Measure nothing: judge what an earlier call wrote.")  # fmt: skip
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file, too.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False),
              help="Write it as docs/claims.md has it, data and plots in results/claims beside it.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the trials as JSON.")
def command(
    names: tuple[str, ...],
    quick: bool,
    predict: bool,
    python: str | None,
    place_name: str | None,
    pause: tuple[str, ...],
    seed: int | None,
    out: Path,
    again: Path | None,
    html: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Put claims about ways to wait on trial: HOLDS, FAILS, DEPENDS, or CANNOT TELL, with the numbers and the reason.

    `list` (or nothing) tells which there are. Each is measured with fresh servers on processors of their own; what is
    found is kept after each, also at Ctrl-C, in a folder of --out.
    """
    if not again and (not names or names == ("list",)):
        show_list(as_json)
        return
    chosen = _chosen(names)
    if again:
        docket = trials.read(again)
        if names:
            docket.trials = [trial for trial in docket.trials if trial.name in {claim.name for claim in chosen}]
        interrupted = False
    else:
        folder = out / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
        docket, interrupted = _try_all(
            chosen,
            folder,
            Manner(quick=quick, predict=predict, python=python, place=place_name, pause=pause, seed=seed),
        )
    if docket.trials:
        write(docket, html=html, markdown=markdown)
    if as_json:
        screen.print_json(msgspec.to_builtins(docket))
    else:
        show(docket)
    if not again:
        click.echo(f"report: {folder / REPORT}", err=True)
    raise SystemExit(EXIT_INTERRUPTED if interrupted else 0)


def _chosen(names: tuple[str, ...]) -> list[Claim]:
    """Raises click.UsageError."""
    try:
        return [claims.find(name) for name in dict.fromkeys(claims.names() if names in ((), ("all",)) else names)]
    except KeyError as error:
        raise click.UsageError(error.args[0]) from None


def show_list(as_json: bool) -> None:
    """Which claims there are, and what each takes."""
    listed = [claims.find(name) for name in claims.names()]
    if as_json:
        fields = ("name", "title", "claim", "source", "method", "decides", "costs")
        screen.print_json([{field: getattr(claim, field) for field in fields} for claim in listed])
        return
    shown = Table("experiment", "claim", title_justify="left")
    shown.add_column("quick", justify="right")
    shown.add_column("full", justify="right")
    for claim in listed:
        shown.add_row(claim.name, screen.plain(claim.claim), *(f"{seconds} s" for seconds in claim.costs))
    quick, full = (sum(claim.costs[which] for claim in listed) / 60 for which in (0, 1))
    shown.add_row("all", "", f"{quick:.0f} min", f"{full:.0f} min", style="dim")
    screen.print_table(shown)


def _try_all(chosen: list[Claim], folder: Path, manner: Manner) -> tuple[Docket, bool]:
    """All of them, and whether that was interrupted; in the folder is what was tried until then."""
    try:
        # Now, and not when all is measured.
        folder.mkdir(parents=True)
    except OSError as error:
        raise click.BadParameter(f"{error.filename}: {(error.strerror or '').lower()}", param_hint="--out") from None
    docket: Docket | None = None
    interrupted = False
    with ExitStack() as stack:
        stack.callback(_remove_if_empty, folder)
        try:
            stack.enter_context(interruptible())
            means = stack.enter_context(_means(manner))
            docket = Docket(
                command=f"iolab-client {shlex.join(sys.argv[1:])}",
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                environment=means.place.environment(),
            )
            for claim in chosen:
                predicted = ask(claim) if manner.predict else None
                trial = trials.put_on_trial(claim, Bench(means, _telling(claim)), predicted)
                docket.trials.append(trial)
                tell(trial)
                trials.save(docket, folder)
        except KeyboardInterrupt:
            interrupted = True
        except PlaceFailed as error:
            raise click.ClickException(str(error)) from None
    if docket is None or not docket.trials:
        raise SystemExit(EXIT_INTERRUPTED)
    write(docket, html=folder / REPORT)
    return docket, interrupted


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _means(manner: Manner) -> Iterator[Means]:
    """Processors, a folder of settings, and the place. Raises click.ClickException, PlaceFailed."""
    allowed = sorted(os.sched_getaffinity(0))
    server_cpus, client_cpus = (allowed[0],), (allowed[min(1, len(allowed) - 1)],)
    with tempfile.TemporaryDirectory(prefix="iolab-experiment-") as folder:
        configs = Path(folder)
        # A container's user reads it.
        configs.chmod(0o755)
        here = Processes(server_cpus, client_cpus, configs=configs)
        with _containers(manner, configs, server_cpus, client_cpus) or here as place:
            yield Means(
                place=place,
                here=here,
                everywhere=Processes(allowed, client_cpus, configs=configs),
                configs=configs,
                quick=manner.quick,
                server_cpus=server_cpus,
                client_cpus=client_cpus,
                seed=random.SystemRandom().randrange(2**32) if manner.seed is None else manner.seed,
                python=manner.python,
            )


def _containers(
    manner: Manner, configs: Path, server_cpus: tuple[int, ...], client_cpus: tuple[int, ...]
) -> Place | None:
    """Containers to measure in, or None: then stderr is told why. Raises click.ClickException."""
    if manner.place == PROCESSES:
        return None
    # The SDK is slow to import.
    from iolab_client.compare import containers

    reason = containers.unavailable()
    if reason is None:
        notice = partial(click.echo, err=True)
        # Each server's container is made when it is first needed.
        return containers.Containers(
            (), server_cpus, client_cpus, pause=manner.pause or None, configs=configs, notice=notice
        )
    if manner.place == CONTAINERS:
        raise click.ClickException(f"no containers: {reason}")
    click.echo(f"measuring plain processes: {reason}", err=True)
    return None


def _telling(claim: Claim) -> Callable[[str], None]:
    """On a terminal a line that is written over; elsewhere nothing: the finding of each is a line."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: click.echo(f"\r\033[K{claim.name}: {text}", err=True, nl=False)


def ask(claim: Claim) -> Word:
    """What the user thinks."""
    click.echo(f"{claim.name}: {claim.claim}\n  {claim.method}", err=True)
    answers = {str(number): word for number, word in enumerate(WORDS, 1)}
    options = ", ".join(f"{number} {word}" for number, word in answers.items())
    return answers[click.prompt(f"  What do you think? {options}", type=click.Choice(list(answers)), err=True)]


def tell(trial: Trial) -> None:
    """The finding in a line, and what had been predicted."""
    finding = trial.finding
    start = "\r\033[K" if sys.stderr.isatty() else ""
    click.echo(f"{start}{trial.name}: {finding.word}{f', {finding.flip}' if finding.flip else ''}", err=True)
    if trial.predicted:
        right = "as you said" if trial.predicted == finding.word else f"you said {trial.predicted}"
        click.echo(f"  {right}. {finding.why}", err=True)


def show(docket: Docket) -> None:
    """For each trial the word, the reason and the table."""
    # matplotlib takes a second to import.
    from iolab_client.trial.words import account

    console = screen.console()
    for trial in docket.trials:
        one = account(trial)
        finding = trial.finding
        console.print(screen.plain(f"{trial.name}: {one.claim.claim}", "bold"))
        word = f"{finding.word}{f', {finding.flip}' if finding.flip else ''}"
        console.print(screen.plain(word, STYLES[finding.word]), screen.plain(finding.why), sep=". ")
        if one.rows:
            table = Table()
            for number, head in enumerate(one.head):
                table.add_column(screen.plain(head), justify="right" if number else "left")
            for row in one.rows:
                table.add_row(*map(screen.plain, row))
            console.print(table)
        for note in one.notes:
            console.print(screen.plain(note, "dim"))
        console.print()


def write(docket: Docket, *, html: Path | None = None, markdown: Path | None = None) -> None:
    """Write the page, and the one for docs/. Raises click.ClickException."""
    if not (html or markdown):
        return
    from iolab_client.trial import words

    with _complaining():
        if html:
            bundle.put(html, words.page(docket).encode())
        if markdown:
            plots = Path("results") / "claims"
            bundle.put(markdown, words.markdown(docket, plots).encode())
            trials.save(docket, markdown.parent / plots)
            for name, svg in words.plots(docket).items():
                bundle.put(markdown.parent / plots / f"{name}.svg", svg.encode())


@contextmanager
def _complaining() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror or error}") from None
