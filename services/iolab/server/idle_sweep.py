"""The sweep: when a server looks for idle connections, and by which clock it measures their silence."""

from __future__ import annotations

import time

# With ten looks a connection ends at most a tenth of `idle_seconds` late.
LOOKS = 10


class IdleSweep:
    """One server's looks for idle connections, `seconds` apart; 0: there are none."""

    def __init__(self, idle_seconds: float) -> None:
        self.seconds = idle_seconds / LOOKS
        self.due_at = time.monotonic() + self.seconds
        self._clock = 0.0
        self._last_look = time.monotonic()

    def is_due(self) -> bool:
        """Whether a look is due; if so, set when the next one is."""
        if not self.seconds or time.monotonic() < self.due_at:
            return False
        self.due_at = time.monotonic() + self.seconds
        return True

    def clock(self) -> float:
        """The clock that measures the clients' silence, in seconds; to be read once for each look at all of them.

        It advances by two sweeps at most: in a longer turn the server was busy, and read nothing.
        """
        now = time.monotonic()
        self._clock += min(now - self._last_look, 2 * self.seconds)
        self._last_look = now
        return self._clock
