"""`choose`: which model for a workload, by what was measured."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.table import Table

from iolab_client.report.words import number
from iolab_client.results import bundle, units
from iolab_client.results.choice import NEAR, Choice, Workload, choose, measured
from iolab_client.results.measurement import Size
from iolab_client.terminal import screen

# Where bundles are looked for if none is named.
USUAL = ("docs/results", "results/*")


@click.command("choose")
@click.argument("folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-c", "--connections", type=units.Count(), required=True, help="Connections at once.")
@click.option("-R", "--rate", type=units.Rate(), required=True, help="Requests a second over all of them.")
@click.option("-s", "--size", "sizes", type=units.Sizes(), default="64", show_default=True, help="Bytes of a message.")
@click.option(
    "--wait", "wait_seconds", type=units.Duration(zero=True), default="0", help="What an answer waits for others."
)
@click.option("--compute", "compute_seconds", type=units.Duration(zero=True), default="0", help="What it computes.")
@click.option("--p99", "p99_seconds", type=units.Duration(), required=True, help="99 of 100 answers come within this.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folders: tuple[Path, ...],
    connections: int,
    rate: float,
    sizes: tuple[Size, ...],
    wait_seconds: float,
    compute_seconds: float,
    p99_seconds: float,
    as_json: bool,
) -> None:
    """Rank the models for a workload by what `compare` has measured in FOLDER, and tell how to check it.

    Without a FOLDER docs/results and those in results are looked through. Nothing is guessed: where nothing was
    measured near by (to within a factor of 2), it refuses, and exits 1.
    """
    if len(sizes) > 1:
        raise click.BadParameter("one size is chosen for; expected a number of bytes", param_hint="-s")
    wanted = Workload(
        connections=connections,
        rate=rate,
        size=sizes[0].size,
        wait_ms=wait_seconds * 1000,
        cpu_us=compute_seconds * 1e6,
        p99=p99_seconds * 1e6,
    )
    found = folders or _usual()
    if not found:
        raise click.ClickException(f"no bundle in {' or '.join(USUAL)}; `iolab-client compare` makes one")
    choice = choose(measured({str(folder): bundle.read(folder) for folder in found}), wanted)
    if as_json:
        screen.print_json(msgspec.to_builtins(choice))
    elif choice.candidates:
        show(choice, wanted)
    if not choice.candidates:
        raise click.ClickException(
            f"nothing was measured near by, to within a factor of {NEAR:g}: {choice.nearest}; "
            f"measure it: {_measure(wanted)}"
        )


def _usual() -> list[Path]:
    files = (file for pattern in USUAL for file in Path().glob(f"{pattern}/{bundle.RESULTS}"))
    return [file.parent for file in sorted(files)]


def show(choice: Choice, wanted: Workload) -> None:
    """The table, and the commands that check the first of them."""
    table = Table("", "model", "answers/s at most", "p99 (ms)", "CPU-µs per answer", "why", "measured in")
    for place, one in enumerate(choice.candidates, 1):
        table.add_row(
            str(place) if one.fits else "no",
            one.model,
            number(one.capacity),
            number(one.p99 / 1000),
            "" if one.cost is None else number(one.cost),
            screen.plain(one.reason),
            screen.plain(one.source),
        )
    screen.print_table(table)
    first = choice.candidates[0]
    said = f"check it: {check(first.model, wanted)}" if first.fits else "none of them does what is wanted"
    screen.console().print(screen.plain(said))


def check(model: str, wanted: Workload) -> str:
    """The command that checks a choice; the work dial is in the model's YAML file."""
    dial = f"work: {{wait_ms: {wanted.wait_ms:g}, cpu_us: {wanted.cpu_us:g}}}"
    first = (
        f"printf '{dial}\\n' >> configs/models/{model}.yaml, restart it, then "
        if wanted.wait_ms or wanted.cpu_us
        else ""
    )
    return (
        f"{first}iolab-client load {model} -c {wanted.connections} -R {wanted.rate:g} -s {wanted.size} "
        f"--fail-if 'p99>{wanted.p99:g}us' --fail-if 'verdict!=VALID'"
    )


def _measure(wanted: Workload) -> str:
    dial = f", with work: {{wait_ms: {wanted.wait_ms:g}, cpu_us: {wanted.cpu_us:g}}} in configs/defaults.yaml"
    return (
        f"iolab-client compare -c {wanted.connections} -s {wanted.size} -R {wanted.rate:g}"
        f"{dial if wanted.wait_ms or wanted.cpu_us else ''}"
    )
