"""What is reported of a load while it runs, and its end by Ctrl-C."""

from __future__ import annotations

import msgspec

from iolab_client.results.measurement import Measurement


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A load so far. Latencies are microseconds."""

    # The phase: connecting, warm-up, measuring or closing.
    phase: str
    # Time since the measured time began, and the planned length.
    seconds: float
    of_seconds: float
    connected: int
    # All answers so far, and the latest rate per second.
    answers: int
    rate: float
    # In the measured time; None before there is an answer.
    p50: float | None
    p99: float | None
    errors: int
    # Processors that the server kept busy lately; None if that was not asked for or is not known.
    server_busy: float | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended the load. `measurement` is what was measured until then."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__("the load was interrupted")
        self.measurement = measurement
