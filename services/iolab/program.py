"""What the programs `iolab` and `iolab-client` share: each error is one line, whatever state their output is in.

If standard output is closed, full or lacks a character, the program prints one line and exits with 1 at most. If its
reader has left, nothing happens. What standard error does not take is dropped.
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

# Errors by which the kernel refuses output.
NOT_TAKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG})
# How many characters of a value a message shows.
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
        """Run the command named on the command line, and exit; with 2 if the command line is wrong."""
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
    """A number whose bounds are given also in the error for a value that is no number."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The number. Raises click.BadParameter."""
        try:
            return super().convert(value, parameter, context)
        except click.BadParameter:
            bounds = f"from {self.min} to {self.max}"
            self.fail(f"{shortened(str(value))} is not a whole number {bounds}", parameter, context)


def shortened(text: str) -> str:
    """A value as a message quotes it: on one line, and shortened if it is long."""
    return repr(text) if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]!r}... ({len(text):,} characters)"


def open_standard_streams() -> None:
    """Open /dev/null where a standard stream is closed: else the next descriptor takes its number, and its output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # open(2) returns the lowest free number, which is the closed one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python sets streams to None that were closed when it started.
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = os.fdopen(descriptor, "w" if descriptor else "r", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def _prepared_streams(name: str) -> Iterator[None]:
    """Print what the block prints, or say in one line why that failed and exit with 1. The reader may leave."""
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
    """Exit with 1, saying why unless the reader has left; keep the interpreter from flushing stdout again."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if error.errno != errno.EPIPE:
        _say(f"{name}: standard output: {(error.strerror or str(error)).lower()}")
    sys.exit(1)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
