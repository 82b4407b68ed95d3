"""The admin port: /healthz, /metrics and /threads over HTTP, in a thread of its own.

A scrape reads counters that the model's threads write for themselves, so that no message pays for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
import psutil
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from iolab.server import CAPACITY, PAUSE_SECONDS, Server, accept_queue
from iolab.threads import photograph, start_thread

# A client of the admin port that says nothing is let go after so many seconds: one at a time is served.
REQUEST_SECONDS = 5

StartResponse = Callable[[str, list[tuple[str, str]]], object]

# Field of Totals, name without the `iolab_` and `_total` that all have, help.
TOTALS = (
    ("accepted", "connections_accepted", "Connections accepted and served, or kept waiting for a worker"),
    ("refused", "connections_refused", "Connections closed at once: max_connections were open"),
    ("unserved", "connections_unserved", "Connections closed at the stop before a worker began with them"),
    ("lost", "connections_lost", "Connections that ended by a fault of the peer"),
    ("pauses", "accept_pauses", "Times that accepting paused because the capacity ran out"),
    ("answers", "answers", "Answers made, one for each read"),
    ("received_bytes", "received_bytes", "Bytes received"),
    ("sent_bytes", "sent_bytes", "Bytes that the kernel took for sending"),
)


class Books(Collector):
    """A server and its process as Prometheus metrics."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process = psutil.Process()

    def describe(self) -> Iterable[Metric]:
        """Nothing: what it collects is asked for at a scrape only."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows."""
        server = self._server
        slug = server.model.slug
        totals = server.totals()
        for field, name, text in TOTALS:
            counter = CounterMetricFamily(f"iolab_{name}", text, labels=["model"])
            counter.add_metric([slug], getattr(totals, field))
            yield counter
        process = self._process
        with process.oneshot():
            cpu = process.cpu_times()
            switches = process.num_ctx_switches()
            gauges = (
                ("connections_open", "Open connections, those that wait for a worker among them", server.open_count()),
                ("connections_waiting", "Connections, or answers of theirs, that wait for a worker", server.waiting()),
                ("accept_queue_length", "Clients that the kernel holds for accept(2)", accept_queue(server.listener)),
                ("process_resident_memory_bytes", "Resident memory of the process", process.memory_info().rss),
                ("process_open_descriptors", "Open descriptors of the process", process.num_fds()),
                ("process_threads", "Threads of the process", process.num_threads()),
            )
        for name, text, value in gauges:
            gauge = GaugeMetricFamily(f"iolab_{name}", text, labels=["model"])
            gauge.add_metric([slug], value)
            yield gauge
        counter = CounterMetricFamily("iolab_process_cpu_seconds", "Processor time", labels=["model", "mode"])
        counter.add_metric([slug, "user"], cpu.user)
        counter.add_metric([slug, "system"], cpu.system)
        yield counter
        counter = CounterMetricFamily("iolab_process_context_switches", "Context switches", labels=["model", "kind"])
        counter.add_metric([slug, "voluntary"], switches.voluntary)
        counter.add_metric([slug, "involuntary"], switches.involuntary)
        yield counter
        gauge = GaugeMetricFamily(
            "iolab_limit", "What really holds, after the kernel had its say", labels=["model", "limit"]
        )
        for limit, value in msgspec.structs.asdict(server.limits).items():
            if value is not None:
                gauge.add_metric([slug, limit], value)
        yield gauge
        yield InfoMetricFamily("iolab_settings", "The settings in force", settings_shown(server))


def settings_shown(server: Server) -> dict[str, str]:
    """The settings in force, as labels."""
    settings = msgspec.structs.asdict(server.settings) | {"model": server.model.slug}
    settings["work"] = msgspec.json.encode(settings["work"]).decode()
    return {key: str(value) for key, value in settings.items()}


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the log is about the server's life."""


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """Bind without asking the DNS for our own name, as WSGIServer does: an answer may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """As the model does: the loop above asks at once again, and would spin while there are no descriptors."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in CAPACITY:
                time.sleep(PAUSE_SECONDS)
            raise


def start_admin(server: Server, host: str, port: int) -> int:
    """Serve the admin pages from now on; return the port, which the kernel picks if `port` is 0. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(Books(server))
    metrics = make_wsgi_app(registry)

    def application(environment: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environment["PATH_INFO"]:
            case "/healthz":
                stopping = server.stop.requested
                status = "503 Service Unavailable" if stopping else "200 OK"
                return _answer(start_response, status, {"model": server.model.slug, "stopping": stopping})
            case "/metrics":
                body: Iterable[bytes] = metrics(environment, start_response)
                return body
            case "/threads":
                pids = [psutil.Process().pid]
                pids += [child.pid for child in psutil.Process().children(recursive=True)]
                processes = photograph(pids, leave_out=threading.get_native_id())
                return _answer(start_response, "200 OK", {"model": server.model.slug, "processes": processes})
            case path:
                pages = "/healthz, /metrics, /threads"
                return _answer(start_response, "404 Not Found", {"error": f"no page {path}; there are: {pages}"})

    httpd = make_server(host, port, application, _Server, _Handler)
    start_thread(httpd.serve_forever, "admin")
    return httpd.server_port


def _answer(start_response: StartResponse, status: str, body: object) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode() + b"\n"]
