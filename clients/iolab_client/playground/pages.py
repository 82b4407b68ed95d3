"""The pages that are open: each has an event stream, and is told the newest snapshot and none of those before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator


class TooMany(Exception):
    """More than there may be. One line for the user."""


class Pages:
    """Who is there, and what they are told. `away` is called with a page that has been gone for `away_seconds`."""

    def __init__(self, most: int, away_seconds: float, away: Callable[[str], None]) -> None:
        self._most = most
        self._away_seconds = away_seconds
        self._away = away
        # By page: the streams it has, which are two for a moment when it comes back before the first is found broken.
        self._streams: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._someone = asyncio.Event()
        self._newest = b""
        self._number = 0
        self._news = asyncio.Event()
        # Nobody is told anything any more.
        self.closed = False

    def close(self) -> None:
        """Have all streams end."""
        self.closed = True
        self._news.set()

    def count(self) -> int:
        """How many streams are open."""
        return self._streams.total()

    def known(self, page: str) -> bool:
        """Whether it is there, or was a moment ago: what it opens is ended when it goes."""
        return page in self._streams or page in self._leaving

    async def someone(self) -> None:
        """Wait until a page is there."""
        await self._someone.wait()

    @contextlib.contextmanager
    def present(self, page: str) -> Iterator[None]:
        """The page is there while the block runs. Raises TooMany."""
        if self.count() >= self._most:
            raise TooMany(f"{self._most} pages are open, and no more may be: close one (`pages` in playground.yaml)")
        if timer := self._leaving.pop(page, None):
            timer.cancel()
        self._streams[page] += 1
        self._someone.set()
        try:
            yield
        finally:
            self._streams[page] -= 1
            if not self._streams[page]:
                del self._streams[page]
                self._leaving[page] = asyncio.get_running_loop().call_later(self._away_seconds, self._is_away, page)
            if not self._streams:
                self._someone.clear()
                # Nobody is asked from now on: who comes next is not to be shown what was.
                self._newest = b""

    def publish(self, snapshot: bytes) -> None:
        """Have everyone told this one next. Who is slow misses those in between."""
        self._newest = snapshot
        self._number += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def next(self, after: int) -> tuple[int, bytes]:
        """The newest snapshot and its number, once it is later than that."""
        while not self.closed and (self._number <= after or not self._newest):
            await self._news.wait()
        return self._number, self._newest

    def _is_away(self, page: str) -> None:
        del self._leaving[page]
        self._away(page)
