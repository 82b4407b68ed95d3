"""Three system calls that tell who is ready, behind the methods of select.epoll: what `epoll_loop` can be told to use.

The interest and the events are the bits of poll(2), which epoll(7) shares. `selectors` of the standard library offers
the same choice, but builds an object for each event: that cost 6 % of an answer, measured as benchmarks/README.md says.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Protocol

from iolab.sockets.readiness import READ, WRITE


class Selector(Protocol):
    """What an event loop asks who is ready; select.epoll has this shape."""

    def register(self, fd: int, eventmask: int) -> None:
        """Watch a descriptor."""

    def modify(self, fd: int, eventmask: int) -> None:
        """Watch it for something else."""

    def unregister(self, fd: int) -> None:
        """Watch it no more."""

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Wait until some are ready, or for `timeout` seconds; return descriptors and events."""

    def close(self) -> None:
        """Give back what it holds."""


class PollSelector:
    """poll(2): the whole list is handed to the kernel at each call, but with no limit to descriptor numbers."""

    def __init__(self) -> None:
        poll = select.poll()
        self._poll = poll.poll
        self.register, self.modify, self.unregister = poll.register, poll.modify, poll.unregister

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Wait; poll(2) counts in milliseconds."""
        return self._poll(None if timeout is None else timeout * 1000)

    def close(self) -> None:
        """Nothing: the kernel keeps nothing between two calls."""


class SelectSelector:
    """select(2): three sets of bits, one for each descriptor number below 1024."""

    def __init__(self) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def register(self, fd: int, eventmask: int) -> None:
        """Watch a descriptor."""
        (self._readers.add if eventmask & READ else self._readers.discard)(fd)
        (self._writers.add if eventmask & WRITE else self._writers.discard)(fd)

    modify = register

    def unregister(self, fd: int) -> None:
        """Watch it no more."""
        self.register(fd, 0)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Wait. A descriptor that is readable and writable comes once."""
        readable, writable, _ = select.select(self._readers, self._writers, (), timeout)
        return [(fd, READ | WRITE) for fd in {*readable, *writable}]

    def close(self) -> None:
        """Nothing: the kernel keeps nothing between two calls."""


SELECTORS: dict[str, Callable[[], Selector]] = {
    "epoll": select.epoll,
    "poll": PollSelector,
    "select": SelectSelector,
}
