"""Whether a measurement can be trusted: the worst reason against it, in words and numbers."""

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

# The verdict of a measurement before it is judged; not VALID, so that an unjudged one is not trusted.
UNJUDGED = Verdict(word=INCONSISTENT, reason="not judged")

# A process this busy had no time to do more; the rest is the kernel's accounting, and the start and end.
BUSY = 0.95
# Latency counts from when a request was due, so it includes the generator's own lateness. If that is a quarter of the
# p99, up to a quarter of the server's latency is really the generator's: that is no small error of measurement.
LAG_SHARE = 0.25
# The kernel's default timer slack (prctl(2), PR_SET_TIMERSLACK), 50 µs: no sleeping thread wakes more precisely.
LAG_FLOOR = 50.0
# Less than this share of the planned requests is notably less.
KEPT_UP = 0.95
# With less in flight than this share of what the plan allows, the generator could have sent more.
FULL = 0.9
# Waiting for processors that others used, in processors: more than this affects every number.
STOLEN = 0.05
# If the server's wait is not known, other processes can't be told from it: only the generator's own wait counts.
GENERATOR_WAITED = 0.25
# The share of the processors' time that other machines may have taken.
STEAL = 0.02
# A backlog: more than this share of the requests that were due found no room. It grows if it is larger at the end than
# in the middle by this factor; else it was a stall.
BACKLOG = 0.05
GROWTH = 1.25
# If neither side was this busy, what is measured is waiting.
IDLE = 0.5
# How far the server's count of received bytes may differ from what was sent: each side measures by its own clock.
RECEIVED = 0.10
# The allowed range of a measurement's ten parts, as a share of their mean, and what chance adds to counts that small.
SWING = 0.4
CHANCE = 5.0
# Shorter parts show what the scheduler does, not the server.
SHORTEST_PART_SECONDS = 0.1
# With fewer requests per connection, on average, one may get no answer by chance.
REQUESTS_EACH = 10


def judge_one(measurement: Measurement) -> Verdict:
    """The worst verdict that applies to one measurement by itself, or VALID. The verdict that it carries is ignored:

    measurement = Measurement(..., verdict=UNJUDGED)
    measurement.verdict = judge_one(measurement)

    `summary` judges whether several measurements of the same load differ too much.
    """
    for word, finds in CHECKS:
        if reason := finds(measurement):
            return Verdict(word=word, reason=reason)
    return Verdict(word=VALID, reason=_in_order(measurement))


def judge_joined(whole: Measurement, parts: Mapping[str, Measurement]) -> Verdict:
    """`judge_one` for a merged measurement of several generators, which are in `parts` by name.

    The server's own counters, and no clock, show whether they ran at the same time: in the time that each of them
    measured, the server must have received what all of them sent. Otherwise their sum never happened, and no other
    verdict applies. If two shared less than four fifths of their time, one misses more than a tenth of the sum, however
    unequal they are.
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
    """Whether two rates of bytes are the same, except for bytes at the ends of their windows."""
    return abs(sent - received) <= RECEIVED * max(sent, received) + straddles


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The first verdict with the worst word. Raises ValueError if there is none."""
    return min(verdicts, key=lambda verdict: ORDER.index(verdict.word))


def processors(server: ServerUse) -> int:
    """How many processors a server could keep busy: those it may run on, but at most one for each process.

    All servers here run one thread at a time in each process: Python because of the GIL, the yardstick because it has
    only one.
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
    # With churn more connections are made than planned, and all of them count.
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
    # A server's threads also wait for each other, so others have taken at most what they used.
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
        # A request that found no room is the server's fault: everything that may be in flight was.
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
    """With more requests than answers, latency shows how long the load was, and not how fast the server is."""
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
    # What was in flight when the measured time began was sent before it.
    before = plan.connections * plan.pipeline
    sizes = [each.size for each in plan.sizes]
    if one.received_bytes > one.sent_bytes + before * max(sizes):
        return f"more came back than was sent: {one.received_bytes:,} bytes of {one.sent_bytes:,}"
    if one.answers * min(sizes) > one.sent_bytes + before * max(sizes):
        return f"{one.answers:,} answers of {min(sizes):,} bytes or more to {one.sent_bytes:,} bytes sent"
    server = one.server
    if server is None or server.received_bytes is None or not one.seconds:
        return None
    # The two counts begin and end at different moments: bytes at these edges are counted on one side only.
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
    # Answers may come in waves of all that is in flight: one wave more or less in a part is no instability.
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


# In the order of severity: a rate that includes wrong answers means nothing.
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
        waiting = "; neither side was busy, so waiting limits the rate"
    return (
        f"no errors; {one.answered_connections:,} connections answered; processors busy: generator "
        f"{one.generator.busy:.2f}, {known}; {one.in_flight:,.1f} in flight{waiting}"
    )
