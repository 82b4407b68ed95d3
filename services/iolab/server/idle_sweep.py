"""The sweep: when a server looks for idle connections, and by which clock it measures their silence."""

from __future__ import annotations

import time

# Ten looks bring a connection's end to within a tenth of `idle_seconds`.
LOOKS = 10


class IdleSweep:
    """The looks of one server; `seconds` between two of them, 0 if there are none."""

    def __init__(self, idle_seconds: float) -> None:
        self.seconds = idle_seconds / LOOKS
        self.due_at = time.monotonic() + self.seconds
        self._clock = 0.0
        self._last_look = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for a look; if so, the next one is due a while later."""
        if not self.seconds or time.monotonic() < self.due_at:
            return False
        self.due_at = time.monotonic() + self.seconds
        return True

    def clock(self) -> float:
        """The clock of the clients' silence, in seconds; to be asked once for each look at all of them.

        It goes on by two sweeps at most: in a turn that took longer the server was busy, and heard nobody.
        """
        now = time.monotonic()
        self._clock += min(now - self._last_look, 2 * self.seconds)
        self._last_look = now
        return self._clock
