"""`metrics`: the numbers of a server."""

from __future__ import annotations

from collections.abc import Sequence

import click
from prometheus_client import Metric
from rich.table import Table

from iolab.registry import Model
from iolab_client.servers import admin
from iolab_client.servers.address import Address
from iolab_client.servers.targets import Wanted, resolve_admin
from iolab_client.terminal import screen


@click.command("metrics")
@click.argument("wanted", metavar="MODEL|HOST:PORT", type=Wanted())
@click.option("--raw", is_flag=True, help="Print the Prometheus text as it is served.")
def command(wanted: Model | Address, raw: bool) -> None:
    """Show the metrics of MODEL: connections, answers, bytes, its process, its limits and settings."""
    target = resolve_admin(wanted)
    if raw:
        click.echo(admin.fetch(target, "/metrics"), nl=False)
    else:
        screen.print_table(table(admin.metrics(target)))


def table(families: Sequence[Metric]) -> Table:
    """One row for each sample; what all have in common, the model, is left out."""
    shown = Table("metric", "labels")
    shown.add_column("value", justify="right")
    shown.add_column("help")
    for family in families:
        for sample in family.samples:
            labels = {key: text for key, text in sorted(sample.labels.items()) if key != "model"}
            if sample.name.endswith("_info"):
                # Its value is always 1; what it tells stands in the labels.
                for key, text in labels.items():
                    shown.add_row(sample.name, key, screen.plain(text), family.documentation)
                continue
            number = int(sample.value) if float(sample.value).is_integer() else sample.value
            text = ", ".join(f"{key}={text}" for key, text in labels.items())
            shown.add_row(sample.name, screen.plain(text), f"{number:,}", family.documentation)
    return shown
