"""Measurements of several generators, joined: each rule on made-up ones, each thing that must be the same."""

from __future__ import annotations

import itertools
import random
import statistics
from pathlib import Path

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from msgspec.structs import replace

from iolab_client.results.bundle import BadBundle
from iolab_client.results.measurement import (
    ERRORS,
    INCONSISTENT,
    UNPROVEN,
    VALID,
    Errors,
    Fairness,
    Generator,
    Latency,
    Machine,
    Measurement,
    OverTime,
    Plan,
    ServerUse,
    Size,
)
from iolab_client.results.merge import BadMerge, merge, read
from tests.client.runs import latency, measurement

SECONDS = 10.0


def together(*rates: float, plans: tuple[Plan, ...] = (), cost: float = 10.0) -> dict[str, Measurement]:
    """What generators measured that loaded one server at the same time, each with its rate: the server served all."""
    made = {}
    total = round(sum(rates) * SECONDS)
    for number, rate in enumerate(rates):
        one = measurement(rate=rate, seconds=SECONDS, plan=plans[number] if plans else None, cost=cost)
        assert one.server
        one.server = replace(
            one.server,
            cpu_seconds=cost * total / 1e6,
            voluntary_switches=total // 64,
            involuntary_switches=total // 1000,
            received_bytes=total * one.plan.sizes[0].size,
        )
        made[f"{'abcdefgh'[number]}.json"] = one
    return made


def fair(answers: list[int]) -> Fairness:
    """As a generator tells it of its own connections."""
    squares = sum(count * count for count in answers)
    return Fairness(
        least=min(answers),
        median=statistics.median(answers),
        most=max(answers),
        index=sum(answers) ** 2 / (len(answers) * squares),
    )


def shared(*parts: list[int]) -> Fairness | None:
    """The fairness of all connections, whose answers each generator knows of its own only."""
    plans = tuple(Plan(connections=len(answers)) for answers in parts)
    made = together(*(1.0 for _ in parts), plans=plans)
    for one, answers in zip(made.values(), parts, strict=True):
        one.fairness = fair(answers) if any(answers) else None
        one.answers = sum(answers)
    return merge(made).fairness


def test_what_two_did_at_once_is_valid_and_its_rates_and_counts_are_added() -> None:
    parts = together(20_000.0, 30_000.0)
    whole = merge(parts)
    assert (whole.verdict.word, whole.subject, whole.address) == (VALID, "epoll_loop", "172.18.0.4:8004")
    assert whole.rate == pytest.approx(50_000.0)
    assert whole.seconds == pytest.approx(SECONDS)
    for key in ("answers", "sent_bytes", "received_bytes", "open_connections", "answered_connections", "in_flight"):
        assert getattr(whole, key) == sum(getattr(part, key) for part in parts.values())
    assert whole.parts == [50_000] * 10


def test_one_that_ended_sooner_counts_with_its_rate_and_not_with_its_time() -> None:
    parts = together(20_000.0, 30_000.0)
    parts["b.json"].seconds, parts["b.json"].answers = 5.0, 150_000
    parts["b.json"].sent_bytes = parts["b.json"].received_bytes = 150_000 * 64
    whole = merge(parts)
    assert whole.rate == pytest.approx(50_000.0)
    assert whole.seconds == pytest.approx(350_000 / 50_000)


def test_counts_of_an_open_loop_are_added_and_it_keeps_both_latencies() -> None:
    plans = (Plan(rate=300.0, connections=3), Plan(rate=700.0, connections=7))
    parts = together(300.0, 700.0, plans=plans)
    for number, one in enumerate(parts.values(), 1):
        one.due, one.sent, one.late, one.unanswered, one.unsent = 1000 * number, 900 * number, 3, 2 * number, number
    whole = merge(parts)
    assert (whole.due, whole.sent, whole.late, whole.unanswered, whole.unsent) == (3000, 2700, 6, 6, 3)
    assert (whole.plan.rate, whole.plan.connections) == (1000.0, 10)
    assert whole.latency_from_send
    assert whole.latency_from_send.count == 4000


def test_a_histogram_has_all_latencies_and_least_most_and_mean_are_exact() -> None:
    parts = together(20_000.0, 30_000.0)
    fast, slow = latency(100.0, count=3000), latency(900.0, count=1000, seed=1)
    parts["a.json"].latency, parts["b.json"].latency = fast, slow
    whole = merge(parts).latency
    both = HdrHistogram.decode(fast.histogram)
    both.add(HdrHistogram.decode(slow.histogram))
    assert HdrHistogram.decode(whole.histogram).counts[:] == both.counts[:]
    assert (whole.count, whole.min, whole.max) == (4000, min(fast.min, slow.min), max(fast.max, slow.max))
    assert whole.mean == pytest.approx((3 * 100.0 + 900.0) / 4)
    for key, percent in {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}.items():
        assert getattr(whole, key) == both.get_value_at_percentile(percent) / 1000
    # A mean of the parts' percentiles is none of the whole.
    assert whole.p50 < (fast.p50 + slow.p50) / 2


def test_latencies_over_time_are_added_where_the_intervals_are_as_long() -> None:
    parts = together(20_000.0, 30_000.0)
    one, other = parts.values()
    assert one.over_time
    assert other.over_time
    rough = HdrHistogram(1, 3_600_000_000_000, 1)
    rough.record_value(5_000_000, 5)
    told = [*one.over_time.histograms, rough.encode().decode()]
    one.over_time = replace(one.over_time, histograms=told)
    whole = merge(parts).over_time
    assert whole
    counts = [HdrHistogram.decode(text).get_total_count() if text else 0 for text in whole.histograms]
    # The fifth has no answer, the sixth a late one more; and one of them went on for longer.
    assert counts == [12, 12, 12, 12, 0, 14, 12, 12, 5]
    other.over_time = OverTime(interval_seconds=9.0, histograms=other.over_time.histograms)
    assert merge(parts).over_time is None
    other.over_time = None
    assert merge(parts).over_time is None


def test_what_has_no_answer_is_added_and_the_least_wait_is_the_bound() -> None:
    parts = together(20_000.0, 30_000.0, 10_000.0)
    one, other, whole = *list(parts.values())[:2], parts
    one.latency = replace(one.latency, censored=3, censored_from=700.0)
    other.latency = replace(other.latency, censored=4, censored_from=500.0)
    joined = merge(whole).latency
    assert (joined.censored, joined.censored_from) == (7, 500.0)
    assert merge(together(1.0, 2.0)).latency.censored_from is None


def test_how_long_connecting_took_is_told_of_those_that_know() -> None:
    parts = together(20_000.0, 30_000.0)
    assert merge(parts).connect is None
    parts["b.json"].connect = latency(200.0, count=50)
    assert merge(parts).connect == latency(200.0, count=50)


@pytest.mark.parametrize("seed", range(20))
def test_the_index_of_all_connections_is_exact(seed: int) -> None:
    chance = random.Random(seed)
    parts = [[chance.randrange(1, 10_000_000) for _ in range(chance.randrange(1, 40))] for _ in range(3)]
    told, known = shared(*parts), fair(list(itertools.chain(*parts)))
    assert told
    assert (told.least, told.most) == (known.least, known.most)
    assert told.index == pytest.approx(known.index, rel=1e-12)


@pytest.mark.parametrize(
    ("parts", "median"),
    [
        ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 9]], 3),
        ([[1, 9, 4, 6], [5, 5], [0, 5, 100]], 5),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], None),
        ([[7], [9, 30]], 9),
        ([[7, 8, 9], [1, 1, 1, 1, 1]], 1),
        ([[0, 0], [4, 6]], 2),
        ([[3, 3, 3, 3], [1, 2, 3, 4]], None),
    ],
)
def test_a_median_is_told_only_where_it_can_be_known(parts: list[list[int]], median: float | None) -> None:
    told = shared(*parts)
    assert told
    assert told.median == median
    assert median is None or median == statistics.median(itertools.chain(*parts))


def test_nobody_with_an_answer_has_no_fairness() -> None:
    assert shared([0, 0], [0]) is None


def test_errors_are_added_with_the_first_few_samples() -> None:
    parts = together(20_000.0, 30_000.0)
    for name, one in parts.items():
        one.errors = Errors(wrong=2, reset=1, samples=[f"{name} {number}" for number in range(8)])
    whole = merge(parts)
    assert (whole.errors.wrong, whole.errors.reset, whole.errors.total) == (4, 2, 6)
    assert whole.errors.samples == [*(f"a.json {number}" for number in range(8)), "b.json 0", "b.json 1"]
    assert whole.verdict.word == ERRORS


def test_the_busiest_generator_and_the_worst_machine_are_told() -> None:
    parts = together(20_000.0, 30_000.0, plans=(Plan(processes=2), Plan(processes=3)))
    busy = Generator(processes=2, cpus=(), cpu_seconds=4.0, busy=0.3, lag_p99=7.0, in_c=True)
    parts["a.json"].generator = busy
    parts["b.json"].generator = replace(busy, processes=3, busy=0.8, lag_p99=None, in_c=False)
    parts["a.json"].machine = Machine(others=0.01, steal=0.015, pressure=None)
    parts["b.json"].machine = Machine(others=0.03, steal=0.001, generator_waited=0.02)
    whole = merge(parts)
    assert whole.generator == Generator(processes=5, cpus=(), cpu_seconds=8.0, busy=0.8, lag_p99=7.0, in_c=False)
    assert whole.machine == Machine(others=0.03, steal=0.015, generator_waited=0.02)
    assert whole.plan.processes == 5


def test_the_server_is_seen_through_the_mean_of_the_windows_and_its_cost_is_by_all_answers() -> None:
    parts = together(20_000.0, 30_000.0, cost=10.0)
    one, other = (part.server for part in parts.values())
    assert one
    assert other
    parts["a.json"].server = replace(one, cpu_seconds=4.9, memory_bytes=5, memory_growth_bytes=9, fresh=False)
    parts["b.json"].server = replace(other, cpu_seconds=5.1, memory_bytes=7, memory_growth_bytes=6, served=100)
    whole = merge(parts)
    use: ServerUse | None = whole.server
    assert use
    assert use.cost == pytest.approx(10.0)
    assert use.cpu_seconds == pytest.approx(5.0)
    assert (use.answers, use.seconds) == (500_000, SECONDS)
    assert (use.received_bytes, use.voluntary_switches) == (32_000_000, 500_000 // 64)
    # The growth is told by the one that looked when nobody else was connected.
    assert (use.memory_bytes, use.memory_growth_bytes, use.fresh, use.served) == (7, 6, True, 100)


def test_a_plan_is_that_of_all() -> None:
    plan = Plan(connections=3, idle=2, processes=1, requests=100, connect_rate=5.0, seed=1)
    whole = merge(together(1.0, 2.0, plans=(plan, replace(plan, connections=4, seed=2)))).plan
    assert whole == replace(plan, connections=7, idle=4, processes=2, requests=200, connect_rate=10.0, seed=None)
    assert merge(together(1.0, 2.0, plans=(plan, plan))).plan.seed == 1


DIFFERENT = {
    "pipeline": 4,
    "rate": 5.0,
    "arrivals": "poisson",
    "bound": True,
    "duration_seconds": 11.0,
    "requests": 7,
    "sizes": (Size(size=65),),
    "expect": "same",
    "connect_rate": 1.0,
    "churn": 3,
    "warmup_seconds": 0.0,
    "timeout_seconds": 9.0,
    "cpus": (1,),
}


def test_each_key_of_a_plan_is_added_or_must_be_the_same() -> None:
    assert {*DIFFERENT, "connections", "idle", "processes", "seed"} == set(Plan.__struct_fields__)


@pytest.mark.parametrize("key", DIFFERENT)
def test_what_was_asked_differently_is_named_with_its_file(key: str) -> None:
    parts = together(1.0, 2.0, 3.0, plans=(Plan(), Plan(), replace(Plan(), **{key: DIFFERENT[key]})))
    with pytest.raises(BadMerge, match=rf"^c\.json: plan\.{key} is .*, and in a\.json it is .*: not one load$"):
        merge(parts)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("subject", "poll_loop", "b.json: subject is poll_loop, and in a.json it is epoll_loop"),
        ("parts", [1] * 9, "b.json: parts is a list of 9, and in a.json it is a list of 10"),
        ("round", 2, "b.json: round is 2, and in a.json it is 0"),
    ],
)
def test_other_servers_and_other_rounds_are_not_joined(key: str, value: object, words: str) -> None:
    parts = together(1.0, 2.0)
    setattr(parts["b.json"], key, value)
    with pytest.raises(BadMerge, match=words):
        merge(parts)


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "SGlzdEZBQUFBRQ==" * 3])
def test_a_histogram_that_is_none_is_named(text: str) -> None:
    parts = together(1.0, 2.0)
    parts["b.json"].latency = replace(parts["b.json"].latency, histogram=text)
    with pytest.raises(BadMerge, match=r"^b\.json: latency\.histogram: expected an HdrHistogram"):
        merge(parts)


def test_two_that_ran_one_after_the_other_are_inconsistent() -> None:
    parts = {"a.json": measurement(rate=20_000.0), "b.json": measurement(rate=30_000.0)}
    assert [one.verdict.word for one in parts.values()] == [VALID, VALID]
    verdict = merge(parts).verdict
    assert verdict.word == INCONSISTENT
    assert verdict.reason == (
        "while a.json measured, the server counted 1,280,000 bytes/s, and the 2 together sent 3,200,000: "
        "they did not run at the same time, or somebody else loads it"
    )


def overlapping(share: float, overlap: float) -> str:
    """The verdict on two, one of which had that share of the rate; so much of the time of each was the other's too."""
    rates = {"a.json": 50_000.0 * share, "b.json": 50_000.0 * (1 - share)}
    parts = {name: measurement(rate=rate) for name, rate in rates.items()}
    for name, one in parts.items():
        assert one.server
        seen = rates[name] + overlap * (50_000.0 - rates[name])
        one.server = replace(one.server, received_bytes=round(seen * SECONDS) * 64)
    return merge(parts).verdict.word


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.7, 0.95])
def test_two_that_shared_little_of_their_time_are_found_however_unequal_they_are(share: float) -> None:
    assert overlapping(share, 1.0) == VALID
    assert overlapping(share, 0.78) == INCONSISTENT


def test_what_never_was_at_once_is_said_whatever_else_there_is() -> None:
    parts = {"a.json": measurement(errors=Errors(wrong=1)), "b.json": measurement(machine=Machine(steal=0.9))}
    assert merge(parts).verdict.word == INCONSISTENT


def test_somebody_else_that_loads_the_server_is_found() -> None:
    parts = together(20_000.0, 30_000.0, 10_000.0)
    del parts["c.json"]
    assert merge(parts).verdict.word == INCONSISTENT


def test_what_nobody_saw_to_be_at_once_is_unproven() -> None:
    parts = together(20_000.0, 30_000.0)
    parts["b.json"].server, parts["b.json"].server_unknown = None, "connection refused"
    whole = merge(parts)
    assert whole.verdict.word == UNPROVEN
    assert "b.json does not know what the server received" in whole.verdict.reason
    assert (whole.server, whole.server_unknown) == (None, "b.json: connection refused")


def test_generators_that_found_nobody_are_joined_too() -> None:
    refused: dict[str, object] = {"answers": 0, "answered_connections": 0, "in_flight": 0.0, "parts": [0] * 10}
    none: Latency = replace(latency(1.0), count=0, histogram=HdrHistogram(1, 3_600_000_000_000, 3).encode().decode())
    parts = {
        name: measurement(**refused, latency=none, cost=None, errors=Errors(refused=64))  # type: ignore[arg-type]
        for name in ("a.json", "b.json")
    }
    whole = merge(parts)
    assert (whole.answers, whole.rate, whole.seconds, whole.latency.count) == (0, 0.0, SECONDS, 0)
    assert whole.fairness is None
    assert (whole.verdict.word, whole.errors.refused) == (ERRORS, 128)


def test_files_are_read_and_what_is_joined_can_be_joined_again(tmp_path: Path) -> None:
    files = []
    for name, one in together(20_000.0, 30_000.0, 10_000.0, 5_000.0).items():
        files.append(tmp_path / name)
        files[-1].write_bytes(msgspec.json.encode(one))
    whole = merge(read(files))
    for place, half in enumerate((files[:2], files[2:])):
        (tmp_path / f"half{place}").write_bytes(msgspec.json.encode(merge(read(half))))
    again = merge(read([tmp_path / "half0", tmp_path / "half1"]))
    assert whole.verdict.word == again.verdict.word == VALID
    assert (again.answers, again.latency.histogram) == (whole.answers, whole.latency.histogram)
    assert again.rate == pytest.approx(whole.rate)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file or directory; expected what `iolab-client load --json` prints"),
        ("{", "expected JSON"),
        ("[]", "the whole: expected `object`, got `array`"),
        ("{}", "the whole: object missing required field `subject`"),
    ],
)
def test_a_file_that_is_no_measurement_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "a.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadBundle) as caught:
        read([file])
    assert caught.value.message.startswith(f"{file}: {words}")


def test_a_generator_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(msgspec.json.encode(measurement()))
    with pytest.raises(BadMerge, match=r"a\.json is named twice"):
        read([file, file])
