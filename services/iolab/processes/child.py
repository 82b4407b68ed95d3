"""A child: a server that its supervisor has forked, on a listener of its own."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import msgspec

from iolab.kernel.threads import start_thread
from iolab.processes.messages import ASK, Told, Trouble
from iolab.registry import Model
from iolab.server.admission import Admission
from iolab.server.books import Books, Peer
from iolab.server.ending import leave
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings


class SharedPlaces:
    """How many connections each child has open, in memory that all share. Each writes its own number: no lock."""

    def __init__(self, counts: memoryview, number: int) -> None:
        self._counts = counts
        self._number = number

    def take(self) -> None:
        """Count one more of ours."""
        self._counts[self._number] += 1

    def give_back(self) -> None:
        """Count one less."""
        self._counts[self._number] -= 1

    def taken(self) -> int:
        """Of all children."""
        return sum(self._counts)


class ChildAdmission(Admission):
    """As Admission, of all children's connections together."""

    places: SharedPlaces

    def admitted(self, sock: socket.socket) -> bool:
        """As Admission has it."""
        # Taken first, then looked: of two children that take the last place at once, neither goes above it.
        self.places.take()
        admitted = super().admitted(sock)
        if not admitted:
            self.places.give_back()
        return admitted

    def _places_taken(self) -> int:
        return self.places.taken() - 1


class ChildBooks(Books):
    """As Books; a place that is free again is free for all children."""

    def __init__(self, places: SharedPlaces) -> None:
        super().__init__()
        self._places = places

    def closed(self, peer: Peer, *, unserved: bool = False) -> None:
        """As Books has it."""
        super().closed(peer, unserved=unserved)
        self._places.give_back()


class ChildServer(Server):
    """What a child's model is given: a server that shares `max_connections` with its siblings."""

    def __init__(
        self, model: Model, settings: Settings, listener: socket.socket, channel: socket.socket, places: SharedPlaces
    ) -> None:
        super().__init__(model, settings, listener, Stop())
        self.books = ChildBooks(places)
        self.admission = admission = ChildAdmission(
            listener, self.limits, self.stop, self.books, self.warn, selects=model.selects
        )
        admission.places = places
        self._channel = channel

    def watch(self, supervisors: Stop) -> None:
        """Begin to wait for the supervisor: for its stop, which was inherited, its questions and its end.

        The signals stay blocked. Those that a terminal or a service manager sends to every process are the
        supervisor's to take: it alone says when to stop, and cuts at the deadline.
        """
        start_thread(self._wait_for_stop, "stop", supervisors)
        start_thread(self._answer_questions, "books")

    def tell(self) -> None:
        """Send the books to the supervisor."""
        self._channel.send(msgspec.json.encode(Told(self.totals())))

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        # Not to stop where the supervisor is suspended.
        with contextlib.suppress(BlockingIOError):
            self._channel.send(msgspec.json.encode(Trouble(event, fields)), socket.MSG_DONTWAIT)

    def _wait_for_stop(self, supervisors: Stop) -> None:
        supervisors.wait()
        self.stop.request()

    def _answer_questions(self) -> None:
        with contextlib.suppress(ConnectionError):
            while self._channel.recv(len(ASK)):
                self.tell()
        # The supervisor is gone, and with it what would stop or replace us.
        leave(1)
