"""Thresholds: when a result fails, and what is no condition."""

from __future__ import annotations

import click
import msgspec
import pytest

from iolab_client.results.measurement import Errors, Generator, Latency, Measurement, Plan, ServerUse, Verdict
from iolab_client.results.thresholds import ThresholdType

LATENCY = Latency(count=10, mean=3000, min=900, p50=1000, p90=2000, p99=5000, p99_9=9000, max=10000, histogram="")
SERVER = ServerUse(
    seconds=2,
    cpu_seconds=1,
    answers=50_000,
    voluntary_switches=0,
    involuntary_switches=0,
    memory_bytes=0,
    memory_growth_bytes=0,
    threads=1,
    processes=1,
)
MEASUREMENT = Measurement(
    subject="epoll_loop",
    address="127.0.0.1:8004",
    plan=Plan(),
    started="",
    seconds=2,
    answers=20_000,
    sent_bytes=0,
    received_bytes=0,
    open_connections=1,
    answered_connections=1,
    in_flight=1,
    latency=LATENCY,
    parts=[],
    errors=Errors(wrong=2),
    generator=Generator(processes=1, cpus=(), cpu_seconds=1, busy=0.5),
    server=SERVER,
    verdict=Verdict(word="VALID", reason=""),
)


def missed(text: str, measurement: Measurement = MEASUREMENT) -> str | None:
    return ThresholdType().convert(text, None, None).missed(measurement)


@pytest.mark.parametrize(
    ("holds", "not_missed"),
    [
        ("p99>4.9ms", "p99>5ms"),
        ("p99>=5ms", "p99<5ms"),
        ("p50>999us", "p50>1ms"),
        ("p90 > 1ms", "p90 > 1s"),
        ("p99.9>1ms", "p99.9>9ms"),
        ("max>9ms", "max>10ms"),
        ("mean>2ms", "mean<=2ms"),
        ("rate<10.1k", "rate<10k"),
        ("errors>0", "errors>2"),
        ("cost>19us", "cost>21us"),
    ],
)
def test_what_holds_fails(holds: str, not_missed: str) -> None:
    assert missed(holds)
    assert missed(not_missed) is None


def test_the_reason_has_condition_and_value() -> None:
    assert missed("p99>4ms") == "p99>4ms: p99 is 5,000 µs"
    assert missed("rate<20k") == "rate<20k: rate is 10,000"


def test_what_is_not_known_fails() -> None:
    alone = msgspec.structs.replace(MEASUREMENT, server=None)
    assert missed("cost>20us", alone) == "cost>20us: cost is not known"
    silent = msgspec.structs.replace(MEASUREMENT, latency=msgspec.structs.replace(LATENCY, count=0))
    assert missed("p99>1h", silent) == "p99>1h: p99 is not known"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p99", "is not a condition like"),
        ("p99=5ms", "is not a condition like"),
        ("p98>5ms", "none of p50, p90"),
        ("p99>5", "needs its unit"),
        ("p99>5k", "unit 'k' is not known"),
        ("rate<fast", "is not a number"),
    ],
)
def test_what_is_no_condition_says_why(text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        missed(text)
