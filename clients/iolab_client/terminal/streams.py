"""Standard output and error, whatever they were made: closed, full, or of an encoding that has few characters."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# The kernel did not take what was printed.
NOT_TAKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG})


@contextmanager
def prepared() -> Iterator[None]:
    """What is printed in the block is taken, or a line says why not and the exit is 1. A reader may leave."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            # Closed by whoever started us: there is nobody to tell.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except SystemExit:
        _flush()
        raise
    except OSError as error:
        if error.errno not in NOT_TAKEN or error.filename is not None:
            raise
        _give_up(error)
    _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up(error)


def _give_up(error: OSError) -> None:
    """Say it in a line, unless the reader has left of its own accord; the interpreter shall not try again."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if error.errno != errno.EPIPE:
        print(f"iolab-client: standard output: {(error.strerror or str(error)).lower()}", file=sys.stderr)
    raise SystemExit(1) from None
