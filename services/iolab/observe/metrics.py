"""A server's counters, and what its processes use, as Prometheus metrics."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec
import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from iolab.observe.xray import run_queue_seconds, switches
from iolab.registry import Model
from iolab.server.server import Server
from iolab.server.stop import Stop

# Field of Totals, name without `iolab_` and `_total`, help.
TOTALS = (
    ("accepted", "connections_accepted", "Connections accepted, whether served or waiting for a worker"),
    ("refused", "connections_refused", "Connections closed at once: max_connections were open"),
    ("unserved", "connections_unserved", "Connections closed at the stop before a worker began with them"),
    ("lost", "connections_lost", "Connections that ended by the peer's fault, or for want of an answer"),
    ("pauses", "accept_pauses", "Times that accepting paused because the capacity ran out"),
    ("answers", "answers", "Answers made, one for each read"),
    ("received_bytes", "received_bytes", "Bytes received"),
    ("sent_bytes", "sent_bytes", "Bytes that the kernel took for sending"),
)


# Where the server's threads leave no time for the admin port, its answer comes long after this moment.
COUNTED_AT = "CLOCK_MONOTONIC when {}"


class Shown(Protocol):
    """What the admin port can show: anything that has processes and a stop."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def stop(self) -> Stop:
        """The stop."""

    def processes(self) -> list[int]:
        """The PIDs of its processes."""


class BooksCollector(Collector):
    """A server's counters as Prometheus metrics."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def describe(self) -> Iterable[Metric]:
        """Nothing: the metrics are made at a scrape only."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Make the metrics of one scrape."""
        server = self._server
        slug = server.model.slug
        before = time.monotonic()
        totals = server.totals()
        counted_at = (before + time.monotonic()) / 2
        for field, name, text in TOTALS:
            counter = CounterMetricFamily(f"iolab_{name}", text, labels=["model"])
            counter.add_metric([slug], getattr(totals, field))
            yield counter
        gauges = (
            ("counted_seconds", COUNTED_AT.format("the totals were added up"), counted_at),
            ("connections_open", "Open connections, including those that wait for a worker", server.open_count()),
            ("connections_waiting", "Connections, or their answers, that wait for a worker", server.waiting()),
            ("accept_queue_length", "Clients that the kernel holds for accept(2)", server.accept_queue()),
        )
        yield from _gauges(slug, gauges)
        gauge = GaugeMetricFamily(
            "iolab_process_connections_open", "Open connections of each process that serves", labels=["model", "number"]
        )
        for number, count in enumerate(server.open_counts()):
            gauge.add_metric([slug, str(number)], count)
        yield gauge
        gauge = GaugeMetricFamily(
            "iolab_limit", "The limits in force, as the kernel applies them", labels=["model", "limit"]
        )
        for limit, value in msgspec.structs.asdict(server.limits).items():
            if value is not None:
                gauge.add_metric([slug, limit], value)
        yield gauge
        yield InfoMetricFamily("iolab_settings", "The settings in force", settings_shown(server))


class UsageCollector(Collector):
    """What a server's processes use, as Prometheus metrics."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def describe(self) -> Iterable[Metric]:
        """Nothing, as in BooksCollector."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Make the metrics of one scrape."""
        slug = self._shown.model.slug
        used = usage(self._shown.processes())
        gauges = (
            ("process_counted_seconds", COUNTED_AT.format("processor time was read"), used.counted_at),
            ("processes", "Processes of the server", used.processes),
            (
                "process_resident_memory_bytes",
                "Resident memory of the processes; shared memory counts in each",
                used.memory_bytes,
            ),
            ("process_open_descriptors", "Open descriptors of the processes", used.descriptors),
            ("process_threads", "Threads of the processes", used.threads),
        )
        yield from _gauges(slug, gauges)
        counter = CounterMetricFamily("iolab_process_cpu_seconds", "Processor time", labels=["model", "mode"])
        counter.add_metric([slug, "user"], used.user_seconds)
        counter.add_metric([slug, "system"], used.system_seconds)
        yield counter
        counter = CounterMetricFamily("iolab_process_context_switches", "Context switches", labels=["model", "kind"])
        counter.add_metric([slug, "voluntary"], used.voluntary_switches)
        counter.add_metric([slug, "involuntary"], used.involuntary_switches)
        yield counter
        counter = CounterMetricFamily(
            "iolab_process_run_queue_seconds",
            "Time that threads were ready to run without running, added up",
            labels=["model"],
        )
        counter.add_metric([slug], used.run_queue_seconds)
        yield counter


def _gauges(slug: str, gauges: Iterable[tuple[str, str, float]]) -> Iterator[Metric]:
    for name, text, value in gauges:
        gauge = GaugeMetricFamily(f"iolab_{name}", text, labels=["model"])
        gauge.add_metric([slug], value)
        yield gauge


class Usage(msgspec.Struct, kw_only=True):
    """What processes use together. Times and switches include those of children that have ended."""

    processes: int = 0
    memory_bytes: int = 0
    descriptors: int = 0
    threads: int = 0
    user_seconds: float
    system_seconds: float
    voluntary_switches: int
    involuntary_switches: int
    run_queue_seconds: float = 0.0
    # When the first of them was asked for its processor time: CLOCK_MONOTONIC, seconds.
    counted_at: float = 0.0


def usage(pids: Iterable[int]) -> Usage:
    """What these processes use, and what ended children have used."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = Usage(
        user_seconds=ended.ru_utime,
        system_seconds=ended.ru_stime,
        voluntary_switches=ended.ru_nvcsw,
        involuntary_switches=ended.ru_nivcsw,
    )
    for pid in pids:
        process = psutil.Process(pid)
        # A child may have been killed a moment ago.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError), process.oneshot():
            before = time.monotonic()
            cpu = process.cpu_times()
            used.counted_at = used.counted_at or (before + time.monotonic()) / 2
            voluntary, involuntary = switches(pid)
            used.user_seconds += cpu.user
            used.system_seconds += cpu.system
            used.voluntary_switches += voluntary
            used.involuntary_switches += involuntary
            used.run_queue_seconds += run_queue_seconds(pid)
            used.memory_bytes += process.memory_info().rss
            used.threads += process.num_threads()
            used.descriptors += process.num_fds()
            used.processes += 1
    return used


def settings_shown(server: Server) -> dict[str, str]:
    """The settings in force, as metric labels."""
    settings = msgspec.structs.asdict(server.settings) | {"model": server.model.slug}
    settings["work"] = msgspec.json.encode(settings["work"]).decode()
    return {key: str(value) for key, value in settings.items()}
