"""Effects: by chance alone a report claims nothing, and what is there is found."""

from __future__ import annotations

import math
from random import Random

import pytest

from iolab_client.report.versus import versus
from iolab_client.results.effects import FALSE_ALARMS, independent, paired, student
from iolab_client.results.measurement import YARDSTICK, Run
from iolab_client.results.summary import places, summarise
from tests.client.runs import comparison, measurement, run_of

# Where a share of simulated reports is 5 %, less than this of 400 are to be seen in all but one in ten thousand trials.
MOST_OF_400 = 38


@pytest.mark.parametrize(
    ("probability", "freedom", "distance"),
    # The tables of any textbook.
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 4, 2.776), (0.95, 5, 2.571), (0.99, 6, 3.707), (0.999, 10, 4.587)],
)
def test_students_t_is_that_of_the_tables(probability: float, freedom: int, distance: float) -> None:
    assert student(probability, freedom) == pytest.approx(distance, abs=0.001)


def test_an_effect_is_the_median_of_the_rounds_ratios() -> None:
    effect = paired([100.0, 50.0, 80.0], [110.0, 60.0, 72.0], 1)
    assert effect
    assert effect.ratio == pytest.approx(1.1)
    assert effect.low < 1.1 < effect.high
    assert not effect.told_apart


def test_one_round_tells_nothing_apart_and_neither_does_a_zero() -> None:
    assert paired([1.0], [100.0], 1) is None
    assert independent([1.0], [100.0, 100.0], 1) is None
    assert paired([1.0, 0.0], [2.0, 2.0], 1) is None


def test_more_comparisons_make_wider_intervals() -> None:
    first, second = [1.0, 1.02, 0.99, 1.01], [1.1, 1.11, 1.12, 1.09]
    one, many = paired(first, second, 1), paired(first, second, 100)
    assert one
    assert many
    assert many.low < one.low < 1.1 < one.high < many.high


def noise(random: Random, share: float) -> float:
    return math.exp(random.gauss(0, share))


def test_of_reports_about_nothing_one_in_twenty_claims_something_also_when_the_machine_drifts() -> None:
    """Ten subjects of which none is another, in two runs; the machine is 5 % slower in the second."""
    random = Random(5)
    claims = 0
    for _ in range(400):
        claimed = False
        for _ in range(10):
            shares = []
            for drift in (1.0, 0.95):
                rounds = [(drift * noise(random, 0.05), noise(random, 0.03), noise(random, 0.03)) for _ in range(5)]
                shares.append([machine * one / (machine * unit) for machine, one, unit in rounds])
            effect = independent(shares[0], shares[1], 10)
            assert effect
            claimed = claimed or effect.told_apart
        claims += claimed
    assert claims < MOST_OF_400
    assert FALSE_ALARMS == 0.05


def test_of_rankings_of_equals_one_in_twenty_gives_more_than_one_place() -> None:
    random = Random(6)
    claims = 0
    for _ in range(400):
        values: dict[str, dict[int, float]] = {str(name): {} for name in range(6)}
        for number in range(5):
            machine = noise(random, 0.1)
            for rounds in values.values():
                rounds[number] = machine * noise(random, 0.03)
        claims += max(places(values, max, 15).values()) > 1
    assert claims < MOST_OF_400


def test_an_effect_of_five_percent_is_found_by_seven_rounds_in_four_of_five_reports() -> None:
    """The rounds' ratios vary by 3 %; what the machine does in a round, by a tenth, it does to both."""
    random = Random(7)
    found = 0
    for _ in range(400):
        rounds = [noise(random, 0.1) for _ in range(7)]
        first = [machine * noise(random, 0.03 / math.sqrt(2)) for machine in rounds]
        second = [1.05 * machine * noise(random, 0.03 / math.sqrt(2)) for machine in rounds]
        effect = paired(first, second, 1)
        assert effect
        found += effect.told_apart and effect.low > 1
    assert found > 320


def with_drift(seed: int, drift: float) -> Run:
    subjects = ["yardstick", "epoll_loop", "select_loop"]
    return comparison(subjects, rounds=7, connections=[64], rates=[], slower=drift, seed=seed)


def test_a_machine_that_became_slower_changes_no_report() -> None:
    """Whole reports, made of runs as `compare` writes them: everything, the yardstick too, costs 5 % more."""
    claims = 0
    for seed in range(10):
        found = versus(with_drift(2 * seed, 1.0), with_drift(2 * seed + 1, 1.05))
        claims += any(change.word in ("better", "worse") for pair in found.pairs for change in pair.changes)
        assert found.comparisons > 0
        assert YARDSTICK not in {pair.subject for pair in found.pairs}
    assert claims <= 3


def test_without_a_yardstick_nothing_is_judged() -> None:
    runs = [comparison(["epoll_loop"], connections=[64], rates=[], seed=seed) for seed in (1, 2)]
    found = versus(*runs)
    assert found.comparisons == 0
    assert {change.word for pair in found.pairs for change in pair.changes} == {"not judged"}
    assert "no yardstick" in found.pairs[0].doubt


def test_a_server_that_is_measured_twice_shows_what_the_machine_makes_of_nothing() -> None:
    rates = [(50e3, 49e3), (52e3, 53e3), (51e3, 51e3)]
    run = run_of(
        [
            measurement(subject=subject, rate=rate, round=number)
            for number, pair in enumerate(rates)
            for subject, rate in zip(("epoll_loop", "epoll_loop again"), pair, strict=True)
        ]
    )
    summary = summarise(run)
    (null,) = summary.null
    assert null.subject == "epoll_loop"
    assert null.ratio.low == pytest.approx(0.98)
    assert null.ratio.high == pytest.approx(53 / 52)
    assert [cell.rank for cell in summary.cells] == [1, None]
