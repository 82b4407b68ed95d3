"""Every claim says what it is, in five fields, and a trial judges by its points and by nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from iolab.configs import load
from iolab.registry import MODELS
from iolab_client.compare.places import Processes, Started
from iolab_client.results.measurement import NOISY, STARVED, Machine, Measurement, Plan
from iolab_client.servers.targets import Target
from iolab_client.trial import claim as claims
from iolab_client.trial import trials
from iolab_client.trial.bench import Bench, Means, Side, write_configs
from iolab_client.trial.finding import CANNOT_TELL, HOLDS
from iolab_client.trial.seen import Point
from tests.client.runs import measurement


@pytest.mark.parametrize("name", claims.names())
def test_a_claim_says_what_it_is_in_the_five_fields(name: str) -> None:
    claim = claims.find(name)
    assert ": " in claim.title
    assert claim.claim.endswith(".")
    assert all(len(text) > 20 for text in (claim.claim, claim.source, claim.method, claim.decides))
    assert "HOLDS if" in claim.decides
    assert "FAILS if" in claim.decides
    quick, full = claim.costs
    assert 0 < quick < full
    assert claim.shows.draws in claim.shows.values


def test_the_constants_of_a_claim_are_its_own() -> None:
    constants = claims.find("pool-cap").constants
    assert constants["CLIENTS"] == "(2, 4, 8, 16)"
    assert set(constants) == {"WORKERS", "CLIENTS", "POOL", "THREADS"}


def test_all_of_them_end_in_ten_minutes() -> None:
    assert sum(claims.find(name).costs[0] for name in claims.names()) <= 600


def test_a_name_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(KeyError, match=r"no experiment is called 'pool_cup'; there are: .*pool-cap"):
        claims.find("pool_cup")


def test_what_is_missing_is_cannot_tell_with_its_name() -> None:
    finding = trials.judged(claims.find("pool-cap"), [], "strace is not installed")
    assert (finding.word, finding.why) == (CANNOT_TELL, "Something is missing: strace is not installed.")


def test_a_wrong_answer_is_no_ground_for_a_verdict() -> None:
    points = [Point(side="blocking_pool", at=2, round=1, values={"answered": 2}, doubt="ERRORS: 3 errors (3 wrong)")]
    finding = trials.judged(claims.find("pool-cap"), points)
    assert finding.word == CANNOT_TELL
    assert "blocking_pool was ERRORS: 3 errors (3 wrong)" in finding.why


@pytest.mark.parametrize(("noisy", "word"), [(8, CANNOT_TELL), (4, CANNOT_TELL), (3, HOLDS)])
def test_what_was_measured_on_a_busy_machine_is_no_ground_either(noisy: int, word: str) -> None:
    points = [
        Point(
            side=side,
            at=at,
            round=1,
            values={"answered": min(at, 4) if side == "blocking_pool" else at},
            doubt="NOISY: others kept 1.5 processors busy" if number < noisy else "",
        )
        for number, (side, at) in enumerate(
            (side, at) for side in ("blocking_pool", "thread_per_connection") for at in (2, 4, 8, 16)
        )
    ]
    finding = trials.judged(claims.find("pool-cap"), points)
    assert finding.word == word
    assert "4 of 16" in finding.why
    assert (f"{noisy} of 8 measurements were NOISY: others" in finding.why) == (word == CANNOT_TELL)


def test_a_server_reads_the_built_in_defaults_and_what_the_experiment_sets(tmp_path: Path) -> None:
    write_configs(tmp_path, MODELS["epoll_loop"], {"work": {"wait_ms": 7}, "backlog": 3})
    settings = load(MODELS["epoll_loop"], tmp_path)
    assert (settings.work.wait_ms, settings.backlog, settings.buffer_size) == (7, 3, 65536)
    write_configs(tmp_path, MODELS["epoll_loop"], {})
    assert load(MODELS["epoll_loop"], tmp_path).work.wait_ms == 0


def test_what_is_noted_of_one_spot_is_one_point_in_the_order_of_the_sides(tmp_path: Path) -> None:
    here = Processes((0,), (0,))
    bench = Bench(
        Means(
            place=here,
            here=here,
            everywhere=here,
            configs=tmp_path,
            quick=True,
            server_cpus=(0,),
            client_cpus=(0,),
            seed=1,
        )
    )
    for turn in bench.turns(Side(name="b", model="epoll_loop"), Side(name="a", model="poll_loop"), rounds=2):
        turn.note(at=1, rate=2.0, doubt="NOISY: others")
        turn.note(at=1, busy=1 / 3)
    assert [(point.side, point.round) for point in bench.points] == [
        ("b", 1), ("b", 2), ("a", 1), ("a", 2), ("b again", 1), ("b again", 2),
    ]  # fmt: skip
    assert {str(point.values) for point in bench.points} == {"{'rate': 2.0, 'busy': 0.333333}"}
    assert trials.doubts(bench.points) == ["6 of 6 measurements were NOISY: others"]


def test_a_verdict_that_is_expected_hides_no_other(tmp_path: Path) -> None:
    busy = Machine(others=1.0, server_waited=0.5, generator_waited=0.5)
    starved = measurement(answered_connections=3, machine=busy)
    assert starved.verdict.word == STARVED

    class Measured(Processes):
        def load(self, started: Started, plan: Plan) -> Measurement:
            return starved

    place = Measured((0,), (0,))
    bench = Bench(
        Means(
            place=place, here=place, everywhere=place, configs=tmp_path, quick=True, server_cpus=(0,), client_cpus=(0,),
            seed=1,
        )
    )  # fmt: skip
    started = Started(model=MODELS["epoll_loop"], target=Target(model=None, address=("127.0.0.1", 1)))
    for expected, at in (((), 1), ((STARVED,), 2), ((STARVED, NOISY), 3)):
        (turn,) = bench.turns(Side(name="a", model="epoll_loop"), twin=False, rounds=1)
        turn.load(started, at=at, expected=expected)
    assert [point.doubt.partition(":")[0] for point in bench.points] == [STARVED, NOISY, ""]
