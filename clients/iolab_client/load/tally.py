"""What one process counts for each answer. The fast path counts in C, answer by answer; this does the same elsewhere.

A few numbers are noted for each answer, and numpy counts some thousands at a time, so that a long load needs no more
memory than a short one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from iolab_client.load import buckets
from iolab_client.load.shared import FROM_SEND, INTERVALS, LAG, LATENCY, Shared

# The steps in which answers are counted over time; longer if a load would have too many.
STEP_NS = 1_000_000
_MOST_STEPS = 100_000
# How many notes are kept before they are counted.
_ROOM = 4096
# The begin of the measured time while it is not known.
_NEVER = 1 << 62


class Tally:
    """The counts of one process. All times are nanoseconds of the monotonic clock.

    An answer counts if it came in the measured time and, with `only_new`, if its request is of that time too. Requests
    in flight at the end of that time are waited for, and their latencies count; those that get no answer are censored:
    they have waited at least that long. The measured time begins at `begin` if there is a timetable (`planned`), or if
    any request may be counted; else when `start` is called.
    """

    def __init__(self, shared: Shared, counts: Any, begin: int, end: int, *, planned: bool, only_new: bool):
        # `Counts` of the fast path.
        self.counts = counts
        self.begin = begin
        self.step_ns = max(STEP_NS, -(-(end - begin) // _MOST_STEPS))
        self.steps = np.zeros(-(-(end - begin) // self.step_ns), np.int64)
        self.interval_ns = max(1, -(-(end - begin) // INTERVALS))
        self._over_time = shared.over_time
        counts.begin, counts.end = _NEVER if only_new and not planned else begin, end
        counts.only_new = only_new
        counts.step_ns, counts.steps = self.step_ns, self.steps.ctypes.data
        counts.interval_ns, counts.over_time = self.interval_ns, shared.over_time.ctypes.data
        counts.rough_buckets = buckets.ROUGH_BUCKETS
        counts.latency, counts.from_send, counts.lag = (
            shared.histograms[which].ctypes.data for which in (LATENCY, FROM_SEND, LAG)
        )
        self._histograms = shared.histograms
        self._planned = planned
        # Requests without an answer, and the shortest time that one of them has waited.
        self.censored = 0
        self.censored_from = _NEVER
        # Those of them that were due and never sent.
        self.unsent = 0
        # For each answer: when its request was due and sent, when it was there, and its size.
        self._notes: list[tuple[int, int, int, int]] = []
        # For each request of the timetable: how late it was seen to be due.
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
        """Begin the measured time now: all that was sent or came before belongs to the warm-up."""
        self.count()
        self.begin = self.counts.begin = now

    def note(self, due: int, sent: int, done: int, size: int) -> None:
        """Note an answer."""
        self._notes.append((due, sent, done, size))
        if len(self._notes) == _ROOM:
            self.count()

    def note_turn(self, due: int, late: int) -> None:
        """Note how late a request of the timetable was seen to be due."""
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
        sent_now = (sent >= begin) & (sent < end)
        counts.sent += int(sent_now.sum())
        counts.sent_bytes += int(sizes[sent_now].sum())
        counts.flight_ns += int(np.maximum(np.minimum(done, end) - np.maximum(sent, begin), 0).sum())
        counted = (done >= begin) & (sent < end)
        if counts.only_new:
            counted &= due >= begin
        due, sent, done, sizes = due[counted], sent[counted], done[counted], sizes[counted]
        if not len(done):
            return
        in_time = done < end
        if in_time.any():
            counts.answers += int(in_time.sum())
            counts.last_done = max(counts.last_done, int(done[in_time].max()))
            counts.received_bytes += int(sizes[in_time].sum())
            np.add.at(self.steps, (done[in_time] - begin) // self.step_ns, 1)
            moments, took = (done[in_time] - begin) // self.interval_ns, (done - due)[in_time]
            buckets.count_over_time(self._over_time, moments, took)
        counts.late += int((~in_time).sum())
        counts.latency_ns += int((done - due).sum())
        buckets.count(self._histograms[LATENCY], done - due)
        if self._planned:
            counts.from_send_ns += int((done - sent).sum())
            buckets.count(self._histograms[FROM_SEND], done - sent)

    def counts_for(self, due: int, done: int) -> bool:
        """Whether an answer that came at `done` counts for the measured time."""
        return self.begin <= done < self.end and (not self.counts.only_new or due >= self.begin)

    def never_sent(self, due: list[int]) -> None:
        """Count requests that were due in the measured time and found no room: each has waited at least until its end.

        Without them a server that stops answering would have the best latency.
        """
        waited = [self.end - each for each in due if self.begin <= each < self.end]
        self.unsent += len(waited)
        self._censor(LATENCY, waited)

    def unanswered(self, due: int, sent: int, now: int, size: int, *, failed: bool) -> None:
        """Count a request in flight from `sent` to `now` without an answer; `failed`: none can come any more."""
        counts = self.counts
        counts.flight_ns += max(min(now, counts.end) - max(sent, counts.begin), 0)
        if counts.begin <= sent < counts.end:
            counts.sent += 1
            counts.sent_bytes += size
        if not failed and sent < counts.end and now >= counts.begin and not (counts.only_new and due < counts.begin):
            self._censor(LATENCY, [now - due])
            if self._planned:
                self._censor(FROM_SEND, [now - sent])

    def _censor(self, which: int, waited: list[int]) -> None:
        if not waited:
            return
        buckets.count(self._histograms[which], np.array(waited, np.int64))
        if which == LATENCY:
            self.counts.latency_ns += sum(waited)
            self.censored += len(waited)
            self.censored_from = min(self.censored_from, *waited, _NEVER)
        else:
            self.counts.from_send_ns += sum(waited)
