"""`load`: put a load on one server, and say what it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iolab.program import WholeNumber
from iolab.registry import Model
from iolab_client import load
from iolab_client.contract.expect import option as expect_option
from iolab_client.results import merge as merging
from iolab_client.results import units
from iolab_client.results.measurement import (
    ERROR_CLASSES,
    ERRORS,
    EVEN,
    NONE,
    POISSON,
    SAME,
    STARVED,
    UPPER,
    VALID,
    Latency,
    Measurement,
    Plan,
)
from iolab_client.results.thresholds import EXIT_MISSED, Condition, ThresholdType
from iolab_client.servers.address import Address
from iolab_client.servers.address import show as show_address
from iolab_client.servers.targets import Wanted, resolve
from iolab_client.terminal import screen

# A server, or files that --merge joins.
Subject = Model | Address | list[Path]
# The shell's code for what Ctrl-C ended.
EXIT_INTERRUPTED = 130
CLOSED_LOOP = (
    "Closed loop: while the server stalls, nothing new is asked, so a stall is in these latencies once per connection "
    "and not once per request that would have waited (coordinated omission). For that, give a rate: -R."
)


def _subject(context: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> Subject:
    """What is loaded, or the files that are merged. Raises click.UsageError."""
    if context.params["merge"]:
        if len(words) < 2:
            raise click.UsageError("--merge joins the measurements of several generators: expected two FILEs or more")
        return [Path(word) for word in words]
    if not words:
        raise click.MissingParameter(ctx=context, param=parameter)
    if len(words) > 1:
        context.fail(f"Got unexpected extra argument ({' '.join(words[1:])})")
    return Wanted().convert(words[0], parameter, context)


@click.command("load")
@click.argument("wanted", metavar="MODEL|HOST:PORT", nargs=-1, callback=_subject)
@click.option("--merge", is_flag=True, is_eager=True, help="Join what `load --json` of several machines has in FILEs.")
@click.option(
    "--on", "scheduler", metavar="SCHEDULER", help="Spread it over a Dask cluster's workers: tcp://HOST:8786."
)
@click.option("-c", "--connections", type=units.Count(), default="64", show_default=True, help="Connections.")
@click.option("--pipeline", type=units.Count(), default="1", help="Requests in flight on each at most.  [default: 1]")
@click.option("-R", "--rate", type=units.Rate(), help="Requests a second over all, sent when due; else: open loop off.")
@click.option("--arrivals", type=click.Choice([EVEN, POISSON]), default=EVEN, show_default=True, help="With -R: gaps.")
@click.option("--bound", is_flag=True, help="With -R: each request waits for a connection of its own, in turn.")
@click.option(
    "-d",
    "--duration",
    "duration_seconds",
    type=units.Duration(),
    default="10s",
    show_default=True,
    help="Measured time.",
)
@click.option("-n", "--requests", type=units.Count(), help="End sooner, with so many answers.")
@click.option("-s", "--size", "sizes", type=units.Sizes(), default="64", help="64, 64KiB or 64:0.9,64KiB:0.1; bytes.")
@expect_option
@click.option("--connect-rate", type=units.Rate(), help="New connections a second; else as fast as they are accepted.")
@click.option("--churn", type=units.Count(), metavar="N", help="A new connection after N requests.")
@click.option("--idle", type=units.Count(zero=True), default="0", metavar="N", help="N silent connections beside.")
@click.option(
    "--warmup",
    "warmup_seconds",
    type=units.Duration(zero=True),
    default="1s",
    show_default=True,
    help="Loaded, not counted.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=units.Duration(),
    default="10s",
    show_default=True,
    help="A slower answer is an error.",
)
@click.option(
    "--processes",
    type=units.Count(most=1024),
    default="1",
    show_default=True,
    help="Processes of the generator, at most 1,024.",
)
@click.option("--cpus", type=units.Cpus(), default=(), help="Processors that they may run on: 0,2-3.")
@click.option("--seed", type=WholeNumber(0, 2**32 - 1), help="Of the bytes and gaps; else drawn, and told with --json.")
@click.option(
    "--fail-if", "thresholds", type=ThresholdType(), multiple=True, help="p99>5ms, rate<10k, verdict!=VALID: exit 99."
)
@click.option("--json", "as_json", is_flag=True, help="Print the measurement as JSON.")
def command(
    wanted: Subject,
    merge: bool,
    scheduler: str | None,
    thresholds: tuple[Condition, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Load MODEL or any server, compare every answer byte for byte, and say how fast it was and whether to believe it.

    Without -R each connection sends when its answer is there (closed loop); with -R requests are sent when they are
    due, by whichever connection is free, and latency counts from then (open loop). What is in flight when the time is
    over is waited for. Exits 99 if a --fail-if holds, 1 if there was an error, no answer, or a connection without any.

    --merge FILE FILE… joins what `load --json` printed on several machines that loaded one server at the same time: of
    the server's own counters is seen whether they did. --on SCHEDULER spreads the load over machines, which are the
    workers of a Dask cluster, and joins it in the same way; --processes and --cpus are then each worker's.
    """
    interrupted = False
    if isinstance(wanted, list):
        _refuse_plan([*asked, "scheduler"])
        measurement = merging.merge(merging.read(wanted))
    else:
        measurement, interrupted = _load(wanted, Plan(**asked), scheduler)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(measurement), indent=2).decode())
    else:
        show(measurement)
    missed = [reason for threshold in thresholds if (reason := threshold.missed(measurement))]
    for reason in missed:
        click.echo(f"threshold missed: {reason}", err=True)
    if missed:
        raise SystemExit(EXIT_MISSED)
    if interrupted:
        raise SystemExit(EXIT_INTERRUPTED)
    if measurement.errors.total or not measurement.answers or measurement.verdict.word == STARVED:
        raise SystemExit(1)


def _refuse_plan(asked: Sequence[str]) -> None:
    """Raise click.UsageError where a load is planned: with --merge none is made."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in asked and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{parameter.opts[-1]} plans a load, and --merge joins those that were made")


def _load(wanted: Model | Address, plan: Plan, scheduler: str | None) -> tuple[Measurement, bool]:
    """What the load came to, and whether Ctrl-C ended it."""
    name = wanted.slug if isinstance(wanted, Model) else show_address(wanted)
    with _telling(name) as telling:
        tell, watch = telling or (lambda progress: None), telling is not None
        try:
            if scheduler is not None:
                return load.run_on(scheduler, name, plan, tell, watch=watch), False
            (target,) = resolve([wanted])
            return load.run(target, plan, tell, watch=watch), False
        except load.Interrupted as ended:
            return ended.measurement, True


def show(measurement: Measurement) -> None:
    """The result for people: a table, the errors, the verdict with its reason."""
    console = screen.console()
    console.print(table(measurement))
    for sample in measurement.errors.samples:
        console.print(screen.plain(f"  {sample}", "red"))
    verdict = measurement.verdict
    style = {VALID: "green", ERRORS: "bold red"}.get(verdict.word, "bold yellow")
    console.print(Text.assemble((verdict.word, style), ": ", screen.plain(verdict.reason)))
    if measurement.plan.rate is None:
        console.print(Text(CLOSED_LOOP, "dim"))


def table(measurement: Measurement) -> Table:
    """What the load came to, a line each."""
    one = measurement
    shown = Table("", one.subject, title=_title(one), title_justify="left", show_header=False)
    shown.add_row("answers", f"{one.answers:,} in {one.seconds:.2f} s")
    shown.add_row("rate", f"{one.rate:,.0f}/s" + (f" of {one.plan.rate:,.0f} planned" if one.plan.rate else ""))
    shown.add_row("throughput", f"{one.received_bytes / one.seconds / 1e6 if one.seconds else 0:,.1f} MB/s each way")
    if one.latency_from_send is not None:
        shown.add_row("latency from when due", _latency(one.latency))
        shown.add_row("latency from when sent", _latency(one.latency_from_send))
    else:
        shown.add_row("latency", _latency(one.latency))
    if one.latency.censored:
        shown.add_row("", f"{one.unanswered:,} without an answer, {one.unsent:,} never sent: ≥ could be higher")
    if one.plan.rate:
        shown.add_row("requests", f"{one.due:,} due, {one.sent:,} sent in time, {one.late:,} answered later")
    shown.add_row("connections", f"{one.answered_connections:,} answered, {one.open_connections:,} open at the end")
    if one.connect:
        shown.add_row("connecting", _latency(one.connect))
    if one.first_answer:
        shown.add_row("first answer", _latency(one.first_answer))
    if one.fairness and one.plan.connections > 1:
        fair = one.fairness
        median = "not known" if fair.median is None else f"{fair.median:,.0f}"
        shown.add_row(
            "answers each", f"{fair.least:,} to {fair.most:,}, median {median}; Jain's index {fair.index:.3f}"
        )
    shown.add_row("errors", _errors(one))
    if one.server is not None:
        server = one.server
        cost = "" if server.cost is None else f"{server.cost:,.1f} µs of CPU per answer, "
        shown.add_row("server", f"{cost}{server.busy:.2f} processors busy, {server.memory_bytes / 2**20:,.1f} MiB")
        shown.add_row("switches per answer", _switches(one))
    else:
        shown.add_row("server", screen.plain(f"not known: {one.server_unknown}"))
    late = "" if one.generator.lag_p99 is None else f", p99 of its own lateness {_time(one.generator.lag_p99)}"
    shown.add_row("generator", f"busiest process {one.generator.busy:.0%} busy{late}")
    return shown


def _title(one: Measurement) -> str:
    plan = one.plan
    sizes = ", ".join(f"{size.size} bytes" for size in plan.sizes)
    loop = "closed loop" if plan.rate is None else "open loop"
    oracle = {UPPER: "", SAME: ", expected: the same", NONE: ", expected: any bytes"}.get(plan.expect, ", by a table")
    return f"{one.subject}: {loop}, {plan.connections:,} connections x {plan.pipeline}, {sizes}{oracle}"


def _latency(latency: Latency) -> str:
    if not latency.count:
        return "no answer"
    names = ("p50", "p90", "p99", "p99_9", "max")
    return ", ".join(f"{name.replace('_', '.')} {_bound(latency, getattr(latency, name))}" for name in names)


def _bound(latency: Latency, microseconds: float) -> str:
    """A percentile, marked if it could be higher."""
    return f"{'≥ ' if latency.is_bound(microseconds) else ''}{_time(microseconds)}"


def _time(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def _errors(one: Measurement) -> str:
    counts = [f"{getattr(one.errors, name):,} {name}" for name in ERROR_CLASSES if getattr(one.errors, name)]
    return ", ".join(counts) or "none"


def _switches(one: Measurement) -> str:
    assert one.server is not None
    answers = max(1, one.server.answers)
    voluntary, involuntary = one.server.voluntary_switches / answers, one.server.involuntary_switches / answers
    return f"{voluntary:.3f} voluntary, {involuntary:.3f} involuntary"


@contextmanager
def _telling(name: str) -> Iterator[Callable[[load.Progress], None] | None]:
    """A panel on a terminal that is gone at the end; None where stderr is no terminal."""
    stderr = Console(stderr=True)
    if not stderr.is_terminal:
        yield None
        return
    with Live(console=stderr, transient=True, auto_refresh=False) as live:
        yield lambda progress: live.update(panel(name, progress), refresh=True)


def panel(name: str, progress: load.Progress) -> Group:
    """The load so far."""
    seen = [f"{progress.rate:,.0f} requests/s"]
    if progress.p50 is not None and progress.p99 is not None:
        seen.append(f"p50 {_time(progress.p50)}, p99 {_time(progress.p99)}")
    if progress.server_busy is not None:
        seen.append(f"server {progress.server_busy:.0%} CPU")
    bar = Table.grid(padding=(0, 1))
    done = min(progress.seconds, progress.of_seconds)
    bar.add_row(
        f"{name} {progress.phase}",
        ProgressBar(total=progress.of_seconds, completed=done, width=30),
        f"{done:.0f} of {progress.of_seconds:g} s",
    )
    line = Text(f"{progress.connected:,} connections, {', '.join(seen)}, ")
    line.append(f"{progress.errors:,} errors", "bold red" if progress.errors else "")
    return Group(bar, line)
