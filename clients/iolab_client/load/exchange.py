"""The traffic of one process: requests are sent, and answers are compared with what is due.

Times are nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections import deque

import numpy as np

from iolab_client.contract import payload
from iolab_client.load import buckets, fast_path
from iolab_client.load.connection import LoadConnection, State
from iolab_client.load.connections import READING, WRITING, Connections
from iolab_client.load.requests import Request, Requests
from iolab_client.load.shared import FIRST, Shared
from iolab_client.load.tally import Tally
from iolab_client.load.timetable import Timetable
from iolab_client.results.measurement import Plan

READ_BYTES = fast_path.READ_BYTES
# The most events between two turns of the timetable, and the most turns between two looks for events.
EVENTS_BETWEEN_TURNS = 16
TURNS_BETWEEN_EVENTS = 64

clock = time.monotonic_ns


class Exchange:
    """Requests and answers of any plan. The fast path does the same for the common case."""

    def __init__(self, plan: Plan, requests: Requests, timetable: Timetable, connections: Connections) -> None:
        self.plan = plan
        self.requests = requests
        self.timetable = timetable
        self.connections = connections
        # The next request and the timetable, shared with the fast path.
        self.data = timetable.data
        self.tally: Tally
        self.shared: Shared
        # Connections with room for a request of the timetable; the one that has been free longest is first.
        self._free: deque[LoadConnection] = deque()

    def begin(self, tally: Tally, shared: Shared) -> None:
        """Set where answers are counted."""
        self.tally, self.shared = tally, shared

    # Answers

    def read(self, connection: LoadConnection, mask: int) -> None:
        """Read what has come."""
        while connection.state in (State.OPEN, State.CLOSING):
            wanted = READ_BYTES if connection.behind else min(READ_BYTES, connection.end - connection.begin + 1)
            try:
                data = connection.receive(wanted)
            except BlockingIOError:
                return
            except OSError as error:
                self.broken(connection, error)
                return
            self.take(connection, data)
            if len(data) < wanted and mask == select.EPOLLIN:
                return

    def take(self, connection: LoadConnection, data: bytes) -> None:
        """Compare what came with what is due, then send more requests if there is room."""
        self._compare(connection, data)
        if data and connection.state is State.OPEN:
            self.fill(connection, clock())

    def _compare(self, connection: LoadConnection, data: bytes) -> None:
        if not data:
            self._ended(connection)
            return
        answers = self.requests.answers
        now = clock()
        position = 0
        while position < len(data):
            begin = connection.begin
            step = min(connection.end - begin, len(data) - position)
            piece = data[position : position + step]
            if not step:
                self.connections.fail(connection, "wrong", f"{len(data) - position} bytes more than were due came")
                return
            if answers is not None and piece != answers[begin : begin + step]:
                self._wrong(connection, answers, data[position:])
                return
            position += step
            connection.begin += step
            if connection.begin == connection.end:
                self._answered(connection, now)

    def _answered(self, connection: LoadConnection, now: int) -> None:
        self.data.total += 1
        self.tally.note(connection.due, connection.sent_at, now, connection.end - connection.start)
        connection.answers += self.tally.counts_for(connection.due, now)
        if self.plan.churn and not connection.answered_at:
            buckets.count(self.shared.histograms[FIRST], np.array([now - connection.since], np.int64))
        connection.answered_at = now
        connection.in_flight -= 1
        if connection.behind:
            connection.fly(connection.behind.popleft())
        else:
            connection.land()

    def _wrong(self, connection: LoadConnection, answers: bytes, data: bytes) -> None:
        place = connection.begin - connection.start
        for later, (begin, end, _, _) in enumerate(connection.behind, 1):
            if not place and data[: end - begin] == answers[begin : begin + len(data)][: end - begin]:
                words = f"answers out of order: that of request {begin} came, {later} too early"
                self.connections.fail(connection, "wrong", words)
                return
        got = answers[connection.start : connection.begin] + data[: connection.end - connection.begin]
        words = payload.difference(got, answers[connection.start : connection.end]) or "other bytes than were due"
        self.connections.fail(connection, "wrong", words)

    def _ended(self, connection: LoadConnection) -> None:
        """The server has sent its FIN."""
        fail, loading = self.connections.fail, self.connections.loading
        if connection.state is State.CLOSING:
            self.connections.release(connection)
        elif connection.begin > connection.start:
            done, size = connection.begin - connection.start, connection.end - connection.start
            fail(connection, "short", f"the server closed after {done} of {size} bytes")
        elif connection.in_flight and not connection.answered_at:
            fail(connection, "refused", "the server closed it before its first answer: it is full, or fails")
        elif connection.in_flight:
            fail(connection, "closed", f"the server closed and owed {connection.in_flight} answers")
        elif loading:
            fail(connection, "closed", "the server closed, and owed nothing")
        else:
            fail(connection, "refused", "the server closed it at once: it is full")

    def broken(self, connection: LoadConnection, error: OSError) -> None:
        """The connection failed, and not by a FIN."""
        fail, loading = self.connections.fail, self.connections.loading
        match error:
            case TimeoutError():
                fail(connection, "timeout", "the server's machine does not answer")
            case ConnectionError() if not loading:
                fail(connection, "refused", "the server reset it at once: it is full")
            case ConnectionError() if not connection.answered_at:
                fail(connection, "refused", "the server reset it before its first answer: it is full, or fails")
            case _:
                fail(connection, "reset", os.strerror(error.errno or 0).lower())

    # Requests

    def fill(self, connection: LoadConnection, now: int) -> None:
        """Send the requests that are due and that there is room for; if no more are to come, half-close."""
        room = self.plan.pipeline - connection.in_flight
        pieces = []
        pattern = self.requests.pattern
        while room > 0 and connection.left > 0 and not connection.idle:
            due = now
            if self.plan.rate:
                turn = self._turn(connection)
                if turn is None:
                    self._set_free(connection)
                    break
                due = self.timetable.due(turn)
            request = self._next_request()
            if request is None:
                break
            begin, size = request
            flight = begin, begin + size, due, now
            if connection.in_flight:
                connection.behind.append(flight)
            else:
                connection.fly(flight)
            connection.in_flight += 1
            connection.left -= 1
            room -= 1
            pieces.append(pattern[begin : begin + size])
        if pieces:
            self.send(connection, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        elif not connection.in_flight and (self.connections.parting or connection.left <= 0):
            self.connections.half_close(connection)

    def _turn(self, connection: LoadConnection) -> int | None:
        """The turn of this connection's next request in the timetable; None: it is not due yet."""
        data = self.data
        if self.plan.bound:
            turn = connection.turn
            if turn >= data.dealt:
                return None
            connection.turn += len(self.connections.talkers)
            return turn
        if data.taken >= data.dealt:
            return None
        data.taken += 1
        return int(data.taken - 1)

    def _set_free(self, connection: LoadConnection) -> None:
        if not (self.plan.bound or connection.queued):
            connection.queued = True
            self._free.append(connection)

    def _next_free(self) -> LoadConnection | None:
        while self._free:
            connection = self._free.popleft()
            connection.queued = False
            # It may have been used or ended since.
            if connection.state is State.OPEN and connection.in_flight < self.plan.pipeline and connection.left > 0:
                return connection
        return None

    def _next_request(self) -> Request | None:
        data = self.data
        if data.left <= 0:
            return None
        number = data.number
        data.number, data.left = number + 1, data.left - 1
        return self.requests.request(number)

    def send(self, connection: LoadConnection, data: bytes) -> None:
        """Send data behind what is unsent."""
        connection.unsent = memoryview(bytes(connection.unsent) + data if connection.unsent else data)
        self.push(connection)

    def push(self, connection: LoadConnection) -> None:
        """Send what is unsent, as much as the socket takes."""
        waited = bool(connection.awaits_room)
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.transmit(connection.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self.not_sent(connection, error)
            return
        connection.awaits_room = bool(connection.unsent)
        if connection.awaits_room != waited:
            self.connections.poller.modify(connection.descriptor, WRITING if connection.awaits_room else READING)

    def not_sent(self, connection: LoadConnection, error: OSError) -> None:
        """A send failed. What the server sent before can still be read, and may tell more.

        The kernel reports an RST once, to this send: the next receive finds an end, as after a FIN.
        """
        connection.unsent = memoryview(b"")
        while connection.state is State.OPEN:
            try:
                data = connection.receive(READ_BYTES)
            except BlockingIOError:
                data = b""
            except OSError as told:
                data, error = b"", told
            if not data:
                if error.errno == errno.EPIPE and connection.in_flight:
                    # The server had closed before, and has not reset the connection.
                    self._ended(connection)
                else:
                    self.broken(connection, error)
                return
            self._compare(connection, data)

    def deal(self) -> None:
        """Give each request that is due to a free connection or, if bound, to its own, which sends it when it can."""
        data, talkers = self.data, self.connections.talkers
        for _ in range(TURNS_BETWEEN_EVENTS):
            due, now = self.timetable.next_due(), clock()
            if due is None or now < due:
                return
            self.tally.note_turn(due, now - due)
            connection = talkers[data.dealt % len(talkers)] if self.plan.bound else self._next_free()
            data.dealt += 1
            if connection is not None and connection.state is State.OPEN:
                self.fill(connection, now)

    def never_sent(self, last: int) -> list[int]:
        """When each request was due that comes before turn `last` and was not sent."""
        due, talkers = self.timetable.due, self.connections.talkers
        if not self.plan.bound:
            return [due(turn) for turn in range(self.data.taken, last)]
        return [due(turn) for one in talkers for turn in range(one.turn, last, len(talkers))]
