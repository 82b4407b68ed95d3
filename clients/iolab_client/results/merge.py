"""Merge measurements of generators that loaded one server at the same time into one.

Each generator uses its own clock. So histograms, counts and rates are added, and time stamps of different machines
are never compared; the server's own counters prove that the generators ran at the same time
(`verdicts.judge_joined`).
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from hdrh.codec import HdrCookieException, HdrHistogramSettingsException, HdrLengthException
from hdrh.histogram import HdrHistogram

from iolab_client.results import bundle, verdicts
from iolab_client.results.measurement import (
    Errors,
    Fairness,
    Generator,
    Latency,
    Machine,
    Measurement,
    OverTime,
    Plan,
    ServerUse,
)
from iolab_client.results.recorded import latency_of

# The keys of a plan of which each generator has a part; all other keys are the same for all.
DIVIDED = ("connections", "idle", "processes")
DIVIDED_IF_ASKED = ("rate", "requests", "connect_rate")
# Drawn by each generator, so that no two send the same bytes after the same gaps.
OWN = ("seed",)
# With at most this many connections the least, the median and the most are all of them.
KNOWN_EACH = 3
NOT_HISTOGRAM = (ValueError, zlib.error, HdrCookieException, HdrHistogramSettingsException, HdrLengthException)

Parts = Mapping[str, Measurement]
Value = TypeVar("Value")


class BadMerge(click.ClickException):
    """Measurements that are not of one load: one line that names the file and the key; exit code 2."""

    exit_code = 2


def read(files: Sequence[Path]) -> dict[str, Measurement]:
    """The measurement in each file, as `load --json` prints it. Raises bundle.BadBundle, BadMerge."""
    parts: dict[str, Measurement] = {}
    for file in files:
        if str(file) in parts:
            raise BadMerge(f"{file} is named twice: each generator counts once")
        parts[str(file)] = bundle.read_measurement(file)
    return parts


def merge(parts: Parts) -> Measurement:
    """One measurement of all, judged anew; `parts` are by name, which an error names. Raises BadMerge."""
    if not parts:
        raise BadMerge("there is nothing to merge")
    whose, first = next(iter(parts.items()))
    for name, part in parts.items():
        _require_one_load(name, part, whose, first)
    all_parts = list(parts.values())
    answers = sum(part.answers for part in all_parts)
    rate = sum(part.rate for part in all_parts)
    server, unknown = _server(parts)
    made = Measurement(
        subject=first.subject,
        # Each generator may use another address.
        address=", ".join(dict.fromkeys(part.address for part in all_parts)),
        plan=_plan([part.plan for part in all_parts]),
        started=first.started,
        seconds=answers / rate if rate else statistics.fmean(part.seconds for part in all_parts),
        answers=answers,
        sent_bytes=sum(part.sent_bytes for part in all_parts),
        received_bytes=sum(part.received_bytes for part in all_parts),
        open_connections=sum(part.open_connections for part in all_parts),
        answered_connections=sum(part.answered_connections for part in all_parts),
        in_flight=sum(part.in_flight for part in all_parts),
        due=sum(part.due for part in all_parts),
        sent=sum(part.sent for part in all_parts),
        late=sum(part.late for part in all_parts),
        unanswered=sum(part.unanswered for part in all_parts),
        unsent=sum(part.unsent for part in all_parts),
        latency=_added({name: part.latency for name, part in parts.items()}, "latency"),
        latency_from_send=_if_any(parts, "latency_from_send"),
        connect=_if_any(parts, "connect"),
        first_answer=_if_any(parts, "first_answer"),
        fairness=_fairness(all_parts),
        over_time=_over_time(parts),
        parts=[sum(counts) for counts in zip(*(part.parts for part in all_parts), strict=True)],
        errors=Errors.of_all(part.errors for part in all_parts),
        generator=_generator([part.generator for part in all_parts]),
        server=server,
        server_unknown=unknown,
        machine=_machine([part.machine for part in all_parts]),
        others=list(dict.fromkeys(other for part in all_parts for other in part.others)),
        verdict=verdicts.UNJUDGED,
        round=first.round,
    )
    made.verdict = verdicts.judge_joined(made, parts)
    return made


# What the parts must have in common


def _require_one_load(name: str, part: Measurement, whose: str, first: Measurement) -> None:
    """Raise BadMerge unless a part is of the same load as the first one, whose name is `whose`."""
    expected = _common(first)
    for key, found in _common(part).items():
        if found != expected[key]:
            raise BadMerge(f"{name}: {key} is {found}, and in {whose} it is {expected[key]}: not one load")


def _common(one: Measurement) -> dict[str, str]:
    """What is the same in all parts of one load, by its key."""
    common = {"subject": one.subject, "round": str(one.round), "parts": f"a list of {len(one.parts)}"}
    for key in Plan.__struct_fields__:
        value = getattr(one.plan, key)
        if key in DIVIDED_IF_ASKED:
            common[f"plan.{key}"] = "null" if value is None else "a number"
        elif key not in (*DIVIDED, *OWN):
            common[f"plan.{key}"] = msgspec.json.encode(value).decode()
    return common


def _plan(plans: Sequence[Plan]) -> Plan:
    first = plans[0]
    changed: dict[str, Any] = {key: sum(getattr(plan, key) for plan in plans) for key in DIVIDED}
    for key in DIVIDED_IF_ASKED:
        if getattr(first, key) is not None:
            changed[key] = sum(getattr(plan, key) for plan in plans)
    for key in OWN:
        values = {getattr(plan, key) for plan in plans}
        changed[key] = values.pop() if len(values) == 1 else None
    return msgspec.structs.replace(first, **changed)


# What is added


def _if_any(parts: Parts, key: str) -> Latency | None:
    found = {name: latency for name, part in parts.items() if (latency := getattr(part, key)) is not None}
    return _added(found, key) if found else None


def _added(latencies: Mapping[str, Latency], key: str) -> Latency:
    """The sum of the histograms. Raises BadMerge."""
    total = _sum({name: latency.histogram for name, latency in latencies.items()}, f"{key}.histogram")
    count = sum(latency.count for latency in latencies.values())
    mean = sum(latency.mean * latency.count for latency in latencies.values()) / count if count else 0.0
    return msgspec.structs.replace(
        latency_of(total, mean),
        censored=sum(latency.censored for latency in latencies.values()),
        censored_from=min(_known(latency.censored_from for latency in latencies.values()), default=None),
    )


def _sum(histograms: Mapping[str, str], key: str) -> HdrHistogram:
    """One of all, which are of the same kind. Raises BadMerge."""
    decoded: list[HdrHistogram] = []
    for name, text in histograms.items():
        try:
            decoded.append(HdrHistogram.decode(text))
        except NOT_HISTOGRAM as error:
            raise BadMerge(f"{name}: {key}: expected an HdrHistogram: {error}") from None
    total, *others = decoded
    for other in others:
        total.add(other)
    return total


def _over_time(parts: Parts) -> OverTime | None:
    """Interval by interval, where all parts have intervals of the same length."""
    told = {name: part.over_time for name, part in parts.items() if part.over_time}
    if len(told) < len(parts) or len({one.interval_seconds for one in told.values()}) > 1:
        return None
    histograms = []
    for moment in range(max(len(one.histograms) for one in told.values())):
        filled = {
            name: one.histograms[moment] for name, one in told.items() if any(one.histograms[moment : moment + 1])
        }
        histograms.append(_sum(filled, f"over_time.histograms[{moment}]").encode().decode() if filled else "")
    return OverTime(interval_seconds=next(iter(told.values())).interval_seconds, histograms=histograms)


def _known(values: Iterable[Value | None]) -> list[Value]:
    return [value for value in values if value is not None]


def _fairness(parts: Sequence[Measurement]) -> Fairness | None:
    """The fairness of all connections. A part's index gives its sum of squares: T² / (n · index), a whole number."""
    # A part without an answer has none.
    none = Fairness(least=0, median=0.0, most=0, index=1.0)
    told = [part.fairness or none for part in parts]
    if not all(part.fairness and part.fairness.index for part in parts if part.answers):
        return None
    squares = sum(
        round(part.answers**2 / (part.plan.connections * fair.index)) for part, fair in zip(parts, told, strict=True)
    )
    if not squares:
        return None
    connections = sum(part.plan.connections for part in parts)
    return Fairness(
        least=min(fair.least for fair in told),
        median=_median(parts, told),
        most=max(fair.most for fair in told),
        index=sum(part.answers for part in parts) ** 2 / (connections * squares),
    )


def _median(parts: Sequence[Measurement], told: Sequence[Fairness]) -> float | None:
    """The median of all connections, if the parts determine it; else None.

    Half of each part is at its median or below, half at it or above: a median that all parts share is that of all.
    """
    if len({fair.median for fair in told}) == 1:
        return told[0].median
    each: list[float] = []
    for part, fair in zip(parts, told, strict=True):
        count = part.plan.connections
        if fair.least == fair.most:
            each += [fair.least] * count
        elif count <= KNOWN_EACH and fair.median is not None:
            each += [fair.least, fair.median, fair.most] if count == KNOWN_EACH else [fair.least, fair.most]
        else:
            return None
    return statistics.median(each)


def _generator(generators: Sequence[Generator]) -> Generator:
    return Generator(
        processes=sum(one.processes for one in generators),
        cpus=generators[0].cpus,
        cpu_seconds=sum(one.cpu_seconds for one in generators),
        busy=max(one.busy for one in generators),
        lag_p99=max(_known(one.lag_p99 for one in generators), default=None),
        in_c=all(one.in_c for one in generators),
    )


def _machine(machines: Sequence[Machine]) -> Machine:
    """The worst value of any machine."""
    worst = {
        key: max(_known(getattr(machine, key) for machine in machines), default=None)
        for key in Machine.__struct_fields__
    }
    return Machine(**worst)


def _server(parts: Parts) -> tuple[ServerUse | None, str]:
    """What all together cost the server: the mean over the windows, in each of which it answered all of them.

    None, and the reason, if a part does not know it.
    """
    uses: list[ServerUse] = []
    for name, part in parts.items():
        if part.server is None:
            return None, f"{name}: {part.server_unknown}"
        uses.append(part.server)
    # The part that looked before any connection was made knows by how much the server has grown.
    earliest = max(uses, key=lambda use: (use.fresh, use.memory_growth_bytes))
    seconds = statistics.fmean(use.seconds for use in uses)
    waited, received = _known(use.waited_seconds for use in uses), _known(use.received_bytes for use in uses)
    use = ServerUse(
        seconds=seconds,
        cpu_seconds=statistics.fmean(use.cpu_seconds for use in uses),
        answers=round(seconds * sum(use.answers / use.seconds for use in uses if use.seconds)),
        voluntary_switches=round(statistics.fmean(use.voluntary_switches for use in uses)),
        involuntary_switches=round(statistics.fmean(use.involuntary_switches for use in uses)),
        memory_bytes=max(use.memory_bytes for use in uses),
        memory_growth_bytes=earliest.memory_growth_bytes,
        threads=max(use.threads for use in uses),
        processes=max(use.processes for use in uses),
        cpus=earliest.cpus,
        received_bytes=round(statistics.fmean(received)) if len(received) == len(uses) else None,
        waited_seconds=statistics.fmean(waited) if len(waited) == len(uses) else None,
        served=max(_known(use.served for use in uses), default=None),
        fresh=earliest.fresh,
    )
    return use, ""
