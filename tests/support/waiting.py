"""Waiting for a condition, with a deadline: what the tests have in place of sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

# Generous: a deadline is there to end a test that failed, not to judge speed.
DEADLINE_SECONDS = 60.0
# Between the first two looks; each further pause is longer, up to the last, because a look costs both sides something.
LOOK_SECONDS = 0.01
LAST_LOOK_SECONDS = 0.25
LOOK_FACTOR = 1.6

Seen = TypeVar("Seen")


def eventually(look: Callable[[], Seen | None], what: str, *, seconds: float = DEADLINE_SECONDS) -> Seen:
    """Look until `look` shows something true, and return it. AssertionError with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    step = LOOK_SECONDS
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; the last look showed {seen!r}")
        pause(step)
        step = min(step * LOOK_FACTOR, LAST_LOOK_SECONDS)
    return seen


def for_a_while(seconds: float, step: float = 0.05) -> Iterator[float]:
    """Yield the elapsed seconds once every `step` until `seconds` have passed: for what has to hold all that time."""
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        yield elapsed
        pause(step)


def pause(seconds: float) -> None:
    """Let `seconds` pass, between two looks."""
    threading.Event().wait(seconds)
