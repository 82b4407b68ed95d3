"""What is told of a load while it runs, and how it ends before its time."""

from __future__ import annotations

import msgspec

from iolab_client.results.measurement import Measurement


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A load so far. Latencies are microseconds."""

    # What it is at: connecting, warm-up, measuring or closing.
    phase: str
    # Since the measured time began, and how long that is to be.
    seconds: float
    of_seconds: float
    connected: int
    # All so far, and those of the last moment as a rate per second.
    answers: int
    rate: float
    # Of the measured time; None before there is an answer.
    p50: float | None
    p99: float | None
    errors: int
    # Processors that the server kept busy of late; None where nobody asked or it is not known.
    server_busy: float | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended the load. `measurement` is what there is until then."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__("the load was interrupted")
        self.measurement = measurement
