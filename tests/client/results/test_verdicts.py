"""Each verdict, driven to by the measurement that deserves it; and by one beside it that does not."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from msgspec.structs import replace

from iolab_client.results.measurement import (
    CLIENT_BOUND,
    ERRORS,
    INCONSISTENT,
    STARVED,
    UNSTABLE,
    VALID,
    Errors,
    Generator,
    Measurement,
    Plan,
    Size,
    Verdict,
)
from iolab_client.results.verdicts import ORDER, UNJUDGED, judge_one, worst
from tests.client.runs import latency, measurement

CLOSED = Plan()
OPEN = Plan(rate=1000.0)


def generator(busy: float = 0.6, lag_p99: float | None = None) -> Generator:
    return Generator(processes=1, cpus=(1,), cpu_seconds=busy * 10, busy=busy, lag_p99=lag_p99)


def test_a_generator_without_its_fast_path_tells_the_remedy() -> None:
    assert "install gcc" in reason_of(generator=generator(busy=0.99))
    assert "install gcc" not in reason_of(generator=replace(generator(busy=0.99), in_c=True))


def word_of(**fields: object) -> str:
    return measurement(**fields).verdict.word  # type: ignore[arg-type]


def reason_of(**fields: object) -> str:
    return measurement(**fields).verdict.reason  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", [CLOSED, OPEN, Plan(connections=1, pipeline=16), Plan(sizes=(Size(size=1 << 20),))])
def test_what_nothing_speaks_against_is_valid(plan: Plan) -> None:
    one = measurement(rate=1000.0, plan=plan)
    assert one.verdict.word == VALID
    assert "by Little's law" in one.verdict.reason


def test_any_error_is_said_with_its_class_and_the_first_sample() -> None:
    errors = Errors(wrong=1, closed=1203, samples=["byte 7 of 64 is 0x00, expected 0x41", "another"])
    one = measurement(errors=errors)
    assert one.verdict.word == ERRORS
    assert one.verdict.reason == (
        "1,204 errors (1 wrong, 1,203 closed); the first: byte 7 of 64 is 0x00, expected 0x41"
    )


@pytest.mark.parametrize("name", ["refused", "reset", "timeout", "short", "wrong", "closed"])
def test_one_error_of_any_class_is_enough(name: str) -> None:
    assert f"(1 {name})" in reason_of(errors=Errors(**{name: 1}))  # type: ignore[arg-type]


def test_connections_that_never_got_an_answer_starved() -> None:
    assert word_of(answered_connections=64) == VALID
    one = measurement(answered_connections=6)
    assert (one.verdict.word, one.verdict.reason) == (STARVED, "58 of 64 connections never got an answer")


def test_no_answer_at_all_is_starved_and_not_a_division_by_zero() -> None:
    one = measurement(answers=0, answered_connections=0, in_flight=64.0, parts=[0] * 10, latency=latency(1.0))
    assert one.verdict.word == STARVED


def test_more_connections_than_requests_starve_nobody() -> None:
    assert word_of(plan=Plan(requests=32), answered_connections=20, answers=32, seconds=0.01, rate=3200) == VALID
    few = Plan(rate=3.0)
    assert word_of(plan=few, rate=3.0, answered_connections=30) == VALID


def test_connections_that_are_replaced_all_count() -> None:
    assert word_of(plan=Plan(churn=10), answered_connections=50_000) == VALID


def test_a_generator_without_time_left_is_the_bound() -> None:
    assert word_of(cost=10.0, generator=generator(0.94)) == VALID
    one = measurement(cost=10.0, generator=generator(0.97))
    assert one.verdict.word == CLIENT_BOUND
    assert "took 0.97 of its processor, the server 0.50 of its 1" in one.verdict.reason


def test_a_server_without_time_left_is_the_bound_whatever_the_generator_was() -> None:
    assert word_of(cost=19.2, generator=generator(0.99)) == VALID


def test_a_busy_generator_is_the_bound_where_the_server_is_not_known() -> None:
    assert word_of(cost=None, generator=generator(0.99)) == CLIENT_BOUND


def test_a_server_of_one_process_with_two_processors_can_fill_one() -> None:
    one = measurement(cost=19.2, generator=generator(0.99))
    assert one.server
    one.server = msgspec.structs.replace(one.server, cpus=(0, 1))
    assert judge_one(one).word == VALID
    one.server = msgspec.structs.replace(one.server, processes=3)
    assert judge_one(one).word == CLIENT_BOUND


def test_a_generator_that_is_late_measures_itself() -> None:
    late = latency(400.0).p99 * 0.3
    assert word_of(plan=OPEN, rate=1000.0, mean=400.0, generator=generator(0.5, late / 2)) == VALID
    one = measurement(plan=OPEN, rate=1000.0, mean=400.0, generator=generator(0.5, late))
    assert one.verdict.word == CLIENT_BOUND
    assert "30% of the p99" in one.verdict.reason


def test_nobody_wakes_more_punctually_than_the_kernels_timers() -> None:
    assert word_of(plan=OPEN, rate=1000.0, mean=30.0, generator=generator(0.5, 45.0)) == VALID


def test_an_open_loop_that_sent_less_than_planned_to_an_idle_server_is_bound_by_the_client() -> None:
    assert word_of(plan=OPEN, rate=960.0) == VALID
    one = measurement(plan=OPEN, rate=900.0)
    assert one.verdict.word == CLIENT_BOUND
    assert "900 of the planned 1,000 requests/s" in one.verdict.reason


def test_a_server_that_cannot_keep_up_is_no_fault_of_the_clients() -> None:
    busy = measurement(plan=OPEN, rate=900.0, cost=1e6 / 900)
    assert busy.verdict.word == VALID
    # One that waits for something else uses no processor, and owes all that may be in flight.
    waiting = measurement(plan=OPEN, rate=600.0, mean=64 / 600 * 1e6, cost=10.0)
    assert waiting.verdict.word == VALID


def test_requests_in_flight_that_rate_and_latency_do_not_make_are_inconsistent() -> None:
    assert word_of(in_flight=64 * 1.08) == VALID
    for in_flight in (64 * 1.15, 64 * 0.85):
        one = measurement(in_flight=in_flight)
        assert one.verdict.word == INCONSISTENT
        assert "Little's law" in one.verdict.reason


def test_little_counts_from_when_a_request_was_sent() -> None:
    stalled = measurement(plan=OPEN, rate=1000.0, mean=500.0, latency=latency(90_000.0))
    assert stalled.verdict.word == VALID


def test_what_straddles_the_ends_of_the_time_is_allowed_for() -> None:
    # 1 s each for 5 s: up to a fifth was begun before or ends after.
    slow = {"rate": 64.0, "seconds": 5.0, "mean": 1e6, "parts": [32] * 10}
    assert word_of(**slow, in_flight=64 * 0.8) == VALID
    assert word_of(**slow, in_flight=64 * 0.65) == INCONSISTENT


def test_more_answers_than_requests_are_inconsistent() -> None:
    sent = 500_000 * 64
    assert word_of(received_bytes=sent + 64 * 64) == VALID
    assert "more came back than was sent" in reason_of(received_bytes=sent + 65 * 64)
    assert word_of(answers=500_065, in_flight=64.0) == INCONSISTENT


def test_parts_that_swing_are_unstable() -> None:
    steady, stalled = [50_000] * 9, [50_000] * 8
    assert word_of(parts=[*steady, 34_000]) == VALID
    # A stall of one part that lies across two.
    one = measurement(parts=[*stalled, 25_000, 25_000])
    assert one.verdict.word == UNSTABLE
    assert "between 25,000 and 50,000 answers in each tenth" in one.verdict.reason


def test_chance_alone_is_not_unstable() -> None:
    few = [10, 4, 17, 9, 12, 6, 8, 14, 11, 9]
    assert word_of(rate=10.0, parts=few) == VALID


def test_a_moments_load_is_too_short_to_swing() -> None:
    assert word_of(seconds=0.5, parts=[1_000, 4_000] * 5) == VALID


def spoilt() -> dict[str, dict[str, object]]:
    return {
        ERRORS: {"errors": Errors(reset=1)},
        STARVED: {"answered_connections": 6},
        CLIENT_BOUND: {"generator": generator(0.99)},
        INCONSISTENT: {"in_flight": 32.0},
        UNSTABLE: {"parts": [0, 100_000] * 5},
    }


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(spoilt(), 2)))
def test_of_two_that_hold_the_worse_is_said(worse: str, better: str) -> None:
    fields = spoilt()
    assert word_of(**fields[better]) == better
    assert word_of(**fields[better], **fields[worse]) == worse


def test_the_worst_of_many_is_the_first_in_order() -> None:
    verdicts = [Verdict(word=word, reason=word) for word in reversed(ORDER)]
    assert worst(verdicts).word == ERRORS
    assert worst(verdicts[:2]).word == UNSTABLE


def test_what_was_not_judged_is_not_valid_and_its_verdict_is_not_looked_at() -> None:
    one: Measurement = measurement(verdict=UNJUDGED)
    assert one.verdict.word != VALID
    assert judge_one(one).word == VALID
