"""Data on stdout, progress on stderr; colours, and lines cut to the width, on a terminal only."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

# Wide enough that a row stays one line for grep and cut.
PIPE_WIDTH = 1000


def console() -> Console:
    """Where data goes."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def print_table(table: Table) -> None:
    """Print a table on stdout."""
    console().print(table)


def print_json(value: object) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2))


def progress() -> Progress:
    """A progress bar on stderr that is gone at the end; nothing where stderr is no terminal."""
    stderr = Console(stderr=True)
    return Progress(console=stderr, transient=True, disable=not stderr.is_terminal)


def plain(text: str, style: str = "") -> Text:
    """Text as it is: no markup, and control characters spelled out, so that an answer cannot drive the terminal."""
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return Text(shown, style=style)
