"""What a load cost the server, where its admin port answers late: a look counts for when the server counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from iolab_client.load.conductor import SECOND, _Answered, _use
from iolab_client.servers import admin, metrics
from iolab_client.servers.metrics import Metrics
from iolab_client.servers.targets import Target
from tests.support.models import as_process, only
from tests.support.server import RunningServer

BEGIN = 100.0


def answered(seconds: float = 2.0, each_step: int = 10) -> _Answered:
    """A thousand answers a second, evenly, in steps of ten milliseconds."""
    report: Any = SimpleNamespace(step_ns=SECOND // 100, steps=[each_step] * round(seconds * 100))
    return _Answered([cast(Any, report)], round(BEGIN * SECOND), round((BEGIN + seconds) * SECOND))


def seen(at: float, *, cpu_seconds: float, received_bytes: int, counted_at: float | None = None) -> Metrics:
    counters = metrics.Counters(
        open=0,
        waiting=0,
        accept_queue=0,
        accepted=0,
        refused=0,
        answers=0,
        received_bytes=received_bytes,
        sent_bytes=received_bytes,
    )
    return Metrics(
        at=at,
        counted_at=at if counted_at is None else counted_at,
        cpu_seconds=cpu_seconds,
        voluntary_switches=0,
        involuntary_switches=0,
        memory_bytes=0,
        threads=1,
        processes=1,
        cpus=(),
        waited_seconds=None,
        counters=counters,
    )


def test_answers_are_those_between_the_moments_of_counting() -> None:
    assert answered().between(BEGIN, BEGIN + 2) == 2000
    assert answered().between(BEGIN + 0.5, BEGIN + 1.5) == 1000
    # Nothing came before the measured time, nor after it.
    assert answered().between(BEGIN - 1, BEGIN + 9) == 2000


def test_a_look_that_came_late_makes_no_answer_dearer() -> None:
    alone = seen(90, cpu_seconds=0, received_bytes=0)
    # The first look counted after half a second; the second one, when all was over.
    first = seen(BEGIN + 0.5, cpu_seconds=0.5, received_bytes=500 * 64)
    second = seen(BEGIN + 2.7, cpu_seconds=2.0, received_bytes=2000 * 64)
    used = _use(alone, first, second, answered())
    assert (used.seconds, used.answers, used.received_bytes) == (1.5, 1500, 1500 * 64)
    assert used.cost == pytest.approx(1000)
    assert used.busy == pytest.approx(1.0)


def test_bytes_that_were_counted_at_another_moment_than_the_processor_time_are_put_in_proportion() -> None:
    alone = seen(90, cpu_seconds=0, received_bytes=0)
    first = seen(BEGIN + 0.5, cpu_seconds=0.5, received_bytes=250 * 64, counted_at=BEGIN + 0.25)
    second = seen(BEGIN + 2.0, cpu_seconds=2.0, received_bytes=2000 * 64)
    used = _use(alone, first, second, answered())
    assert used.received_bytes == 1500 * 64


@as_process
@only("epoll_loop", "prefork_epoll")
def test_the_server_stamps_what_it_counts_and_another_clock_is_not_believed(server: RunningServer) -> None:
    target = Target(model=server.model, address=server.address, admin=server.admin_address)
    text = admin.fetch(target, "/metrics")
    at = metrics.understand(target, text, asked_at=0, at=1e9)
    assert 0 < at.counted_at < 1e9
    assert 0 < at.at < 1e9
    other = metrics.understand(target, text, asked_at=at.at + 1, at=at.at + 2)
    assert (other.at, other.counted_at) == (at.at + 2, at.at + 2)
    now = metrics.read(target)
    assert at.at < now.at
