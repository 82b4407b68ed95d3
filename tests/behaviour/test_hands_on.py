"""What changes a server while it runs: the work dial, for those who are connected already, and a process's end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from iolab.registry import Model
from iolab_client.contract import payload, peers
from tests.support.models import forks, only, without_children
from tests.support.server import RunningServer
from tests.support.waiting import DEADLINE_SECONDS, eventually

pytestmark = pytest.mark.targets("process")

Share = Callable[..., RunningServer]
Start = Callable[..., RunningServer]
WAIT_MS = 250


def put(server: RunningServer, path: str, body: Any, method: str = "PUT", **headers: str) -> tuple[int, str]:
    """Send something to the admin port: the status, and what it says."""
    connection = HTTPConnection(*server.admin_address, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def seconds_of(client: socket.socket) -> float:
    """How long one answer takes."""
    begin = time.monotonic()
    assert peers.ask(client, b"a") == b"A"
    return time.monotonic() - begin


def test_the_dial_is_turned_for_those_who_are_here_and_those_who_come(share: Share, model: Model) -> None:
    server = share(hands_on=True)
    # Of several processes each serves one at least, if many come.
    here = server.connect_many(8 if model.forks else 2)
    for client in here:
        assert peers.ask(client, b"a") == b"A"

    assert put(server, "/work", {"wait_ms": WAIT_MS})[0] == 200

    # What a child is told it has heard a moment later.
    eventually(lambda: all(seconds_of(client) >= WAIT_MS / 1000 for client in here[:2]), "who is here waits")
    eventually(lambda: seconds_of(server.connect()) >= WAIT_MS / 1000, "who comes waits")
    server.close_clients()

    client = server.connect()
    assert put(server, "/work", {"wait_ms": 0, "cpu_us": 0})[0] == 200
    eventually(lambda: seconds_of(client) < WAIT_MS / 1000, "it waits no more")
    assert '"wait_ms": 0' in server.page("/metrics")[1] or r"\"wait_ms\":0" in server.page("/metrics")[1]
    eventually(
        lambda: [event["wait_ms"] for event in server.events_called("work")][-2:] == [WAIT_MS, 0],
        "the log tells of both",
    )


@only("epoll_loop", "epoll_pool", "asyncio_streams", "io_uring_ring", "blocking_pool")
def test_no_byte_is_lost_or_late_for_another_while_the_dial_is_turned(share: Share) -> None:
    server = share(hands_on=True)
    ended = threading.Event()

    def turn() -> None:
        for number in range(1, 1000):
            put(server, "/work", {"wait_ms": number % 3, "cpu_us": 50 * (number % 2)})
            if ended.wait(0.002):
                break
        put(server, "/work", {})

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        small = server.connect()
        for number in range(60):
            # Several messages that are on their way together, of which none may overtake another.
            said = b"".join(payload.make(97, seed=f"{number} {part}") for part in range(5))
            assert payload.difference(peers.ask(small, said), payload.answer(said)) is None
        stream = payload.make(600_000)
        assert payload.difference(peers.exchange(server.connect(), stream), payload.answer(stream)) is None
    finally:
        ended.set()
        turning.join(DEADLINE_SECONDS)


@only("epoll_loop")
@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/work", {"wait_ms": 60_001}, "wait_ms"),
        ("/work", {"wait_ms": -1}, "wait_ms"),
        ("/work", {"wait_ms": "much"}, "wait_ms"),
        ("/work", {"wait": 1}, "wait"),
        ("/work", b"no JSON", "malformed"),
        ("/work", b"\xff\x00", "/work: "),
        ("/kill", {"pid": 1}, "this model has one process"),
        ("/kill", {}, "pid"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(share: Share, path: str, body: Any, words: str) -> None:
    status, said = put(share(hands_on=True), path, body)
    assert status == 400
    assert words in said
    assert said.count("\n") == 1


@only("epoll_loop")
def test_no_page_of_a_browser_changes_a_server(share: Share) -> None:
    status, said = put(share(hands_on=True), "/work", {"wait_ms": 5}, Origin="http://evil.example")
    assert (status, said) == (403, "a page in a browser changes nothing here\n")
    assert put(share(hands_on=True), "/elsewhere", {})[0] == 404


@only("epoll_loop", "prefork_epoll")
def test_nothing_is_taken_unless_the_settings_say_so(share: Share) -> None:
    for method in ("PUT", "POST"):
        assert put(share(), "/work", {"wait_ms": 5}, method)[0] == 405


@only("task_queue")
def test_no_task_may_take_longer_than_a_worker_is_given(share: Share) -> None:
    status, said = put(share(hands_on=True, visibility_timeout=1), "/work", {"wait_ms": 1000})
    assert status == 400
    assert "visibility_timeout: got 1, expected more than the 1 s" in said


@forks
def test_a_process_that_was_killed_is_replaced_by_one_with_the_same_dial(start: Start) -> None:
    server = start(processes=2, hands_on=True)
    put(server, "/work", {"wait_ms": WAIT_MS})
    serving = [process["pid"] for process in json.loads(server.page("/threads")[1])["processes"][1:]]

    assert put(server, "/kill", {"pid": server.pid})[0] == 400
    for pid in serving:
        assert put(server, "/kill", {"pid": pid})[0] == 200

    ended = eventually(
        lambda: [event["pid"] for event in server.events_called("child_started")][1:], "both are replaced"
    )
    assert ended
    assert seconds_of(server.connect()) >= WAIT_MS / 1000
    assert {event["pid"] for event in server.events_called("killed")} == set(serving)


@only("epoll_loop", "asyncio_streams", "blocking_pool", "gevent_greenlets")
@without_children
def test_the_threads_page_tells_the_line_that_each_thread_is_at(share: Share, model: Model) -> None:
    server = share()
    # The innermost line of iolab's; the greenlet that waits for all of them has none.
    file = {"blocking_pool": "server/admission.py", "gevent_greenlets": "hub.py"}.get(
        model.slug, f"models/{model.slug}.py"
    )
    eventually(
        lambda: (frame := server.threads()[0].get("frame", {})).get("file") == file and frame["code"], "it waits"
    )


@only("prefork_epoll")
def test_the_line_of_each_process_is_told_too(share: Share) -> None:
    def lines() -> list[tuple[str, str]]:
        processes = json.loads(share().page("/threads")[1])["processes"]
        found = [process["threads"][0].get("frame", {}) for process in processes]
        return [(frame.get("file", ""), frame.get("function", "")) for frame in found]

    def all_lines() -> list[tuple[str, str]]:
        found = lines()
        return found if set(found[1:]) == {("models/epoll_loop.py", "loop")} else []

    supervisor, *_ = eventually(all_lines, "each process waits in its loop")
    assert supervisor[0].startswith(("processes/", "observe/", "kernel/"))
