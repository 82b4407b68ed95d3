"""The option --expect: what a server owes for the bytes it is sent, so that any server can be checked and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from iolab.program import shortened
from iolab_client.results.measurement import NONE, SAME, UPPER

VALUES = 256


class Expect(click.ParamType[str]):
    """`upper`, `same`, `none`, or a file of 256 bytes: the byte at n is what the server makes of byte n."""

    name = "ORACLE"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """The value of a plan's `expect`. Raises click.BadParameter."""
        if value in (UPPER, SAME, NONE):
            return str(value)
        quoted = shortened(str(value))
        try:
            with Path(value).open("rb") as file:
                table = file.read(VALUES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.fail(f"{quoted} is not {UPPER}, {SAME} or {NONE}, nor a file ({reason})", parameter, context)
        if len(table) != VALUES:
            size = f"{len(table)} bytes" if len(table) <= VALUES else f"more than {VALUES}"
            self.fail(f"{quoted} has {size}, expected {VALUES}: one for each value of a byte", parameter, context)
        return table.hex()


option = click.option(
    "--expect",
    type=Expect(),
    default=UPPER,
    show_default=True,
    metavar="upper|same|none|FILE",
    help="What the server makes of each byte: A-Z of a-z; the same; unknown; what a file of 256 bytes says.",
)
