"""What a page can ask for, over HTTP, beside one server: done, bounded, listed, and ended when the page has gone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from iolab.settings import PlaygroundSettings
from iolab_client.contract.peers import SMALL_BUFFER_BYTES, read_to_end
from iolab_client.playground import looking
from iolab_client.servers.address import connect
from iolab_client.servers.targets import Target
from tests.client.playground.conftest import playing
from tests.support.fleet import Lab
from tests.support.models import only
from tests.support.server import RunningServer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.targets("process"), only("epoll_loop")]

AWAY_SECONDS = 1.0
SETTINGS = PlaygroundSettings(
    away_seconds=AWAY_SECONDS, look_seconds=0.1, connections=20, load_connections=8, load_seconds=400, load_bytes=1024,
    loads=1, say_bytes=64, flood_bytes=64 << 20, most_wait_ms=500, most_cpu_us=1000,
)  # fmt: skip


class Page:
    """A page: its stream is open until it leaves."""

    def __init__(self, port: int, name: str) -> None:
        self.port = port
        self.name = name
        self._rest = b""
        self._stream = connect(("127.0.0.1", port))
        self._stream.sendall(f"GET /events?page={name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert self._stream.recv(12) == b"HTTP/1.1 200"

    def ask(self, what: str, **wish: Any) -> tuple[int, dict[str, Any]]:
        """POST something: the status and what came of it."""
        return post(self.port, f"/do/{what}", {"page": self.name, "model": "epoll_loop", **wish})

    def done(self, what: str, **wish: Any) -> dict[str, Any]:
        """As `ask`, for what must be done."""
        status, said = self.ask(what, **wish)
        assert status == 200, said
        return said

    def snapshot(self) -> dict[str, Any]:
        """The next one that the page is told."""
        while True:
            self._rest += self._stream.recv(65536)
            *events, self._rest = self._rest.split(b"\n\n")
            for event in reversed(events):
                if (at := event.find(b"data: ")) >= 0:
                    told: dict[str, Any] = json.loads(event[at + 6 :].split(b"\r\n")[0])
                    return told

    def texts(self) -> list[str]:
        """What is listed as open."""
        return [thing["text"] for thing in self.snapshot()["opened"]]

    def leave(self) -> None:
        self._stream.close()


def post(port: int, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    """Send JSON as the page does."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with connect(("127.0.0.1", port)) as peer:
        peer.sendall(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
            + data
        )
        head, _, said = read_to_end(peer).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(said)


@pytest.fixture
def server(lab: Lab) -> RunningServer:
    return lab.share(hands_on=True)


@pytest.fixture
def page(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page beside that server."""
    target = Target(model=server.model, address=server.address, admin=server.admin_address)
    monkeypatch.setattr(looking, "resolve_known", lambda: {"epoll_loop": target})
    with playing(SETTINGS) as (_, port):
        page = Page(port, "a" * 32)
        eventually(lambda: page.snapshot()["models"][3]["state"] == "running", "the server is seen")
        yield page
        page.leave()
    server.becomes("connections_open", 0)


@pytest.mark.parametrize(
    ("ending", "last"),
    [("close", "closed"), ("half-close", "closed"), ("reset", "reset: it has left"), ("stay", "stays connected")],
)
def test_what_is_said_is_answered_and_shown_as_it_happened(page: Page, ending: str, last: str) -> None:
    told = page.done("say", text="hello ä\n", ending=ending)
    steps = told["steps"]
    assert [step["data"] for step in steps if step["data"]] == ["hello ä\n", "HELLO ä\n"]
    assert steps[-1]["what"].startswith(last)
    assert told["answered_ms"] >= 0
    assert (told["number"] is not None) == (ending == "stay")


def test_a_reset_is_counted_as_lost_by_the_server(page: Page, server: RunningServer) -> None:
    before = server.metric("connections_lost_total")
    page.done("say", text="a", ending="reset")
    server.becomes("connections_lost_total", before + 1)


def test_a_silent_crowd_is_listed_and_ends_when_it_is_told_to(page: Page, server: RunningServer) -> None:
    number = page.done("crowd", count=5)["number"]
    eventually(lambda: page.texts() == ["5 of 5 silent clients connected"], "it is there")
    assert server.metric("connections_open") == 5
    assert page.ask("end", number=number, model="epoll_loop")[0] == 400  # no key of this wish
    assert post(page.port, "/do/end", {"page": page.name, "number": number})[0] == 200
    server.becomes("connections_open", 0)
    assert post(page.port, "/do/end", {"page": page.name, "number": number})[0] == 404


def test_a_client_that_never_reads_sends_until_the_server_takes_no_more(page: Page) -> None:
    page.done("never-reads")
    (text,) = eventually(lambda: [text for text in page.texts() if "has taken no more" in text], "it is stopped")
    assert text.startswith("a client that never reads has sent ")


def test_a_load_comes_to_a_result_with_its_verdict(page: Page) -> None:
    page.done("load", connections=4, size=64, seconds=1)
    assert page.ask("load", connections=4, size=64, seconds=1)[1]["error"].startswith("1 loads run, and no more may")

    def result() -> dict[str, Any]:
        found: dict[str, Any] = page.snapshot()["opened"][0].get("result", {})
        return found

    measured = eventually(result, "it is over")
    assert measured["answers"] > 0
    assert measured["verdict"] not in ("", "ERRORS")
    assert measured["reason"]


def test_a_load_that_is_ended_leaves_no_connection(page: Page, server: RunningServer) -> None:
    number = page.done("load", connections=8, size=64, seconds=400)["number"]
    # The next snapshot may be of the moment before it was listed.
    eventually(lambda: any("answers/s" in text for text in page.texts()), "it runs")
    assert post(page.port, "/do/end", {"page": page.name, "number": number})[0] == 200
    server.becomes("connections_open", 0)


def test_the_dial_turns_and_goes_back_when_it_is_ended(page: Page, server: RunningServer) -> None:
    number = page.done("dial", wait_ms=200)["number"]
    assert page.done("say", text="a")["answered_ms"] >= 200
    assert page.texts() == ["work dial: each answer waits 200 ms and computes for 0 µs"]
    assert page.done("dial", wait_ms=300)["number"] == number
    post(page.port, "/do/end", {"page": page.name, "number": number})
    eventually(lambda: page.snapshot()["models"][3]["work"]["wait_ms"] == 0, "it is back")


def test_all_that_a_page_has_opened_ends_when_it_has_been_away(page: Page, server: RunningServer) -> None:
    other = Page(page.port, "b" * 32)
    other.done("crowd", count=3)
    other.done("dial", wait_ms=100)
    page.done("crowd", count=2)
    server.becomes("connections_open", 5)
    other.leave()
    eventually(lambda: page.texts() == ["2 of 2 silent clients connected"], "what the other one opened is gone")
    server.becomes("connections_open", 2)
    eventually(lambda: page.snapshot()["models"][3]["work"]["wait_ms"] == 0, "its dial is back")
    # Whoever is gone opens nothing.
    assert post(page.port, "/do/crowd", {"page": "b" * 32, "model": "epoll_loop", "count": 1})[0] == 409


def test_a_page_that_comes_back_in_time_keeps_what_it_has(page: Page, server: RunningServer) -> None:
    page.done("crowd", count=2)
    # The browser connects again, perhaps before the playground has seen that the first connection broke.
    again = Page(page.port, page.name)
    page.leave()
    eventually(lambda: again.texts(), "it is told what is open")
    for _ in range(int(AWAY_SECONDS / 0.1) + 10):
        assert again.texts() == ["2 of 2 silent clients connected"]
    again.leave()


def test_a_server_that_is_suspended_is_called_silent_and_holds_up_nobody(page: Page, server: RunningServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        eventually(lambda: page.snapshot()["models"][3]["state"] == "silent", "its silence is seen")
        card = page.snapshot()["models"][3]
        assert card["why"].startswith("it has not answered for ")
        told = page.done("say", text="a", patience_seconds=0.5)
        assert told["steps"][-1]["what"] == "no answer within 0.5 s"
        assert told["answered_ms"] is None
    finally:
        os.kill(server.pid, signal.SIGCONT)
    eventually(lambda: page.snapshot()["models"][3]["state"] == "running", "it is back")


def test_a_server_that_stops_is_called_draining_until_it_is_gone(
    page: Page, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = lab.start(drain_seconds=50)
    target = Target(model=stopping.model, address=stopping.address, admin=stopping.admin_address)
    monkeypatch.setattr(looking, "resolve_known", lambda: {"epoll_loop": target})

    def becomes(state: str) -> dict[str, Any]:
        return eventually(
            lambda: next(
                (card for card in page.snapshot()["models"] if (card["port"], card["state"]) == (port, state)), None
            ),
            f"it is {state}",
        )

    port = stopping.address[1]
    # Who takes nothing of what is owed to him is waited for.
    with stopping.connect(receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        client.sendall(bytes(12 * 1024))
        stopping.becomes("received_bytes_total", 12 * 1024)
        becomes("running")
        stopping.stop()
        assert becomes("draining")["why"].startswith("it was told to stop")
        read_to_end(client)
    assert becomes("gone")["why"]


@pytest.mark.parametrize(
    ("what", "wish", "words"),
    [
        ("say", {"text": ""}, "length >= 1"),
        ("say", {"text": "x" * 65}, "text: got 65, expected at most 64 bytes"),
        ("say", {"text": "a", "ending": "shout"}, "ending"),
        ("say", {"text": "a", "more": 1}, "unknown field"),
        ("say", {"text": "a", "model": "no_model"}, "model: got no_model, expected one of blocking_pool"),
        ("say", {"text": "a", "page": "1"}, "page"),
        ("crowd", {"count": 0}, "count"),
        ("crowd", {"count": 21}, "count: got 21, expected at most 20 clients (`connections` in playground.yaml)"),
        ("crowd", {"count": 1.5}, "count"),
        ("crowd", {"count": "many"}, "count"),
        ("load", {"connections": 9, "size": 1, "seconds": 1}, "connections: got 9, expected at most 8"),
        ("load", {"connections": 1, "size": 1025, "seconds": 1}, "size: got 1025, expected at most 1024 bytes"),
        ("load", {"connections": 1, "size": 1, "seconds": 401}, "seconds: got 401, expected at most 400 seconds"),
        ("dial", {"wait_ms": 501}, "wait_ms: got 501, expected at most 500 ms"),
        ("dial", {"cpu_us": 1001}, "cpu_us: got 1001, expected at most 1000 µs"),
        ("dial", {"wait_ms": -1}, "wait_ms"),
        ("kill", {}, "model: got epoll_loop, which serves in one process"),
        ("end", {"number": 1}, "unknown field"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(page: Page, what: str, wish: dict[str, Any], words: str) -> None:
    status, said = page.ask(what, **wish)
    assert 400 <= status < 500
    assert words in said["error"]
    assert "\n" not in said["error"]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"\xff", b"{" * 5000, b'{"page": 1e999}', b"x" * 70_000])
def test_what_is_no_wish_is_told_so(page: Page, body: bytes) -> None:
    status, said = post(page.port, "/do/say", body)
    assert status in (400, 413)
    assert said["error"]


def test_more_than_all_may_have_is_refused_and_nothing_of_it_is_left(page: Page, server: RunningServer) -> None:
    page.done("crowd", count=15)
    status, said = page.ask("crowd", count=6)
    assert status == 429
    assert "15 connections are open and 20 may be: end some, or open fewer than 6" in said["error"]
    server.becomes("connections_open", 15)


@pytest.mark.parametrize("path", ["say", "crowd", "never-reads", "load", "dial", "kill", "end"])
def test_nothing_is_changed_by_get(page: Page, path: str) -> None:
    with connect(("127.0.0.1", page.port)) as peer:
        peer.sendall(f"GET /do/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert read_to_end(peer).split()[1] in (b"404", b"405")
