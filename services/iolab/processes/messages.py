"""What children and their supervisor say to each other, a message at a time over a socket pair."""

from __future__ import annotations

from typing import Any

import msgspec

from iolab.server.books import Totals

ASK = b"?"
MESSAGE_BYTES = 65536


class Told(msgspec.Struct, tag=True):
    """What a child says when it is asked, and before it ends."""

    totals: Totals


class Trouble(msgspec.Struct, tag=True):
    """What a child has to warn of: the supervisor logs it, each event once a second at most for all of them."""

    event: str
    fields: dict[str, Any]
