"""Whether a measurement is what it seems to be: of all that speaks against it, the worst, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from iolab_client.results.measurement import (
    CLIENT_BOUND,
    ERRORS,
    INCONSISTENT,
    STARVED,
    UNSTABLE,
    VALID,
    Measurement,
    ServerUse,
    Verdict,
    Word,
)

# The worst first.
ORDER: tuple[Word, ...] = (ERRORS, STARVED, CLIENT_BOUND, INCONSISTENT, UNSTABLE, VALID)

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
# How far the requests in flight may be from rate x latency.
LITTLE = 0.10
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
    classes = ("refused", "reset", "timeout", "short", "wrong", "closed")
    counts = ", ".join(f"{getattr(errors, name):,} {name}" for name in classes if getattr(errors, name))
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


def _client_bound(one: Measurement) -> str | None:
    generator, server, plan = one.generator, one.server, one.plan
    known = f"the server {server.busy:.2f} of its {processors(server)}" if server else "the server is not known to be"
    if not (server and server.busy >= BUSY * processors(server)):
        if generator.busy >= BUSY:
            remedy = "" if generator.in_c else "; it has no C compiler (install gcc), and is the slower for it"
            return f"the generator's busiest process took {generator.busy:.2f} of its processor, {known}{remedy}"
        planned = plan.rate * one.seconds if plan.rate else 0.0
        # A server that waits is not busy and yet the slow one: then all that may be in flight is.
        if one.answers < KEPT_UP * planned and one.in_flight < FULL * plan.connections * plan.pipeline:
            return (
                f"{one.rate:,.0f} of the planned {plan.rate:,.0f} requests/s were answered, with "
                f"{one.in_flight:,.1f} of {plan.connections * plan.pipeline:,} in flight: the others were not sent; "
                f"processors busy: {known}"
            )
    lag = generator.lag_p99
    if lag is not None and lag > max(LAG_FLOOR, LAG_SHARE * one.latency.p99):
        return (
            f"the generator itself sent one request in a hundred {lag:,.0f} µs late or more, "
            f"{lag / max(1.0, one.latency.p99):.0%} of the p99 of {one.latency.p99:,.0f} µs"
        )
    return None


def _inconsistent(one: Measurement) -> str | None:
    plan = one.plan
    # What was under way when the measured time began was sent before it.
    before = plan.connections * plan.pipeline
    sizes = [each.size for each in plan.sizes]
    if one.received_bytes > one.sent_bytes + before * max(sizes):
        return f"more came back than was sent: {one.received_bytes:,} bytes of {one.sent_bytes:,}"
    if one.answers * min(sizes) > one.sent_bytes + before * max(sizes):
        return f"{one.answers:,} answers of {min(sizes):,} bytes or more to {one.sent_bytes:,} bytes sent"
    seen, expected = one.in_flight, _little(one)
    # What straddles the ends of the measured time is counted in one and not in the other: up to a mean latency of it.
    allowed = LITTLE + _from_send(one) / 1e6 / one.seconds
    if abs(seen - expected) > allowed * max(seen, expected):
        return (
            f"{seen:,.2f} requests were in flight, but {one.rate:,.0f} a second of {_from_send(one):,.0f} µs each make "
            f"{expected:,.2f} (Little's law)"
        )
    return None


def _unstable(one: Measurement) -> str | None:
    if not one.parts or one.seconds / len(one.parts) < SHORTEST_PART_SECONDS:
        return None
    mean = sum(one.parts) / len(one.parts)
    low, high = min(one.parts), max(one.parts)
    if high - low <= SWING * mean + CHANCE * math.sqrt(mean):
        return None
    return (
        f"between {low:,} and {high:,} answers in each tenth of the time, {(high - low) / mean:.0%} of the mean apart"
    )


# In the order of the words: a rate with wrong answers in it is a rate of nothing.
CHECKS: tuple[tuple[Word, Callable[[Measurement], str | None]], ...] = (
    (ERRORS, _errors),
    (STARVED, _starved),
    (CLIENT_BOUND, _client_bound),
    (INCONSISTENT, _inconsistent),
    (UNSTABLE, _unstable),
)


def _from_send(one: Measurement) -> float:
    """The mean latency of what was in flight, which a request is from when it is sent; microseconds."""
    return (one.latency_from_send or one.latency).mean


def _little(one: Measurement) -> float:
    """Requests in flight by Little's law: J. D. C. Little, "A Proof for the Queuing Formula L = λW", 1961."""
    return one.rate * _from_send(one) / 1e6


def _in_order(one: Measurement) -> str:
    server = one.server
    known = f"server {server.busy:.2f} of {processors(server)}" if server else "server not known"
    return (
        f"no errors; {one.answered_connections:,} connections answered; processors busy: generator "
        f"{one.generator.busy:.2f}, {known}; {one.in_flight:,.1f} in flight, {_little(one):,.1f} by Little's law"
    )
