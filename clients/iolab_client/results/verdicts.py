"""Whether a measurement is what it seems to be: of all that speaks against it, the worst, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from iolab_client.results.measurement import (
    CLIENT_BOUND,
    ERROR_CLASSES,
    ERRORS,
    INCONSISTENT,
    NOISY,
    NONE,
    OVERLOADED,
    STARVED,
    UNPROVEN,
    UNSTABLE,
    VALID,
    Measurement,
    ServerUse,
    Verdict,
    Word,
)

# The worst first.
ORDER: tuple[Word, ...] = (ERRORS, STARVED, NOISY, CLIENT_BOUND, OVERLOADED, INCONSISTENT, UNSTABLE, UNPROVEN, VALID)

# What a measurement is made with before it is judged; never VALID, so that one nobody judged is not believed.
UNJUDGED = Verdict(word=INCONSISTENT, reason="not judged")

# A process this busy had no time left to do more; the rest is what the kernel's accounting and start and end take.
BUSY = 0.95
# Latency counts from when a request was due, so the generator's own lateness is in it. Where the lateness is a quarter
# of the p99, up to a quarter of what is called the server's is the generator's: no small error of measurement any more.
LAG_SHARE = 0.25
# No sleeper is punctual to more than the kernel's default timer slack (prctl(2), PR_SET_TIMERSLACK): 50 µs.
LAG_FLOOR = 50.0
# Less than this of the planned answers is notably less.
KEPT_UP = 0.95
# In flight up to this of what the plan allows, the generator had room to send and did not.
FULL = 0.9
# Processors' worth of waiting for a processor that others had: more than this is theirs in every number.
STOLEN = 0.05
# Where the server does not tell how long it waited, others are not told from it: only the generator's own wait counts.
GENERATOR_WAITED = 0.25
# Of the processors' time, what may be gone to other machines.
STEAL = 0.02
# Requests that were due and found no room, as a share of all: more than this is a backlog; and by how much it is larger
# at the end than in the middle if it grows. One that does not was a stall.
BACKLOG = 0.05
GROWTH = 1.25
# Neither side was this busy: what is measured is waiting.
IDLE = 0.5
# How far what the server says that it received may be from what was sent: both by their own clocks.
RECEIVED = 0.10
# The range of a measurement's ten parts, as a share of their mean, beyond what chance makes of counts that small.
SWING = 0.4
CHANCE = 5.0
# A shorter part shows the scheduler's turns and not the server's.
SHORTEST_PART_SECONDS = 0.1
# So many requests each, on average, or a connection may be without an answer by chance.
REQUESTS_EACH = 10


def judge_one(measurement: Measurement) -> Verdict:
    """The worst that holds for one measurement by itself, or VALID. Whatever verdict it carries is not looked at:

    measurement = Measurement(..., verdict=UNJUDGED)
    measurement.verdict = judge_one(measurement)

    Where several measurements of the same are wide apart is for `summary` to say.
    """
    for word, finds in CHECKS:
        if reason := finds(measurement):
            return Verdict(word=word, reason=reason)
    return Verdict(word=VALID, reason=_in_order(measurement))


def judge_joined(whole: Measurement, parts: Mapping[str, Measurement]) -> Verdict:
    """`judge_one` for what several generators did to one server, each of which is in `parts` by its name.

    That they did it at the same time is seen in the server's own counters, and not by anybody's clock: in the time that
    each of them measured, the server must have received what all of them sent. Otherwise their sum never was, and
    nothing else is to be said of it. Of two that shared less than four fifths of their time, one misses more than a
    tenth of the sum, however unequal they are.
    """
    size = max(each.size for each in whole.plan.sizes)
    sent = sum(part.sent_bytes / part.seconds for part in parts.values() if part.seconds)
    for name, part in parts.items():
        if part.server is None or part.server.received_bytes is None:
            continue
        received = part.server.received_bytes / part.server.seconds
        straddles = 2 * whole.plan.connections * whole.plan.pipeline * size / part.server.seconds
        if not _agree(sent, received, straddles):
            reason = (
                f"while {name} measured, the server counted {received:,.0f} bytes/s, and the {len(parts)} together "
                f"sent {sent:,.0f}: they did not run at the same time, or somebody else loads it"
            )
            return Verdict(word=INCONSISTENT, reason=reason)
    unseen = [name for name, part in parts.items() if part.server is None or part.server.received_bytes is None]
    if not unseen:
        return judge_one(whole)
    reason = f"that all ran at the same time is not proven: {unseen[0]} does not know what the server received"
    return worst([judge_one(whole), Verdict(word=UNPROVEN, reason=reason)])


def _agree(sent: float, received: float, straddles: float) -> bool:
    """Whether two rates of bytes are the same, but for what straddles the ends of the times that they are of."""
    return abs(sent - received) <= RECEIVED * max(sent, received) + straddles


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The first of those with the worst word. Raises ValueError if there is none."""
    return min(verdicts, key=lambda verdict: ORDER.index(verdict.word))


def processors(server: ServerUse) -> int:
    """How many a server could keep busy: those it may run on, and no more than it has processes.

    All servers here run one thread at a time in each process: Python's by its interpreter lock, the yardstick by having
    no other.
    """
    return max(1, min(len(server.cpus) or server.processes, server.processes))


def _errors(one: Measurement) -> str | None:
    errors = one.errors
    counts = ", ".join(f"{getattr(errors, name):,} {name}" for name in ERROR_CLASSES if getattr(errors, name))
    if not counts:
        return None
    sample = f"; the first: {errors.samples[0]}" if errors.samples else ""
    return f"{errors.total:,} errors ({counts}){sample}"


def _starved(one: Measurement) -> str | None:
    plan = one.plan
    if not one.answers:
        return f"no answer at all on {plan.connections:,} connections"
    limits = [float(plan.requests)] if plan.requests else []
    if plan.rate:
        limits.append(plan.rate * one.seconds)
    if limits and min(limits) < REQUESTS_EACH * plan.connections:
        return None
    # With churn more than the plan's connections are made, and all of them count.
    missing = plan.connections - one.answered_connections
    if missing <= 0:
        return None
    return f"{missing:,} of {plan.connections:,} connections never got an answer"


def _noisy(one: Measurement) -> str | None:
    machine = one.machine
    if machine.steal is not None and machine.steal > STEAL:
        return f"a hypervisor gave {machine.steal:.1%} of the processors' time to other machines"
    waited = max(machine.generator_waited or 0.0, machine.server_waited or 0.0)
    pressure = (
        "" if machine.pressure is None else f"; some task waited for one {machine.pressure:.0%} of the time (PSI)"
    )
    if machine.others is None or machine.server_waited is None:
        if (machine.generator_waited or 0.0) <= GENERATOR_WAITED:
            return None
        return f"the generator was ready to run and did not for {machine.generator_waited:.0%} of the time{pressure}"
    # A server's threads wait for each other, too: only what others had can have been taken from it.
    stolen = min(waited, machine.others)
    if stolen <= STOLEN:
        return None
    return (
        f"others kept {machine.others:.2f} processors busy, and the server waited for {machine.server_waited:.2f}, the "
        f"generator for {machine.generator_waited or 0.0:.2f}{pressure}"
    )


def _client_bound(one: Measurement) -> str | None:
    generator, server, plan = one.generator, one.server, one.plan
    known = f"the server {server.busy:.2f} of its {processors(server)}" if server else "the server is not known to be"
    if not (server and server.busy >= BUSY * processors(server)):
        if generator.busy >= BUSY:
            remedy = "" if generator.in_c else "; it has no C compiler (install gcc), and is the slower for it"
            return f"the generator's busiest process took {generator.busy:.2f} of its processor, {known}{remedy}"
        # What found no room is the server's affair: it had all that may be in flight.
        room = one.in_flight < FULL * plan.connections * plan.pipeline
        if plan.rate and room and one.sent < KEPT_UP * one.due:
            return (
                f"of {one.due:,} requests that were due {one.sent:,} were sent, with {one.in_flight:,.1f} of "
                f"{plan.connections * plan.pipeline:,} in flight; processors busy: {known}"
            )
    lag = generator.lag_p99
    if lag is not None and lag > max(LAG_FLOOR, LAG_SHARE * one.latency.p99):
        return (
            f"the generator itself sent one request in a hundred {lag:,.0f} µs late or more, "
            f"{lag / max(1.0, one.latency.p99):.0%} of the p99 of {one.latency.p99:,.0f} µs"
        )
    return None


def _overloaded(one: Measurement) -> str | None:
    """More is asked for than is answered: then a latency says how long the load was, and not how fast the server is."""
    if not one.plan.rate or one.unsent <= BACKLOG * one.due:
        return None
    middle = len(one.parts) // 2
    halfway = one.due * middle / len(one.parts) - sum(one.parts[:middle])
    backlog = one.due - one.answers
    if backlog < GROWTH * halfway:
        return None
    return (
        f"of {one.due:,} requests that were due {one.answers:,} were answered in time, {one.unsent:,} found no room; "
        f"the backlog was {halfway:,.0f} halfway and {backlog:,} at the end: latencies grow with the duration"
    )


def _inconsistent(one: Measurement) -> str | None:
    plan = one.plan
    # What was under way when the measured time began was sent before it.
    before = plan.connections * plan.pipeline
    sizes = [each.size for each in plan.sizes]
    if one.received_bytes > one.sent_bytes + before * max(sizes):
        return f"more came back than was sent: {one.received_bytes:,} bytes of {one.sent_bytes:,}"
    if one.answers * min(sizes) > one.sent_bytes + before * max(sizes):
        return f"{one.answers:,} answers of {min(sizes):,} bytes or more to {one.sent_bytes:,} bytes sent"
    server = one.server
    if server is None or server.received_bytes is None or not one.seconds:
        return None
    # By its own counters, between looks at its own moments: what straddles either is counted in one and not the other.
    sent, received = one.sent_bytes / one.seconds, server.received_bytes / server.seconds
    straddles = 2 * before * max(sizes) / one.seconds
    if not _agree(sent, received, straddles):
        return f"{sent:,.0f} bytes/s were sent, and the server counted {received:,.0f}: does somebody else load it?"
    return None


def _unstable(one: Measurement) -> str | None:
    if not one.parts or one.seconds / len(one.parts) < SHORTEST_PART_SECONDS:
        return None
    mean = sum(one.parts) / len(one.parts)
    low, high = min(one.parts), max(one.parts)
    # Answers may come in waves of all that is in flight: one wave more or less in a part is no swing.
    wave = one.plan.connections * one.plan.pipeline
    if high - low <= SWING * mean + CHANCE * math.sqrt(mean) + wave:
        return None
    return (
        f"between {low:,} and {high:,} answers in each tenth of the time, {(high - low) / mean:.0%} of the mean apart"
    )


def _unproven(one: Measurement) -> str | None:
    if one.plan.expect != NONE:
        return None
    return f"the {one.received_bytes:,} bytes that came back were counted and compared with nothing; {_in_order(one)}"


# In the order of the words: a rate with wrong answers in it is a rate of nothing.
CHECKS: tuple[tuple[Word, Callable[[Measurement], str | None]], ...] = (
    (ERRORS, _errors),
    (STARVED, _starved),
    (NOISY, _noisy),
    (CLIENT_BOUND, _client_bound),
    (OVERLOADED, _overloaded),
    (INCONSISTENT, _inconsistent),
    (UNSTABLE, _unstable),
    (UNPROVEN, _unproven),
)


def _in_order(one: Measurement) -> str:
    server = one.server
    known = f"server {server.busy:.2f} of {processors(server)}" if server else "server not known"
    waiting = ""
    if not one.plan.rate and server and max(one.generator.busy, server.busy / processors(server)) < IDLE:
        waiting = "; neither side was busy, so that the rate is what waiting allows"
    return (
        f"no errors; {one.answered_connections:,} connections answered; processors busy: generator "
        f"{one.generator.busy:.2f}, {known}; {one.in_flight:,.1f} in flight{waiting}"
    )
