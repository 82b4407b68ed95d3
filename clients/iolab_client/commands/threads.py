"""`threads`: what every thread of a server is waiting in."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from iolab.registry import Model
from iolab_client.servers import admin
from iolab_client.servers.address import Address
from iolab_client.servers.targets import Wanted, resolve_admin
from iolab_client.terminal import screen


@click.command("threads")
@click.argument("wanted", metavar="MODEL|HOST:PORT", type=Wanted())
@click.option("--json", "as_json", is_flag=True, help="Print what the server says, as JSON.")
def command(wanted: Model | Address, as_json: bool) -> None:
    """Show the threads of MODEL: what each waits in, what it has cost, how often it was switched away."""
    target = resolve_admin(wanted)
    photograph = admin.threads(target)
    if as_json:
        screen.print_json(photograph)
    else:
        screen.print_table(table(photograph))


def table(photograph: dict[str, Any]) -> Table:
    """One row for each thread, as /threads tells of it."""
    shown = Table("process", "thread", "state", "waits in", title=photograph["model"], title_justify="left")
    for heading in ("CPU (s)", "voluntary switches", "involuntary switches"):
        shown.add_column(heading, justify="right")
    for process in photograph["processes"]:
        name = f"{process['name']} {process['pid']}"
        for thread in process["threads"]:
            shown.add_row(
                screen.plain(name),
                screen.plain(thread["name"]),
                thread["state"],
                thread["syscall"],
                f"{thread['cpu_seconds']:.2f}",
                f"{thread['voluntary_switches']:,}",
                f"{thread['involuntary_switches']:,}",
            )
    return shown
