"""The machine's part in a measurement: how busy other processes were, and what had to wait for a processor.

Sources: proc_stat(5), proc_pid_schedstat in the kernel's Documentation/scheduler/sched-stats.rst, and
Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iolab_client.results.measurement import Machine, ServerUse

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What the kernel has counted so far. Seconds of all processors together; None if it does not count that."""

    at: float
    busy_seconds: float | None
    steal_seconds: float | None
    pressure_seconds: float | None
    # For each process of the generator: how long it ran, and how long it was ready to run without running.
    ran_seconds: tuple[float, ...]
    waited_seconds: tuple[float, ...]


def look(pids: Iterable[int]) -> Moment:
    """Read the counters now; `pids` are the generator's processes."""
    busy = steal = pressure = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        user, nice, system, _, _, _, _, stolen, *_ = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        )
        busy, steal = (user + nice + system) * _TICK_SECONDS, stolen * _TICK_SECONDS
    with contextlib.suppress(OSError, ValueError, IndexError):
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        pressure = int(some.rpartition("total=")[2]) / 1e6
    times = [_schedule(pid) for pid in pids]
    return Moment(
        at=time.monotonic(),
        busy_seconds=busy,
        steal_seconds=steal,
        pressure_seconds=pressure,
        ran_seconds=tuple(ran for ran, _ in times),
        waited_seconds=tuple(waited for _, waited in times),
    )


def between(first: Moment, second: Moment, server: ServerUse | None) -> Machine:
    """What the machine did between two moments, beside the server and the generator."""
    seconds = second.at - first.at
    cores = os.cpu_count() or 1
    others = None
    ran = sum(second.ran_seconds) - sum(first.ran_seconds)
    if server and first.busy_seconds is not None and second.busy_seconds is not None:
        others = max(0.0, (second.busy_seconds - first.busy_seconds - ran - server.cpu_seconds) / seconds)
    waited = [later - earlier for earlier, later in zip(first.waited_seconds, second.waited_seconds, strict=True)]
    return Machine(
        others=others,
        steal=_share(first.steal_seconds, second.steal_seconds, seconds * cores),
        pressure=_share(first.pressure_seconds, second.pressure_seconds, seconds),
        generator_waited=max(waited, default=0.0) / seconds,
        server_waited=None
        if server is None or server.waited_seconds is None
        else server.waited_seconds / server.seconds,
    )


def _share(first: float | None, second: float | None, of_seconds: float) -> float | None:
    return None if first is None or second is None else (second - first) / of_seconds


def _schedule(pid: int) -> tuple[float, float]:
    """Seconds that a process of one thread has run, and has waited in the run queue; zeros if it is gone."""
    with contextlib.suppress(OSError, ValueError):
        ran, waited, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
        return ran / 1e9, waited / 1e9
    return 0.0, 0.0
