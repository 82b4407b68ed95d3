"""What is sent, and what must come back: slices of one long random pattern and of its answer.

Each request begins one byte after the one before, so a slice is taken without making anything, and none of millions
is like another. The answered pattern is made once and not by the server's own means (see `payload`).
"""

from __future__ import annotations

from random import Random

from iolab_client.contract import payload
from iolab_client.results.measurement import Size

# As many requests go by before one comes again.
UNIQUE = 1 << 23
# Sizes are drawn in advance, this many.
_DRAWN = 1 << 14

# Where a request begins in the pattern, and its size; in bytes.
Request = tuple[int, int]


class Requests:
    """The requests of one process; another `seed` makes others, so that no two loads send the same."""

    def __init__(self, sizes: tuple[Size, ...], seed: str, oracle: payload.Oracle = payload.UPPER_CASE) -> None:
        length = UNIQUE + max(size.size for size in sizes)
        self.pattern = payload.make(length, seed=seed)
        # None: any bytes are taken for an answer, if there are as many as are due.
        self.answers = oracle.answer(self.pattern) if oracle.knows_bytes else None
        # They come again when all are used.
        self.sizes = [sizes[0].size]
        if len(sizes) > 1:
            shares = [size.share for size in sizes]
            self.sizes = Random(seed).choices([size.size for size in sizes], shares, k=_DRAWN)

    def request(self, number: int) -> Request:
        """One of them, counted from 0; they go on for ever."""
        return number % UNIQUE, self.sizes[number % len(self.sizes)]
