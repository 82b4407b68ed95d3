"""The books: what a server counts, for each peer and in total."""

from __future__ import annotations

import socket

import msgspec


class Peer:
    """One accepted client and its counters. Whoever serves it is the only one who writes them: nothing is locked."""

    __slots__ = ("_moved", "_silent_since", "answers", "error", "received_bytes", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.answers = 0
        self.received_bytes = 0
        # Why the peer was lost, if it was.
        self.error: Exception | None = None
        self._moved = -1
        self._silent_since = 0.0

    @property
    def sent_bytes(self) -> int:
        """Bytes of answers that were given to the kernel, or to a framework. Each kind of peer counts them its way."""
        raise NotImplementedError

    def buffered(self) -> int:
        """Bytes counted as sent that the kernel has not taken yet: a framework may hold some."""
        return 0

    def silent_for(self, now: float, moved: int) -> float:
        """Seconds since the number `moved` was first seen: no clock is read for a message, only for a look."""
        if moved != self._moved:
            self._moved = moved
            self._silent_since = now
        return now - self._silent_since


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
