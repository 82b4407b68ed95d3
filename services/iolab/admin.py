"""The admin port: /healthz, /metrics and /threads over HTTP, in a thread of its own, or in a supervisor's loop.

A scrape reads counters that the model's threads write for themselves, so that no message pays for it.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import TCPServer
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
import psutil
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from iolab.registry import Model
from iolab.server import CAPACITY, PAUSE_SECONDS, Server
from iolab.stop import Stop
from iolab.threads import photograph, switches

# A client of the admin port that says nothing is let go after so many seconds: one at a time is served.
REQUEST_SECONDS = 5
# As long as that a supervisor waits for a client that does not take its page.
ANSWER_SECONDS = 1
# Above this a request that came bit by bit is answered as it is: no page needs so much.
REQUEST_BYTES = 65536

StartResponse = Callable[[str, list[tuple[str, str]]], object]

# Field of Totals, name without the `iolab_` and `_total` that all have, help.
TOTALS = (
    ("accepted", "connections_accepted", "Connections accepted and served, or kept waiting for a worker"),
    ("refused", "connections_refused", "Connections closed at once: max_connections were open"),
    ("unserved", "connections_unserved", "Connections closed at the stop before a worker began with them"),
    ("lost", "connections_lost", "Connections that ended by a fault of the peer, or because there was no answer"),
    ("pauses", "accept_pauses", "Times that accepting paused because the capacity ran out"),
    ("answers", "answers", "Answers made, one for each read"),
    ("received_bytes", "received_bytes", "Bytes received"),
    ("sent_bytes", "sent_bytes", "Bytes that the kernel took for sending"),
)


class Shown(Protocol):
    """What the admin port can show: whatever has processes, and is told to stop."""

    @property
    def model(self) -> Model:
        """What it is."""

    @property
    def stop(self) -> Stop:
        """Its stop."""

    def processes(self) -> list[int]:
        """The processes that it is."""


class Books(Collector):
    """A server's books as Prometheus metrics."""

    def __init__(self, server: Server) -> None:
        self._server = server

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
        gauges = (
            ("connections_open", "Open connections, those that wait for a worker among them", server.open_count()),
            ("connections_waiting", "Connections, or answers of theirs, that wait for a worker", server.waiting()),
            ("accept_queue_length", "Clients that the kernel holds for accept(2)", server.accept_queue()),
        )
        yield from _gauges(slug, gauges)
        gauge = GaugeMetricFamily(
            "iolab_limit", "What really holds, after the kernel had its say", labels=["model", "limit"]
        )
        for limit, value in msgspec.structs.asdict(server.limits).items():
            if value is not None:
                gauge.add_metric([slug, limit], value)
        yield gauge
        yield InfoMetricFamily("iolab_settings", "The settings in force", settings_shown(server))


class Use(Collector):
    """What its processes use, as Prometheus metrics."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def describe(self) -> Iterable[Metric]:
        """Nothing, as Books has it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows."""
        slug = self._shown.model.slug
        used = usage(self._shown.processes())
        gauges = (
            ("processes", "Processes of the server", used.processes),
            (
                "process_resident_memory_bytes",
                "Resident memory of the processes, what they share counted for each",
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


def _gauges(slug: str, gauges: Iterable[tuple[str, str, float]]) -> Iterator[Metric]:
    for name, text, value in gauges:
        gauge = GaugeMetricFamily(f"iolab_{name}", text, labels=["model"])
        gauge.add_metric([slug], value)
        yield gauge


class Usage(msgspec.Struct, kw_only=True):
    """What processes use, taken together. Times and switches go on counting what those have used that have ended."""

    processes: int = 0
    memory_bytes: int = 0
    descriptors: int = 0
    threads: int = 0
    user_seconds: float
    system_seconds: float
    voluntary_switches: int
    involuntary_switches: int


def usage(pids: Iterable[int]) -> Usage:
    """What these processes and the children that have ended use."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = Usage(
        user_seconds=ended.ru_utime,
        system_seconds=ended.ru_stime,
        voluntary_switches=ended.ru_nvcsw,
        involuntary_switches=ended.ru_nivcsw,
    )
    for pid in pids:
        process = psutil.Process(pid)
        # A child that was killed a moment ago has no memory nor descriptors any more.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError), process.oneshot():
            cpu, (voluntary, involuntary) = process.cpu_times(), switches(pid)
            used.user_seconds += cpu.user
            used.system_seconds += cpu.system
            used.voluntary_switches += voluntary
            used.involuntary_switches += involuntary
            used.memory_bytes += process.memory_info().rss
            used.threads += process.num_threads()
            used.descriptors += process.num_fds()
            used.processes += 1
    return used


def settings_shown(server: Server) -> dict[str, str]:
    """The settings in force, as labels."""
    settings = msgspec.structs.asdict(server.settings) | {"model": server.model.slug}
    settings["work"] = msgspec.json.encode(settings["work"]).decode()
    return {key: str(value) for key, value in settings.items()}


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the log is about the server's life."""


class _HeardHandler(_Handler):
    """Answers a request that has come already."""

    timeout = ANSWER_SECONDS

    def __init__(self, request: socket.socket, client_address: Any, server: Admin, heard: bytes) -> None:
        self._heard = heard
        super().__init__(request, client_address, server)

    def setup(self) -> None:
        """Read what was heard, and no socket."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(io.BytesIO(self._heard))


class Admin(WSGIServer):
    """The admin port, bound. `serve_forever` is for a thread; a loop watches it, and what `accept` gives."""

    # Scrapers may come all at once: one whom the queue has no room for tries again a second later only.
    request_queue_size = 64

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
                # Not time.sleep: gevent's would make a hub for this thread now, which takes descriptors.
                threading.Event().wait(PAUSE_SECONDS)
            raise

    def accept(self) -> Caller | None:
        """The next client, for a loop; None: it has left already, or there is no capacity."""
        try:
            sock, address = self.get_request()
        except OSError:
            return None
        return Caller(self, sock, address)


class Caller:
    """A client of the admin port whose request may come bit by bit: nobody waits for it but a loop."""

    def __init__(self, admin: Admin, sock: socket.socket, address: Any) -> None:
        self.sock = sock
        self._admin = admin
        self._address = address
        self._heard = b""
        sock.setblocking(False)

    def hear(self) -> bool:
        """Take what came; return whether that is all: a request, or the client's end."""
        try:
            data = self.sock.recv(REQUEST_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._heard += data
        return not data or len(self._heard) >= REQUEST_BYTES or self._heard.endswith((b"\r\n\r\n", b"\n\n"))

    def answer(self) -> None:
        """Answer what was heard, and close."""
        # One that has left meanwhile has no need of it.
        with contextlib.suppress(OSError):
            _HeardHandler(self.sock, self._address, self._admin, self._heard)
        self.close()

    def close(self) -> None:
        """Close."""
        self._admin.shutdown_request(self.sock)


def open_admin(shown: Shown, host: str, port: int) -> Admin:
    """Bind the admin port, which the kernel picks if `port` is 0; `server_port` tells. Raises OSError."""
    registry = CollectorRegistry()
    if isinstance(shown, Server):
        registry.register(Books(shown))
    registry.register(Use(shown))
    metrics = make_wsgi_app(registry)

    def application(environment: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environment["PATH_INFO"]:
            case "/healthz":
                stopping = shown.stop.requested
                status = "503 Service Unavailable" if stopping else "200 OK"
                return _answer(start_response, status, {"model": shown.model.slug, "stopping": stopping})
            case "/metrics":
                body: Iterable[bytes] = metrics(environment, start_response)
                return body
            case "/threads":
                # A supervisor has one thread only, and takes the picture with it: it is seen running.
                leave_out = 0 if shown.model.forks else threading.get_native_id()
                processes = photograph(shown.processes(), leave_out=leave_out)
                return _answer(start_response, "200 OK", {"model": shown.model.slug, "processes": processes})
            case path:
                pages = "/healthz, /metrics, /threads"
                return _answer(start_response, "404 Not Found", {"error": f"no page {path}; there are: {pages}"})

    return make_server(host, port, application, Admin, _Handler)


def _answer(start_response: StartResponse, status: str, body: object) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode() + b"\n"]
