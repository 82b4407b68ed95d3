"""Ring 0: what the server does with bytes."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from iolab.work import Work

LOWER = bytes(range(ord("a"), ord("z") + 1))


def test_ascii_letters_are_raised_and_every_other_value_is_untouched() -> None:
    answer = Work().respond(bytes(range(256)))
    assert len(answer) == 256
    for value, got in enumerate(answer):
        assert got == (value - 32 if value in LOWER else value)


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=20))
def test_it_does_not_matter_how_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    session = Work()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join(session.respond(piece) for piece in pieces) == session.respond(stream)


def test_the_dial_burns_processor_time_of_its_own_thread() -> None:
    session = Work(cpu_us=20_000)
    before = time.thread_time()
    assert session.respond(b"a") == b"A"
    assert time.thread_time() - before >= 0.020


def test_the_dial_waits_in_the_way_that_it_is_given() -> None:
    waits: list[float] = []
    answer = Work(wait_ms=250).answer(waits.append)
    assert answer(b"a") == b"A"
    assert waits == [0.25]


def test_without_a_dial_nothing_stands_before_the_answer() -> None:
    assert Work().answer(lambda _seconds: None) is bytes.upper
