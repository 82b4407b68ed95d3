"""Ring 1 for readiness: one accepted non-blocking socket, and the bytes still owed to its peer. Never waits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Protocol

from iolab.server.books import Peer, Silence
from iolab.server.errors import BUGS
from iolab.server.server import Server
from iolab.sockets.farewell import begin_farewell, finished, moved, nothing_came
from iolab.work import AT_ONCE, Respond

# What a connection waits for, in the bits of poll(2) and epoll(7).
READ = 1
WRITE = 4


class Selector(Protocol):
    """One of the readiness system calls, with the descriptors that it watches. The events are the bits of poll(2).

    The standard library's `selectors` offers the same choice, but builds an object for each event: that cost 6 % of an
    answer, measured as benchmarks/README.md says.
    """

    def register(self, descriptor: int, interest: int, /) -> None:
        """Watch a descriptor."""

    def modify(self, descriptor: int, interest: int, /) -> None:
        """Change what a descriptor is watched for."""

    def unregister(self, descriptor: int, /) -> None:
        """Stop watching a descriptor; to be called before it is closed."""

    def wait(self, timeout: float | None, /) -> Iterable[tuple[int, int]]:
        """Wait for ready descriptors, at most `timeout` seconds; return each once, with its events."""

    def close(self) -> None:
        """Release what the selector holds."""


class LoopPeer(Peer):
    """A connection that a loop checks now and then: is it idle, and, during the stop, is it finished?

    An answer is as long as its message, so the number of sent bytes is derived, not counted: nearly always it is the
    number of received ones. It may be one message ahead, while that answer is on its way to the kernel.
    """

    __slots__ = ("_answer", "_flowing", "_quiet", "_respond", "_server", "_silence", "_unsent_bytes")

    def __init__(self, server: Server, sock: socket.socket, respond: Respond) -> None:
        super().__init__(sock)
        self._server = server
        self._answer_by(respond)
        self._silence = Silence()
        self._quiet = Silence()
        # Whether the next message can be answered at once: nothing is owed, and neither side has sent FIN. It is the
        # one check for each message, so whatever changes that state has to set it.
        self._flowing = True
        # Received and not answered: owed to the peer, lost with it, or discarded after our FIN.
        self._unsent_bytes = 0

    @property
    def sent_bytes(self) -> int:
        """Bytes of answers that the kernel took."""
        return self.received_bytes - self._unsent_bytes

    def turn(self) -> None:
        """As Peer."""
        self._answer_by(self._server.answer)

    def is_idle(self, now: float) -> bool:
        """Whether no byte moved in either direction for `idle_seconds`, as far as repeated looks tell. It then ends.

        `now` is by IdleSweep.clock, unless no other client is served between two looks.
        """
        if self._silence.seconds(now, moved(self)) >= self._server.settings.idle_seconds:
            self.finishing = True
        return self.finishing

    def drain(self, now: float) -> bool:
        """Check the connection while the server stops, at least every DRAIN_TICK seconds. False: it is finished.

        Once it is quiet, half-close it; then discard input until the peer has acknowledged everything.
        """
        if self.finishing:
            return not finished(self.sock)
        quiet_seconds = self._quiet.seconds(now, self.received_bytes)
        quiet = not self._owes() and quiet_seconds >= self._server.settings.drain_quiet_seconds
        if quiet and nothing_came(self.sock):
            self.finishing = True
            self._flowing = False
            begin_farewell(self.sock)
        return True

    def close(self) -> None:
        """Close the socket, and take the connection off the books."""
        # The socket first: once the books are empty the process may end, and only closed sockets are waited for.
        self.sock.close()
        self._server.books.closed(self)

    def _answer_by(self, respond: Respond) -> None:
        self._respond = respond
        self._answer = respond if respond is AT_ONCE else self._take_time

    def _owes(self) -> bool:
        """Whether there are answers that the kernel has not taken yet."""
        raise NotImplementedError

    def _take_time(self, data: bytes) -> bytes:
        """Make an answer that takes time; meanwhile it counts as owed."""
        self._unsent_bytes += len(data)
        answer = self._respond(data)
        self._unsent_bytes -= len(data)
        return answer


class Connection(LoopPeer):
    """Reads, answers and writes as far as the socket allows.

    `interest` says what to wait for next; 0: nothing, the connection is finished. READ is off after the peer's FIN, and
    while more than `high_water` bytes are owed, so that a peer that does not read costs bounded memory.
    """

    __slots__ = ("_owed", "_peer_finished", "_read_size", "interest")

    def __init__(self, server: Server, sock: socket.socket, respond: Respond) -> None:
        super().__init__(server, sock, respond)
        # accept(2) does not pass on the listener's O_NONBLOCK.
        sock.setblocking(False)
        self.interest = READ
        self._read_size = server.settings.buffer_size
        # False until the first message has shown how much to read at once.
        self._flowing = False
        # None, not an empty buffer: most peers are never owed anything between two calls.
        self._owed: bytearray | None = None
        self._peer_finished = False
        server.books.opened(self)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    def turn(self) -> None:
        """As in Peer. With a work dial no peer's messages are taken for small: see Server.read_size."""
        super().turn()
        self._read_size = self._server.read_size(self._read_size)

    def advance(self) -> bool:
        """Read once, answer, and send what the socket takes. True: `interest` has changed.

        Raises OSError only for what no peer can cause.
        """
        try:
            if not self._flowing:
                return self._advance_otherwise()
            # The usual case: inlined, because each call costs a hundredth of the answer, and with local names, because
            # for a call of `self._answer` Python first looks for a method of that name.
            sock, size, respond = self.sock, self._read_size, self._answer
            data = sock.recv(size)
            length = len(data)
            if not 0 < length < size:
                self._go_on_with(data)
                return self.interest != READ
            self.received_bytes += length
            answer = respond(data)
            self.answers += 1
            try:
                sent = sock.send(answer)
            except OSError:
                self._owe(answer)
                raise
            if sent < length:
                self._owe(memoryview(answer)[sent:])
                return True
            return False
        except BlockingIOError:
            return self.interest != READ
        except OSError as error:
            if error.errno in BUGS:
                raise
            self.error = error
            self._flowing = False
            self.interest = 0
            return True

    def _advance_otherwise(self) -> bool:
        """`advance` while answers are owed, before the first message, and after our FIN."""
        waited_for = self.interest
        if self._owed is not None:
            self._send_owed(self._owed)
        if self.interest & READ:
            with contextlib.suppress(BlockingIOError):
                self._go_on_with(self.sock.recv(self._read_size))
        return self.interest != waited_for

    def _go_on_with(self, data: bytes) -> None:
        """Answer what one read brought, in any state of the connection."""
        length = len(data)
        self.received_bytes += length
        if not data:
            self._peer_finished = True
            self._flowing = False
            self.interest = WRITE if self._owed is not None else 0
        elif self.finishing:
            self._unsent_bytes += length
        else:
            answer = self._answer(data)
            self.answers += 1
            if self.answers == 1 or length == self._read_size:
                self._read_size = self._server.read_size(length)
            if self._owed is None:
                self._flowing = True
                try:
                    sent = self.sock.send(answer)
                except OSError:
                    self._owe(answer)
                    raise
                if sent < length:
                    self._owe(memoryview(answer)[sent:])
            else:
                self._owe(answer)

    def _owes(self) -> bool:
        return self._owed is not None

    def _send_owed(self, owed: bytearray) -> None:
        with contextlib.suppress(BlockingIOError):
            sent = self.sock.send(owed)
            self._unsent_bytes -= sent
            del owed[:sent]
        if not owed:
            self._owed = None
            self._flowing = not self._peer_finished
            self.interest = 0 if self._peer_finished else READ
        elif len(owed) <= self._server.settings.high_water and not self._peer_finished:
            self.interest = READ | WRITE

    def _owe(self, answer: bytes | memoryview) -> None:
        if self._owed is None:
            self._owed = bytearray(answer)
        else:
            self._owed += answer
        self._unsent_bytes += len(answer)
        self._flowing = False
        self.interest = WRITE if len(self._owed) > self._server.settings.high_water else READ | WRITE
