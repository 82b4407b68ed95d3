"""Servers that break the echo in the middle of a load, each in one way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

from iolab_client.contract import peers
from tests.client.fakes import READ_BYTES, Conversation, Fake


def messages(sock: socket.socket, size: int) -> Iterator[bytes]:
    """Messages of that size until the client's FIN; an answer sent in one piece is answered in one, too."""
    while len(data := peers.read_exactly(sock, size)) == size:
        yield data


def ends_before_the_tail(size: int, after: int) -> Conversation:
    """Sends all but the last byte of an answer, and closes."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        for number, data in enumerate(messages(sock, size)):
            if number < after:
                sock.sendall(data.upper())
                continue
            sock.sendall(data.upper()[:-1])
            sock.shutdown(socket.SHUT_WR)

    return converse


def swaps_answers(size: int) -> Conversation:
    """Answers the second of two requests first."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        received = messages(sock, size)
        for first, second in zip(received, received, strict=False):
            sock.sendall(second.upper() + first.upper())

    return converse


def stalls(after_seconds: float, for_seconds: float) -> Conversation:
    """Answers nobody for a while, counted from the first request."""
    lock = threading.Lock()
    begin: list[float] = []

    def converse(fake: Fake, sock: socket.socket) -> None:
        while data := sock.recv(READ_BYTES):
            with lock:
                if not begin:
                    begin.append(time.monotonic() + after_seconds)
            silence = begin[0] + for_seconds - time.monotonic()
            if 0 < silence <= for_seconds:
                fake.stopped.wait(silence)
            sock.sendall(data.upper())

    return converse


def closes_after(size: int, answers: int) -> Conversation:
    """Closes in place of an answer; it has read all, so it sends no reset."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        for number, data in enumerate(messages(sock, size)):
            if number < answers:
                sock.sendall(data.upper())
            else:
                sock.shutdown(socket.SHUT_WR)

    return converse


def resets_after(size: int, answers: int) -> Conversation:
    """Resets the connection in place of an answer."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        for number, data in enumerate(messages(sock, size)):
            if number == answers:
                peers.reset(sock)
                return
            sock.sendall(data.upper())

    return converse


def adds_a_byte(size: int, after: int) -> Conversation:
    """One answer is a byte too long."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        for number, data in enumerate(messages(sock, size)):
            sock.sendall(data.upper() + (b"!" if number == after else b""))

    return converse


def holds(connections: int, seconds: float) -> Conversation:
    """The first so many connections wait for each answer from their second one on; the others have theirs at once."""
    lock = threading.Lock()
    slow: list[socket.socket] = []

    def converse(fake: Fake, sock: socket.socket) -> None:
        with lock:
            if len(slow) < connections:
                slow.append(sock)
        answered = False
        while data := sock.recv(READ_BYTES):
            if answered and sock in slow:
                fake.stopped.wait(seconds)
            sock.sendall(data.upper())
            answered = True

    return converse


def delays(seconds: float) -> Conversation:
    """Each answer takes so long."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        while data := sock.recv(READ_BYTES):
            fake.stopped.wait(seconds)
            sock.sendall(data.upper())

    return converse


def resets_behind(size: int, answers: int) -> Conversation:
    """Resets the connection right behind an answer: the next request finds out by being sent."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        for number, data in enumerate(messages(sock, size), 1):
            sock.sendall(data.upper())
            if number == answers:
                peers.reset(sock)
                return

    return converse


def says_nothing(fake: Fake, sock: socket.socket) -> None:
    """Reads, and never answers."""
    while sock.recv(READ_BYTES):
        pass
