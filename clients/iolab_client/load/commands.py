"""The messages between a process of the generator and its parent: lines on its standard input and output."""

from __future__ import annotations

import os
import sys


class Commands:
    """Standard input, line by line, and standard output. The end of the input means that the parent is gone."""

    def __init__(self) -> None:
        self._rest = b""

    def fileno(self) -> int:
        """The descriptor of standard input."""
        return 0

    def read(self) -> list[str]:
        """The lines that have come; waits if none has. Raises SystemExit at the end of the input."""
        data = os.read(0, 1 << 16)
        if not data:
            sys.exit("the parent is gone")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode() for line in lines]

    def wait(self) -> str:
        """Wait for the next line. The parent sends one line at a time."""
        lines: list[str] = []
        while not lines:
            lines = self.read()
        return lines[0]

    def say(self, text: str) -> None:
        """Send a line to the parent."""
        data = text.encode() + b"\n"
        while data:
            data = data[os.write(1, data) :]
