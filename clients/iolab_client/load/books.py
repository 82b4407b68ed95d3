"""What one process notes of each answer, and how it is counted: a few numbers appended now, everything else later.

The notes are counted some thousands at a time, by numpy, so that a long load needs no more memory than a short one
and no count stops the loop for longer than a few answers take.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iolab_client.load import buckets
from iolab_client.load.shared import FROM_SEND, LAG, LATENCY, Shared

# Counted when there are so many.
FULL = 4096
# The steps in which answers are counted over time, unless a load is so long that there would be too many.
STEP_NS = 1_000_000
_MOST_STEPS = 100_000

Numbers = npt.NDArray[np.int64]


def _taken(notes: list[int]) -> Numbers:
    numbers = np.fromiter(notes, np.int64, len(notes))
    # In place: the loop holds on to it.
    notes.clear()
    return numbers


class Books:
    """The notes and counts of one process. All times are nanoseconds of the monotonic clock.

    An answer counts if it came in the measured time; with `only_new`, if its request is of that time, too.
    """

    def __init__(self, shared: Shared, begin: int, end: int, *, planned: bool, one_size: int | None, only_new: bool):
        self.begin = begin
        self.end = end
        self.answers = 0
        self.noted = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.flight_ns = 0
        self.latency_ns = 0
        self.last_done = 0
        self.from_send_ns = 0
        self.step_ns = max(STEP_NS, -(-(end - begin) // _MOST_STEPS))
        self.steps = np.zeros(-(-(end - begin) // self.step_ns), np.int64)
        # Of each answer: when its request was due (open loop) and sent, when it was there, and its size, if they vary.
        self.due: list[int] = []
        self.sent: list[int] = []
        self.done: list[int] = []
        self.sizes: list[int] = []
        # Of each request of the timetable: when it was due, and how much later that was seen.
        self.turns: list[int] = []
        self.late: list[int] = []
        self._histograms = shared.histograms
        self._planned = planned
        self._one_size = one_size
        self._only_new = only_new

    def count(self) -> None:
        """Count what was noted."""
        self._count_lag()
        if not self.done:
            return
        sent, done = _taken(self.sent), _taken(self.done)
        due = _taken(self.due) if self._planned else sent
        sizes = _taken(self.sizes) if self._one_size is None else np.full(len(done), self._one_size, np.int64)
        self.noted += len(done)
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
        if self.turns:
            turns, late = _taken(self.turns), _taken(self.late)
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
