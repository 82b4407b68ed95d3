"""What one process of the generator has to do, and its report."""

from __future__ import annotations

import msgspec

from iolab_client.results.measurement import Errors, Plan


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One process's part of a plan, given on its standard input."""

    plan: Plan
    # The number of the process, from 0; it has every nth request of the timetable.
    process: int
    # An address family, and an address of it as connect(2) takes it.
    family: int
    address: tuple[str, int]
    connections: int
    idle: int
    requests: int | None
    connect_rate: float | None
    # The descriptor of the shared memory.
    memory: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one process did in the measured time. Times are nanoseconds of the monotonic clock."""

    begun: int
    ended: int
    # Answers in the measured time, and later ones to requests that were in flight at its end.
    answers: int
    late: int
    # Requests due in the measured time (open loop), sent in it, and due in it but never sent.
    due: int
    sent: int
    unsent: int
    # Requests without an answer in the latency histogram, and the shortest time that one of them has waited.
    censored: int
    censored_from_ns: int | None
    sent_bytes: int
    received_bytes: int
    open_connections: int
    answered_connections: int
    # Answers in the measured time on each connection.
    answers_each: list[int]
    # The times in flight of all requests, added up.
    flight_ns: int
    latency_ns: int
    from_send_ns: int
    # Answers in each step of `step_ns` since the measured time began.
    step_ns: int
    steps: list[int]
    # Into which the shared memory divides the measured time.
    interval_ns: int
    errors: Errors
    cpu_seconds: float
    # The part of these in which there was something to do.
    busy_seconds: float
    # Whether the fast path was there.
    in_c: bool


def part(whole: int, process: int, processes: int) -> int:
    """A process's part of a whole number; the parts add up to it."""
    return whole * (process + 1) // processes - whole * process // processes


def split(plan: Plan, family: int, address: tuple[str, int], memories: list[int]) -> list[Share]:
    """A plan's shares, one for each shared memory; each has at least one connection."""
    processes = len(memories)
    return [
        Share(
            plan=plan,
            process=process,
            family=family,
            address=address,
            connections=part(plan.connections, process, processes),
            idle=part(plan.idle, process, processes),
            requests=None if plan.requests is None else part(plan.requests, process, processes),
            connect_rate=None if plan.connect_rate is None else plan.connect_rate / processes,
            memory=memory,
        )
        for process, memory in enumerate(memories)
    ]
