"""Keys, one by one, and signals as something to wait for: who owns the screen leaves it in order."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator

# What is waited for beside keys: the stop of a container, Ctrl-C, and a window that got another size.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGWINCH)


class Keys:
    """Gives keys and signals as they come. `listening` makes it."""

    def __init__(self, signals: int, stdin: int | None) -> None:
        self._signals = signals
        self._stdin = stdin

    def wait(self, seconds: float) -> list[str | signal.Signals]:
        """The keys and signals of the next moment; none if none came within `seconds`."""
        sources = [self._signals] if self._stdin is None else [self._signals, self._stdin]
        ready, _, _ = select.select(sources, [], [], seconds)
        came: list[str | signal.Signals] = []
        if self._signals in ready:
            came += [signal.Signals(number) for number in os.read(self._signals, 64)]
        if self._stdin in ready:
            keys = os.read(sys.stdin.fileno(), 64)
            came += keys.decode("ascii", "replace")
            if not keys:
                # The terminal has gone, or there will be no more; it would be ready for ever.
                self._stdin = None
        return came


@contextlib.contextmanager
def listening() -> Iterator[Keys]:
    """Keys without Enter and unseen, where stdin is a terminal; both it and the signals are as before at the end.

    For the main thread: others get no signals.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, lambda number, frame: None) for number in SIGNALS}
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    stdin = sys.stdin.fileno() if sys.stdin.isatty() else None
    modes = None if stdin is None else termios.tcgetattr(stdin)
    try:
        if stdin is not None:
            tty.setcbreak(stdin)
        yield Keys(reader, stdin)
    finally:
        if stdin is not None and modes is not None:
            # What was typed meanwhile was meant for this program, not for the shell.
            termios.tcsetattr(stdin, termios.TCSAFLUSH, modes)
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
