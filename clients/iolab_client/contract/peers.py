"""Peers, good and bad: the clients that a server must stand, shared by `check` and the tests.

All functions use one thread and blocking sockets, and have a deadline: a server that does not answer costs
seconds, and never makes a run hang. If the deadline passes, TimeoutError says how far things had come; if the
server resets, refuses or breaks the connection, the ConnectionError of the system call comes through.
Sizes are bytes, times seconds.

    with connect(address) as peer:                a good peer: everything sent, half-closed, read to the end
        assert exchange(peer, b"hi") == b"HI"
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from iolab_client.servers.address import DEADLINE_SECONDS, Address, Deadline, connect
from iolab_client.servers.address import half_close as half_close

# If nothing moves for this long, the other side has stopped. Long enough for a busy machine of one core.
QUIET_SECONDS = 0.5
# The kernel doubles the requested size and has a minimum (socket(7): 2304 to receive, 4608 to send).
SMALL_BUFFER_BYTES = 4096
READ_BYTES = 65536


def reset(peer: socket.socket) -> None:
    """Close with RST instead of FIN, discarding what is in flight (socket(7), SO_LINGER with 0)."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def ask(peer: socket.socket, data: bytes, *, deadline_seconds: float = DEADLINE_SECONDS) -> bytes:
    """Send `data` and read as many bytes as it has; fewer if the server closes. The connection stays open."""
    return _swap([peer], [data], Deadline(deadline_seconds), then_half_close=False)[0]


def exchange(peer: socket.socket, data: bytes, *, deadline_seconds: float = DEADLINE_SECONDS) -> bytes:
    """Send `data`, half-close, read to the end. This reads while it sends, so `data` may have any size."""
    return exchange_all([peer], [data], deadline_seconds=deadline_seconds)[0]


def exchange_all(
    peers: Sequence[socket.socket], payloads: Sequence[bytes], *, deadline_seconds: float = DEADLINE_SECONDS
) -> list[bytes]:
    """`exchange` with all peers at the same time; the answers in the order of the peers."""
    return _swap(peers, payloads, Deadline(deadline_seconds), then_half_close=True)


def drip(peer: socket.socket, data: bytes, *, deadline_seconds: float = DEADLINE_SECONDS) -> bytes:
    """Send one byte at a time, each after the answer to the previous one, so that they can't be joined.

    Then half-close; return all that came. `deadline_seconds` is for each answer, because there are many.
    """
    answers = bytearray()
    for position in range(len(data)):
        answer = ask(peer, data[position : position + 1], deadline_seconds=deadline_seconds)
        if not answer:
            return bytes(answers)
        answers += answer
    return bytes(answers) + exchange(peer, b"", deadline_seconds=deadline_seconds)


def read_exactly(peer: socket.socket, size: int, *, deadline_seconds: float = DEADLINE_SECONDS) -> bytes:
    """The next `size` bytes; fewer if the server closes before."""
    deadline = Deadline(deadline_seconds)
    data = bytearray()
    while len(data) < size:
        piece = _receive(peer, min(READ_BYTES, size - len(data)), deadline, f"{len(data)} of {size} bytes came")
        if not piece:
            break
        data += piece
    return bytes(data)


def read_to_end(
    peer: socket.socket, *, chunk_bytes: int = READ_BYTES, deadline_seconds: float = DEADLINE_SECONDS
) -> bytes:
    """Everything that comes until the server closes, read in pieces of at most `chunk_bytes`."""
    deadline = Deadline(deadline_seconds)
    data = bytearray()
    while True:
        piece = _receive(peer, chunk_bytes, deadline, f"{len(data)} bytes and no end came")
        if not piece:
            return bytes(data)
        data += piece


def flood(
    peer: socket.socket,
    data: bytes,
    *,
    quiet_seconds: float = QUIET_SECONDS,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> int:
    """Send, and read nothing, until all of `data` is taken, or nothing more was for `quiet_seconds`.

    Returns the number of bytes taken. With back-pressure that is `high_water`, a read, and what four kernel
    buffers hold.
    """
    deadline = Deadline(deadline_seconds)
    sent = 0
    view = memoryview(data)
    with selectors.DefaultSelector() as selector:
        selector.register(peer, selectors.EVENT_WRITE)
        while sent < len(data):
            left = deadline.left(f"{sent} of {len(data)} bytes were taken, still counting,")
            if not selector.select(min(left, quiet_seconds)):
                break
            sent += peer.send(view[sent : sent + READ_BYTES])
    return sent


def slow_reader(
    address: Address,
    data: bytes,
    *,
    chunk_bytes: int = 1024,
    receive_buffer_bytes: int = SMALL_BUFFER_BYTES,
    quiet_seconds: float = QUIET_SECONDS,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> bytes:
    """Connect with a small receive buffer, and read only when the server takes no more; then in chunks.

    Half-close once all of `data` is sent; return all that came.
    """
    deadline = Deadline(deadline_seconds)
    with connect(address, receive_buffer_bytes=receive_buffer_bytes, deadline_seconds=deadline_seconds) as peer:
        sent = flood(peer, data, quiet_seconds=quiet_seconds, deadline_seconds=deadline.left())
        return _swap([peer], [data], deadline, then_half_close=True, sent_bytes=sent, chunk_bytes=chunk_bytes)[0]


@contextlib.contextmanager
def silent(
    address: Address, count: int = 1, *, deadline_seconds: float = DEADLINE_SECONDS
) -> Iterator[list[socket.socket]]:
    """`count` silent connections, closed when the block ends."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(address, deadline_seconds=deadline_seconds)) for _ in range(count)]


def _receive(peer: socket.socket, limit: int, deadline: Deadline, undone: str) -> bytes:
    peer.settimeout(deadline.left(undone))
    try:
        return peer.recv(limit)
    except TimeoutError:
        raise deadline.passed(undone) from None


@dataclass
class _Swap:
    """One connection's state in an exchange."""

    peer: socket.socket
    data: memoryview
    half_close: bool
    sent_bytes: int = 0
    answer: bytearray = field(default_factory=bytearray)
    ended: bool = False

    @property
    def wants(self) -> int:
        """What to wait for: always the answer, and room while there is something to send."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.sent_bytes < len(self.data) else 0)

    def send(self) -> None:
        # In pieces: during one huge send no answer would be read.
        self.sent_bytes += self.peer.send(self.data[self.sent_bytes : self.sent_bytes + READ_BYTES])
        self.finish_sending()

    def finish_sending(self) -> None:
        if self.half_close and self.sent_bytes == len(self.data):
            half_close(self.peer)

    def receive(self, chunk_bytes: int) -> None:
        limit = chunk_bytes if self.half_close else min(chunk_bytes, len(self.data) - len(self.answer))
        piece = self.peer.recv(limit)
        self.answer += piece
        self.ended = not piece or (not self.half_close and len(self.answer) == len(self.data))


def _swap(
    peers: Sequence[socket.socket],
    payloads: Sequence[bytes],
    deadline: Deadline,
    *,
    then_half_close: bool,
    sent_bytes: int = 0,
    chunk_bytes: int = READ_BYTES,
) -> list[bytes]:
    """Send and read concurrently until each peer has ended: at the server's FIN, or at the last byte due."""
    swaps = [
        _Swap(peer, memoryview(data), then_half_close, sent_bytes) for peer, data in zip(peers, payloads, strict=True)
    ]
    with selectors.DefaultSelector() as selector:
        for swap in swaps:
            swap.finish_sending()
            if then_half_close or swap.data:
                selector.register(swap.peer, swap.wants, swap)
        while selector.get_map():
            left = deadline.left(_progress(swaps))
            for key, events in selector.select(left):
                swap = key.data
                if events & selectors.EVENT_READ:
                    swap.receive(chunk_bytes)
                if swap.ended:
                    selector.unregister(swap.peer)
                    continue
                if events & selectors.EVENT_WRITE:
                    swap.send()
                    selector.modify(swap.peer, swap.wants, swap)
    return [bytes(swap.answer) for swap in swaps]


def _progress(swaps: Sequence[_Swap]) -> str:
    waiting = [swap for swap in swaps if not swap.ended]
    came, due = (sum(counts) for counts in zip(*((len(s.answer), len(s.data)) for s in waiting), strict=True))
    whose = f" on {len(waiting)} connections" if len(waiting) > 1 else ""
    return f"{came} of {due} bytes{' and no end' if came >= due else ''} came{whose}"
