"""A child: a server that its supervisor has forked, on a listener of its own."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import msgspec

from iolab.kernel.threads import start_thread
from iolab.processes.messages import ASK, Books, Trouble
from iolab.registry import Model
from iolab.server.books import Peer
from iolab.server.ending import leave
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings


class ChildServer(Server):
    """What a child's model is given: a server that shares `max_connections` with its siblings."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        listener: socket.socket,
        channel: socket.socket,
        open_counts: memoryview,
        number: int,
    ) -> None:
        super().__init__(model, settings, listener, Stop())
        self._channel = channel
        # Of all children; the one at `number` is ours to write.
        self._open_counts = open_counts
        self._number = number

    def admitted(self, sock: socket.socket) -> bool:
        """As Server has it, of all children's connections together."""
        # Taken first, then looked: of two children that take the last place at once, neither goes above it.
        self._open_counts[self._number] += 1
        admitted = super().admitted(sock)
        if not admitted:
            self._open_counts[self._number] -= 1
        return admitted

    def closed(self, peer: Peer, *, unserved: bool = False) -> None:
        """As Server has it."""
        super().closed(peer, unserved=unserved)
        self._open_counts[self._number] -= 1

    def watch(self, supervisors: Stop) -> None:
        """Begin to wait for the supervisor: for its stop, which was inherited, its questions and its end.

        The signals stay blocked. Those that a terminal or a service manager sends to every process are the
        supervisor's to take: it alone says when to stop, and cuts at the deadline.
        """
        start_thread(self._wait_for_stop, "stop", supervisors)
        start_thread(self._answer_questions, "books")

    def tell(self) -> None:
        """Send the books to the supervisor."""
        self._channel.send(msgspec.json.encode(Books(self.totals())))

    def _places_taken(self) -> int:
        return sum(self._open_counts) - 1

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
