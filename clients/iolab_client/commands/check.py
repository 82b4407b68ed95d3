"""`check`: hold running servers to the contract, as a user would."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table
from rich.text import Text

from iolab.registry import Model
from iolab_client.contract.check import DEADLINE_SECONDS, FAIL, OK, UNSEEN, Verdicts, check, checkers
from iolab_client.contract.clauses import CLAUSES
from iolab_client.contract.expect import option as expect_option
from iolab_client.contract.payload import Oracle
from iolab_client.results import units
from iolab_client.servers.address import Address
from iolab_client.servers.targets import Target, Wanted, resolve
from iolab_client.terminal import screen

STYLES = {OK: "green", FAIL: "bold red", UNSEEN: "dim"}
# Below this a column is hard to read: the models that do not fit beside each other get a table of their own.
COLUMN_WIDTH = 18


@click.command("check")
@click.argument("wanted", metavar="[MODEL|HOST:PORT]...", nargs=-1, type=Wanted())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which also tells why something can't be seen.")
@expect_option
@click.option(
    "--deadline",
    "deadline_seconds",
    type=units.Duration(),
    default=f"{DEADLINE_SECONDS:g}s",
    show_default=True,
    help="Time without an answer that counts as none; the server's work dial comes on top.",
)
def command(wanted: tuple[Model | Address, ...], as_json: bool, expect: str, deadline_seconds: float) -> None:
    """Hold each model (all if none is named) to the contract, and print a matrix of clauses and models.

    Exits 1 if any clause is broken. Where a pool serves the clients, three connections at most are held.
    """
    targets = resolve(wanted)
    oracle = Oracle(expect)
    with screen.progress() as progress, checkers() as pool:
        task = progress.add_task("check", total=len(targets) * len(CLAUSES))

        def judged(target: Target) -> Verdicts:
            def tell(clause: str) -> None:
                progress.update(task, advance=1, description=f"{target.name} {clause}")

            return check(target, deadline_seconds, tell, oracle)

        names = [target.name for target in targets]
        verdicts = dict(zip(names, pool.map(judged, targets), strict=True))
    if as_json:
        addresses = {target.name: target.shown_address for target in targets}
        screen.print_json(
            [{"model": name, "address": addresses[name], "clauses": cells} for name, cells in verdicts.items()]
        )
    else:
        print_matrix(verdicts)
    if any(cell.startswith(FAIL) for cells in verdicts.values() for cell in cells.values()):
        raise SystemExit(1)


def print_matrix(verdicts: dict[str, Verdicts]) -> None:
    """Clauses down, models across, as many in one table as are readable side by side."""
    console = screen.console()
    names = list(verdicts)
    across = max(1, (console.width - COLUMN_WIDTH) // COLUMN_WIDTH)
    for first in range(0, len(names), across):
        console.print(matrix(verdicts, names[first : first + across]))


def matrix(verdicts: dict[str, Verdicts], names: Sequence[str]) -> Table:
    """One table. Why something can't be seen is the same in most cells and left to JSON."""
    table = Table("clause", *names)
    for clause in CLAUSES:
        cells = (verdicts[name][clause.__name__] for name in names)
        table.add_row(clause.__name__, *(cell_text(cell) for cell in cells))
    return table


def cell_text(cell: str) -> Text:
    """A verdict in its colour."""
    shown = UNSEEN if cell.startswith(UNSEEN) else cell
    style = next(style for start, style in STYLES.items() if cell.startswith(start))
    return screen.plain(shown, style)
