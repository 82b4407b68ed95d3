"""What is sent, and what must come back: slices of one long random pattern and of its answer.

Each request begins one byte after the one before, so a slice is taken without making anything, and none of millions
is like another. The answered pattern is made once and not by the server's own means (see `payload`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, repeat
from random import Random

from iolab_client import payload
from iolab_client.measurement import Size

# As many requests go by before one comes again.
UNIQUE = 1 << 23
# Sizes are drawn in advance, this many.
_DRAWN = 1 << 14

# Where a request begins in the pattern, and its size; in bytes.
Request = tuple[int, int]


class Requests:
    """The requests of one process, which are like those of no other process."""

    def __init__(self, sizes: tuple[Size, ...], process: int) -> None:
        length = UNIQUE + max(size.size for size in sizes)
        self.pattern = payload.make(length, seed=process)
        self.answers = payload.answer(self.pattern)
        self.one_size = sizes[0].size if len(sizes) == 1 else None
        self._sizes = sizes
        self._process = process

    def __iter__(self) -> Iterator[Request]:
        """They go on for ever."""
        places = chain.from_iterable(repeat(range(UNIQUE)))
        return zip(places, self._drawn(), strict=False)

    def _drawn(self) -> Iterator[int]:
        if self.one_size is not None:
            return repeat(self.one_size)
        chosen = Random(self._process).choices(
            [size.size for size in self._sizes], [size.share for size in self._sizes], k=_DRAWN
        )
        return cycle(chosen)
