"""`path`: what a proxy, tunnel or port forward does to the connections that go through it."""

from __future__ import annotations

import resource
from collections.abc import Container, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from iolab.program import shortened
from iolab_client.path import junit
from iolab_client.path.clauses import AT_ONCE
from iolab_client.path.ends import Way
from iolab_client.path.examination import EXAMINED, Judgement, NoPath, examine
from iolab_client.path.harness import Back, CannotListen, Harness, Patience
from iolab_client.results import units
from iolab_client.servers.address import Address, is_port, parse, show
from iolab_client.terminal import screen

DEFAULTS = Patience()
# Two for each connection, and what a program has anyway.
DESCRIPTORS = 2 * AT_ONCE + 128


class Front(click.ParamType[Address]):
    """HOST:PORT."""

    name = "HOST:PORT"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Address:
        """The address. Raises click.BadParameter."""
        return parse(str(value)) or self.fail(f"{shortened(str(value))} is not HOST:PORT", parameter, context)


class BackAddress(click.ParamType[tuple[str | None, int]]):
    """PORT, or HOST:PORT."""

    name = "[HOST:]PORT"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[str | None, int]:
        """The address; no host where none is given. Raises click.BadParameter."""
        text = str(value)
        if is_port(text):
            return None, int(text)
        return parse(text) or self.fail(f"{shortened(text)} is not PORT (1 to 65535) or HOST:PORT", parameter, context)


@click.command("path")
@click.option("--front", type=Front(), required=True, help="Where clients connect to; IPv6 as [::1]:8080.")
@click.option(
    "--back",
    type=BackAddress(),
    required=True,
    help="Where it leads to: this command is the server there, on loopback unless a host is given.",
)
@click.option(
    "--back-namespace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Network namespace of the server, such as /proc/PID/ns/net of a container's process; takes root.",
)
@click.option(
    "--idle",
    "idle_seconds",
    type=units.Duration(),
    default=f"{DEFAULTS.idle_seconds:g}s",
    show_default=True,
    help="How long a connection is silent before it is used again.",
)
@click.option(
    "--late",
    "late_seconds",
    type=units.Duration(),
    default=f"{DEFAULTS.late_seconds:g}s",
    show_default=True,
    help="How long after a FIN the other side answers, or begins to read.",
)
@click.option(
    "--deadline",
    "deadline_seconds",
    type=units.Duration(),
    default=f"{DEFAULTS.deadline_seconds:g}s",
    show_default=True,
    help="Time in which nothing moves that counts as never.",
)
@click.option(
    "--accept",
    "accepted",
    type=click.Choice(list(dict.fromkeys(examined.clause for examined in EXAMINED))),
    multiple=True,
    metavar="CLAUSE",
    help="A clause that may be broken: it is examined and shown, and does not count. Can be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--junit", "junit_file", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML to this file too."
)
def command(
    front: Address,
    back: tuple[str | None, int],
    back_namespace: Path | None,
    idle_seconds: float,
    late_seconds: float,
    deadline_seconds: float,
    accepted: tuple[str, ...],
    as_json: bool,
    junit_file: Path | None,
) -> None:
    """Be the client and the server of what stands between (a proxy, a tunnel, a port forward), and tell what it breaks.

    What is examined leads from --front to --back: start it first. Exits 1 if any clause is broken that is not accepted;
    2 where nobody is at the front, or it leads elsewhere.
    """
    patience = Patience(deadline_seconds=deadline_seconds, idle_seconds=idle_seconds, late_seconds=late_seconds)
    _allow_descriptors()
    if junit_file:
        # Before anything is waited for.
        _write(junit_file, "")
    try:
        server = Back(*back, namespace=back_namespace)
    except CannotListen as error:
        raise click.BadParameter(str(error), param_hint="--back") from None
    with closing(server), screen.progress() as progress:
        task = progress.add_task("path", total=len(EXAMINED))

        def tell(name: str) -> None:
            progress.update(task, advance=1, description=name)

        try:
            judgements = list(examine(Harness(front, server, patience), tell))
        except NoPath as error:
            raise click.BadParameter(str(error), param_hint="--front") from None
    if junit_file:
        _write(junit_file, junit.render(judgements, f"path {show(front)}", frozenset(accepted)))
    if as_json:
        clauses = [judgement.as_json() | {"accepted": judgement.of.clause in accepted} for judgement in judgements]
        screen.print_json({"front": show(front), "back": str(server), "clauses": clauses})
    else:
        print_matrix(judgements, accepted)
    if not all(judgement.kept or judgement.of.clause in accepted for judgement in judgements):
        raise SystemExit(1)


def _allow_descriptors() -> None:
    """Raise the soft limit where many connections at once need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= DESCRIPTORS:
        return
    if hard < DESCRIPTORS:
        raise click.UsageError(
            f"{hard} descriptors may be open (ulimit -Hn), and {AT_ONCE} connections take {DESCRIPTORS}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.BadParameter(f"{shortened(str(file))}: {reason}", param_hint="--junit") from None


def print_matrix(judgements: Sequence[Judgement], accepted: Container[str] = ()) -> None:
    """Clauses down, ways across; then what is about both ways; then what helps."""
    each_way = Table("clause", *(way.value for way in Way))
    both = Table("clause", "both ways")
    for clause in dict.fromkeys(judgement.of.clause for judgement in judgements):
        cells = [judgement for judgement in judgements if judgement.of.clause == clause]
        table = each_way if cells[0].of.way else both
        broken = "yellow" if clause in accepted else "bold red"
        table.add_row(clause, *(screen.plain(cell.verdict, "green" if cell.kept else broken) for cell in cells))
    screen.print_table(each_way)
    screen.print_table(both)
    for remedy, clauses in remedies(judgements).items():
        shown = "every clause" if len(clauses) == len(each_way.rows) + len(both.rows) else ", ".join(clauses)
        screen.console().print(screen.plain(f"{shown}: {remedy}"), soft_wrap=True)


def remedies(judgements: Sequence[Judgement]) -> dict[str, list[str]]:
    """What commonly breaks a clause and what helps, where that is known, and the clauses that it is told of."""
    found: dict[str, list[str]] = {}
    for judgement in judgements:
        if judgement.remedy and judgement.of.clause not in found.setdefault(judgement.remedy, []):
            found[judgement.remedy].append(judgement.of.clause)
    return found
