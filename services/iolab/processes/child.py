"""A child: a server that its supervisor has forked, on a listener of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import Any

import msgspec

from iolab.kernel.threads import start_thread
from iolab.processes.messages import ASK, Books, Trouble
from iolab.registry import Model
from iolab.server.books import Peer
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings

# At its deadline the supervisor cuts all children and says so. Their own is later: it is for one that was told alone.
LATER_SECONDS = 2.0


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

    def watch(self) -> None:
        """Begin to wait for the supervisor: for its signal, its questions and its end."""
        start_thread(self._wait_for_signal, "stop")
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

    def _wait_for_signal(self) -> None:
        # SIGINT stays blocked: a terminal sends it to every process, but the supervisor alone says when to stop.
        signal.sigwait({signal.SIGTERM})
        self.stop.request()
        time.sleep(self.settings.drain_seconds + LATER_SECONDS)
        os._exit(1)

    def _answer_questions(self) -> None:
        with contextlib.suppress(ConnectionError):
            while self._channel.recv(len(ASK)):
                self.tell()
        # The supervisor is gone, and with it what would stop or replace us.
        os._exit(1)
