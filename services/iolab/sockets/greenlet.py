"""Ring 1 for greenlets: the conversation of blocking code, where the hub waits in place of the thread."""

from __future__ import annotations

import socket

import gevent

from iolab.server.books import Silence
from iolab.server.server import Server
from iolab.sockets.blocking import Conversation
from iolab.sockets.farewell import moved
from iolab.work import Respond


class GreenConversation(Conversation):
    """A conversation whose reader or writer is a greenlet: the hub wakes it, no signal could."""

    __slots__ = ("_silence",)

    def __init__(self, server: Server, sock: socket.socket, answer: Respond) -> None:
        self._silence = Silence()
        super().__init__(server, sock, answer)

    def interrupt(self) -> None:
        """End the call that waits for the socket, if one does, as if the socket did not block."""
        hub = gevent.get_hub()
        for watcher in (self.sock._read_event, self.sock._write_event):  # type: ignore[attr-defined]
            hub.cancel_wait(watcher, BlockingIOError("interrupted"))

    def look(self, now: float) -> None:
        """One look at it, now and then: interrupt it if no byte moved for `idle_seconds`, by Server.idle_clock."""
        if self._silence.seconds(now, moved(self)) >= self._server.settings.idle_seconds:
            self.interrupt()

    def _limit_silence(self, seconds: float) -> None:
        """Nothing: `look` does it, because a socket that was patched knows no SO_RCVTIMEO."""


def interrupt_idle(server: Server) -> None:
    """One look at all conversations, every Server.sweep_seconds: what an idle one waits for is not coming."""
    now = server.sweep.clock()
    for peer in server.books.open_peers():
        assert isinstance(peer, GreenConversation)
        peer.look(now)
