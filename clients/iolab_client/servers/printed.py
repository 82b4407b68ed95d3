"""What a server has printed: where it listens, or why it ended."""

from __future__ import annotations

import contextlib
import json
from typing import Any


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
