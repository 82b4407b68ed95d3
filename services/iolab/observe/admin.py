"""The admin port: /healthz, /metrics and /threads over HTTP, in a thread of its own, or in a supervisor's loop.

A scrape reads counters that the model's threads write for themselves, so that no message pays for it.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from iolab.observe.metrics import Books, Shown, Use
from iolab.observe.xray import photograph
from iolab.server.errors import CAPACITY
from iolab.server.server import PAUSE_SECONDS, Server

# A client of the admin port that says nothing is let go after so many seconds: one at a time is served.
REQUEST_SECONDS = 5
# As long as that a supervisor waits for a client that does not take its page.
ANSWER_SECONDS = 1
# Above this a request that came bit by bit is answered as it is: no page needs so much.
REQUEST_BYTES = 65536

StartResponse = Callable[[str, list[tuple[str, str]]], object]


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
