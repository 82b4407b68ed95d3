"""Ring 1 for completions: one accepted socket whose bytes the kernel moves, reporting when it has."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from iolab.kernel import io_uring
from iolab.kernel.io_uring import ADDRESS_AT, HEAD_BYTES, Ring, set_address_and_size
from iolab.server.errors import BUGS
from iolab.server.server import Server
from iolab.sockets.readiness import LoopPeer
from iolab.work import AT_ONCE

# The kinds of operation: the low bits of an operation's number. The descriptor is in the bits above.
RECEIVE, RECEIVE_MANY, SEND, WAIT, SEND_NOW = range(5)
KIND_BITS = 3
# The least size of a buffer for small messages; a smaller one is not worth it.
LEAST_SMALL_BYTES = 64

# Takes an operation's result and flags, and advances its connection. False: nothing is in flight any more, and
# the finished connection is to be closed. Raises OSError only for what no peer can cause.
Advance = Callable[[int, int], bool]


def ring_for(server: Server) -> Ring:
    """A ring for such connections, with small buffers where they pay. Raises OSError if the system refuses.

    They do not pay where an answer takes time: a message that is read in two parts would take it twice.
    All small buffers together hold no more than one read, and no more than `high_water`: a peer that takes no answers
    fills them at most twice before the kernel stops receiving, so it is owed no more than any other peer.
    """
    settings = server.settings
    small = min(settings.buffer_size, settings.high_water) // Ring.SMALL_BUFFERS if server.answer is AT_ONCE else 0
    return Ring(settings.buffers, settings.buffer_size, small if small >= LEAST_SMALL_BYTES else 0)


class CompletionConnection(LoopPeer):
    """Has at most one receive and one send in flight; the completion of one submits the next.

    One multishot receive serves a peer that sends small messages. It ends when a message is not small, or when an
    answer could not be sent: from then on each receive is submitted singly.

    An answer with none in front of it is sent without waiting. There is a completion only if the socket had no room for
    all of it; an operation that waits for room then sends the rest. Otherwise the answer is in the socket, and the
    kernel is done with it, once the submissions are handed over.

    While more than `high_water` bytes are owed, and after the peer's FIN, nothing is received. The kernel sends from
    the answer itself: it must live until the send is done, and the socket stay open while anything is in flight.
    """

    __slots__ = (
        "_cancelled",
        "_handed",
        "_high_water",
        "_last",
        "_operation",
        "_owed",
        "_peer_finished",
        "_receive",
        "_receiving",
        "_ring",
        "_send",
        "_send_and_receive",
        "_send_and_receive_many",
        "_send_now",
        "_sending",
        "_sent",
        "_small_size",
        "_submit",
        "_take",
        "_take_small",
        "_unanswered",
        "_wait_time",
    )

    def __init__(self, server: Server, sock: socket.socket, ring: Ring) -> None:
        super().__init__(server, sock, server.work.respond)
        self._ring = ring
        self._submit = ring.submit
        self._take = ring.take
        self._take_small = ring.take_small
        # Set to 0 once the peer sends as much as a small buffer holds: it is given large ones from then on.
        # Checked again, because the work dial may have been turned since the ring was made.
        self._small_size = ring.small_size if server.answer is AT_ONCE else 0
        self._flowing = not server.work.wait_seconds
        self._high_water = server.settings.high_water
        descriptor = sock.fileno()
        self._operation = descriptor << KIND_BITS
        self._receive = io_uring.receive(descriptor, self._operation | RECEIVE)
        self._send = io_uring.send(descriptor, self._operation | SEND)
        self._send_now = io_uring.send_now(descriptor, self._operation | SEND_NOW)
        self._send_and_receive = self._send_now + self._receive
        self._send_and_receive_many = self._send_now + io_uring.receive_many(descriptor, self._operation | RECEIVE_MANY)
        # The duration of the wait in flight: the kernel reads it when the submission is handed over.
        self._wait_time = b""
        # In flight: a receive; an answer, of which `_sent` bytes are sent; input whose answer waits.
        self._receiving = False
        self._sending: bytes | None = None
        # The answer to send without waiting, which must live until it is handed over; and the ring's count of waits
        # when it was submitted, if later answers may be appended to it.
        self._last = b""
        self._handed = -1
        self._sent = 0
        self._unanswered: bytes | None = None
        # The answers queued behind `_sending`.
        self._owed: bytearray | None = None
        self._peer_finished = False
        self._cancelled = False
        server.books.opened(self)
        self._receive_more()

    def operations(self) -> dict[int, Advance]:
        """The method for each of its operations, so that a completion costs one look-up and one call."""
        kinds = {
            RECEIVE: self._has_received,
            RECEIVE_MANY: self._has_received_many,
            SEND: self._has_sent,
            WAIT: self._has_waited,
            SEND_NOW: self._has_not_sent,
        }
        return {self._operation | kind: advance for kind, advance in kinds.items()}

    def cancel(self) -> None:
        """End it: the kernel cancels what is in flight, and the last completion makes `advance` False."""
        if not self._cancelled:
            self._cancelled = True
            self._flowing = False
            for kind in (RECEIVE, RECEIVE_MANY, SEND, WAIT):
                self._submit(io_uring.cancel(self._operation | kind))

    def turn(self) -> None:
        """As in Peer. The next message takes the slower path, which looks at the work dial."""
        self._answer_by(self._server.work.respond)
        if self._server.answer is not AT_ONCE:
            self._small_size = 0
        self._flowing = False

    def is_idle(self, now: float) -> bool:
        """As LoopPeer, but the time that an answer takes does not count as the peer's silence."""
        if self._unanswered is not None:
            self._silence.end()
        return super().is_idle(now)

    def _owes(self) -> bool:
        return self._sending is not None or self._unanswered is not None

    def _in_flight(self) -> bool:
        return self._receiving or self._sending is not None or self._unanswered is not None

    def _has_received(self, result: int, flags: int) -> bool:
        if 0 < result <= self._high_water and self._flowing and self._sending is None:
            # The usual case, inlined and with local names, for the reasons given in Connection.advance.
            respond, take, submit = self._answer, self._take, self._submit
            self.received_bytes += result
            self._last = answer = respond(take(flags, result))
            self.answers += 1
            both = self._send_and_receive_many if result < self._small_size else self._send_and_receive
            set_address_and_size(both, ADDRESS_AT, id(answer) + HEAD_BYTES, len(answer))
            submit(both)
            return True
        self._receiving = False
        return self._received(result, flags, self._take)

    def _has_received_many(self, result: int, flags: int) -> bool:
        if 0 < result < self._small_size and flags & io_uring.HAS_MORE and self._flowing and self._sending is None:
            # The usual case, as above.
            respond, take, submit = self._answer, self._take_small, self._submit
            self.received_bytes += result
            answer = respond(take(flags, result))
            self.answers += 1
            if self._handed == self._ring.handed:
                self._send_behind(answer)
                return True
            self._handed = self._ring.handed
            self._last = answer
            set_address_and_size(self._send_now, ADDRESS_AT, id(answer) + HEAD_BYTES, len(answer))
            submit(self._send_now)
            return True
        self._receiving = bool(flags & io_uring.HAS_MORE)
        if result >= self._small_size:
            self._small_size = 0
        if self._receiving:
            self._submit(io_uring.cancel(self._operation | RECEIVE_MANY))
        return self._received(result, flags, self._take_small)

    def _received(self, result: int, flags: int, take: Callable[[int, int], bytes]) -> bool:
        """Take the result of a receive in any other case; `take` reads its buffer."""
        if self._cancelled:
            if flags & io_uring.HAS_BUFFER:
                take(flags, 0)
        elif result > 0:
            self.received_bytes += result
            self._go_on_with(take(flags, result))
        elif result == 0 and self._is_to_hand_over():
            # The answer is to be handed over first; the next receive reports the FIN again.
            self._receive_more()
        elif result == 0:
            self._peer_finished = True
        elif result in (-errno.ECANCELED, -errno.ENOBUFS):
            # Cancelled in favour of a single receive; or out of buffers, which the kernel gets back with the next
            # wait.
            self._receive_below_high_water()
        else:
            if self._is_to_hand_over():
                self._ring.withdraw(self._send_now)
                self._unsent_bytes += len(self._last)
            self._fail(-result)
        return self._in_flight()

    def _is_to_hand_over(self) -> bool:
        """Whether an answer was submitted since the last wait, to which others may be appended."""
        return self._handed == self._ring.handed

    def _send_behind(self, answer: bytes) -> None:
        """Append an answer to the one that is to be handed over, which it might overtake if sent alone."""
        self._last += answer
        io_uring.point(self._send_now, self._last)

    def _go_on_with(self, data: bytes) -> None:
        if self.finishing:
            self._unsent_bytes += len(data)
            self._receive_more()
        elif self._unanswered is not None:
            # The work dial was turned while several receives were in flight: one wait serves all of them.
            self._unanswered += data
            self._unsent_bytes += len(data)
        elif wait_seconds := self._server.work.wait_seconds:
            # Nothing is received meanwhile: one answer at a time keeps their order.
            self._unanswered = data
            self._unsent_bytes += len(data)
            self._wait_time = io_uring.timespec(wait_seconds)
            self._submit(io_uring.timeout(self._wait_time, self._operation | WAIT))
        else:
            self._reply(data)
            # The next message can take the usual path, until the dial is turned.
            self._flowing = not self._server.work.wait_seconds

    def _has_waited(self, result: int, flags: int) -> bool:
        data, self._unanswered = self._unanswered, None
        if data is not None and not self._cancelled:
            self._unsent_bytes -= len(data)
            self._reply(data)
        return self._in_flight()

    def _reply(self, data: bytes) -> None:
        answer = self._answer(data)
        self.answers += 1
        if self._sending is None and self._is_to_hand_over():
            self._send_behind(answer)
        else:
            self._owe(answer)
        self._receive_below_high_water()

    def _owe(self, answer: bytes) -> None:
        """Send the answer when there is room, behind what is owed already."""
        self._unsent_bytes += len(answer)
        if self._sending is None:
            self._sending = answer
            self._send_more()
        elif self._owed is None:
            self._owed = bytearray(answer)
        else:
            self._owed += answer

    def _has_not_sent(self, result: int, flags: int) -> bool:
        """The answer was not sent at once, or not all of it: `result` is the number of bytes sent, or an error."""
        sent = max(result, 0)
        self._unsent_bytes += len(self._last) - sent
        if self._cancelled:
            pass
        elif result >= 0 or result == -errno.EAGAIN:
            self._sending, self._sent = self._last, sent
            self._send_more()
        else:
            self._fail(-result)
        return self._in_flight()

    def _has_sent(self, result: int, flags: int) -> bool:
        assert self._sending is not None
        if result > 0:
            self._unsent_bytes -= result
            self._sent += result
        if self._cancelled or result < 0:
            self._sending = None
            if not self._cancelled:
                self._fail(-result)
            return self._in_flight()
        if self._sent < len(self._sending):
            self._send_more()
        else:
            self._sent = 0
            self._sending = None
            if self._owed is not None:
                self._sending, self._owed = bytes(self._owed), None
                self._send_more()
        if self._receiving:
            return True
        if not (self._peer_finished or self._unanswered):
            self._receive_below_high_water()
        return self._in_flight()

    def _send_more(self) -> None:
        assert self._sending is not None
        io_uring.point(self._send, self._sending, self._sent)
        self._submit(self._send)

    def _receive_below_high_water(self) -> None:
        owed = len(self._sending or b"") - self._sent + len(self._owed or b"")
        if owed <= self._high_water:
            self._receive_more()

    def _receive_more(self) -> None:
        if not self._receiving:
            self._receiving = True
            self._submit(self._receive)

    def _fail(self, number: int) -> None:
        self.error = OSError(number, os.strerror(number))
        if number in BUGS:
            raise self.error
        self.cancel()
