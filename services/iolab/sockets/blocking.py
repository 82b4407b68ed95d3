"""Ring 1 for blocking code: one client from its first byte to its last, in a thread or greenlet of its own."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

from iolab.server.books import Peer
from iolab.server.errors import BUGS
from iolab.server.server import DRAIN_TICK, Server
from iolab.server.stop import WAKE
from iolab.sockets.farewell import begin_farewell, finished, unacknowledged, unread
from iolab.work import NoAnswer, Respond


class Conversation(Peer):
    """One accepted blocking socket: recv, answer, send, until the connection ends.

    A send that blocks is the back-pressure: nothing is read meanwhile, so at most one read is owed.
    """

    __slots__ = ("_answer", "_read_size", "_receive_at_most", "_server", "_thread", "sent_bytes")

    sent_bytes: int
    _receive_at_most: Callable[[int], bytes]

    def __init__(self, server: Server, sock: socket.socket, answer: Respond) -> None:
        super().__init__(sock)
        self.sent_bytes = 0
        self._server = server
        self._answer = answer
        self._receive_at_most = sock.recv
        self._read_size = server.settings.buffer_size
        # The thread that blocks on the socket; None while the client waits for a worker.
        self._thread: int | None = None
        server.books.opened(self)

    def run(self) -> None:
        """Serve the client in this thread to its end, then close the socket and take it off the books."""
        self._thread = threading.get_ident()
        try:
            if self._server.settings.idle_seconds:
                self._limit_silence(self._server.settings.idle_seconds)
            while not self._server.stop.requested and (data := self._receive()):
                self._reply(data)
            if self._server.stop.requested:
                self._drain()
        except OSError as error:
            if error.errno in BUGS:
                raise
            self.error = error
        except NoAnswer as error:
            self.error = error
            self._server.warn("no_answer", reason=str(error))
        finally:
            # The socket first: once the books are empty the process may end, and only closed sockets are waited for.
            self.sock.close()
            self._server.books.closed(self)

    def turn(self) -> None:
        """As in Peer. With a work dial no peer's messages are taken for small: see Server.read_size."""
        self._answer = self._server.answer
        self._read_size = self._server.read_size(self._read_size)

    def interrupt(self) -> None:
        """Wake the thread that blocks in recv(2) or send(2), so that it sees the stop.

        The signal ends the call with EINTR, and Python repeats it on a socket that no longer blocks. Shutting down the
        reading side would also wake it, but then Linux answers data after our FIN with an RST: RFC 1122, 4.2.2.13.
        """
        if self._thread is not None:
            # Its own thread may have closed the socket a moment ago.
            with contextlib.suppress(OSError):
                self.sock.setblocking(False)
                signal.pthread_kill(self._thread, WAKE)

    def _receive(self) -> bytes:
        """The next bytes; b"" at the peer's FIN, at the stop, and after `idle_seconds` without traffic."""
        idle_seconds = self._server.settings.idle_seconds
        while True:
            in_flight = unacknowledged(self.sock) if idle_seconds else 0
            try:
                return self._receive_at_most(self._read_size)
            except BlockingIOError:
                if self._server.stop.requested:
                    return b""
                # Idle, unless bytes came just as the time ran out, or the peer is still taking answers out of the
                # kernel's buffer.
                if not unread(self.sock) and unacknowledged(self.sock) == in_flight:
                    return b""

    def _reply(self, data: bytes) -> None:
        self.received_bytes += len(data)
        answer = self._answer(data)
        self.answers += 1
        if self.answers == 1 or len(data) == self._read_size:
            self._read_size = self._server.read_size(len(data))
        sent = self._send(answer)
        while sent < len(answer):
            sent += self._send(memoryview(answer)[sent:])

    def _send(self, rest: bytes | memoryview) -> int:
        """Wait for room and send; return how many bytes went. Raises BlockingIOError after `idle_seconds`."""
        try:
            sent = self.sock.send(rest)
        except BlockingIOError:
            if not self._server.stop.requested:
                self.finishing = True
                raise
            # Interrupted by the stop: the answer is still owed, and the stop's deadline bounds the wait.
            self.sock.setblocking(True)
            return 0
        self.sent_bytes += sent
        return sent

    def _drain(self) -> None:
        """Serve the client until it is quiet, then half-close."""
        last_byte = self._server.stop.requested_at
        while True:
            self.sock.setblocking(False)
            try:
                data = self.sock.recv(self._read_size)
            except BlockingIOError:
                if time.monotonic() - last_byte >= self._server.settings.drain_quiet_seconds:
                    break
                time.sleep(DRAIN_TICK)
                continue
            if not data:
                return
            self._reply(data)
            last_byte = time.monotonic()
        begin_farewell(self.sock)
        while not finished(self.sock):
            time.sleep(DRAIN_TICK)

    def _limit_silence(self, seconds: float) -> None:
        """Make recv and send give up after `seconds`. `settimeout` would put a poll(2) before every call."""
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def interrupt(server: Server) -> None:
    """After the stop was requested, wake every thread that blocks for a client."""

    def wake(peer: Peer) -> None:
        assert isinstance(peer, Conversation)
        peer.interrupt()

    server.books.for_each_open(wake)
