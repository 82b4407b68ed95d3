"""A child: a server that its supervisor has forked, with its own listener."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import msgspec

from iolab.kernel.threads import start_thread
from iolab.processes.messages import ASK, ASK_FRAMES, MESSAGE_BYTES, Framed, Told, Trouble
from iolab.registry import Model
from iolab.server.admission import Admission
from iolab.server.books import Books, Peer
from iolab.server.ending import leave
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings, WorkDial


class SharedPlaces:
    """How many connections each child has open, in shared memory. Each writes only its own entry: no lock."""

    def __init__(self, counts: memoryview, number: int) -> None:
        self._counts = counts
        self._number = number

    def take(self) -> None:
        """Count one more connection of this child."""
        self._counts[self._number] += 1

    def give_back(self) -> None:
        """Count one connection less."""
        self._counts[self._number] -= 1

    def taken(self) -> int:
        """The open connections of all children."""
        return sum(self._counts)


class ChildAdmission(Admission):
    """As Admission, with the limit on all children's connections together."""

    places: SharedPlaces

    def admitted(self, sock: socket.socket) -> bool:
        """As in Admission."""
        # Count first, then check: if two children take the last place at once, the limit still holds.
        self.places.take()
        admitted = super().admitted(sock)
        if not admitted:
            self.places.give_back()
        return admitted

    def _places_taken(self) -> int:
        return self.places.taken() - 1


class ChildBooks(Books):
    """As Books; a freed place is free for all children."""

    def __init__(self, places: SharedPlaces) -> None:
        super().__init__()
        self._places = places

    def closed(self, peer: Peer, *, unserved: bool = False) -> None:
        """As in Books."""
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

        The signals stay blocked. A terminal or a service manager sends them to every process, but the supervisor alone
        decides when to stop, and cuts at the deadline.
        """
        start_thread(self._wait_for_stop, "stop", supervisors)
        start_thread(self._answer_questions, "books")

    def tell(self) -> None:
        """Send the totals to the supervisor."""
        self._channel.send(msgspec.json.encode(Told(self.totals())))

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        # Without waiting: the supervisor may be suspended.
        with contextlib.suppress(BlockingIOError):
            self._channel.send(msgspec.json.encode(Trouble(event, fields)), socket.MSG_DONTWAIT)

    def _wait_for_stop(self, supervisors: Stop) -> None:
        supervisors.wait()
        self.stop.request()

    def _answer_questions(self) -> None:
        with contextlib.suppress(ConnectionError):
            while said := self._channel.recv(MESSAGE_BYTES):
                if said == ASK:
                    self.tell()
                elif said == ASK_FRAMES:
                    self._channel.send(msgspec.json.encode(Framed(self.frames())))
                else:
                    self.turn(msgspec.json.decode(said, type=WorkDial))
        # The supervisor is gone, and nothing else would stop or replace this child.
        leave(1)
