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
    NOISY,
    NONE,
    OVERLOADED,
    STARVED,
    UNPROVEN,
    UNSTABLE,
    VALID,
    Errors,
    Generator,
    Machine,
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
    assert "no errors; " in one.verdict.reason


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
    assert word_of(plan=OPEN, rate=960.0, due=10_000, sent=9_600) == VALID
    one = measurement(plan=OPEN, rate=900.0, due=10_000, sent=9_000)
    assert one.verdict.word == CLIENT_BOUND
    assert "of 10,000 requests that were due 9,000 were sent" in one.verdict.reason


def test_a_server_that_holds_what_was_sent_is_not_the_clients_fault() -> None:
    held = measurement(plan=OPEN, rate=250.0, due=10_000, sent=10_000)
    assert held.verdict.word == VALID


def test_a_server_that_cannot_keep_up_is_no_fault_of_the_clients() -> None:
    full: dict[str, object] = {"plan": OPEN, "due": 10_000, "in_flight": 64.0}
    busy = measurement(**full, rate=900.0, cost=1e6 / 900, sent=9_000, unsent=1_000)  # type: ignore[arg-type]
    assert busy.verdict.word == OVERLOADED
    # One that waits for something else uses no processor, and owes all that may be in flight.
    waiting = measurement(**full, rate=600.0, sent=6_064, unsent=3_936)  # type: ignore[arg-type]
    assert waiting.verdict.word == OVERLOADED
    assert "6,000 were answered in time, 3,936 found no room" in waiting.verdict.reason
    assert "the backlog was 2,000 halfway and 4,000 at the end" in waiting.verdict.reason


def test_a_stall_that_is_made_up_for_is_no_overload() -> None:
    stalled = {"plan": OPEN, "due": 10_000, "sent": 9_400, "unsent": 600, "rate": 940.0, "in_flight": 64.0}
    assert word_of(**stalled, parts=[400, *[1_000] * 9]) != OVERLOADED
    assert word_of(**stalled, parts=[940] * 10) == OVERLOADED


def test_what_others_took_from_server_or_generator_is_noise() -> None:
    quiet = Machine(others=0.04, steal=0.0, pressure=0.3, generator_waited=0.4, server_waited=0.2)
    assert word_of(machine=quiet) == VALID
    # Threads of the server that wait for each other are nobody else's doing.
    assert word_of(machine=replace(quiet, others=0.01, server_waited=7.0)) == VALID
    one = measurement(machine=replace(quiet, others=0.8))
    assert one.verdict.word == NOISY
    assert "others kept 0.80 processors busy, and the server waited for 0.20, the generator for 0.40" in (
        one.verdict.reason
    )
    assert "(PSI)" in one.verdict.reason
    # Busy on processors that nobody here waited for.
    assert word_of(machine=replace(quiet, others=5.0, generator_waited=0.01, server_waited=0.01)) == VALID


def test_what_a_hypervisor_took_is_noise() -> None:
    assert word_of(machine=Machine(steal=0.01)) == VALID
    assert word_of(machine=Machine(steal=0.03)) == NOISY


def test_where_the_server_does_not_tell_how_long_it_waited_the_generator_does() -> None:
    assert word_of(machine=Machine(generator_waited=0.2)) == VALID
    assert word_of(machine=Machine(generator_waited=0.3, pressure=0.9)) == NOISY


def test_a_closed_loop_in_which_nobody_is_busy_says_so() -> None:
    assert "neither side was busy" in reason_of(rate=600.0, cost=10.0, generator=generator(0.05))
    assert "neither side" not in reason_of(cost=19.0, generator=generator(0.05))


def test_a_server_that_counts_other_bytes_than_were_sent_is_inconsistent() -> None:
    one = measurement()
    assert one.server
    for factor, word in ((1.0, VALID), (1.08, VALID), (1.2, INCONSISTENT), (0.8, INCONSISTENT)):
        one.server = replace(one.server, received_bytes=int(one.sent_bytes * factor))
        assert judge_one(one).word == word
    assert "does somebody else load it?" in judge_one(one).reason
    # What straddles the ends of a short time is in one count and not in the other.
    few = measurement(rate=100.0, seconds=1.0)
    assert few.server
    few.server = replace(few.server, received_bytes=150 * 64)
    assert judge_one(few).word == VALID


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


def test_answers_that_come_in_waves_are_as_steady_as_can_be() -> None:
    # Each answer takes 1 s, and all 64 come at once.
    waves = [0, 64, 0, 64, 0, 0, 64, 0, 64, 0]
    assert word_of(rate=64.0, seconds=4.0, mean=1e6, answers=256, parts=waves) == VALID


def test_a_moments_load_is_too_short_to_swing() -> None:
    assert word_of(seconds=0.5, parts=[1_000, 4_000] * 5) == VALID


def spoilt() -> dict[str, dict[str, object]]:
    return {
        ERRORS: {"errors": Errors(reset=1)},
        STARVED: {"answered_connections": 6},
        NOISY: {"machine": Machine(steal=0.5)},
        CLIENT_BOUND: {"generator": generator(0.99)},
        INCONSISTENT: {"received_bytes": 1 << 40},
        UNSTABLE: {"parts": [0, 100_000] * 5},
        UNPROVEN: {"plan": Plan(expect=NONE)},
    }


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(spoilt(), 2)))
def test_of_two_that_hold_the_worse_is_said(worse: str, better: str) -> None:
    fields = spoilt()
    assert word_of(**fields[better]) == better
    assert word_of(**fields[better], **fields[worse]) == worse


def test_the_worst_of_many_is_the_first_in_order() -> None:
    verdicts = [Verdict(word=word, reason=word) for word in reversed(ORDER)]
    assert worst(verdicts).word == ERRORS
    assert worst(verdicts[:2]).word == UNPROVEN


def test_what_was_not_judged_is_not_valid_and_its_verdict_is_not_looked_at() -> None:
    one: Measurement = measurement(verdict=UNJUDGED)
    assert one.verdict.word != VALID
    assert judge_one(one).word == VALID
