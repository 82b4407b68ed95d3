"""One connection of the generator: its socket, and what is in flight on it."""

from __future__ import annotations

import enum
import math
import socket
from collections import deque

# Where a request begins in the pattern and ends, when it was due, and when it was sent.
Flight = tuple[int, int, int, int]


class State(enum.Enum):
    """What a connection is at."""

    # Not connected, and waiting for its turn.
    WAITING = enum.auto()
    CONNECTING = enum.auto()
    OPEN = enum.auto()
    # It has sent its FIN and reads to the end.
    CLOSING = enum.auto()
    # Ended, and not to be replaced.
    OVER = enum.auto()


class LoadConnection:
    """A place among the plan's connections; with churn, one socket after the other has it.

    What is in flight longest stands in the fields, the requests behind it in `behind`.
    """

    __slots__ = (
        "answered_at",
        "answers",
        "awaits_room",
        "begin",
        "behind",
        "descriptor",
        "due",
        "end",
        "idle",
        "in_flight",
        "left",
        "number",
        "queued",
        "receive",
        "sent_at",
        "since",
        "socket",
        "start",
        "state",
        "transmit",
        "turn",
        "unsent",
    )

    def __init__(self, number: int, *, idle: bool) -> None:
        self.number = number
        self.idle = idle
        self.state = State.WAITING
        # When it began to connect, was connected, or began to close.
        self.since = 0
        # The next one of the timetable that is its own, where connections are bound to turns.
        self.turn = number
        # Whether it stands among those that are free for the next request of the timetable.
        self.queued = False
        # When the last answer came, and how many of them in the measured time.
        self.answered_at = 0
        self.answers = 0
        self.descriptor = -1

    def use(self, sock: socket.socket, requests: float = math.inf) -> None:
        """Begin anew with a socket, on which so many requests may be sent."""
        self.socket = sock
        self.descriptor = sock.fileno()
        # Bound once: finding a method costs as much as calling it.
        self.receive = sock.recv
        self.transmit = sock.send
        self.left = requests
        self.in_flight = 0
        self.behind: deque[Flight] = deque()
        self.unsent = memoryview(b"")
        # Whether epoll tells when there is room to send.
        self.awaits_room = False
        self.land()

    def fly(self, flight: Flight) -> None:
        """What is answered next."""
        # `begin` moves on with each piece of the answer, `start` stays.
        self.begin, self.end, self.due, self.sent_at = flight
        self.start = self.begin

    def land(self) -> None:
        """Nothing is in flight."""
        self.start = self.begin = self.end = self.due = self.sent_at = 0

    def flights(self) -> list[Flight]:
        """All that is in flight, the oldest first."""
        return [(self.start, self.end, self.due, self.sent_at), *self.behind] if self.in_flight else []
