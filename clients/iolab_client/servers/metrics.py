"""A server's /metrics by name: the only reader of them."""

from __future__ import annotations

import re
import time

import msgspec
from prometheus_client import Metric

from iolab_client.servers import admin
from iolab_client.servers.targets import Target


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """A model's connections and answers, counted from the server's start."""

    open: int
    waiting: int
    accept_queue: int
    accepted: int
    refused: int
    answers: int
    received_bytes: int
    sent_bytes: int


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """A server's metrics: what its processes used `at` one moment, and what it had counted `counted_at` another.

    Both are monotonic seconds, by the server's own stamps; where it has none or another clock, when its answer came.

    `cpus` are the processors that it may run on; empty: not known. `counters` is None for a server without any, such as
    the yardstick.
    """

    at: float
    counted_at: float
    cpu_seconds: float
    voluntary_switches: int
    involuntary_switches: int
    memory_bytes: int
    threads: int
    processes: int
    cpus: tuple[int, ...]
    # How long its threads were ready to run without running, added up; None: the kernel does not count that.
    waited_seconds: float | None
    counters: Counters | None
    # The settings in force, as text; empty if the server shows none.
    settings: dict[str, str] = {}


def read(target: Target, *, deadline_seconds: float = 10.0) -> Metrics:
    """Ask the server now. Raises admin.Unreachable, also if it is no server of iolab."""
    asked_at = time.monotonic()
    text = admin.fetch(target, "/metrics", deadline_seconds=deadline_seconds)
    return understand(target, text, asked_at=asked_at, at=time.monotonic())


def understand(target: Target, text: str, *, asked_at: float, at: float) -> Metrics:
    """The metrics in a text that was asked for and came at these moments, monotonic seconds. Raises admin.Unreachable.

    A stamp outside of them is another clock's: that of another machine.
    """
    families = admin.parse_metrics(target, text)
    settings = _settings(families)

    def number(name: str, **labels: str) -> float:
        found = admin.value(families, f"iolab_{name}", **labels)
        if found is None:
            raise admin.Unreachable(f"{target.name}: its /metrics has no iolab_{name}: it is another server's")
        return found

    def count(name: str, **labels: str) -> int:
        return int(number(name, **labels))

    def stamp(name: str) -> float:
        found = admin.value(families, f"iolab_{name}")
        # After the answer is nearer to the moment of counting: a suspended server counts when it runs again.
        return found if found is not None and asked_at <= found <= at else at

    counts_connections = admin.value(families, "iolab_answers_total") is not None
    return Metrics(
        at=stamp("process_counted_seconds"),
        counted_at=stamp("counted_seconds"),
        cpu_seconds=sum(number("process_cpu_seconds_total", mode=mode) for mode in ("user", "system")),
        voluntary_switches=count("process_context_switches_total", kind="voluntary"),
        involuntary_switches=count("process_context_switches_total", kind="involuntary"),
        memory_bytes=count("process_resident_memory_bytes"),
        threads=count("process_threads"),
        processes=count("processes"),
        cpus=tuple(int(number) for number in re.findall(r"\d+", settings.get("cpus", ""))),
        waited_seconds=admin.value(families, "iolab_process_run_queue_seconds_total"),
        counters=Counters(
            open=count("connections_open"),
            waiting=count("connections_waiting"),
            accept_queue=count("accept_queue_length"),
            accepted=count("connections_accepted_total"),
            refused=count("connections_refused_total"),
            answers=count("answers_total"),
            received_bytes=count("received_bytes_total"),
            sent_bytes=count("sent_bytes_total"),
        )
        if counts_connections
        else None,
        settings=settings,
    )


def _settings(families: list[Metric]) -> dict[str, str]:
    """The settings in force, as the server shows them."""
    for family in families:
        for sample in family.samples:
            if sample.name == "iolab_settings_info":
                return dict(sample.labels)
    return {}
