"""The messages between children and their supervisor, over a socket pair."""

from __future__ import annotations

from typing import Any

import msgspec

from iolab.kernel.frames import Frame
from iolab.server.books import Totals

# What a supervisor sends: a question, or the new work dial as JSON.
ASK = b"?"
ASK_FRAMES = b"!"
MESSAGE_BYTES = 65536


class Told(msgspec.Struct, tag=True):
    """A child's totals, sent when the supervisor asks and before the child ends."""

    totals: Totals


class Framed(msgspec.Struct, tag=True):
    """The line of each thread of a child, by its TID: the answer to ASK_FRAMES."""

    frames: dict[int, Frame]


class Trouble(msgspec.Struct, tag=True):
    """A child's warning: the supervisor logs each event at most once a second for all children together."""

    event: str
    fields: dict[str, Any]
