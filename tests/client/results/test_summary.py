"""What measurements come to, checked against numbers worked out by hand."""

from __future__ import annotations

import msgspec
import pytest

from iolab_client.results.measurement import (
    CLIENT_BOUND,
    ERRORS,
    INCONSISTENT,
    UNSTABLE,
    VALID,
    YARDSTICK,
    Errors,
    Generator,
    Measurement,
    Plan,
    Run,
)
from iolab_client.results.summary import Cell, Interval, coverage, interval, summarise
from tests.client.runs import measurement, run_of

BUSY = Generator(processes=1, cpus=(1,), cpu_seconds=9.9, busy=0.99)


def only(run: Run) -> Cell:
    (cell,) = summarise(run).cells
    return cell


def rounds_of(subject: str, rates: list[float], **fields: object) -> list[Measurement]:
    return [
        measurement(subject=subject, rate=rate, round=number, **fields)  # type: ignore[arg-type]
        for number, rate in enumerate(rates)
    ]


def cell_of(run: Run, subject: str) -> Cell:
    return next(cell for cell in summarise(run).cells if cell.subject == subject)


def test_five_rounds_hold_the_median_between_least_and_greatest_with_93_75_percent() -> None:
    found = interval([3.0, 1.0, 2.0, 5.0, 4.0])
    assert found == Interval(median=3.0, low=1.0, high=5.0, coverage=0.9375, rounds=5)


@pytest.mark.parametrize(
    ("count", "rank", "expected"),
    [(1, 1, 0.0), (2, 1, 0.5), (3, 1, 0.75), (6, 1, 0.96875), (8, 2, 1 - 18 / 256), (11, 3, 1 - 134 / 2048)],
)
def test_an_interval_is_the_narrowest_that_covers_nine_tenths(count: int, rank: int, expected: float) -> None:
    found = interval([float(value) for value in range(1, count + 1)])
    assert (found.low, found.high) == (rank, count + 1 - rank)
    assert found.coverage == pytest.approx(expected)
    if expected >= 0.9:
        assert coverage(count, rank + 1) < 0.9


def test_an_even_number_has_its_median_between_the_middle_two() -> None:
    assert interval([1.0, 2.0, 4.0, 9.0]).median == 3.0


def test_no_value_has_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_each_number_of_a_cell_is_the_median_of_its_rounds() -> None:
    rates = [40_000.0, 42_000.0, 41_000.0, 44_000.0, 43_000.0]
    cell = only(run_of(rounds_of("epoll_loop", rates, cost=10.0, memory=2000)))
    assert (cell.rate.low, cell.rate.median, cell.rate.high) == (40_000.0, 42_000.0, 44_000.0)
    assert cell.cost
    assert cell.cost.median == pytest.approx(10.0)
    assert cell.voluntary_switches
    assert cell.voluntary_switches.median == pytest.approx(1 / 64, rel=1e-4)
    assert cell.involuntary_switches
    assert cell.involuntary_switches.median == pytest.approx(0.001)
    assert cell.memory_bytes
    assert cell.memory_bytes.median == 30_000_000 + 64 * 2000
    assert cell.memory_per_connection
    assert cell.memory_per_connection.median == 2000
    assert (cell.answered_connections.median, cell.open_connections.median, cell.rounds) == (64, 64, 5)
    latencies = [one.latency for one in rounds_of("epoll_loop", rates)]
    for name in ("p50", "p90", "p99", "p99_9", "max"):
        values = sorted(getattr(one, name) for one in latencies)
        assert getattr(cell, name).median == values[2]


def test_what_is_not_known_is_null_and_stops_nothing() -> None:
    cell = only(run_of([measurement(cost=None)]))
    assert (cell.cost, cell.memory_bytes, cell.voluntary_switches, cell.cost_rank) == (None, None, None, None)
    assert cell.verdict.word == VALID


def test_loads_that_differ_are_cells_of_their_own() -> None:
    plans = [Plan(), Plan(connections=8), Plan(pipeline=4), Plan(rate=1000.0), Plan(churn=10), Plan(idle=100)]
    run = run_of([measurement(rate=1000.0, plan=plan) for plan in plans for _ in range(2)])
    assert [cell.rounds for cell in summarise(run).cells] == [2] * 6


def test_a_share_is_paired_with_the_yardstick_of_its_own_round() -> None:
    # The machine was half as fast in the second round: the share is the same in both.
    yardstick = rounds_of(YARDSTICK, [100_000.0, 50_000.0, 80_000.0], cost=8.0)
    model = rounds_of("epoll_loop", [80_000.0, 40_000.0, 60_000.0], cost=10.0)
    cell = cell_of(run_of(yardstick + model), "epoll_loop")
    assert cell.share_by_rate
    assert (cell.share_by_rate.low, cell.share_by_rate.median, cell.share_by_rate.high) == (0.75, 0.8, 0.8)
    assert cell.share_by_cost
    assert cell.share_by_cost.median == pytest.approx(0.8)
    assert cell.share_note == ""


def test_rounds_without_a_yardstick_have_no_share() -> None:
    run = run_of([*rounds_of("epoll_loop", [1000.0] * 3), measurement(subject=YARDSTICK, rate=2000.0, round=1)])
    cell = cell_of(run, "epoll_loop")
    assert cell.share_by_rate
    assert cell.share_by_rate.rounds == 1
    assert cell_of(run, YARDSTICK).share_by_rate is None
    assert only(run_of([measurement()])).share_by_rate is None


def test_a_yardstick_that_the_client_bound_makes_the_share_by_rate_an_upper_bound() -> None:
    yardstick = rounds_of(YARDSTICK, [100_000.0] * 2, cost=8.0)
    yardstick.append(measurement(subject=YARDSTICK, rate=100_000.0, cost=8.0, generator=BUSY, round=2))
    note = cell_of(run_of(yardstick + rounds_of("epoll_loop", [80_000.0] * 3)), "epoll_loop").share_note
    assert "CLIENT-BOUND in 1 of 3 rounds" in note
    assert "upper bound" in note


def test_a_yardstick_that_failed_is_told_with_the_share() -> None:
    yardstick = [measurement(subject=YARDSTICK, errors=Errors(reset=1))]
    assert (
        "the yardstick was ERRORS in 1 of 1 rounds"
        in cell_of(run_of([*yardstick, measurement()]), "epoll_loop").share_note
    )


@pytest.mark.parametrize(
    ("field", "word"), [({"errors": Errors(wrong=1)}, ERRORS), ({"received_bytes": 1 << 40}, INCONSISTENT)]
)
def test_a_fault_in_one_round_is_the_cells(field: dict[str, object], word: str) -> None:
    group = [*rounds_of("epoll_loop", [50_000.0] * 4), measurement(round=4, **field)]  # type: ignore[arg-type]
    verdict = only(run_of(group)).verdict
    assert verdict.word == word
    assert verdict.reason.startswith("in 1 of 5 rounds: ")


def test_a_median_withstands_a_minority_that_the_client_bound() -> None:
    bound = [measurement(generator=BUSY, round=number) for number in range(3)]
    fine = rounds_of("epoll_loop", [50_000.0] * 3)
    verdict = only(run_of(fine + bound[:1])).verdict
    assert verdict.word == VALID
    assert "not so 1: CLIENT-BOUND" in verdict.reason
    assert only(run_of(fine + bound)).verdict.word == CLIENT_BOUND


def test_rounds_that_lie_wide_apart_are_unstable() -> None:
    assert only(run_of(rounds_of("epoll_loop", [90.0e3, 100.0e3, 110.0e3], cost=5.0))).verdict.word == VALID
    verdict = only(run_of(rounds_of("epoll_loop", [80.0e3, 100.0e3, 120.0e3], cost=5.0))).verdict
    assert verdict.word == UNSTABLE
    assert verdict.reason == "the rate lies between 80,000 and 120,000 answers/s, 40% of its median: more than 30%"


def test_an_open_loops_rate_is_given_and_its_latency_may_not_lie_wide_apart() -> None:
    plan = Plan(rate=1000.0)
    group = [measurement(plan=plan, rate=1000.0, mean=mean) for mean in (200.0, 400.0, 900.0)]
    verdict = only(run_of(group)).verdict
    assert verdict.word == UNSTABLE
    assert verdict.reason.startswith("the p50 lies between")


def test_one_round_says_that_nothing_is_known_of_its_spread() -> None:
    assert "one round" in only(run_of([measurement()])).verdict.reason


def test_only_valid_cells_have_a_place_and_those_not_told_from_its_best_share_it() -> None:
    run = run_of(
        [
            *rounds_of(YARDSTICK, [200e3] * 5, cost=4.0),
            *rounds_of("io_uring_ring", [96e3, 98e3, 100e3, 101e3, 102e3], cost=6.0),
            *rounds_of("epoll_loop", [93e3, 101e3, 94e3, 102e3, 97e3], cost=7.0),
            *rounds_of("select_loop", [75e3, 76e3, 78e3, 79e3, 79e3], cost=8.0),
            *rounds_of("busy_poll", [150e3] * 5, cost=6.0, errors=Errors(wrong=1)),
        ]
    )
    cells = {cell.subject: (cell.rank, cell.cost_rank) for cell in summarise(run).cells}
    # Round by round epoll_loop is now above and now below, select_loop always below.
    assert cells == {
        YARDSTICK: (None, None),
        "io_uring_ring": (1, 1),
        "epoll_loop": (1, 2),
        "select_loop": (3, 3),
        "busy_poll": (None, None),
    }


def test_an_open_loop_is_ranked_by_its_p99() -> None:
    plan = Plan(rate=1000.0)
    slow, fast = (
        [measurement(subject=subject, plan=plan, rate=1000.0, mean=mean + r, round=r) for r in range(5)]
        for subject, mean in (("busy_poll", 900.0), ("epoll_loop", 300.0))
    )
    run = run_of(slow + fast)
    assert (cell_of(run, "epoll_loop").rank, cell_of(run, "busy_poll").rank) == (1, 2)


def test_a_summary_is_of_the_run_alone() -> None:
    run = run_of(rounds_of("epoll_loop", [1000.0] * 5))
    assert msgspec.to_builtins(summarise(run)) == msgspec.to_builtins(summarise(run))
    assert summarise(run_of([])).cells == []
