"""One connection of the generator: its socket, and what is in flight on it."""

from __future__ import annotations

import enum
import math
import socket
from collections import deque

# Where a request begins in the pattern and ends, when it was due, and when it was sent.
Flight = tuple[int, int, int, int]


class State(enum.Enum):
    """The states of a connection."""

    # Waiting for its turn to connect.
    WAITING = enum.auto()
    CONNECTING = enum.auto()
    OPEN = enum.auto()
    # Has sent its FIN and reads to the end.
    CLOSING = enum.auto()
    # Ended, and not to be replaced.
    OVER = enum.auto()


class LoadConnection:
    """One of the plan's connections; with churn it has one socket after the other.

    The oldest request in flight is in the fields, those behind it are in `behind`.
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
        # When it began to connect, had connected, or began to close.
        self.since = 0
        # The number of its next request in the timetable, if connections are bound to turns.
        self.turn = number
        # Whether it is queued as free for the next request of the timetable.
        self.queued = False
        # When the last answer came, and how many came in the measured time.
        self.answered_at = 0
        self.answers = 0
        self.descriptor = -1

    def use(self, sock: socket.socket, requests: float = math.inf) -> None:
        """Begin anew with a socket, on which at most `requests` may be sent."""
        self.socket = sock
        self.descriptor = sock.fileno()
        # Bound once: looking up a method costs as much as calling it.
        self.receive = sock.recv
        self.transmit = sock.send
        self.left = requests
        self.in_flight = 0
        self.behind: deque[Flight] = deque()
        self.unsent = memoryview(b"")
        # Whether epoll watches for room to send.
        self.awaits_room = False
        self.land()

    def fly(self, flight: Flight) -> None:
        """Set the request that is answered next."""
        # `begin` moves on with each piece of the answer, `start` stays.
        self.begin, self.end, self.due, self.sent_at = flight
        self.start = self.begin

    def land(self) -> None:
        """Nothing is in flight."""
        self.start = self.begin = self.end = self.due = self.sent_at = 0

    def flights(self) -> list[Flight]:
        """All requests in flight, the oldest first."""
        return [(self.start, self.end, self.due, self.sent_at), *self.behind] if self.in_flight else []
