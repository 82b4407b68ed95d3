"""How two spots compare: by more than chance, and by more than a server differs from itself."""

from __future__ import annotations

import math

from iolab_client.results.summary import AGAIN
from iolab_client.trial.seen import Course, Point, Seen


def of(**sides: tuple[float, ...]) -> Seen:
    return Seen(
        [
            Point(side=side.replace("__again", AGAIN), at=1, round=number, values={"rate": value})
            for side, values in sides.items()
            for number, value in enumerate(values)
        ]
    )


def test_a_steady_difference_is_told_either_way() -> None:
    seen = of(slow=(100, 110, 90), fast=(200, 221, 179), slow__again=(101, 110, 90))
    assert seen.factor("rate", ("slow", 1), ("fast", 1)).above() is True
    assert seen.factor("rate", ("fast", 1), ("slow", 1)).above() is False
    assert seen.factor("rate", ("slow", 1), ("fast", 1)).above(1.5) is True
    assert seen.factor("rate", ("slow", 1), ("fast", 1)).above(3) is False


def test_chance_is_not_told() -> None:
    seen = of(one=(100, 100, 100), other=(90, 115, 104))
    assert seen.factor("rate", ("one", 1), ("other", 1)).above() is None


def test_what_is_within_the_spread_of_the_twins_is_not_told_however_steady_it_is() -> None:
    seen = of(one=(100, 100, 100), other=(110, 110, 110), one__again=(100, 80, 100))
    assert seen.spread("rate") == 1.25
    assert seen.factor("rate", ("one", 1), ("other", 1)).above() is None
    assert of(one=(100, 100, 100), other=(110, 110, 110)).factor("rate", ("one", 1), ("other", 1)).above() is True


def test_one_round_tells_nothing_of_a_factor() -> None:
    factor = of(one=(100,), other=(300,)).factor("rate", ("one", 1), ("other", 1))
    assert factor.above() is None
    assert not factor.at_most(10)


def test_at_most_needs_the_whole_interval() -> None:
    steady = of(one=(100, 100, 100), other=(102, 101, 103)).factor("rate", ("one", 1), ("other", 1))
    assert steady.at_most(1.1)
    wild = of(one=(100, 100, 100), other=(102, 60, 150)).factor("rate", ("one", 1), ("other", 1))
    assert not wild.at_most(1.1)


def test_the_more_is_compared_the_more_it_takes() -> None:
    seen = of(one=(100, 100, 100), other=(110, 114, 106))
    assert seen.factor("rate", ("one", 1), ("other", 1), 1).above() is True
    assert seen.factor("rate", ("one", 1), ("other", 1), 20).above() is None


def test_it_turns_between_the_nearest_places_that_are_told() -> None:
    turning = Course(told=[(0, False), (1, None), (2, True), (5, True)])
    assert turning.turn() == (0, 2)
    assert turning.always() is None
    steady = Course(told=[(0, False), (1, None)])
    assert steady.turn() is None
    assert steady.always() is False
    assert Course(told=[(0, None)]).always() is None


def test_the_twin_is_no_side_and_what_was_not_measured_is_not_a_number() -> None:
    seen = of(one=(100,), one__again=(90,))
    assert seen.sides() == ["one"]
    assert math.isnan(seen.median(("two", 1), "rate"))
