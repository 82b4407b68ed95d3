"""Ring 1 for completions: one accepted socket whose bytes the kernel moves by itself, and says when it has."""

from __future__ import annotations

import errno
import os
import socket

from iolab import io_uring
from iolab.connection import BUGS, LoopPeer
from iolab.io_uring import Ring
from iolab.server import Server

# What an operation is for: the last bits of its number, before which stands the descriptor.
RECEIVE, SEND, WAIT = 0, 1, 2
KIND_BITS = 2
KINDS = (1 << KIND_BITS) - 1


class CompletionConnection(LoopPeer):
    """Has one receive and one send in flight at most, and submits the next with the completion of the last.

    While more than `high_water` bytes are owed, and after the peer's FIN, nothing is received. The kernel sends from
    the answer itself: it has to stay until that is done, and the socket open until nothing is in flight any more.
    """

    __slots__ = (
        "_cancelled",
        "_high_water",
        "_operation",
        "_owed",
        "_peer_finished",
        "_point",
        "_receive",
        "_receiving",
        "_respond",
        "_ring",
        "_send",
        "_sending",
        "_sent",
        "_submit",
        "_unanswered",
        "_wait",
        "_wait_time",
        "_waits",
    )

    def __init__(self, server: Server, sock: socket.socket, ring: Ring) -> None:
        super().__init__(server, sock)
        self._ring = ring
        self._submit = ring.submit
        self._point = io_uring.point
        self._waits = server.session.wait_seconds > 0
        self._respond = server.session.respond
        self._high_water = server.settings.high_water
        descriptor = sock.fileno()
        self._operation = descriptor << KIND_BITS
        self._receive = io_uring.receive(descriptor, self._operation | RECEIVE)
        self._send = io_uring.send(descriptor, self._operation | SEND)
        self._wait_time = io_uring.timespec(server.session.wait_seconds)
        self._wait = io_uring.timeout(self._wait_time, self._operation | WAIT)
        # In flight: a receive; an answer that is sent, the first bytes of it already; input whose answer waits.
        self._receiving = False
        self._sending: bytes | None = None
        self._sent = 0
        self._unanswered: bytes | None = None
        # The answers behind the one that is sent.
        self._owed: bytearray | None = None
        self._peer_finished = False
        self._cancelled = False
        server.opened(self)
        self._receive_more()

    def advance(self, kind: int, result: int, flags: int) -> bool:
        """Go on with what an operation came to. False: nothing is in flight any more, it is over and to be closed.

        Raises OSError only for what no peer can cause.
        """
        if self._cancelled:
            self._give_up(kind, flags)
        elif kind == SEND:
            self._has_sent(result)
        elif kind == RECEIVE:
            self._has_received(result, flags)
        elif self._unanswered is not None:
            data, self._unanswered = self._unanswered, None
            self._answer(data)
        return self._receiving or self._sending is not None or self._unanswered is not None

    def cancel(self) -> None:
        """End it: the kernel gives up what is in flight, and `advance` is False with the last of it."""
        if not self._cancelled:
            self._cancelled = True
            for kind in (RECEIVE, SEND, WAIT):
                self._submit(io_uring.cancel(self._operation | kind))

    def is_idle(self, now: float) -> bool:
        """As every LoopPeer; the time that an answer takes is not the peer's silence."""
        if self._unanswered is not None:
            self._moved = -1
        return super().is_idle(now)

    def _owes(self) -> bool:
        return self._sending is not None or self._unanswered is not None

    def _has_received(self, result: int, flags: int) -> None:
        if result > 0:
            data = self._ring.take(flags, result)
            self.received_bytes += result
            if self._sending is None and result <= self._high_water and not self._waits and not self._finishing:
                # Nearly always; all in one place, because each call costs a hundredth of the answer.
                self._sending = answer = self._respond(data)
                self.answers += 1
                self._point(self._send, answer)
                self._submit(self._send)
                self._submit(self._receive)
                return
            self._receiving = False
            if self._finishing:
                self._receive_more()
            elif self._waits:
                # Nothing is received meanwhile: one answer at a time keeps their order.
                self._unanswered = data
                self._submit(self._wait)
            else:
                self._answer(data)
            return
        self._receiving = False
        if result == 0:
            self._peer_finished = True
        elif result == -errno.ENOBUFS:
            # More peers had sent than there are buffers; with the next wait the kernel has them back.
            self._receive_more()
        else:
            self._fail(-result)

    def _answer(self, data: bytes) -> None:
        answer = self._respond(data)
        self.answers += 1
        if self._sending is None:
            self._sending = answer
            self._send_more()
        elif self._owed is None:
            self._owed = bytearray(answer)
        else:
            self._owed += answer
        self._receive_below_high_water()

    def _has_sent(self, result: int) -> None:
        assert self._sending is not None
        if result < 0:
            self._sending = None
            self._fail(-result)
            return
        self.sent_bytes += result
        self._sent += result
        if self._sent < len(self._sending):
            self._send_more()
        else:
            self._sent = 0
            self._sending = None
            if self._owed is not None:
                self._sending, self._owed = bytes(self._owed), None
                self._send_more()
        if not (self._receiving or self._peer_finished or self._unanswered):
            self._receive_below_high_water()

    def _send_more(self) -> None:
        assert self._sending is not None
        io_uring.point(self._send, self._sending, self._sent)
        self._submit(self._send)

    def _receive_below_high_water(self) -> None:
        owed = len(self._sending or b"") - self._sent + len(self._owed or b"")
        if owed <= self._high_water:
            self._receive_more()

    def _receive_more(self) -> None:
        self._receiving = True
        self._submit(self._receive)

    def _fail(self, number: int) -> None:
        self.error = OSError(number, os.strerror(number))
        if number in BUGS:
            raise self.error
        self.cancel()

    def _give_up(self, kind: int, flags: int) -> None:
        if kind == RECEIVE:
            self._receiving = False
            if flags & io_uring.HAS_BUFFER:
                self._ring.take(flags, 0)
        elif kind == SEND:
            self._sending = None
        else:
            self._unanswered = None
