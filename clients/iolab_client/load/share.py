"""What one process of the generator is to do, and what it says when it has done it."""

from __future__ import annotations

import msgspec

from iolab_client.results.measurement import Errors, Plan


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a plan that one of its processes does. It is told on the process's standard input."""

    plan: Plan
    # Which of the processes it is, from 0; it has every nth request of the timetable.
    process: int
    # An address family and what connect(2) takes there.
    family: int
    address: tuple[str, int]
    connections: int
    idle: int
    requests: int | None
    connect_rate: float | None
    # Descriptor of the shared memory.
    memory: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one process did in the measured time. Times are nanoseconds of the monotonic clock."""

    begun: int
    ended: int
    # Answers in the measured time, and those that came later to what was in flight at its end.
    answers: int
    late: int
    # Requests that were due in the measured time (open loop), that were sent in it, and that were due and never sent.
    due: int
    sent: int
    unsent: int
    # Requests in the latency histogram that have no answer, and for how long the one that waited least has waited.
    censored: int
    censored_from_ns: int | None
    sent_bytes: int
    received_bytes: int
    open_connections: int
    answered_connections: int
    # Answers in the measured time on each connection.
    answers_each: list[int]
    # Time that requests were in flight, added up over all of them.
    flight_ns: int
    latency_ns: int
    from_send_ns: int
    # Answers in each step of `step_ns` since the measured time began.
    step_ns: int
    steps: list[int]
    errors: Errors
    cpu_seconds: float
    # Of these, those that it had something to do in.
    busy_seconds: float
    # Whether the fast path was there.
    in_c: bool


def part(whole: int, process: int, processes: int) -> int:
    """The part of a whole number that falls to a process; the parts add up to it."""
    return whole * (process + 1) // processes - whole * process // processes


def split(plan: Plan, family: int, address: tuple[str, int], memories: list[int]) -> list[Share]:
    """A plan's shares, one for each of the shared memories; none has less than one connection."""
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
