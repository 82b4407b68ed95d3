"""An output of a server of which a test reads only as much as it wants to."""

from __future__ import annotations

import contextlib
import os
import pty
import termios
from abc import ABC, abstractmethod
from pathlib import Path


class Output(ABC):
    """A stdout or stderr; `path` is where the server opens it."""

    path: str

    def __init__(self, reading: int, writing: int) -> None:
        os.set_blocking(reading, False)
        self._reading = reading
        # Held open: it has no end that the test would read.
        self._writing = writing
        self._text = b""

    def read(self) -> str:
        """All that came until now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reading, 65536):
                self._text += data
        return self._text.decode()

    @abstractmethod
    def hold_back(self) -> None:
        """Have every write block, until `read` or `let_go`."""

    @abstractmethod
    def let_go(self) -> None:
        """Have writes go through again."""

    def close(self) -> None:
        """Close it."""
        os.close(self._reading)
        os.close(self._writing)


class FullPipe(Output):
    """A pipe that has no room."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "pipe")
        os.mkfifo(self.path)
        reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        super().__init__(reading, os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))

    def hold_back(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                # Empty lines, which nobody takes for an event.
                os.write(self._writing, b"\n")

    def let_go(self) -> None:
        self.read()


class StoppedTerminal(Output):
    """A terminal in which somebody presses Ctrl-S."""

    def __init__(self, folder: Path) -> None:
        reading, writing = pty.openpty()
        self.path = os.ttyname(writing)
        super().__init__(reading, writing)

    def hold_back(self) -> None:
        termios.tcflow(self._writing, termios.TCOOFF)

    def let_go(self) -> None:
        termios.tcflow(self._writing, termios.TCOON)
