"""The small HTTP server: whatever a client says and whatever a page does, the others have their answers."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iolab.observe import http
from iolab.observe.http import HttpServer, Page, text
from iolab.server.admission import PAUSE_SECONDS
from tests.support.waiting import DEADLINE_SECONDS

LARGE = b"x" * (8 << 20)
REQUEST = b"GET /here HTTP/1.1\r\nHost: there\r\nAccept: text/plain\r\n\r\n"


class Site:
    """A server that is driven step by step, and what its pages say."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[], Page]] = {
            "/here": lambda: text(200, "here"),
            "/large": lambda: Page(200, "text/plain", LARGE),
        }
        listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.server = HttpServer(listener, lambda path, _accept: self.pages[path]())
        self._clients: list[socket.socket] = []

    def connect(self, said: bytes = b"") -> socket.socket:
        """A client that says something and does not wait."""
        client = socket.create_connection(("127.0.0.1", self.server.port))
        client.sendall(said)
        client.setblocking(False)
        self._clients.append(client)
        return client

    def answer(self, client: socket.socket) -> bytes:
        """All that a client is sent until the server ends it, with the server at work meanwhile."""
        pieces: list[bytes] = []
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            self.server.advance()
            try:
                piece = client.recv(1 << 20)
            except BlockingIOError:
                self.server.advance(0.01)
                continue
            except ConnectionResetError:
                piece = b""
            if not piece:
                client.close()
                return b"".join(pieces)
            pieces.append(piece)
        raise AssertionError(f"no end after {b''.join(pieces)[:100]!r}")

    def asked(self, path: str = "/here") -> bytes:
        """The answer to a GET."""
        return self.answer(self.connect(f"GET {path} HTTP/1.0\r\n\r\n".encode()))

    def close(self) -> None:
        """Leave nothing open."""
        for client in self._clients:
            client.close()
        self.server.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.1)


def fails() -> Page:
    raise RuntimeError("no\nidea \udc80")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(fails, id="an error of two lines"),
        pytest.param(lambda: Page(200, "text/plain\r\nX: y", b""), id="a header of two lines"),
        pytest.param(lambda: Page(200, "text/\xe9", b""), id="a header that is not ASCII"),
        pytest.param(lambda: Page(99, "text/plain", b""), id="no status"),
    ],
)
def test_a_page_that_fails_is_one_line_and_not_the_end(site: Site, page: Callable[[], Page]) -> None:
    site.pages["/bad"] = page
    head, _, body = site.asked("/bad").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert body.startswith(b"/bad failed: ")
    assert len(body.splitlines()) == 1
    assert site.asked().endswith(b"here\n")


requests = st.builds(
    lambda place, length, noise: REQUEST[:place] + noise + REQUEST[place + length :],
    st.integers(0, len(REQUEST)),
    st.integers(0, 8),
    st.binary(max_size=8),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.one_of(requests, st.binary(min_size=1, max_size=100)), at_once=st.booleans())
def test_whatever_is_said_is_answered_or_has_an_end(site: Site, said: bytes, at_once: bool) -> None:
    client = site.connect()
    for piece in [said] if at_once else [said[:7], said[7:]]:
        client.send(piece)
        site.server.advance()
    client.shutdown(socket.SHUT_WR)
    answer = site.answer(client)
    # A page that is not there is a KeyError here.
    assert answer == b"" or answer.split()[1] in {b"200", b"400", b"405", b"500", b"501"}
    assert site.asked().endswith(b"here\n")


@pytest.mark.usefixtures("hasty")
def test_whose_request_came_while_a_page_took_its_time_is_answered(site: Site) -> None:
    clients: list[socket.socket] = []

    def slow() -> Page:
        clients[0].sendall(REQUEST)
        time.sleep(2 * http.REQUEST_SECONDS)
        return text(200, "slow")

    site.pages["/slow"] = slow
    clients.append(site.connect())
    site.server.advance(DEADLINE_SECONDS)
    assert site.asked("/slow").endswith(b"slow\n")
    assert site.answer(clients[0]).endswith(b"here\n")


@pytest.mark.usefixtures("hasty")
def test_who_does_not_ask_or_does_not_read_is_let_go_and_costs_no_turn_after_that(site: Site) -> None:
    site.connect()
    site.connect(b"GET /he")
    site.connect(b"GET /large HTTP/1.0\r\n\r\n")
    site.server.advance(DEADLINE_SECONDS)
    end = time.monotonic() + DEADLINE_SECONDS
    while (left := site.server.seconds_left()) is not None:
        assert time.monotonic() < end
        site.server.advance(left)


def test_who_has_asked_is_served_before_a_crowd_can_take_the_place(site: Site) -> None:
    site.connect()
    site.server.advance(DEADLINE_SECONDS)
    first = site.connect()
    site.server.advance(DEADLINE_SECONDS)
    for _ in range(http.CLIENTS - 2):
        site.connect()
        site.server.advance(DEADLINE_SECONDS)
    # All places are taken. These lie in wait, and so does the question.
    for _ in range(http.AT_ONCE):
        site.connect()
    first.sendall(REQUEST)
    assert site.answer(first).endswith(b"here\n")


def test_a_large_page_arrives_whole_while_others_are_answered(site: Site) -> None:
    slow = site.connect(b"GET /large HTTP/1.0\r\n\r\n")
    for _ in range(5):
        assert site.asked().endswith(b"here\n")
    assert site.answer(slow).partition(b"\r\n\r\n")[2] == LARGE


def test_out_of_descriptors_it_sleeps_for_a_moment_and_comes_back_by_itself(site: Site) -> None:
    client = site.connect(REQUEST)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(client.fileno())
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        site.server.advance(DEADLINE_SECONDS)
        # It would spin if its descriptor were readable still.
        look = select.poll()
        look.register(site.server, select.POLLIN)
        assert look.poll(0) == []
        left = site.server.seconds_left()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert left is not None
    assert left <= PAUSE_SECONDS
    assert site.answer(client).endswith(b"here\n")
