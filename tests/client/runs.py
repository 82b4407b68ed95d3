"""Measurements and runs as a load would make them: seeded, so that each time they are the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
from hdrh.histogram import HdrHistogram

from iolab_client.results.measurement import (
    YARDSTICK,
    Environment,
    Errors,
    Generator,
    Latency,
    Measurement,
    OverTime,
    Plan,
    Run,
    ServerUse,
    Size,
)
from iolab_client.results.verdicts import UNJUDGED, judge_one


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a server is: microseconds of its processor per answer, and bytes per connection."""

    cost: float
    memory: int = 4096
    involuntary: float = 0.001


SPEEDS = {
    YARDSTICK: Speed(cost=8.2, memory=256),
    "blocking_pool": Speed(cost=17.0, memory=9000),
    "busy_poll": Speed(cost=60.0, memory=2500, involuntary=0.1),
    "select_loop": Speed(cost=14.0, memory=2100),
    "epoll_loop": Speed(cost=9.5, memory=2000),
    "epoll_pool": Speed(cost=15.0, memory=2200),
    "thread_per_connection": Speed(cost=16.0, memory=24000),
    "asyncio_streams": Speed(cost=20.0, memory=7000),
    "tornado_iostream": Speed(cost=30.0, memory=8000),
    "twisted_reactor": Speed(cost=21.5, memory=6000),
    "gevent_greenlets": Speed(cost=21.0, memory=9500),
    "prefork_epoll": Speed(cost=9.7, memory=2000),
    "io_uring_ring": Speed(cost=8.0, memory=3000),
    "task_queue": Speed(cost=900.0, memory=26000),
    "poll_loop": Speed(cost=12.0, memory=2050),
}


@cache
def latency(mean: float, count: int = 2000, seed: int = 0) -> Latency:
    """`count` latencies around `mean` µs, with a tail."""
    chance = random.Random(f"{mean} {count} {seed}")
    histogram = HdrHistogram(1, 3_600_000_000_000, 3)
    for _ in range(count):
        # A gamma of shape 4 has a mean of 4 and a tail that looks like a queue's.
        histogram.record_value(max(1, int(mean * 1000 * chance.gammavariate(4, 0.25))))
    at = histogram.get_value_at_percentile
    return Latency(
        count=count,
        mean=mean,
        min=histogram.get_min_value() / 1000,
        p50=at(50) / 1000,
        p90=at(90) / 1000,
        p99=at(99) / 1000,
        p99_9=at(99.9) / 1000,
        max=histogram.get_max_value() / 1000,
        histogram=histogram.encode().decode(),
    )


def over_time(mean: float, seconds: float) -> OverTime:
    """Eight intervals with latencies around `mean` µs; nobody is answered in the fifth, and in the sixth late."""
    histograms = []
    for interval in range(8):
        histogram = HdrHistogram(1, 3_600_000_000_000, 1)
        for factor in (0.5, 0.9, 1, 1, 1.2, 3, *([seconds / 8 * 1e6 / mean] if interval == 5 else [])):
            histogram.record_value(max(1, int(mean * 1000 * factor)))
        histograms.append("" if interval == 4 else histogram.encode().decode())
    return OverTime(interval_seconds=seconds / 8, histograms=histograms)


def measurement(
    *,
    subject: str = "epoll_loop",
    rate: float = 50_000.0,
    cost: float | None = 10.0,
    mean: float | None = None,
    seconds: float = 10.0,
    plan: Plan | None = None,
    memory: int = 2000,
    **changed: object,
) -> Measurement:
    """One that is VALID: closed loop, 64 connections. `mean` is by Little's law if it is not given; µs.

    `changed` replaces fields; the verdict is the judge's unless it is among them.
    """
    plan = plan or Plan()
    answers = round(rate * seconds)
    in_flight = float(plan.connections * plan.pipeline) if plan.rate is None else rate * (mean or 500.0) / 1e6
    mean = mean or in_flight / rate * 1e6
    size = plan.sizes[0].size
    cost_seconds = (cost or 0.0) * answers / 1e6
    fields: dict[str, object] = {
        "subject": subject,
        "address": "172.18.0.4:8004",
        "plan": plan,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": seconds,
        "answers": answers,
        "sent_bytes": answers * size,
        "received_bytes": answers * size,
        "open_connections": plan.connections,
        "answered_connections": plan.connections,
        "in_flight": in_flight,
        "latency": latency(mean),
        "latency_from_send": latency(mean) if plan.rate else None,
        "over_time": over_time(mean, seconds),
        "parts": [answers // 10] * 10,
        "errors": Errors(),
        "generator": Generator(processes=1, cpus=(1,), cpu_seconds=6.0, busy=0.6, lag_p99=20.0 if plan.rate else None),
        "server": ServerUse(
            seconds=seconds,
            cpu_seconds=cost_seconds,
            answers=answers,
            voluntary_switches=answers // 64,
            involuntary_switches=answers // 1000,
            memory_bytes=30_000_000 + memory * plan.connections,
            memory_growth_bytes=memory * plan.connections,
            threads=3,
            processes=1,
            cpus=(0,),
            received_bytes=answers * size,
            served=plan.connections,
            fresh=True,
        )
        if cost is not None
        else None,
        "server_unknown": "" if cost is not None else "only its own port is known",
        "verdict": UNJUDGED,
    }
    one = Measurement(**(fields | changed))  # type: ignore[arg-type]
    if "verdict" not in changed:
        one.verdict = judge_one(one)
    return one


def environment(**changed: object) -> Environment:
    """A machine of two cores."""
    fields: dict[str, object] = {
        "place": "containers",
        "kernel": "6.12.0-amd64",
        "cpu": "Example CPU @ 2.50GHz",
        "cores": 2,
        "memory_bytes": 8 << 30,
        "python": "3.13.5",
        "libraries": {"msgspec": "0.19.0", "hdrhistogram": "0.10.3"},
        "git_commit": "5536d35",
        "images": {"epoll_loop": "sha256:0123"},
        "docker": "28.1.0",
        "limits": {"epoll_loop": {"somaxconn": 4096, "descriptors": 16384}},
        "load_average": 0.2,
    }
    return Environment(**(fields | changed))  # type: ignore[arg-type]


def run_of(measurements: Sequence[Measurement], **changed: object) -> Run:
    """A run that has these measurements."""
    fields: dict[str, object] = {
        "command": "iolab-client compare",
        "started": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T03:24:05+00:00",
        "settings": {"rounds": 5, "connections": [1, 64]},
        "environment": environment(),
        "measurements": list(measurements),
    }
    return Run(**(fields | changed))  # type: ignore[arg-type]


def comparison(
    subjects: Sequence[str] = tuple(SPEEDS),
    *,
    rounds: int = 5,
    connections: Sequence[int] = (1, 8, 64, 256, 1024),
    rates: Sequence[float] = (2_000.0, 8_000.0, 20_000.0),
    slower: float = 1.0,
    seed: int = 0,
) -> Run:
    """A whole comparison: closed loop over `connections`, open loop over `rates` at 64; costs times `slower`."""
    chance = random.Random(seed)
    measurements = []
    for number in range(rounds):
        for subject in subjects:
            speed = SPEEDS[subject]
            for count in connections:
                cost = speed.cost * slower * chance.gauss(1.0, 0.01)
                rate = min(1e6 / cost, count * 12_000.0) * chance.gauss(1.0, 0.02)
                measurements.append(
                    measurement(
                        subject=subject,
                        rate=rate,
                        cost=min(cost, 0.99e6 / rate),
                        plan=Plan(connections=count, sizes=(Size(size=64),)),
                        memory=speed.memory,
                        round=number,
                    )
                )
            for offered in rates:
                capacity = 1e6 / (speed.cost * slower)
                plan = Plan(connections=64, rate=offered)
                answered = min(offered, capacity * 0.99) * chance.gauss(1.0, 0.002)
                # A queue's waiting time grows as 1 / (1 - load); an overloaded one has everything in flight.
                load = min(0.995, offered / capacity)
                one = measurement(
                    subject=subject,
                    rate=answered,
                    cost=speed.cost * slower,
                    plan=plan,
                    mean=min(64 / answered * 1e6, 150 + speed.cost / (1 - load)),
                    memory=speed.memory,
                    round=number,
                )
                measurements.append(one)
    return run_of(measurements)


def copy(run: Run) -> Run:
    """The same, to be changed."""
    return msgspec.convert(msgspec.to_builtins(run), Run)
