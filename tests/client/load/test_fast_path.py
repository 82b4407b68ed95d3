"""What the fast path counts in C is what is counted without it."""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from iolab_client.contract import payload
from iolab_client.load import buckets, fast_path, shared
from iolab_client.load.connection import LoadConnection, State
from iolab_client.load.fast_path import FastPath
from iolab_client.load.requests import Requests
from iolab_client.load.shared import FROM_SEND, LATENCY, Shared
from iolab_client.load.tally import Tally
from iolab_client.results.measurement import Size
from tests.support.missing import skip

SECOND = 10**9


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if not fast_path.is_there():
        skip("no C compiler: apt-get install gcc libc6-dev")


def test_a_rough_bucket_is_that_of_a_histogram_of_one_digit() -> None:
    for nanoseconds in (3_000, 47_123, 1_000_000, 59_999_999_999, buckets.HIGHEST_NS):
        counts = np.zeros((2, buckets.ROUGH_BUCKETS), np.int64)
        buckets.count_over_time(counts, np.array([1, 1]), np.array([nanoseconds, nanoseconds]))
        made = HdrHistogram(1, buckets.HIGHEST_NS, 1)
        made.record_value(nanoseconds, 2)
        found = buckets.over_time(counts, SECOND, 2 * SECOND)
        assert found.interval_seconds == 1
        assert found.histograms == ["", made.encode().decode()]


def test_a_bucket_is_that_of_the_histograms() -> None:
    random = Random(1)
    values = [0, 1, 1023, 1024, 2047, 2048, 2049, 4095, 4096, buckets.HIGHEST_NS - 1, buckets.HIGHEST_NS]
    values += [-1, buckets.HIGHEST_NS + 1, 1 << 62]
    values += [random.randrange(1 << random.randrange(1, 42)) for _ in range(10_000)]
    in_c = [fast_path.library().load_bucket(value) for value in values]

    assert in_c == buckets.index(np.array(values, np.int64)).tolist()


@pytest.fixture
def path() -> FastPath:
    """One that is lent three open connections, each with a request in flight since the second of its number."""
    path = FastPath(Requests((Size(size=64, share=1.0),), seed="0"), Shared(shared.create()))
    connections = []
    for number in range(3):
        one = LoadConnection(number, idle=False)
        one.state, one.descriptor, one.in_flight = State.OPEN, 10 + number, 1
        one.unsent = memoryview(b"")
        one.fly((0, 64, number * SECOND, number * SECOND))
        connections.append(one)
    path.begin(connections)
    for one in connections:
        path.lend(one)
    return path


def test_it_tells_who_waits_since_before_a_moment(path: FastPath) -> None:
    assert path.waits_since(0)
    assert not path.waits_since(1)


def test_one_that_is_not_lent_may_wait_for_longer_than_it_knows(path: FastPath) -> None:
    one = LoadConnection(0, idle=False)
    one.state, one.descriptor = State.OPEN, 10
    path.take_back(one)

    assert one.in_flight
    assert not path.waits_since(0)


def test_connections_that_could_not_be_made_wait_for_nothing() -> None:
    path = FastPath(Requests((Size(size=64, share=1.0),), seed="0"), Shared(shared.create()))
    refused, made = LoadConnection(0, idle=False), LoadConnection(1, idle=False)
    path.begin([refused])
    assert path.waits_since(SECOND)
    made.state, made.descriptor, made.in_flight, made.unsent = State.OPEN, 10, 1, memoryview(b"")
    made.fly((0, 64, SECOND, SECOND))
    path.begin([made, refused])
    path.lend(made)
    # The one that was not made has no row, and the last one is not its.
    assert path.waits_since(SECOND)
    assert not path.waits_since(2 * SECOND)


def books_of(counts: Any, begin: int, end: int, **how: bool) -> tuple[Tally, Shared]:
    """Empty books."""
    memory = Shared(shared.create())
    return Tally(memory, counts, begin, end, **how), memory


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("only_new", [True, False])
def test_what_is_noted_counts_if_it_is_of_the_measured_time(planned: bool, only_new: bool) -> None:
    begin, end = 10 * SECOND, 12 * SECOND
    books, memory = books_of(fast_path.Counts(), begin, end, planned=planned, only_new=only_new)
    if only_new and not planned:
        books.note(9 * SECOND, 9 * SECOND, begin + 1, 64)
        books.start(begin)
    random = Random(7)
    notes = []
    for _ in range(9_999):
        due = random.randrange(9 * SECOND, 13 * SECOND)
        sent = due + random.randrange(SECOND) if planned else due
        notes.append((due, sent, sent + random.randrange(SECOND), random.randrange(1, 1000)))
        books.note(*notes[-1])
    books.count()

    # What was in flight at the end is waited for: it counts for the latency, and not for the rate.
    counted = [one for one in notes if begin <= one[2] and one[1] < end and (not only_new or one[0] >= begin)]
    in_time = [one for one in counted if one[2] < end]
    counts = books.counts
    assert counts.answers == len(in_time) == books.steps.sum()
    assert memory.over_time.sum() == len(in_time)
    moments = Counter((done - begin) * shared.INTERVALS // (end - begin) for _, _, done, _ in in_time)
    assert memory.over_time.sum(axis=1).tolist() == [moments[moment] for moment in range(shared.INTERVALS)]
    assert counts.late == len(counted) - len(in_time) > 0
    assert memory.histograms[LATENCY].sum() == len(counted)
    assert memory.histograms[FROM_SEND].sum() == planned * len(counted)
    assert counts.received_bytes == sum(size for *_, size in in_time)
    assert counts.sent == sum(begin <= sent < end for _, sent, _, _ in notes)
    assert counts.latency_ns == sum(done - due for due, _, done, _ in counted)
    assert counts.from_send_ns == planned * sum(done - sent for _, sent, done, _ in counted)
    assert counts.sent_bytes == sum(size for _, sent, _, size in notes if begin <= sent < end)
    assert counts.flight_ns == sum(max(0, min(done, end) - max(sent, begin)) for _, sent, done, _ in notes)


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("only_new", [True, False])
# Seconds from the answer to the measured time's begin and end, and to when the request was due and sent.
@pytest.mark.parametrize(("begin", "end"), [(-9, -3), (-9, 9), (-2, 9), (3, 9)])
@pytest.mark.parametrize(("due", "sent"), [(-8, -8), (-8, -7), (-1, -1), (-4, -1)])
def test_an_answer_in_c_is_counted_as_its_note_is(
    planned: bool, only_new: bool, begin: int, end: int, due: int, sent: int
) -> None:
    requests = Requests((Size(size=64, share=1.0),), seed="0")
    path = FastPath(requests, Shared(shared.create()))
    path.data.left, path.data.period = 0, 1e12 if planned else 0.0
    path.data.dealt = path.data.last_turn = path.data.processes = 1
    now = time.monotonic_ns()
    edges = now + begin * SECOND, now + end * SECOND
    in_c, memory_of_c = books_of(path.data.counts, *edges, planned=planned, only_new=only_new)
    noted, memory_of_notes = books_of(fast_path.Counts(), *edges, planned=planned, only_new=only_new)
    for books in (in_c, noted):
        books.start(edges[0])
    ours, server = socket.socketpair()
    with ours, server, select.epoll() as poller:
        ours.setblocking(False)
        poller.register(ours, select.EPOLLIN | select.EPOLLET)
        one = LoadConnection(0, idle=False)
        one.use(ours)
        one.state, one.in_flight, one.turn = State.OPEN, 1, 1
        one.fly((0, 64, now + due * SECOND, now + sent * SECOND))
        path.begin([one])
        path.lend(one)
        server.sendall(payload.answer(requests.pattern[:64]))
        while not path.data.total:
            assert path.run(poller.fileno(), time.monotonic_ns() + SECOND // 1000) == fast_path.NOTHING
        path.take_back(one)
    assert one.answered_at >= now
    noted.note(now + due * SECOND, now + sent * SECOND, one.answered_at, 64)
    noted.count()

    for field in [name for name, *_ in fast_path.Counts._fields_][:-5]:
        assert getattr(in_c.counts, field) == getattr(noted.counts, field), field
    assert in_c.steps.tolist() == noted.steps.tolist()
    for mine, other in zip(memory_of_c.histograms, memory_of_notes.histograms, strict=True):
        assert mine.tolist() == other.tolist()
    assert memory_of_c.over_time.tolist() == memory_of_notes.over_time.tolist()
    assert memory_of_c.over_time.sum() == in_c.counts.answers


def test_it_tells_how_long_it_waits_for_what_is_due() -> None:
    path = FastPath(Requests((Size(size=64, share=1.0),), seed="0"), Shared(shared.create()))
    path.data.period, path.data.last_turn = 1e9, 0
    path.begin([])
    with select.epoll() as poller:
        begun = time.monotonic_ns()
        assert path.run(poller.fileno(), begun + SECOND // 20) == fast_path.NOTHING
        assert 0 < path.data.waited <= time.monotonic_ns() - begun
