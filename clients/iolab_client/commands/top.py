"""`top`: what all running models do now."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from iolab.registry import Model
from iolab_client.results import units
from iolab_client.servers.address import REMEDY, Address
from iolab_client.servers.targets import Wanted
from iolab_client.servers.watching import Look, Row, Watch
from iolab_client.terminal import keys, screen

INTERVAL_SECONDS = 2.0
# Who is silent is shown for how long: to the second.
DRAW_SECONDS = 1.0
# How long a server that does not answer, or a name server, may keep a first table waiting.
SETTLE_SECONDS = 5.0
FIRST_FRAME_SECONDS = 1.0
# From here on there is room for whole numbers and headings.
WIDE = 120
# The title, the headings, the line below.
LINES_AROUND = 3


@dataclass(frozen=True)
class Field:
    """A column of numbers: its headings where it is wide and where it is narrow, and its number in a row."""

    wide: str
    narrow: str
    number: Callable[[Row], float | None]
    shown: Callable[[float], str]
    shown_narrow: Callable[[float], str]


def short(number: float) -> str:
    """A number in four characters: 9999, 12k, 3.4M."""
    rounded = round(number)
    if rounded < 10_000:
        return str(rounded)
    for unit in "kMG":
        number /= 1000
        if number < 9.95 and unit != "k":
            return f"{number:.1f}{unit}"
        if round(number) < 1000:
            break
    return f"{number:.0f}{unit}"


def whole(number: float) -> str:
    """A number with its thousands apart."""
    return f"{number:,.0f}"


def percent(number: float) -> str:
    """Percent of one processor, with a tenth as long as that tells something."""
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def mebibytes(number: float) -> str:
    """Memory in MiB, whose unit stands with it."""
    return f"{number / 2**20:,.0f} MiB"


def mebibytes_narrow(number: float) -> str:
    """Memory in MiB, as `free -m` and top have it."""
    return f"{short(number / 2**20)}M"


def _of(number: Callable[[Look], float]) -> Callable[[Row], float | None]:
    return lambda row: None if row.look is None else number(row.look)


FIELDS = {
    "open": Field("open", "open", _of(lambda look: look.open), whole, short),
    "waiting": Field("waiting", "wait", _of(lambda look: look.waiting), whole, short),
    "queue": Field("accept queue", "queue", _of(lambda look: look.accept_queue), whole, short),
    "answers": Field("answers/s", "ans/s", lambda row: row.answers_per_second, whole, short),
    "cpu": Field("CPU %", "CPU%", lambda row: row.cpu_percent, percent, percent),
    "memory": Field("memory", "mem", _of(lambda look: look.memory_bytes), mebibytes, mebibytes_narrow),
    "threads": Field("threads", "thr", _of(lambda look: look.threads), whole, short),
}


class IntervalType(units.Duration):
    """A tenth of a second at least: each look costs the server some."""

    least = 0.1
    bounds = "100ms to 24h"


@click.command("top")
@click.argument("wanted", metavar="[MODEL|HOST:PORT]...", nargs=-1, type=Wanted())
@click.option(
    "--interval",
    "interval_seconds",
    type=IntervalType(),
    default=f"{INTERVAL_SECONDS:g}s",
    show_default=True,
    help="Time between two scrapes of a server. Each costs the server a few ms of CPU, which its own CPU % shows.",
)
@click.option(
    "--sort",
    type=click.Choice(["model", *FIELDS]),
    default="model",
    show_default=True,
    help="What comes first: the first name, or the largest number as it was at the beginning; s sorts again.",
)
@click.option("--once", is_flag=True, help="Print one table and leave, as where stdout is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once.")
def command(wanted: tuple[Model | Address, ...], interval_seconds: float, sort: str, once: bool, as_json: bool) -> None:
    """Watch the running models (all, or those that are named): a line for each, until q or Ctrl-C.

    Open connections, those that wait for a worker, clients that the kernel holds for accept(2), answers a second, CPU
    as percent of one processor, resident memory, all threads, and how many of those that serve are in which system
    call, over all processes of the model. HOST:PORT is taken for an admin port. Exits 1 if nothing runs.
    """
    live = not (once or as_json) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    with Watch(wanted, interval_seconds) as watch:
        if not watch.found(SETTLE_SECONDS):
            raise click.ClickException(f"nothing runs: {watch.reason()}")
        if live:
            show(watch, interval_seconds, sort)
        else:
            print_once(watch, interval_seconds, sort, as_json)


def print_once(watch: Watch, interval_seconds: float, sort: str, as_json: bool) -> None:
    """One table of what two scrapes tell. Exits 1 if none answered."""
    watch.wait_for_scrapes(2, interval_seconds + SETTLE_SECONDS)
    rows = ordered(watch.rows(), sort)
    if as_json:
        screen.print_json([as_data(row) for row in rows])
    else:
        console = screen.console()
        console.print(table(rows, console.width))
    if all(row.look is None for row in rows):
        raise SystemExit(1)


def show(watch: Watch, interval_seconds: float, sort: str) -> None:
    """Draw frames until q, Ctrl-C or SIGTERM."""
    watch.wait_for_scrapes(1, FIRST_FRAME_SECONDS)
    console = screen.console()
    order = Lineup(sort)

    def frame() -> Group:
        return draw(order.of(watch.rows()), console, interval_seconds, watch.complaint)

    # The keys are the outer one: the terminal is in order before a signal may end the program again.
    with keys.listening() as pressed, Live(frame(), console=console, screen=True, auto_refresh=False) as live:
        while True:
            came = pressed.wait(min(interval_seconds, DRAW_SECONDS))
            if signal.SIGTERM in came:
                raise SystemExit(128 + signal.SIGTERM)
            if not {"q", "Q", signal.SIGINT}.isdisjoint(came):
                return
            if not {"s", "S"}.isdisjoint(came):
                order.again()
            live.update(frame(), refresh=True)


class Lineup:
    """Who stands where from frame to frame: a line that moves can't be read.

    The rows are sorted until each that answers has its number. From then on each keeps its place, also while it is
    silent or gone, and who is new comes last.
    """

    def __init__(self, sort: str) -> None:
        self._sort = sort
        self._places: dict[tuple[str, str], int] = {}
        self._settled = False

    def of(self, rows: Sequence[Row]) -> list[Row]:
        """The rows in the order in which they are to be seen."""
        if not self._settled:
            self._places.clear()
            # Who is silent may be so for ever.
            self._settled = all(
                row.silent_seconds is not None or number_of(row, self._sort) is not None for row in rows
            )
        for row in ordered(rows, self._sort):
            self._places.setdefault((row.model, row.address), len(self._places))
        return sorted(rows, key=lambda row: self._places[row.model, row.address])

    def again(self) -> None:
        """Sort once more, by the numbers of now."""
        self._settled = False


def ordered(rows: Sequence[Row], sort: str) -> list[Row]:
    """The rows by name, or by that column, the largest first, and then who has no number there or is silent."""

    def place(row: Row) -> tuple[bool, float, str]:
        number = number_of(row, sort)
        return number is None, -(number or 0), row.model

    return sorted(rows, key=place)


def number_of(row: Row, sort: str) -> float | None:
    """What a row is sorted by, None where that is not known; by name all are alike."""
    if sort not in FIELDS:
        return 0.0
    return None if row.silent_seconds is not None else FIELDS[sort].number(row)


def draw(rows: Sequence[Row], console: Console, interval_seconds: float, complaint: str) -> Group:
    """A frame: as many rows as there is room for."""
    room = max(1, console.height - LINES_AROUND)
    title = Text(
        f"iolab top: {len(rows)} models, every {interval_seconds:g} s, s sorts, q leaves", style="dim", no_wrap=True
    )
    if len(rows) > room:
        title.append(f"; {len(rows) - room} more do not fit")
    below = screen.plain(complaint, "red") if rows else screen.plain(f"nothing runs; {REMEDY}")
    below.no_wrap, below.overflow = True, "ellipsis"
    return Group(title, table(rows[:room], console.width), below)


def table(rows: Sequence[Row], width: int) -> Table:
    """A line for each row."""
    wide = width >= WIDE
    shown = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="bold")
    shown.add_column("model", no_wrap=True)
    for field in FIELDS.values():
        shown.add_column(field.wide if wide else field.narrow, justify="right", no_wrap=True)
    # Not no_wrap: where there is not room for all, this column alone gives way; what it holds never wraps.
    shown.add_column("waits in")
    for row in rows:
        silent = row.silent_seconds is not None
        cells = ["-" if silent else cell(field, row, wide) for field in FIELDS.values()]
        shown.add_row(screen.plain(row.model), *cells, last_cell(row), style="dim" if silent else "")
    return shown


def cell(field: Field, row: Row, wide: bool) -> str:
    """A number as it is shown."""
    number = field.number(row)
    return "-" if number is None else (field.shown if wide else field.shown_narrow)(number)


def last_cell(row: Row) -> Fitting:
    """What its threads wait in, or since when there is no answer and why."""
    if row.silent_seconds is not None:
        error = row.error or ""
        # The name stands at the beginning of the line.
        reason = screen.plain(error.removeprefix(f"{row.model}: ")).plain
        since = f"no answer for {row.silent_seconds:.0f} s"
        return Fitting((since, reason) if reason else (since,), counts_rest=False)
    calls = row.look.waits if row.look else {}
    return Fitting(tuple(f"{count} {call}" for call, count in calls.items()), counts_rest=True)


@dataclass(frozen=True)
class Fitting:
    """As many of the parts as one line has room for, each whole, and, if it `counts_rest`, how many there are more."""

    parts: tuple[str, ...]
    counts_rest: bool

    def line(self, width: int) -> str:
        """The line, at most `width` long if one part is."""
        for count in range(len(self.parts), 1, -1):
            rest = len(self.parts) - count
            text = ", ".join((*self.parts[:count], *([f"+{rest}"] if rest and self.counts_rest else [])))
            if len(text) <= width:
                return text
        rest = len(self.parts) - 1
        return ", ".join((*self.parts[:1], *([f"+{rest}"] if rest > 0 and self.counts_rest else [])))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.line(options.max_width), no_wrap=True, overflow="ellipsis")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = min(len(", ".join(self.parts)), options.max_width)
        return Measurement(min(len(self.parts[0]) if self.parts else 0, longest), longest)


def as_data(row: Row) -> dict[str, Any]:
    """A row for JSON: what is not known is null."""
    look = row.look if row.silent_seconds is None else None
    return {
        "model": row.model,
        "address": row.address,
        "open": look and look.open,
        "waiting": look and look.waiting,
        "accept_queue": look and look.accept_queue,
        "answers_per_second": look and row.answers_per_second,
        "cpu_percent": look and row.cpu_percent,
        "memory_bytes": look and look.memory_bytes,
        "processes": look and look.processes,
        "threads": look and look.threads,
        "waits": look and dict(look.waits),
        "no_answer_seconds": row.silent_seconds,
        "error": row.error,
    }
