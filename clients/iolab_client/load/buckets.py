"""Latencies counted in bulk in an HdrHistogram's buckets: up to an hour, with a precision of a thousandth.

Buckets are numbered as in Gil Tene's HdrHistogram (hdrhistogram.org), but for thousands of values at once; the package
of that name takes values one by one, which costs more than a request.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from iolab_client.results.measurement import Latency, OverTime
from iolab_client.results.recorded import latency_of

HIGHEST_NS = 3600 * 10**9
DIGITS = 3
# 2048 steps in the first octave, enough for three digits; 1024 in each later one, twice as wide as before.
_HALF_BITS = 10
BUCKETS = ((HIGHEST_NS.bit_length() - _HALF_BITS - 1) + 2) << _HALF_BITS

# Over time a latency is told to one digit: so many of the steps above make one of these, which then are those of an
# HdrHistogram of one digit.
ROUGH_DIGITS = 1
ROUGH_BITS = 6
ROUGH_BUCKETS = BUCKETS >> ROUGH_BITS

Values = npt.NDArray[np.int64]


def index(values: Values) -> Values:
    """The bucket of each value, in nanoseconds."""
    values = np.clip(values, 0, HIGHEST_NS)
    # frexp's exponent is the bit length, exact up to 2**53.
    octave = np.maximum(np.frexp(values.astype(np.float64))[1] - (_HALF_BITS + 1), 0).astype(np.int64)
    return cast(Values, (octave << _HALF_BITS) + (values >> octave))


def count(counts: Values, values: Values) -> None:
    """Add nanoseconds to the counts."""
    # Most buckets are above the slowest value, and are not touched.
    found = np.bincount(index(values))
    counts[: len(found)] += found


def count_over_time(counts: Values, moments: Values, values: Values) -> None:
    """Add nanoseconds to the rough counts of the interval that each belongs to."""
    np.add.at(counts, (moments, index(values) >> ROUGH_BITS), 1)


def lowest(bucket: int) -> int:
    """The least value of a bucket, in nanoseconds."""
    octave = max((bucket >> _HALF_BITS) - 1, 0)
    return (bucket - (octave << _HALF_BITS)) << octave


def histogram(counts: Values, *, rough: bool = False) -> HdrHistogram:
    """The same counts as an HdrHistogram."""
    made = HdrHistogram(1, HIGHEST_NS, ROUGH_DIGITS if rough else DIGITS)
    for bucket in np.flatnonzero(counts).tolist():
        made.record_value(lowest(bucket << ROUGH_BITS if rough else bucket), int(counts[bucket]))
    return made


def over_time(counts: Values, interval_ns: int, length_ns: int) -> OverTime:
    """What the rough counts say of the intervals that a measured time of that length had."""
    intervals = counts[: -(-length_ns // interval_ns)]
    return OverTime(
        interval_seconds=interval_ns / 1e9,
        histograms=[histogram(each, rough=True).encode().decode() if each.any() else "" for each in intervals],
    )


def percentile(counts: Values, percent: float) -> float | None:
    """Microseconds that this percentage of the values does not exceed; None if there are no values."""
    cumulated = np.cumsum(counts)
    total = int(cumulated[-1])
    if not total:
        return None
    bucket = int(np.searchsorted(cumulated, max(1, np.ceil(total * percent / 100))))
    return (lowest(bucket + 1) - 1) / 1000


def latency(counts: Values, total_ns: int) -> Latency:
    """The latency of the counts, with the mean from the exact total."""
    number = int(counts.sum())
    return latency_of(histogram(counts), total_ns / number / 1000 if number else 0.0)
