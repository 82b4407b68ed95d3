"""What one process notes of each answer, and how it is counted: a few numbers kept now, everything else later.

The notes are counted some thousands at a time, by numpy, so that a long load needs no more memory than a short one
and no count stops the loop for longer than a few answers take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from iolab_client.load import buckets
from iolab_client.load.fast_path import ROOM
from iolab_client.load.shared import FROM_SEND, LAG, LATENCY, Shared

# The steps in which answers are counted over time, unless a load is so long that there would be too many.
STEP_NS = 1_000_000
_MOST_STEPS = 100_000

Numbers = npt.NDArray[np.int64]


class Books:
    """The notes and counts of one process. All times are nanoseconds of the monotonic clock.

    An answer counts if it came in the measured time; with `only_new`, if its request is of that time, too. The notes
    are those of the fast path, whose `data` knows where they are.
    """

    def __init__(self, shared: Shared, data: Any, begin: int, end: int, *, planned: bool, only_new: bool):
        self.begin = begin
        self.end = end
        self.answers = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.flight_ns = 0
        self.latency_ns = 0
        self.last_done = 0
        self.from_send_ns = 0
        self.step_ns = max(STEP_NS, -(-(end - begin) // _MOST_STEPS))
        self.steps = np.zeros(-(-(end - begin) // self.step_ns), np.int64)
        # Of each answer: when its request was due and sent, when it was there, and its size.
        self._due, self._sent, self._done, self._sizes = np.zeros((4, ROOM), np.int64)
        # Of each request of the timetable: when it was due, and how much later that was seen.
        self._turns, self._late = np.zeros((2, ROOM), np.int64)
        data.due, data.sent, data.done = (array.ctypes.data for array in (self._due, self._sent, self._done))
        data.done_sizes = self._sizes.ctypes.data
        data.turns, data.late = self._turns.ctypes.data, self._late.ctypes.data
        self._data = data
        self._histograms = shared.histograms
        self._planned = planned
        self._only_new = only_new

    @property
    def full(self) -> bool:
        """Whether there is no room for another note."""
        return bool(self._data.noted == ROOM or self._data.turns_noted == ROOM)

    def note(self, due: int, sent: int, done: int, size: int) -> None:
        """Note an answer."""
        place = self._data.noted
        self._due[place], self._sent[place], self._done[place], self._sizes[place] = due, sent, done, size
        self._data.noted = place + 1
        self._data.total += 1
        if place + 1 == ROOM:
            self.count()

    def note_turn(self, due: int, late: int) -> None:
        """Note a request of the timetable."""
        place = self._data.turns_noted
        self._turns[place], self._late[place] = due, late
        self._data.turns_noted = place + 1
        if place + 1 == ROOM:
            self.count()

    def count(self) -> None:
        """Count what was noted."""
        self._count_lag()
        noted, self._data.noted = self._data.noted, 0
        sent, done, sizes = self._sent[:noted], self._done[:noted], self._sizes[:noted]
        due = self._due[:noted] if self._planned else sent
        self.sent_bytes += int(sizes[(sent >= self.begin) & (sent < self.end)].sum())
        self.flight_ns += int(np.maximum(np.minimum(done, self.end) - np.maximum(sent, self.begin), 0).sum())
        counted = (done >= self.begin) & (done < self.end)
        if self._only_new:
            counted &= due >= self.begin
        if not counted.all():
            sent, done, due, sizes = sent[counted], done[counted], due[counted], sizes[counted]
        if not len(done):
            return
        self.answers += len(done)
        self.last_done = max(self.last_done, int(done.max()))
        self.received_bytes += int(sizes.sum())
        steps = (done - self.begin) // self.step_ns
        first = int(steps.min())
        found = np.bincount(steps - first)
        self.steps[first : first + len(found)] += found
        taken = done - due
        self.latency_ns += int(taken.sum())
        buckets.count(self._histograms[LATENCY], taken)
        if self._planned:
            taken = done - sent
            self.from_send_ns += int(taken.sum())
            buckets.count(self._histograms[FROM_SEND], taken)

    def _count_lag(self) -> None:
        noted, self._data.turns_noted = self._data.turns_noted, 0
        if noted:
            turns, late = self._turns[:noted], self._late[:noted]
            buckets.count(self._histograms[LAG], late[(turns >= self.begin) & (turns < self.end)])

    def still_due(self, due: list[int]) -> None:
        """Requests without an answer at the end of the measured time: each has waited so long at least.

        Left out, a server that answers nobody any more would have the best latency.
        """
        waited = np.array([self.end - each for each in due if self.begin <= each < self.end], np.int64)
        if len(waited):
            self.latency_ns += int(waited.sum())
            buckets.count(self._histograms[LATENCY], waited)

    def unanswered(self, sent: int, now: int, size: int) -> None:
        """A request was in flight from `sent` to `now`, without an answer."""
        self.flight_ns += max(min(now, self.end) - max(sent, self.begin), 0)
        if self.begin <= sent < self.end:
            self.sent_bytes += size
