"""What is sent, and what must come back: slices of one long random pattern and of its answer.

Each request begins one byte after the previous one, so that a slice costs nothing to make and no two of millions are
the same. The answer's pattern is made once, by other means than the server's (see `payload`).
"""

from __future__ import annotations

from random import Random

from iolab_client.contract import payload
from iolab_client.results.measurement import Size

# The number of requests before they repeat.
UNIQUE = 1 << 23
# Sizes are drawn in advance, this many.
_DRAWN = 1 << 14

# Where a request begins in the pattern, and its size; in bytes.
Request = tuple[int, int]


class Requests:
    """The requests of one process; another `seed` makes different ones, so that no two loads send the same."""

    def __init__(self, sizes: tuple[Size, ...], seed: str, oracle: payload.Oracle = payload.UPPER_CASE) -> None:
        length = UNIQUE + max(size.size for size in sizes)
        self.pattern = payload.make(length, seed=seed)
        # None: any bytes count as an answer, if their number is right.
        self.answers = oracle.answer(self.pattern) if oracle.knows_bytes else None
        # Used again from the start when all are used.
        self.sizes = [sizes[0].size]
        if len(sizes) > 1:
            shares = [size.share for size in sizes]
            self.sizes = Random(seed).choices([size.size for size in sizes], shares, k=_DRAWN)

    def request(self, number: int) -> Request:
        """The request of a number, counted from 0 without end."""
        return number % UNIQUE, self.sizes[number % len(self.sizes)]
