"""Memory that a process of the generator writes and its parent reads while the load runs: counters and histograms.

Each number has one writer and eight aligned bytes, so that a reader sees it whole without a lock.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt

from iolab_client.load.buckets import BUCKETS, ROUGH_BUCKETS

Counts = npt.NDArray[np.int64]

# The places of the counters.
CONNECTED, ANSWERS, ERRORS, OPEN = range(4)
_HEADER = 8
# Histograms: latency from when a request was due, and from when it was sent; how late it was seen to be due; the time
# to connect, and from then to the first answer.
LATENCY, FROM_SEND, LAG, CONNECT, FIRST = range(5)
_HISTOGRAMS = 5
# Equal intervals of the measured time, of which the latencies are told apart.
INTERVALS = 40
BYTES = 8 * (_HEADER + _HISTOGRAMS * BUCKETS + INTERVALS * ROUGH_BUCKETS)


def create() -> int:
    """A descriptor of new shared memory, all zero. Only pages that are written cost memory."""
    descriptor = os.memfd_create("iolab-load")
    os.ftruncate(descriptor, BYTES)
    return descriptor


class Shared:
    """The memory behind a descriptor."""

    def __init__(self, descriptor: int) -> None:
        numbers = np.frombuffer(mmap.mmap(descriptor, BYTES), np.int64)
        self.counters: Counts = numbers[:_HEADER]
        histograms, over_time = np.split(numbers[_HEADER:], [_HISTOGRAMS * BUCKETS])
        self.histograms: tuple[Counts, ...] = tuple(histograms.reshape(_HISTOGRAMS, BUCKETS))
        # Rough counts of each interval.
        self.over_time: Counts = over_time.reshape(INTERVALS, ROUGH_BUCKETS)
