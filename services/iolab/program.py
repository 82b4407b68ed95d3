"""What the programs `iolab` and `iolab-client` have in common: each complaint is one line, whatever their output is.

A standard output that is closed, full, or has few characters costs a line and exit 1 at most; a reader that has left
costs nothing; a standard error that takes nothing costs what it would have said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO

import click
from click.exceptions import NoArgsIsHelpError

from iolab.settings import one_line

# The kernel did not take what was printed.
NOT_TAKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG})
# Characters of a value in a message.
MOST_QUOTED = 60


class Program(click.Group):
    """A group of commands."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command that the command line names, and exit: 2 where that can't be done as it is written."""
        given = (args, prog_name, complete_var)
        if not standalone_mode:
            return super().main(*given, standalone_mode=False, **extra)
        with _prepared_streams(self.name or ""):
            try:
                code = super().main(*given, standalone_mode=False, **extra)
            except NoArgsIsHelpError as error:
                _say(error.format_message())
                sys.exit(error.exit_code)
            except click.UsageError as error:
                path = error.ctx.command_path if error.ctx else self.name
                _say(f"Error: {one_line(error.format_message()).rstrip('.')}; see `{path} --help`")
                sys.exit(error.exit_code)
            except click.ClickException as error:
                _say(f"Error: {one_line(error.format_message())}")
                sys.exit(error.exit_code)
            except click.Abort:
                _say("Aborted!")
                sys.exit(1)
            sys.exit(code if isinstance(code, int) else 0)


class WholeNumber(click.IntRange):
    """A number whose bounds are told also to whoever gives none."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The number. Raises click.BadParameter."""
        try:
            return super().convert(value, parameter, context)
        except click.BadParameter:
            bounds = f"from {self.min} to {self.max}"
            self.fail(f"{shortened(str(value))} is not a whole number {bounds}", parameter, context)


def shortened(text: str) -> str:
    """A value as it is quoted in a message: on one line, and not much of a long one."""
    return repr(text) if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]!r}... ({len(text):,} characters)"


def open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed: the next descriptor would take its number, and its output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the one that was found closed.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python has None in place of those that were closed when it started.
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = os.fdopen(descriptor, "w" if descriptor else "r", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def _prepared_streams(name: str) -> Iterator[None]:
    """What is printed in the block is taken, or a line says why not and the exit is 1. A reader may leave."""
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except SystemExit:
        _flush(sys.stdout, name)
        raise
    except OSError as error:
        if error.errno not in NOT_TAKEN or error.filename is not None:
            raise
        _give_up(error, name)


def _flush(stream: TextIO, name: str) -> None:
    try:
        stream.flush()
    except OSError as error:
        _give_up(error, name)


def _give_up(error: OSError, name: str) -> NoReturn:
    """Say it in a line, unless the reader has left of its own accord; the interpreter shall not try again."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if error.errno != errno.EPIPE:
        _say(f"{name}: standard output: {(error.strerror or str(error)).lower()}")
    sys.exit(1)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
