"""What one process counts of each answer. The fast path does it in C, answer by answer; the same is here for the rest.

There a few numbers are noted of each answer, and counted some thousands at a time by numpy, so that a long load needs
no more memory than a short one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from iolab_client.load import buckets
from iolab_client.load.shared import FROM_SEND, LAG, LATENCY, Shared

# The steps in which answers are counted over time, unless a load is so long that there would be too many.
STEP_NS = 1_000_000
_MOST_STEPS = 100_000
# Notes before they are counted.
_ROOM = 4096
# Before the measured time begins, where that is not known in advance.
_NEVER = 1 << 62


class Books:
    """The counts of one process. All times are nanoseconds of the monotonic clock.

    An answer counts if it came in the measured time; with `only_new`, if its request is of that time, too. The measured
    time begins at `begin` if there is a timetable (`planned`), or any request may be counted; else when `start` says.
    """

    def __init__(self, shared: Shared, counts: Any, begin: int, end: int, *, planned: bool, only_new: bool):
        # `Counts` of the fast path.
        self.counts = counts
        self.begin = begin
        self.step_ns = max(STEP_NS, -(-(end - begin) // _MOST_STEPS))
        self.steps = np.zeros(-(-(end - begin) // self.step_ns), np.int64)
        counts.begin, counts.end = _NEVER if only_new and not planned else begin, end
        counts.only_new = only_new
        counts.step_ns, counts.steps = self.step_ns, self.steps.ctypes.data
        counts.latency, counts.from_send, counts.lag = (
            shared.histograms[which].ctypes.data for which in (LATENCY, FROM_SEND, LAG)
        )
        self._histograms = shared.histograms
        self._planned = planned
        # Of each answer: when its request was due and sent, when it was there, and its size.
        self._notes: list[tuple[int, int, int, int]] = []
        # Of each request of the timetable: how late it was seen to be due.
        self._late: list[int] = []

    @property
    def end(self) -> int:
        """When the measured time ends."""
        return int(self.counts.end)

    @end.setter
    def end(self, end: int) -> None:
        self.count()
        self.counts.end = end

    def start(self, now: int) -> None:
        """The measured time begins now: all that came until now, and all that was sent, is of the warm-up."""
        self.count()
        self.begin = self.counts.begin = now

    def note(self, due: int, sent: int, done: int, size: int) -> None:
        """Note an answer."""
        self._notes.append((due, sent, done, size))
        if len(self._notes) == _ROOM:
            self.count()

    def note_turn(self, due: int, late: int) -> None:
        """Note how late it was seen that a request of the timetable was due."""
        if self.begin <= due < self.end:
            self._late.append(late)

    def count(self) -> None:
        """Count what was noted."""
        if self._late:
            buckets.count(self._histograms[LAG], np.array(self._late, np.int64))
            self._late.clear()
        if not self._notes:
            return
        counts, begin, end = self.counts, self.counts.begin, self.counts.end
        due, sent, done, sizes = np.array(self._notes, np.int64).T
        self._notes.clear()
        counts.sent_bytes += int(sizes[(sent >= begin) & (sent < end)].sum())
        counts.flight_ns += int(np.maximum(np.minimum(done, end) - np.maximum(sent, begin), 0).sum())
        counted = (done >= begin) & (done < end)
        if counts.only_new:
            counted &= due >= begin
        due, sent, done, sizes = due[counted], sent[counted], done[counted], sizes[counted]
        if not len(done):
            return
        counts.answers += len(done)
        counts.last_done = max(counts.last_done, int(done.max()))
        counts.received_bytes += int(sizes.sum())
        np.add.at(self.steps, (done - begin) // self.step_ns, 1)
        counts.latency_ns += int((done - due).sum())
        buckets.count(self._histograms[LATENCY], done - due)
        if self._planned:
            counts.from_send_ns += int((done - sent).sum())
            buckets.count(self._histograms[FROM_SEND], done - sent)

    def still_due(self, due: list[int]) -> None:
        """Requests without an answer at the end of the measured time: each has waited so long at least.

        Left out, a server that answers nobody any more would have the best latency.
        """
        waited = np.array([self.end - each for each in due if self.begin <= each < self.end], np.int64)
        if len(waited):
            self.counts.latency_ns += int(waited.sum())
            buckets.count(self._histograms[LATENCY], waited)

    def unanswered(self, sent: int, now: int, size: int) -> None:
        """A request was in flight from `sent` to `now`, without an answer."""
        counts = self.counts
        counts.flight_ns += max(min(now, counts.end) - max(sent, counts.begin), 0)
        if counts.begin <= sent < counts.end:
            counts.sent_bytes += size
