"""The two ends of one connection through a path, and what each of them meets.

A deadline is a time in which nothing moves: a path may be as slow as it likes, as long as it goes on.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fcntl import ioctl
from functools import cache
from struct import unpack
from termios import FIONREAD, TIOCOUTQ

from iolab_client.contract import payload, peers

READ_BYTES = 1 << 18
# Bytes that no terminal, text or telnet conversion touches: a clause that is not about their values sends only these.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" * 4
# A prime: no buffer is as long as this, or as a part of it.
_BLOCK_BYTES = 1_000_003


def letters(size_bytes: int, seed: int | str = 0) -> bytes:
    """Letters and digits of this seed alone, random."""
    return payload.make(size_bytes, seed).translate(_LETTERS)


@cache
def _block() -> bytes:
    return letters(_BLOCK_BYTES)


def letters_at(position: int, size_bytes: int) -> bytes:
    """A part of letters without end: after a million they begin again."""
    first = position % _BLOCK_BYTES
    piece = _block()[first : first + size_bytes]
    return piece + _block()[: size_bytes - len(piece)]


class Way(Enum):
    """Who speaks to whom."""

    CLIENT_TO_SERVER = "client to server"
    SERVER_TO_CLIENT = "server to client"


class Fault(Exception):
    """The path breaks a clause; the message says how, `remedy` what it is where that is known better than elsewhere."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy


class Met(Enum):
    """What an end of a connection meets, in words."""

    DATA = "bytes that nobody sent"
    FIN = "FIN"
    RST = "RST"


class End:
    """One end. All its methods raise Fault where it meets something else than it is there for."""

    def __init__(self, sock: socket.socket, name: str, deadline_seconds: float) -> None:
        sock.settimeout(deadline_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.name = name
        self.deadline_seconds = deadline_seconds

    def send(self, data: bytes) -> None:
        """All of `data`."""
        sent = 0
        while sent < len(data):
            sent += self.send_some(memoryview(data)[sent:], f"{sent} of the {len(data)} bytes that it sent")

    def send_some(self, data: bytes | memoryview, progress: str) -> int:
        """The first of `data`, as much as is taken; `progress` says how far things had come where none is."""
        try:
            return self.sock.send(data[:READ_BYTES])
        except TimeoutError:
            raise Fault(f"the {self.name} waited {self.deadline_seconds:g} s: {progress} were taken") from None
        except OSError:
            raise Fault(f"the {self.name} was cut off: {progress} were taken") from None

    def flood(self, most_bytes: int, quiet_seconds: float) -> int:
        """Send letters until `most_bytes` are taken, or nothing more was for `quiet_seconds`; the bytes taken."""
        sent = 0
        while sent < most_bytes and ready([], quiet_seconds, self.sock):
            piece = letters_at(sent, min(READ_BYTES, most_bytes - sent))
            sent += self.send_some(piece, f"{sent} bytes that nobody read yet")
        return sent

    def expect_letters(self, start: int, end: int) -> None:
        """Take what a flood has sent between two places of it, and compare."""
        while start < end:
            piece = self.take_some(min(READ_BYTES, end - start), f"{start} of {end} bytes of a flood")
            self.compare(piece, letters_at(start, len(piece)))
            start += len(piece)

    def keep_little(self, size_bytes: int) -> None:
        """Have the kernel hold no more than that (it doubles it, socket(7)) for this end, however fast it reads."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        data = bytearray()
        while len(data) < size:
            data += self.take_some(min(READ_BYTES, size - len(data)), f"{len(data)} of {size} bytes")
        return bytes(data)

    def take_some(self, limit_bytes: int, progress: str) -> bytes:
        """What has come, `limit_bytes` at most; `progress` says how far things had come where nothing does."""
        try:
            piece = self.sock.recv(limit_bytes)
        except TimeoutError:
            raise Fault(f"the {self.name} got {progress}, then nothing for {self.deadline_seconds:g} s") from None
        except OSError:
            raise Fault(f"the {self.name} got {progress}, then RST") from None
        if not piece:
            raise Fault(f"the {self.name} got {progress}, then FIN")
        return piece

    def expect(self, data: bytes) -> None:
        """Take as many bytes as `data` has, and compare."""
        self.compare(self.take(len(data)), data)

    def compare(self, got: bytes, sent: bytes) -> None:
        """Raise Fault where `got` is not what was `sent`."""
        if difference := payload.difference(got, sent):
            raise Fault(f"the {self.name} got other bytes than were sent: {difference}")

    def expect_fin(self) -> None:
        """FIN is what comes next."""
        met = self.meet(self.deadline_seconds)
        if met is None:
            raise Fault(f"no FIN came to the {self.name} within {self.deadline_seconds:g} s")
        if met is not Met.FIN:
            raise Fault(f"the {self.name} met {met.value} in place of FIN")

    def meet(self, within_seconds: float) -> Met | None:
        """What comes next, left where it is; None if nothing does in the time."""
        if not ready([self.sock], within_seconds):
            return None
        try:
            return Met.DATA if self.sock.recv(1, socket.MSG_PEEK) else Met.FIN
        except OSError:
            return Met.RST

    def finish(self) -> None:
        """Send FIN: nothing more will come, but answers are still read."""
        try:
            peers.half_close(self.sock)
        except OSError:
            raise Fault(f"the {self.name} was cut off before its FIN") from None

    def reset(self) -> None:
        """Send RST."""
        peers.reset(self.sock)

    def close(self) -> None:
        """Close as a program does that is done: FIN, unless there is something that it has not read."""
        self.sock.close()

    @property
    def unsent_bytes(self) -> int:
        """What the kernel of this end still holds, because the path has not acknowledged it; tcp(7), SIOCOUTQ."""
        return _asked(self.sock, TIOCOUTQ)

    @property
    def unread_bytes(self) -> int:
        """What has come to this end and is not read; tcp(7), SIOCINQ."""
        return _asked(self.sock, FIONREAD)


def _asked(sock: socket.socket, request: int) -> int:
    (count,) = unpack("i", ioctl(sock, request, bytes(4)))
    return int(count)


@dataclass(frozen=True)
class Ends:
    """Both ends of one connection, closed when the block ends."""

    client: End
    server: End

    def of(self, way: Way) -> tuple[End, End]:
        """Who speaks, and who listens."""
        return (self.client, self.server) if way is Way.CLIENT_TO_SERVER else (self.server, self.client)

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


def ready(readers: Iterable[socket.socket], seconds: float, writer: socket.socket | None = None) -> set[socket.socket]:
    """Which of them can be read, or written, at once; empty when none could in the time."""
    with selectors.PollSelector() as selector:
        for reader in readers:
            selector.register(reader, selectors.EVENT_READ)
        if writer:
            selector.register(writer, selectors.EVENT_WRITE)
        return {key.fileobj for key, _ in selector.select(seconds) if isinstance(key.fileobj, socket.socket)}


def carry(speaker: End, listener: End, data: bytes) -> None:
    """Have all of `data` sent at one end and read, meanwhile, at the other, and compare. Raises Fault."""
    sent = 0
    got = bytearray()
    view = memoryview(data)
    while len(got) < len(data):
        moving = ready([listener.sock], listener.deadline_seconds, speaker.sock if sent < len(data) else None)
        progress = f"{len(got)} of {len(data)} bytes"
        if not moving:
            raise Fault(f"the {listener.name} got {progress}, then nothing for {listener.deadline_seconds:g} s")
        if speaker.sock in moving:
            sent += speaker.send_some(view[sent:], f"{sent} of the {len(data)} bytes that it sent")
        if listener.sock in moving:
            got += listener.take_some(READ_BYTES, progress)
    listener.compare(bytes(got), data)
