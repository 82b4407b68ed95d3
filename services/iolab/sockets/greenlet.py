"""Ring 1 for greenlets: the conversation of blocking code, with gevent's hub waiting in place of a thread."""

from __future__ import annotations

import socket

import gevent

from iolab.server.books import Silence
from iolab.server.server import Server
from iolab.sockets.blocking import Conversation
from iolab.sockets.farewell import moved
from iolab.work import Respond


class GreenConversation(Conversation):
    """A conversation in a greenlet: the hub can wake it, a signal cannot."""

    __slots__ = ("_silence",)

    def __init__(self, server: Server, sock: socket.socket, answer: Respond) -> None:
        self._silence = Silence()
        super().__init__(server, sock, answer)
        self._receive_at_most = self._wait_and_receive

    def interrupt(self) -> None:
        """End the call that waits for the socket, if there is one, as if the socket did not block."""
        hub = gevent.get_hub()
        for watcher in (self.sock._read_event, self.sock._write_event):  # type: ignore[attr-defined]
            hub.cancel_wait(watcher, BlockingIOError("interrupted"))

    def look(self, now: float) -> None:
        """Interrupt the conversation if no byte moved for `idle_seconds`; `now` is by IdleSweep.clock."""
        if self._silence.seconds(now, moved(self)) >= self._server.settings.idle_seconds:
            self.interrupt()

    def _wait_and_receive(self, size: int) -> bytes:
        """Yield to the hub even if bytes are there, so that other ready greenlets run between two answers.

        gevent's own recv first tries to read, so a client that always has sent more would keep the thread to itself.
        """
        self.sock._wait(self.sock._read_event)  # type: ignore[attr-defined]
        return self.sock.recv(size)

    def _limit_silence(self, seconds: float) -> None:
        """Do nothing: `look` limits it, because gevent's sockets know no SO_RCVTIMEO."""


def interrupt_idle(server: Server) -> None:
    """Interrupt the conversations that are idle; called every IdleSweep.seconds."""
    now = server.sweep.clock()
    for peer in server.books.open_peers():
        assert isinstance(peer, GreenConversation)
        peer.look(now)
