"""A run, or two, as tables of a terminal: at 80 columns each row is one line.

What does not fit beside the numbers stands below the table. Where stdout is no terminal everything is in the row, so
that grep finds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from iolab_client.report.versus import Pair, Versus
from iolab_client.report.words import case_in_words, effect_in_words, middle, range_of
from iolab_client.results.measurement import VALID
from iolab_client.results.summary import Cell, Interval, Summary
from iolab_client.terminal import screen

# From here on there is room for all columns.
WIDE = 170
STYLES = {"better": "green", "worse": "bold red", "not judged": "yellow", "not told apart": "dim"}


@dataclass(frozen=True)
class Column:
    """A heading, what stands below it, and whether it does so on a narrow terminal too."""

    name: str
    text: Callable[[Cell], str]
    always: bool = True
    left: bool = False


def _kibibytes(value: Interval | None) -> str:
    return f"{value.median / 1024:,.1f}" if value else middle(None)


def _switches(cell: Cell) -> str:
    return f"{middle(cell.voluntary_switches)} + {middle(cell.involuntary_switches)}"


COLUMNS = (
    Column("#", lambda cell: str(cell.rank or "")),
    Column("model", lambda cell: cell.subject, left=True),
    Column("answers/s", lambda cell: middle(cell.rate)),
    Column("interval", lambda cell: range_of(cell.rate), always=False),
    Column("by rate", lambda cell: middle(cell.share_by_rate), always=False),
    Column("by cost", lambda cell: middle(cell.share_by_cost)),
    Column("CPU-µs", lambda cell: middle(cell.cost)),
    Column("p50", lambda cell: middle(cell.p50)),
    Column("p90", lambda cell: middle(cell.p90), always=False),
    Column("p99", lambda cell: middle(cell.p99)),
    Column("p99.9", lambda cell: middle(cell.p99_9), always=False),
    Column("max", lambda cell: middle(cell.max), always=False),
    Column("switches", _switches, always=False),
    Column("KiB", lambda cell: _kibibytes(cell.memory_bytes), always=False),
    Column("KiB/conn", lambda cell: _kibibytes(cell.memory_per_connection), always=False),
    Column("answered", lambda cell: f"{middle(cell.answered_connections)}/{cell.case.connections:,}", always=False),
)


def show(summary: Summary) -> None:
    """A table for each load, the best first."""
    console = screen.console()
    in_row = console.width >= screen.PIPE_WIDTH
    console.print("#: the place; by cost: share of the yardstick's; times in µs", style="dim")
    for case in dict.fromkeys(cell.case for cell in summary.cells):
        cells = ranked([cell for cell in summary.cells if cell.case == case])
        console.print(table(cells, wide=console.width >= WIDE, reasons=in_row))
        for cell in cells:
            if cell.verdict.word != VALID and not in_row:
                console.print(screen.plain(f"{cell.subject} is {cell.verdict.word}: {cell.verdict.reason}", "yellow"))
        console.print()
    for one in summary.null:
        console.print(
            screen.plain(
                f"{one.subject} twice, {case_in_words(one.case)}: {range_of(one.ratio)} of itself, by chance alone"
            )
        )
    for note in dict.fromkeys(cell.share_note for cell in summary.cells if cell.share_note):
        console.print(screen.plain(note))


def ranked(cells: Sequence[Cell]) -> list[Cell]:
    """By place; then those that have none."""
    return sorted(cells, key=lambda cell: (cell.rank is None, cell.rank or 0, -cell.rate.median))


def table(cells: Sequence[Cell], *, wide: bool, reasons: bool) -> Table:
    """The cells of one load, with the `reasons` of their verdicts or without. Latencies and costs are microseconds."""
    columns = [column for column in COLUMNS if column.always or wide]
    shown = _empty(case_in_words(cells[0].case))
    for column in columns:
        shown.add_column(column.name, justify="left" if column.left else "right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for cell in cells:
        valid = cell.verdict.word == VALID
        verdict = f"{cell.verdict.word}: {cell.verdict.reason}" if reasons and not valid else cell.verdict.word
        row = [screen.plain(column.text(cell)) for column in columns]
        shown.add_row(*row, screen.plain(verdict, "" if valid else "yellow"))
    return shown


def show_versus(found: Versus) -> None:
    """Two runs: a table for each load, then what only one has, and what else is different."""
    console = screen.console()
    in_row = console.width >= screen.PIPE_WIDTH
    console.print("shares of the yardstick's; the effect: the second's over the first's", style="dim")
    for case in dict.fromkeys(pair.case for pair in found.pairs):
        pairs = [pair for pair in found.pairs if pair.case == case]
        console.print(versus_table(pairs, reasons=in_row))
        for pair in pairs:
            if pair.doubt and not in_row:
                console.print(screen.plain(f"{pair.subject} is not judged: {pair.doubt}", "yellow"))
        console.print()
    for which, cells in (("first", found.only_first), ("second", found.only_second)):
        for subject, case in cells:
            console.print(screen.plain(f"only in the {which}: {subject}, {case_in_words(case)}"))
    for name, one, other in found.differences:
        console.print(screen.plain(f"different: {name}: {one} / {other}"))


def versus_table(pairs: Sequence[Pair], *, reasons: bool) -> Table:
    """What changed under one load, as shares of the yardstick's."""
    shown = _empty(case_in_words(pairs[0].case))
    for name in ("subject", "share"):
        shown.add_column(name, no_wrap=True)
    for name in ("first", "second", "effect"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("change", no_wrap=True)
    for pair in pairs:
        for change in pair.changes:
            shown.add_row(
                screen.plain(pair.subject),
                change.name,
                middle(change.first),
                middle(change.second),
                effect_in_words(change.effect),
                screen.plain(
                    f"{change.word}: {pair.doubt}" if pair.doubt and reasons else change.word, STYLES[change.word]
                ),
            )
    return shown


def _empty(title: str) -> Table:
    return Table(
        title=screen.plain(title),
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="dim",
    )
