"""Who is told what, and when a page counts as gone."""

from __future__ import annotations

import asyncio

import pytest

from iolab_client.playground.pages import Pages, TooMany


def test_who_comes_late_or_is_slow_is_told_the_newest_only() -> None:
    async def told() -> list[tuple[int, bytes]]:
        pages = Pages(2, 60, lambda page: None)
        with pages.present("a"):
            for snapshot in (b"1", b"2", b"3"):
                pages.publish(snapshot)
            found = [await pages.next(0)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pages.next(found[0][0]), 0.01)
            pages.publish(b"4")
            return [*found, await pages.next(found[0][0])]

    assert asyncio.run(told()) == [(3, b"3"), (4, b"4")]


def test_who_comes_when_nobody_was_there_is_not_told_what_was() -> None:
    async def told() -> None:
        pages = Pages(2, 60, lambda page: None)
        with pages.present("a"):
            pages.publish(b"old")
        with pages.present("b"), pytest.raises(TimeoutError):
            await asyncio.wait_for(pages.next(0), 0.01)

    asyncio.run(told())


def test_a_page_is_known_until_it_has_been_away_for_its_time() -> None:
    async def gone() -> list[str]:
        left: list[str] = []
        pages = Pages(2, 0.05, left.append)
        assert not pages.known("a")
        with pages.present("a"):
            assert pages.known("a")
        assert pages.known("a")
        assert left == []
        while not left:
            await asyncio.sleep(0.01)
        assert not pages.known("a")
        return left

    assert asyncio.run(asyncio.wait_for(gone(), 30)) == ["a"]


def test_no_more_pages_than_there_may_be() -> None:
    async def more() -> None:
        pages = Pages(1, 60, lambda page: None)
        with pages.present("a"), pytest.raises(TooMany, match="1 pages are open"), pages.present("b"):
            pass
        assert not pages.known("b")

    asyncio.run(more())
