"""The timetable of an open loop: when each request is due, and which one is sent next.

Each process numbers its requests from 0, in the order in which they are due. One is *dealt* when it is due, and *taken*
when a connection has room for it: any free connection or, if the plan binds them, the one whose turn it is. Times are
nanoseconds of the monotonic clock.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from iolab_client.results.measurement import POISSON, Plan

SECOND = 1_000_000_000
# How many gaps between arrivals are drawn before they repeat.
_DRAWN = 1 << 16


class Timetable:
    """When the requests of one process are due. `data` is shared with the fast path, which deals them too."""

    def __init__(self, plan: Plan, process: int, data: Any) -> None:
        self.rate = plan.rate
        self.data = data
        data.period = SECOND / plan.rate if plan.rate else 0.0
        data.processes, data.process = plan.processes, process
        data.bound = plan.bound
        # For random arrivals: when each drawn one is due after the first, and the length of the whole series.
        self._arrivals = np.zeros(0)
        if plan.rate and plan.arrivals == POISSON:
            random = Random(f"{plan.seed} arrivals of {process}")
            mean = data.period * plan.processes
            gaps = np.array([random.expovariate(1) for _ in range(_DRAWN)])
            self._arrivals = np.concatenate(([0.0], np.cumsum(gaps * (mean / gaps.mean()))))
            data.arrivals, data.arrivals_count = self._arrivals.ctypes.data, _DRAWN

    def start(self, moment: int) -> None:
        """Set when the first request is due."""
        self.data.first_due = moment

    def due(self, turn: int) -> int:
        """When a request is due: at even intervals, with the processes taking turns; or after random gaps."""
        data = self.data
        if len(self._arrivals):
            again, drawn = divmod(turn, _DRAWN)
            return int(data.first_due) + int(again * self._arrivals[-1] + self._arrivals[drawn])
        return int(data.first_due) + int((turn * data.processes + data.process) * data.period)

    def before(self, moment: int) -> int:
        """How many requests are due before a moment."""
        low, high = 0, 1
        while self.due(high) < moment:
            low, high = high, 2 * high
        while low < high:
            middle = (low + high) // 2
            if self.due(middle) < moment:
                low = middle + 1
            else:
                high = middle
        return low

    def next_due(self) -> int | None:
        """When the next request is due that is not dealt yet; None: there is none."""
        data = self.data
        return None if data.dealt >= data.last_turn else self.due(data.dealt)
