"""Servers on real sockets that keep the contract, or break one clause of it; an admin port; a Docker engine.

A fake is a function that holds one conversation; `serving` gives it a listener and a thread for each client.
"""

from __future__ import annotations

import contextlib
import json
import queue
import select
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from iolab_client.servers.address import Address

READ_BYTES = 65536


class Fake:
    """A listener on a port of the kernel's choice, and its open connections."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: Address = self.listener.getsockname()[:2]
        self.stopped = threading.Event()
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()

    def cut_everybody(self) -> None:
        """End all conversations: their threads read the end, or fail to send."""
        with self.lock:
            for sock in self.open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


Conversation = Callable[[Fake, socket.socket], None]


@contextlib.contextmanager
def serving(converse: Conversation, *, one_at_a_time: bool = False, limit: int | None = None) -> Iterator[Fake]:
    """Run a fake while the block runs; its threads are gone when it ends.

    `one_at_a_time` accepts a client when the one before has left; above `limit` a client is closed at once.
    """
    fake = Fake()
    threads: list[threading.Thread] = []

    def serve_one(sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                converse(fake, sock)
        finally:
            with fake.lock:
                fake.open.discard(sock)
            sock.close()

    def accept() -> None:
        while True:
            try:
                sock, _ = fake.listener.accept()
            except OSError:
                return
            with fake.lock:
                full = limit is not None and len(fake.open) >= limit
                if not full:
                    fake.open.add(sock)
            if fake.stopped.is_set() or full:
                fake.open.discard(sock)
                sock.close()
            elif one_at_a_time:
                serve_one(sock)
            else:
                threads.append(threading.Thread(target=serve_one, args=(sock,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield fake
    finally:
        fake.stopped.set()
        fake.cut_everybody()
        # On Linux this ends accept(2), which a close does not.
        with contextlib.suppress(OSError):
            fake.listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        fake.listener.close()
        fake.cut_everybody()
        for thread in threads:
            thread.join()


def honest(fake: Fake, sock: socket.socket) -> None:
    """Keeps every clause: blocking code with a thread per client has back-pressure by itself."""
    while data := sock.recv(READ_BYTES):
        sock.sendall(data.upper())


def upper_cases_latin_letters(fake: Fake, sock: socket.socket) -> None:
    """Takes bytes for text: 0xE0-0xFE become 0xC0-0xDE, too."""
    while data := sock.recv(READ_BYTES):
        sock.sendall(bytes(byte - 32 if 0xE0 <= byte <= 0xFE else byte for byte in data.upper()))


def waits_for_a_line(fake: Fake, sock: socket.socket) -> None:
    """Answers when a line is complete, or the client's FIN is there."""
    line = bytearray()
    while data := sock.recv(READ_BYTES):
        line += data
        if b"\n" in line:
            sock.sendall(line.upper())
            line.clear()
    sock.sendall(line.upper())


def drops_the_tail(fake: Fake, sock: socket.socket) -> None:
    """Closes at the client's FIN, whatever is still owed."""
    sock.setblocking(False)
    owed = bytearray()
    while True:
        readable, writable, _ = select.select([sock], [sock] if owed else [], [])
        if readable:
            data = sock.recv(READ_BYTES)
            if not data:
                return
            owed += data.upper()
        if writable or readable:
            with contextlib.suppress(BlockingIOError):
                del owed[: sock.send(owed)]


def never_stops_reading(fake: Fake, sock: socket.socket) -> None:
    """Takes what comes without end and sends it when it can."""
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def send() -> None:
        with contextlib.suppress(OSError):
            while answer := answers.get():
                sock.sendall(answer)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        while data := sock.recv(READ_BYTES):
            answers.put(data.upper())
    finally:
        answers.put(b"")
        sender.join()


def stalls_for_a_slow_reader(fake: Fake, sock: socket.socket) -> None:
    """Answers under a lock, so that whoever does not read keeps everybody waiting."""
    while data := sock.recv(READ_BYTES):
        with fake.lock:
            # Not sendall: the lock must come free when the fake stops.
            while data and not fake.stopped.is_set():
                if select.select([], [sock], [], 0.02)[1]:
                    data = data[sock.send(data[:READ_BYTES].upper()) :]


def closes_everybody_on_a_reset(fake: Fake, sock: socket.socket) -> None:
    """Takes one peer's fault for its own."""
    try:
        honest(fake, sock)
    except ConnectionError:
        fake.cut_everybody()
        raise


def closes_after_silence(seconds: float) -> Conversation:
    """A fake that keeps `idle_seconds`."""

    def converse(fake: Fake, sock: socket.socket) -> None:
        sock.settimeout(seconds)
        honest(fake, sock)

    return converse


@contextlib.contextmanager
def http_serving(pages: Callable[[str], tuple[str, str] | None]) -> Iterator[Address]:
    """An HTTP server; `pages` gives content type and text for a path without its query, or None for 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages(self.path.partition("?")[0])
            kind, text = page or ("text/plain", "no such page")
            body = text.encode()
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield ("127.0.0.1", httpd.server_port)
        finally:
            httpd.shutdown()
            thread.join()


METRICS = """\
# HELP iolab_connections_open Open connections
# TYPE iolab_connections_open gauge
iolab_connections_open{{model="epoll_loop"}} {open}
# HELP iolab_limit What really holds
# TYPE iolab_limit gauge
iolab_limit{{limit="max_connections",model="epoll_loop"}} {limit}
# HELP iolab_settings_info The settings in force
# TYPE iolab_settings_info gauge
iolab_settings_info{{idle_seconds="{idle}",high_water="131072",model="epoll_loop"}} 1.0
"""

THREADS = {
    "model": "epoll_loop",
    "processes": [
        {
            "pid": 7,
            "name": "iolab",
            "threads": [
                {
                    "tid": 7,
                    "name": "main [bold]",
                    "state": "S",
                    "syscall": "epoll_wait",
                    "cpu_seconds": 1.5,
                    "voluntary_switches": 1234,
                    "involuntary_switches": 5,
                }
            ],
        }
    ],
}


@contextlib.contextmanager
def admin_serving(
    open_count: Callable[[], int] = lambda: 0, *, limit: int = 16320, idle: float = 0
) -> Iterator[Address]:
    """An admin port with /metrics and /threads."""

    def pages(path: str) -> tuple[str, str] | None:
        if path == "/metrics":
            return "text/plain", METRICS.format(open=open_count(), limit=limit, idle=idle)
        return ("application/json", json.dumps(THREADS)) if path == "/threads" else None

    with http_serving(pages) as address:
        yield address


@contextlib.contextmanager
def docker_engine(service: str, networks: dict[str, str], published: Address | None = None) -> Iterator[str]:
    """An engine that runs one container of the project `iolab`, its data port 8004; yields its DOCKER_HOST.

    `networks` gives the container's address on each of its networks.
    """
    labels = {"com.docker.compose.project": "iolab", "com.docker.compose.service": service}
    binding = [{"HostIp": published[0], "HostPort": str(published[1])}] if published else None
    container = {
        "Id": "c0ffee",
        "Config": {"Labels": labels, "Env": ["IOLAB_PUBLISHED_PORT=8004", "PATH=/bin"]},
        "NetworkSettings": {
            "Networks": {name: {"IPAddress": address} for name, address in networks.items()},
            "Ports": {"8004/tcp": binding},
        },
    }

    def pages(path: str) -> tuple[str, str] | None:
        answers = {
            "version": {"ApiVersion": "1.41"},
            "containers/json": [{"Id": "c0ffee"}],
            "containers/c0ffee/json": container,
        }
        found = next((answer for end, answer in answers.items() if path.endswith(end)), None)
        return ("application/json", json.dumps(found)) if found is not None else None

    with http_serving(pages) as (host, port):
        yield f"tcp://{host}:{port}"
