"""The books: what a server counts, for each peer and in total."""

from __future__ import annotations

import socket

import msgspec


class Silence:
    """How long a number has stood still, as far as repeated looks tell: no clock is read for a message."""

    __slots__ = ("_moved", "_since")

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        """It begins anew with the next look."""
        self._moved = -1
        self._since = 0.0

    def seconds(self, now: float, moved: int) -> float:
        """One look: seconds since the number `moved` was first seen, by the clock that tells `now`."""
        if moved != self._moved:
            self._moved = moved
            self._since = now
        return now - self._since


class Peer:
    """One accepted client and its counters. Whoever serves it is the only one who writes them: nothing is locked."""

    __slots__ = ("answers", "error", "finishing", "received_bytes", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.answers = 0
        self.received_bytes = 0
        # This side ends it, because it is idle or the server stops: what still comes is thrown away.
        self.finishing = False
        # Why it broke, if it did.
        self.error: Exception | None = None

    @property
    def sent_bytes(self) -> int:
        """Bytes of answers that were given to the kernel, or to a framework. Each kind of peer counts them its way."""
        raise NotImplementedError

    def buffered(self) -> int:
        """Bytes counted as sent that the kernel has not taken yet: a framework may hold some."""
        return 0

    @property
    def lost(self) -> bool:
        """Whether it ended by a fault of the peer, or for want of an answer; not after this side had ended it."""
        return self.error is not None and not self.finishing


class Totals(msgspec.Struct, kw_only=True):
    """The books: all that has happened since the start."""

    accepted: int = 0
    refused: int = 0
    unserved: int = 0
    lost: int = 0
    pauses: int = 0
    answers: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


def _add(totals: Totals, peer: Peer) -> None:
    totals.answers += peer.answers
    totals.received_bytes += peer.received_bytes
    totals.sent_bytes += peer.sent_bytes - peer.buffered()
