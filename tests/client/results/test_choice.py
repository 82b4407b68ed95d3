"""A choice rests on what was measured near by, and on nothing else."""

from __future__ import annotations

import pytest

from iolab_client.results.choice import Choice, Workload, choose, measured
from iolab_client.results.measurement import Run
from tests.client.runs import comparison, copy

MODELS = ("yardstick", "epoll_loop", "asyncio_streams", "task_queue")


@pytest.fixture(scope="module")
def run() -> Run:
    return comparison(MODELS, connections=(1, 64, 1024))


def chosen(run: Run, **wanted: float) -> Choice:
    asked = {"connections": 64, "rate": 5_000, "p99": 50_000, **wanted}
    return choose(measured({"results/one": run}), Workload(**asked))  # type: ignore[arg-type]


def test_those_that_do_what_is_wanted_come_first_the_cheapest_in_front(run: Run) -> None:
    found = chosen(run).candidates
    assert [(one.model, one.fits) for one in found] == [
        ("epoll_loop", True),
        ("asyncio_streams", True),
        ("task_queue", False),
    ]
    assert found[0].reason.startswith("it answers up to ")
    assert "open loop at 8,000/s" in found[0].reason
    assert found[0].source.startswith("results/one: 64 connections")
    assert "5,000 are wanted" in found[2].reason


def test_the_p99_of_an_open_loop_counts_before_that_of_the_closed_one(run: Run) -> None:
    assert not chosen(run, rate=5_000).candidates[0].closed
    only_closed = chosen(run, rate=30_000).candidates[0]
    assert only_closed.closed
    assert "closed loop" in only_closed.reason


def test_a_goal_that_nobody_meets_is_said_of_each(run: Run) -> None:
    found = chosen(run, p99=1).candidates
    assert not any(one.fits for one in found)
    assert all("its p99 is" in one.reason for one in found)


@pytest.mark.parametrize("wanted", [{"connections": 200}, {"size": 4096}, {"wait_ms": 5}, {"cpu_us": 100}])
def test_it_refuses_where_nothing_was_measured_near_by(run: Run, wanted: dict[str, float]) -> None:
    choice = chosen(run, **wanted)
    assert choice.candidates == []
    assert choice.nearest.startswith("measured were 1, 64, 1,024 connections, 64 bytes, answers that wait 0 ms")


def test_answers_that_wait_are_compared_with_those_that_did(run: Run) -> None:
    waiting = copy(run)
    waiting.models = {name: {"work": {"wait_ms": 10, "cpu_us": 0}} for name in MODELS}
    assert chosen(waiting, wait_ms=8).candidates[0].model == "epoll_loop"
    assert chosen(waiting).candidates == []


def test_what_is_not_valid_is_no_ground_for_a_choice(run: Run) -> None:
    wrong = copy(run)
    for one in wrong.measurements:
        if one.subject == "epoll_loop":
            one.errors.wrong = 1
            one.verdict = type(one.verdict)(word="ERRORS", reason="1 wrong")
    assert [one.model for one in chosen(wrong).candidates] == ["asyncio_streams", "task_queue"]
