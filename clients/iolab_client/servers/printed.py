"""What a server has printed: where it listens, or why it ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

LOOK_SECONDS = 0.01


class NotListening(Exception):
    """A server that does not listen. The message is why, in the server's own words; `printed`: all that it said."""

    def __init__(self, why: str, printed: str) -> None:
        super().__init__(why)
        self.printed = printed


def find_listening(printed: str) -> dict[str, Any] | None:
    """The last `listening` line of a log."""
    for line in reversed(printed.splitlines()):
        if '"event": "listening"' in line:
            with contextlib.suppress(ValueError):
                said: dict[str, Any] = json.loads(line)
                return said
    return None


def last_words(printed: str) -> str:
    """Why a server ended, by its log: the reason that it gives, or its last line."""
    line = next((line for line in reversed(printed.splitlines()) if line.strip()), "")
    with contextlib.suppress(ValueError, AttributeError):
        said = json.loads(line)
        return str(said.get("reason") or said.get("error") or said["event"])
    return line.removeprefix("iolab: ")


def wait_until_listening(ended: Callable[[], int | None], printed: Callable[[], str], seconds: float) -> dict[str, Any]:
    """The `listening` line of a server that was just started, as soon as it is `printed`.

    `ended` is its exit code, None while it runs. Raises NotListening if it ends first, or after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        # Before its log is read: what it has said last is in there.
        code, said = ended(), printed()
        if listening := find_listening(said):
            return listening
        if code is not None:
            raise NotListening(last_words(said) or f"exit {code}, and no word", said)
        if time.monotonic() > deadline:
            raise NotListening(f"not listening within {seconds:g} s: {last_words(said) or 'it said nothing'}", said)
        time.sleep(LOOK_SECONDS)
