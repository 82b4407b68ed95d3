"""Latencies counted in bulk in an HdrHistogram's buckets: up to an hour, with a precision of a thousandth.

Buckets are numbered as in Gil Tene's HdrHistogram (hdrhistogram.org), but for thousands of values at once; the package
of that name takes values one by one, which costs more than a request.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from iolab_client.results.measurement import Latency
from iolab_client.results.recorded import latency_of

HIGHEST_NS = 3600 * 10**9
DIGITS = 3
# 2048 steps in the first octave, enough for three digits; 1024 in each later one, twice as wide as before.
_HALF_BITS = 10
BUCKETS = ((HIGHEST_NS.bit_length() - _HALF_BITS - 1) + 2) << _HALF_BITS

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


def lowest(bucket: int) -> int:
    """The least value of a bucket, in nanoseconds."""
    octave = max((bucket >> _HALF_BITS) - 1, 0)
    return (bucket - (octave << _HALF_BITS)) << octave


def histogram(counts: Values) -> HdrHistogram:
    """The same counts as an HdrHistogram."""
    made = HdrHistogram(1, HIGHEST_NS, DIGITS)
    for bucket in np.flatnonzero(counts).tolist():
        made.record_value(lowest(bucket), int(counts[bucket]))
    return made


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
