"""What a load costs the server, from looks at its /metrics."""

from __future__ import annotations

import re
import time

import msgspec
from prometheus_client import Metric

from iolab_client.results.measurement import ServerUse
from iolab_client.servers import admin
from iolab_client.servers.targets import Target

PROCESS = "iolab_process"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What /metrics said at a moment (monotonic seconds)."""

    at: float
    cpu_seconds: float
    voluntary_switches: int
    involuntary_switches: int
    memory_bytes: int
    threads: int
    processes: int
    cpus: tuple[int, ...]


def look(target: Target, *, deadline_seconds: float = 10.0) -> Look:
    """Ask the server now. Raises admin.Unreachable."""
    before = time.monotonic()
    families = admin.metrics(target, deadline_seconds=deadline_seconds)
    after = time.monotonic()

    def number(name: str, **labels: str) -> float:
        found = admin.value(families, name, **labels)
        if found is None:
            raise admin.Unreachable(f"{target.name}: /metrics does not tell {name}")
        return found

    def switches(kind: str) -> int:
        return int(number(f"{PROCESS}_context_switches_total", kind=kind))

    return Look(
        at=(before + after) / 2,
        cpu_seconds=sum(number(f"{PROCESS}_cpu_seconds_total", mode=mode) for mode in ("user", "system")),
        voluntary_switches=switches("voluntary"),
        involuntary_switches=switches("involuntary"),
        memory_bytes=int(number(f"{PROCESS}_resident_memory_bytes")),
        threads=int(number(f"{PROCESS}_threads")),
        processes=int(number("iolab_processes")),
        cpus=_pinned(families),
    )


def between(alone: Look, first: Look, second: Look, answers: int) -> ServerUse:
    """From three looks: when nobody was connected, and at both ends of the measured time."""
    return ServerUse(
        seconds=second.at - first.at,
        cpu_seconds=second.cpu_seconds - first.cpu_seconds,
        answers=answers,
        voluntary_switches=second.voluntary_switches - first.voluntary_switches,
        involuntary_switches=second.involuntary_switches - first.involuntary_switches,
        memory_bytes=second.memory_bytes,
        memory_growth_bytes=second.memory_bytes - alone.memory_bytes,
        threads=second.threads,
        processes=second.processes,
        cpus=second.cpus,
    )


def _pinned(families: list[Metric]) -> tuple[int, ...]:
    for family in families:
        for sample in family.samples:
            if sample.name == "iolab_settings_info":
                return tuple(int(number) for number in re.findall(r"\d+", sample.labels.get("cpus", "")))
    return ()
