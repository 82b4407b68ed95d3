"""What the pages have opened: listed, and ended by whoever wants to, or when the page that did it has been away."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from iolab import log

# Things of all pages together; those that are over stay in the list until somebody ends them.
MOST = 100
# What ends takes no longer, or is left alone.
END_SECONDS = 5.0


class Thing:
    """Something that a page has opened. What it is, in words, is for those who inherit."""

    kind = ""

    def __init__(self, page: str, model: str, connections: int = 0) -> None:
        self.number = 0
        self.page = page
        self.model = model
        # How many it may have open, against the most that all may have.
        self.connections = connections

    def text(self) -> str:
        """What it is and how it goes, in a line."""
        raise NotImplementedError

    def more(self) -> dict[str, Any]:
        """What else the page is told of it."""
        return {}

    async def end(self) -> None:
        """End it."""
        raise NotImplementedError


class TooMuch(Exception):
    """More than may be at once. One line for the user."""


class Opened:
    """All that is open, of all pages."""

    def __init__(self, most_connections: int) -> None:
        self._most_connections = most_connections
        self._things: dict[int, Thing] = {}
        self._numbers = itertools.count(1)

    def check_room(self, connections: int) -> None:
        """Raise TooMuch where there is no room for a thing with so many connections."""
        if len(self._things) >= MOST:
            raise TooMuch(f"{MOST} things are open, and no more may be: end some")
        there = sum(thing.connections for thing in self._things.values())
        if there + connections > self._most_connections:
            raise TooMuch(
                f"{there} connections are open and {self._most_connections} may be: end some, or open fewer than"
                f" {self._most_connections - there + 1} (`connections` in playground.yaml)"
            )

    def add(self, thing: Thing) -> Thing:
        """Enter a thing, which then has a number. Raises TooMuch."""
        self.check_room(thing.connections)
        thing.number = next(self._numbers)
        self._things[thing.number] = thing
        return thing

    def of_kind(self, kind: type[Thing]) -> list[Thing]:
        """All of a kind."""
        return [thing for thing in self._things.values() if isinstance(thing, kind)]

    def shown(self) -> list[dict[str, Any]]:
        """All of them, as the pages are told."""
        return [
            {
                "number": thing.number,
                "page": thing.page,
                "kind": thing.kind,
                "model": thing.model,
                "text": thing.text(),
                **thing.more(),
            }
            for thing in self._things.values()
        ]

    async def end(self, number: int) -> bool:
        """End a thing; return whether there was one of that number."""
        thing = self._things.pop(number, None)
        if thing is None:
            return False
        try:
            async with asyncio.timeout(END_SECONDS):
                await thing.end()
        except (OSError, TimeoutError) as error:
            log.warning("not_ended", thing=thing.text(), error=str(error))
        return True

    async def end_page(self, page: str) -> None:
        """End all that a page has opened, the last first: a dial goes back when nobody waits by it any more."""
        await self._end_all([thing for thing in self._things.values() if thing.page == page])

    async def end_all(self) -> None:
        """End everything."""
        await self._end_all(list(self._things.values()))

    async def _end_all(self, things: list[Thing]) -> None:
        for thing in reversed(things):
            await self.end(thing.number)
