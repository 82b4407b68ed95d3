"""Histograms as arrays, for the percentiles of hundreds at once.

The package hdrhistogram walks over all buckets, most of them empty, for every percentile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from iolab_client.results.measurement import Latency

# Nanoseconds in a microsecond.
NANOSECONDS = 1000.0


def latency_of(histogram: HdrHistogram, mean: float) -> Latency:
    """The latency of a histogram of nanoseconds, in microseconds, with a more exact mean; zeros if it is empty."""
    number = histogram.get_total_count()

    def at(percent: float) -> float:
        return float(histogram.get_value_at_percentile(percent) / NANOSECONDS) if number else 0.0

    return Latency(
        count=number,
        mean=mean,
        min=histogram.get_min_value() / NANOSECONDS if number else 0.0,
        p50=at(50),
        p90=at(90),
        p99=at(99),
        p99_9=at(99.9),
        max=histogram.get_max_value() / NANOSECONDS if number else 0.0,
        histogram=histogram.encode().decode(),
    )


class Recorded:
    """All that is in one or several histograms of the same kind, in microseconds."""

    def __init__(self, histograms: Iterable[str]) -> None:
        """Of histograms as the bundle has them. Raises ValueError if there are none, or one can't be decoded."""
        histogram: HdrHistogram | None = None
        counts = np.zeros(0, dtype=np.int64)
        for text in histograms:
            decoded = HdrHistogram.decode(text)
            own = np.array(decoded.counts[: decoded.counts_len], dtype=np.int64)
            counts = own if histogram is None else counts + own
            histogram = decoded
        if histogram is None:
            raise ValueError("no histogram")
        self._buckets, self._sub_buckets = histogram.bucket_count, histogram.sub_bucket_count
        used = np.flatnonzero(counts)
        lowest = [histogram.get_value_from_index(int(index)) for index in used]
        highest = [histogram.get_highest_equivalent_value(value) for value in lowest]
        self._counts = counts[used]
        self._highest = np.array(highest, dtype=np.float64) / NANOSECONDS
        self._middle = (np.array(lowest, dtype=np.float64) + np.array(highest)) / 2 / NANOSECONDS
        self._until = np.cumsum(self._counts)
        self.count = int(self._until[-1]) if len(used) else 0

    def at(self, quantile: float) -> float:
        """The latency that this share of the answers did not exceed, to three digits; 0 if there are none."""
        return float(self._highest[self._place(quantile)]) if self.count else 0.0

    def between(self, bounds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """How many lie between each two neighbours of ascending bounds."""
        until = np.concatenate(([0], self._until))[np.searchsorted(self._middle, bounds)]
        return np.diff(until)

    def percentiles(self, ticks: int = 5) -> str:
        """HdrHistogram's text: values in µs, with `ticks` lines for each halving of the distance to 100 %."""
        lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
        for quantile in _levels(ticks) if self.count else ():
            place = self._place(quantile)
            until = int(self._until[place])
            lines.append(f"{self._highest[place]:12.3f} {quantile:2.12f} {until:10d} {1 / (1 - quantile):14.2f}")
            if until == self.count:
                lines.append(f"{self._highest[place]:12.3f} {1:2.12f} {until:10d}")
                break
        mean = float(np.average(self._middle, weights=self._counts)) if self.count else 0.0
        squares = float(np.average((self._middle - mean) ** 2, weights=self._counts)) if self.count else 0.0
        lines.append(f"#[Mean    = {mean:12.3f}, StdDeviation   = {math.sqrt(squares):12.3f}]")
        lines.append(f"#[Max     = {self.at(1):12.3f}, TotalCount     = {self.count:12d}]")
        lines.append(f"#[Buckets = {self._buckets:12d}, SubBuckets     = {self._sub_buckets:12d}]")
        return "\n".join(lines) + "\n"

    def _place(self, quantile: float) -> int:
        # Rounded first: 0.9 of 10 is the 9th, also if floating point gives slightly more.
        return int(np.searchsorted(self._until, max(1, math.ceil(round(quantile * self.count, 6)))))


def _levels(ticks: int) -> Iterator[float]:
    """Quantiles from 0 towards 1, with `ticks` steps for each halving of the distance to 1."""
    level = 0.0
    while level < 1:
        yield level
        halvings = math.floor(math.log2(1 / (1 - level))) + 1
        level += 1 / (ticks * 2**halvings)
