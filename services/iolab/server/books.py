"""The books: what a server counts, for each peer and in total."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import msgspec

from iolab import log


class Silence:
    """How long a number has not changed, as far as repeated looks tell, so that no message costs a clock reading."""

    __slots__ = ("_moved", "_since")

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        """End the silence; it begins anew with the next look."""
        self._moved = -1
        self._since = 0.0

    def seconds(self, now: float, moved: int) -> float:
        """Look once: return the seconds since the number `moved` was first seen, by the clock of `now`."""
        if moved != self._moved:
            self._moved = moved
            self._since = now
        return now - self._since


class Peer:
    """One accepted client and its counters. Only the thread that serves it writes them, so nothing is locked."""

    __slots__ = ("answers", "error", "finishing", "received_bytes", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.answers = 0
        self.received_bytes = 0
        # This side ends it, because it is idle or the server stops; later input is discarded.
        self.finishing = False
        # Why the connection failed, if it did.
        self.error: Exception | None = None

    @property
    def sent_bytes(self) -> int:
        """Bytes of answers given to the kernel, or to a framework. Each kind of peer counts them in its own way."""
        raise NotImplementedError

    def turn(self) -> None:
        """Take over the turned work dial; called by another thread than the serving one.

        Does nothing for a peer whose model reads the dial for each answer.
        """

    def buffered(self) -> int:
        """Bytes counted as sent that the kernel has not taken yet: a framework may hold some."""
        return 0

    @property
    def lost(self) -> bool:
        """Whether it ended by the peer's fault, or for want of an answer, before this side began to end it."""
        return self.error is not None and not self.finishing


class Totals(msgspec.Struct, kw_only=True):
    """Everything counted since the start."""

    accepted: int = 0
    refused: int = 0
    unserved: int = 0
    lost: int = 0
    pauses: int = 0
    answers: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0

    def add(self, more: Totals) -> None:
        """Add another server's totals."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    def add_peer(self, peer: Peer) -> None:
        """Add a peer's counters."""
        self.answers += peer.answers
        self.received_bytes += peer.received_bytes
        self.sent_bytes += peer.sent_bytes - peer.buffered()


class Books:
    """The open connections and the totals. A peer's counters are added when it ends, or when totals are asked for."""

    def __init__(self) -> None:
        self._open: set[Peer] = set()
        self._totals = Totals()
        self._lock = threading.Lock()

    def opened(self, peer: Peer) -> None:
        """Enter an admitted peer: exactly once for each."""
        with self._lock:
            self._open.add(peer)
            self._totals.accepted += 1

    def closed(self, peer: Peer, *, unserved: bool = False) -> None:
        """Fold the counters of a peer into the totals: exactly once for each that was opened."""
        with self._lock:
            self._open.remove(peer)
            self._totals.lost += peer.lost
            self._totals.unserved += unserved
            self._totals.add_peer(peer)
        if peer.lost:
            log.debug("lost", error=str(peer.error))

    def turn_away(self, peer: Peer) -> None:
        """At the stop, close a client that no worker has begun to serve, and take it off the books."""
        peer.sock.close()
        self.closed(peer, unserved=True)

    def refused(self) -> int:
        """Count a refused client; return how many there were."""
        with self._lock:
            self._totals.refused += 1
            return self._totals.refused

    def paused(self) -> None:
        """Count a pause of accepting."""
        with self._lock:
            self._totals.pauses += 1

    def open_count(self) -> int:
        """How many connections are open, including those that wait for a worker."""
        return len(self._open)

    def open_peers(self) -> list[Peer]:
        """The connections that are open at this moment."""
        with self._lock:
            return list(self._open)

    def for_each_open(self, call: Callable[[Peer], object]) -> None:
        """Do `call` for each open connection; none of them can leave the books meanwhile."""
        with self._lock:
            for peer in self._open:
                call(peer)

    def totals(self) -> Totals:
        """The totals, including the connections that are still open."""
        with self._lock:
            totals = msgspec.structs.replace(self._totals)
            for peer in self._open:
                totals.add_peer(peer)
            return totals
