"""The timetable of an open loop: when each request is due, and which one is the next to be sent.

Requests are numbered in the order in which they are due, the process's own from 0. One is *dealt* once it is due, and
*taken* when a connection has room for it: any connection that is free, or, if the plan binds them, the one whose turn
it is. Times are nanoseconds of the monotonic clock.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from iolab_client.results.measurement import POISSON, Plan

SECOND = 1_000_000_000
# Gaps between arrivals that are drawn; then they come again.
_DRAWN = 1 << 16


class Timetable:
    """When the requests of one process are due. `data` is shared with the fast path, which deals them too."""

    def __init__(self, plan: Plan, process: int, data: Any) -> None:
        self.rate = plan.rate
        self.data = data
        data.period = SECOND / plan.rate if plan.rate else 0.0
        data.processes, data.process = plan.processes, process
        data.bound = plan.bound
        # Where arrivals are random: when each of the drawn ones is due after the first, and all of them together.
        self._arrivals = np.zeros(0)
        if plan.rate and plan.arrivals == POISSON:
            random = Random(f"{plan.seed} arrivals of {process}")
            mean = data.period * plan.processes
            gaps = np.array([random.expovariate(1) for _ in range(_DRAWN)])
            self._arrivals = np.concatenate(([0.0], np.cumsum(gaps * (mean / gaps.mean()))))
            data.arrivals, data.arrivals_count = self._arrivals.ctypes.data, _DRAWN

    def start(self, moment: int) -> None:
        """The first request is due then."""
        self.data.first_due = moment

    def due(self, turn: int) -> int:
        """When a request is due: evenly, with the processes taking turns; or after gaps that are drawn."""
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
        """When the next request is due that nobody was given; None: there is none any more."""
        data = self.data
        return None if data.dealt >= data.last_turn else self.due(data.dealt)
