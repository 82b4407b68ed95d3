"""One small HTTP server for all models: one answer for each connection, and no client can hold up another.

It answers GET and HEAD; PUT and POST only if it is given a `receive`.

It never blocks. A supervisor's loop watches its descriptor, which is readable while one of its sockets is ready, and
calls `advance`; other servers run it in a thread. h11 parses HTTP (RFC 9112); the sockets are here.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import h11

from iolab import log
from iolab.server.admission import PAUSE_SECONDS
from iolab.server.errors import CAPACITY, GONE_BEFORE_ACCEPT

# From accept to the whole request, and from then until the answer is taken; a client that takes longer is closed.
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 5.0
# When there are more clients at once, the oldest is closed. All of them, and the files that a page opens, fit into the
# descriptors that are kept from the model's clients: RESERVE in settings.py.
CLIENTS = 32
# The limit for a request's line and headers.
REQUEST_BYTES = 16384
# How many clients are accepted, or reads made, in one turn.
AT_ONCE = 16
# Methods that ask for a page, and those that send something.
READ = frozenset({"GET", "HEAD"})
WRITE = frozenset({"POST", "PUT"})
# Scrapers may come all at once, and one that finds the queue full tries again only a second later.
BACKLOG = 64


class Page(NamedTuple):
    """An answer."""

    status: int
    content_type: str
    body: bytes


# Answers the path of a request (`/metrics`), given its Accept header.
Pages = Callable[[str, str], Page]
# Takes what is sent to a path by PUT or POST, and answers.
Receive = Callable[[str, bytes], Page]
# A request and its body.
_Request = tuple[h11.Request, bytes]


def text(status: int, line: str) -> Page:
    """A page of one line."""
    return Page(status, "text/plain; charset=utf-8", line.encode(errors="backslashreplace") + b"\n")


class HttpServer:
    """Answers clients of `listener`, which is bound and listens, with `pages`.

    `receive` takes what is sent by PUT or POST; without it these are refused.
    """

    def __init__(self, listener: socket.socket, pages: Pages, receive: Receive | None = None) -> None:
        self._listener = listener
        self._pages = pages
        self._receive = receive
        self._allowed = READ if receive is None else READ | WRITE
        listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        # By descriptor, the oldest first.
        self._clients: dict[int, _Client] = {}
        # Until when accepting pauses for want of descriptors: the listener stays readable, and the loop would spin.
        self._paused_until = 0.0

    @property
    def port(self) -> int:
        """The port of the listener."""
        number: int = self._listener.getsockname()[1]
        return number

    def fileno(self) -> int:
        """Readable while `advance` has something to do."""
        return self._epoll.fileno()

    def seconds_left(self) -> float | None:
        """Seconds until `advance` has something to do that the descriptor does not announce; None: never."""
        moments = [client.deadline for client in self._clients.values()]
        if self._paused_until:
            moments.append(self._paused_until)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def serve_forever(self) -> None:
        """Wait and answer, in a thread of its own, which sleeps while there are no requests."""
        while True:
            self.advance(self.seconds_left())

    def advance(self, timeout: float | None = 0) -> None:
        """Do what there is to do, after waiting at most `timeout` seconds; None: without limit."""
        ready = dict(self._epoll.poll(timeout))
        # Taken before pages are made: that may take seconds, and a request that comes meanwhile is not late.
        now = time.monotonic()
        for descriptor in ready:
            if client := self._clients.get(descriptor):
                self._go_on(client)
        # After the clients were served, because accepting may close the oldest.
        if self._listener.fileno() in ready:
            self._accept()
        if self._paused_until and now >= self._paused_until:
            self._paused_until = 0.0
            self._epoll.register(self._listener, select.EPOLLIN)
        for client in [client for client in self._clients.values() if client.deadline <= now]:
            self._end(client)

    def close(self) -> None:
        """Close all clients and the listener."""
        for client in list(self._clients.values()):
            self._end(client)
        self._epoll.close()
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in CAPACITY:
                    self._epoll.unregister(self._listener)
                    self._paused_until = time.monotonic() + PAUSE_SECONDS
                    return
                if error.errno not in GONE_BEFORE_ACCEPT:
                    raise
                continue
            if len(self._clients) == CLIENTS:
                self._end(next(iter(self._clients.values())))
            client = _Client(sock)
            self._clients[client.descriptor] = client
            self._epoll.register(client.descriptor, select.EPOLLIN)

    def _go_on(self, client: _Client) -> None:
        try:
            if client.hears and (heard := client.hear(with_body=self._receive is not None)):
                self._answer(client, heard)
            if client.owes:
                client.send()
                if client.owes:
                    self._epoll.modify(client.descriptor, select.EPOLLOUT)
                else:
                    # Closing a socket with unread input sends an RST, which destroys answers on their way. So
                    # half-close, and read to the end first.
                    client.sock.shutdown(socket.SHUT_WR)
                    self._epoll.modify(client.descriptor, select.EPOLLIN)
            elif client.answered and client.is_gone():
                self._end(client)
        except OSError:
            self._end(client)

    def _answer(self, client: _Client, heard: _Request | Page) -> None:
        if isinstance(heard, Page):
            client.answer(heard)
            return
        request, body = heard
        method = request.method.decode("ascii")
        if method not in self._allowed:
            client.answer(text(405, f"only {_listed(self._allowed)} are answered here"), allowed=self._allowed)
            return
        if method in WRITE and any(name == b"origin" for name, _ in request.headers):
            # Only browsers send it: any page, even one whose host name resolves to this server, could change it.
            client.answer(text(403, "a page in a browser changes nothing here"))
            return
        path = request.target.decode("ascii", "replace").partition("?")[0]
        accept = next((value.decode("latin-1") for name, value in request.headers if name == b"accept"), "")
        head = request.method == b"HEAD"
        try:
            client.answer(
                self._receive(path, body) if self._receive and method in WRITE else self._pages(path, accept), head=head
            )
        except Exception as error:
            # A failed page ends neither this server nor the model.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            log.warning("page_failed", page=path, error=reason)
            client.answer(text(500, f"{path} failed: {reason}"), head=head)

    def _end(self, client: _Client) -> None:
        del self._clients[client.descriptor]
        client.sock.close()


class _Client:
    """A client from its first byte to its last."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        sock.setblocking(False)
        self.deadline = time.monotonic() + REQUEST_SECONDS
        self.answered = False
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._owed = b""

    @property
    def hears(self) -> bool:
        """Whether its request is not complete yet."""
        return not self.answered

    @property
    def owes(self) -> bool:
        """Whether some of the answer is still to be sent."""
        return bool(self._owed)

    def hear(self, *, with_body: bool) -> _Request | Page | None:
        """The request, once its headers have come, or all of it (`with_body`); or the page for an invalid one.

        Raises OSError if the client has gone.
        """
        try:
            data = self.sock.recv(REQUEST_BYTES)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionResetError("it left")
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                match event:
                    case h11.Request():
                        self._request = event
                    case h11.Data():
                        self._body += event.data
                if len(self._body) > REQUEST_BYTES:
                    return text(413, f"more than {REQUEST_BYTES} bytes")
                if self._request and (not with_body or isinstance(event, h11.EndOfMessage)):
                    return self._request, bytes(self._body)
        except h11.RemoteProtocolError as error:
            return text(error.error_status_hint, f"not a request: {error}")
        return None

    def answer(self, page: Page, *, head: bool = False, allowed: frozenset[str] = READ) -> None:
        """Queue a page for the client; for HEAD only the headers. Raises if the page makes no valid HTTP answer.

        `allowed` are the methods that the server takes.
        """
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(page.body))),
            ("Connection", "close"),
        ]
        if page.status == 405:
            headers.append(("Allow", ", ".join(sorted(allowed))))
        reason = HTTPStatus(page.status).phrase
        # If this raises, nothing is sent yet, and another answer can take its place.
        response = h11.Response(status_code=page.status, headers=headers, reason=reason)
        self._owed = self._http.send(response) or b""
        if not head:
            self._owed += self._http.send(h11.Data(data=page.body)) or b""
        self.answered = True
        self.deadline = time.monotonic() + ANSWER_SECONDS

    def send(self) -> None:
        """Send what is owed, as much as the socket takes."""
        with contextlib.suppress(BlockingIOError):
            self._owed = self._owed[self.sock.send(self._owed) :]

    def is_gone(self) -> bool:
        """Whether the client has closed after its answer; further input is discarded."""
        try:
            for _ in range(AT_ONCE):
                if not self.sock.recv(REQUEST_BYTES):
                    return True
        except BlockingIOError:
            pass
        return False


def _listed(methods: frozenset[str]) -> str:
    *others, last = sorted(methods)
    return f"{', '.join(others)} and {last}"
