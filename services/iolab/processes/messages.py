"""The messages between children and their supervisor, over a socket pair."""

from __future__ import annotations

from typing import Any

import msgspec

from iolab.server.books import Totals

ASK = b"?"
MESSAGE_BYTES = 65536


class Told(msgspec.Struct, tag=True):
    """A child's totals, sent when the supervisor asks and before the child ends."""

    totals: Totals


class Trouble(msgspec.Struct, tag=True):
    """A child's warning: the supervisor logs each event at most once a second for all children together."""

    event: str
    fields: dict[str, Any]
