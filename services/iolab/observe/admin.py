"""The admin port and its pages: /healthz, /metrics and /threads.

A scrape reads counters that the model's threads keep anyway, so that it costs no message anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from iolab.observe.http import BACKLOG, HttpServer, Page, Receive, text
from iolab.observe.metrics import BooksCollector, Shown, UsageCollector
from iolab.observe.xray import photograph
from iolab.server.listener import bind
from iolab.server.server import Server
from iolab.settings import Settings

OPENMETRICS = "application/openmetrics-text"

# Makes a page, given the request's Accept header.
OnePage = Callable[[str], Page]


def open_admin(
    shown: Shown, settings: Settings, more: Mapping[str, OnePage] | None = None, receive: Receive | None = None
) -> HttpServer:
    """The admin port of a server, on the settings' `host` and `admin_port`; 0: the kernel picks. Raises OSError.

    It has the pages of every server and `more`. `receive`, if given, takes what is sent by PUT or POST.
    """
    listener = bind(settings, settings.admin_port)
    try:
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return HttpServer(listener, AdminPages(shown, more).page, receive)


class AdminPages:
    """The pages of a server's admin port."""

    def __init__(self, shown: Shown, more: Mapping[str, OnePage] | None = None) -> None:
        self._shown = shown
        self._registry = CollectorRegistry()
        if isinstance(shown, Server):
            self._registry.register(BooksCollector(shown))
        self._registry.register(UsageCollector(shown))
        self._pages: dict[str, OnePage] = {
            "/healthz": self._healthz,
            "/metrics": self._metrics,
            "/threads": self._threads,
            **(more or {}),
        }

    def page(self, path: str, accept: str) -> Page:
        """The page of a path, in a form that the Accept header allows."""
        if path not in self._pages:
            return text(404, f"no page {path}; there are: {', '.join(self._pages)}")
        return self._pages[path](accept)

    def _healthz(self, _accept: str) -> Page:
        stopping = self._shown.stop.requested
        return _json(503 if stopping else 200, {"model": self._shown.model.slug, "stopping": stopping})

    def _metrics(self, accept: str) -> Page:
        # Not with the header as it came: some headers make this function fail, and parts of others would be copied
        # into the answer's header.
        encode, content_type = choose_encoder(OPENMETRICS if _takes_openmetrics(accept) else "")
        return Page(200, content_type, encode(self._registry))

    def _threads(self, _accept: str) -> Page:
        # A supervisor's only thread makes the page itself, and so is shown as running.
        leave_out = 0 if self._shown.model.forks else threading.get_native_id()
        frames = self._shown.frames() if isinstance(self._shown, Server) else {}
        processes = photograph(self._shown.processes(), leave_out=leave_out)
        for process in processes:
            for thread in process["threads"]:
                if frame := frames.get(thread["tid"]):
                    thread["frame"] = msgspec.structs.asdict(frame)
        return _json(200, {"model": self._shown.model.slug, "processes": processes})


def _json(status: int, body: object) -> Page:
    return Page(status, "application/json", json.dumps(body).encode() + b"\n")


def _takes_openmetrics(accept: str) -> bool:
    """Whether a scraper understands OpenMetrics 1, by its Accept header."""
    for offer in accept.split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        if kind == OPENMETRICS and not any(part.startswith("version=0") for part in parameters):
            return True
    return False
