"""docs/contract.md: max_connections, set or out of what the model can really hold here."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable
from typing import Any

import pytest

from iolab.registry import Model
from iolab.server.admission import ACCEPTS_A_TURN
from iolab.settings import MOST_IDLE_SECONDS, MOST_SECONDS, RESERVE, SELECT_LIMIT
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.fleet import Lab
from tests.support.models import as_process, but
from tests.support.process import ProcessTarget
from tests.support.server import RunningServer
from tests.support.waiting import eventually

Share = Callable[..., RunningServer]

# Clients who wait to be accepted at once, and how long each answer takes meanwhile.
CROWD = 400
TURN_US = 30_000
# Where another thread accepts or answers, or a greenlet closes later, no client sees who had to wait for whom.
accepting_in_the_thread_that_serves = but(
    "blocking_pool", "busy_poll", "epoll_pool", "gevent_greenlets", "task_queue", "thread_per_connection"
)


def test_one_more_than_max_connections_is_closed_at_once_and_counted_as_refused(share: Share) -> None:
    server = share(max_connections=3)
    clients = server.connect_many(3)
    for client in clients:
        assert peers.ask(client, b"a") == b"A"
    before = server.metric("connections_refused_total")

    for _ in range(4):
        assert peers.read_to_end(server.connect()) == b""
    assert server.metric("connections_refused_total") - before == 4
    assert server.metric("connections_open") == 3
    assert [peers.ask(client, b"still here") for client in clients] == [b"STILL HERE"] * 3


def test_whoever_leaves_makes_room_for_another(share: Share) -> None:
    server = share(max_connections=3)
    first, *_ = server.connect_many(3)
    server.becomes("connections_open", 3)
    peers.half_close(first)
    assert peers.read_to_end(first) == b""
    server.becomes("connections_open", 2)

    assert peers.ask(server.connect(), b"next") == b"NEXT"


@as_process
def test_refusals_are_logged_once_a_second_at_most(start: Share) -> None:
    server = start(max_connections=1)
    assert peers.ask(server.connect(), b"a") == b"A"
    for _ in range(20):
        assert peers.read_to_end(server.connect()) == b""

    # Of several processes, one logs what the others tell it.
    server.event("refused")
    warnings = server.events_called("refused")
    assert warnings[0]["max_connections"] == 1
    # Twenty refusals take milliseconds; on a machine that halts now and then, a second warning is due.
    assert len(warnings) < 5


@accepting_in_the_thread_that_serves
def test_whoever_connects_again_and_again_stalls_nobody(start: Share, model: Model) -> None:
    own = {"processes": 1} if model.forks else {}
    # A byte for each read, so that the loop has many turns, and each of them lasts.
    server = start(max_connections=1, buffer_size=1, work={"cpu_us": TURN_US}, **own)
    served = server.connect()
    assert peers.ask(served, b"a") == b"A"
    server.suspend()
    crowd = server.connect_many(CROWD)
    served.sendall(b"question")
    server.resume()

    ended = select.poll()
    for client in crowd:
        ended.register(client, select.POLLIN)
    got = b""
    served.setblocking(False)
    while len(got) < len(b"question"):
        # In this order: answers that come between the two looks only speak for the server.
        refused = len(ended.poll(0))
        with contextlib.suppress(BlockingIOError):
            got += served.recv(100)
        # A framework takes some turns for one answer, and has begun with the next one.
        assert refused <= 4 * ACCEPTS_A_TURN * (len(got) + 2), f"{refused} were refused before {len(got)} answers"
    assert got == b"QUESTION"
    # Those whose turn was later had it.
    assert [peers.read_to_end(client) for client in crowd] == [b""] * CROWD
    server.becomes("connections_refused_total", CROWD)


@pytest.mark.targets("process")
def test_by_default_it_is_what_the_descriptors_allow(lab: Lab) -> None:
    server = start_with_descriptors(lab, 200)
    limits = server.listening["limits"]
    assert limits["descriptors"] == 200
    assert limits["max_connections"] == 200 - RESERVE

    server.connect_many(limits["max_connections"])
    server.becomes("connections_open", limits["max_connections"])
    assert server.events_called("out_of_capacity") == []
    assert peers.read_to_end(server.connect()) == b""
    assert server.metric("connections_refused_total") == 1
    # The admin port lives in the reserve, whoever crowds it.
    for _ in range(RESERVE):
        server.adopt_client(connect(server.admin_address))
    assert all(len(used) < 200 for used in server.descriptors_at_rest().values())
    assert server.page("/metrics")[0] == 200


@pytest.mark.targets("process")
def test_what_the_settings_ask_for_and_the_descriptors_do_not_allow_is_cut(lab: Lab) -> None:
    server = start_with_descriptors(lab, 200, max_connections=900)

    assert server.listening["limits"]["max_connections"] == 200 - RESERVE


def start_with_descriptors(lab: Lab, count: int, **settings: object) -> RunningServer:
    target = lab.target
    assert isinstance(target, ProcessTarget)
    return lab.adopt(target.start(lab.model, settings, prefix=["prlimit", f"--nofile={count}"]))


def test_the_listening_line_and_the_metrics_tell_what_really_holds(share: Share) -> None:
    asked = 60_000
    server = share(backlog=asked)
    limits = server.listening["limits"]
    somaxconn = int(server.beside("cat", "/proc/sys/net/core/somaxconn"))
    soft = int(server.beside("prlimit", "--pid", str(server.pid), "--nofile", "--output=SOFT", "--noheadings"))

    assert limits["backlog"] == min(asked, somaxconn)
    assert limits["descriptors"] == soft
    assert limits["receive_buffer_bytes"] > 0
    assert limits["send_buffer_bytes"] > 0
    assert limits["max_connections"] == expected_connections(server, soft)
    for name, value in limits.items():
        if value is not None:
            assert server.metric("limit", limit=name) == value
    assert server.listening["settings"]["backlog"] == asked


def expected_connections(server: RunningServer, descriptors: int) -> int:
    bounds = [descriptors - RESERVE]
    if server.model.selects:
        bounds.append(SELECT_LIMIT)
    if server.model.thread_per_client and server.listening["limits"]["threads"]:
        bounds.append(server.listening["limits"]["threads"] - RESERVE)
    return min(bounds)


def test_the_backlog_is_how_many_clients_the_kernel_lets_wait(start: Share) -> None:
    server = start(backlog=4)
    server.suspend()
    clients = server.connect_many(4, deadline_seconds=5)
    server.resume()

    for client in clients:
        assert peers.ask(client, b"a") == b"A"
    assert server.listening["limits"]["backlog"] == 4
    eventually(lambda: server.metric("accept_queue_length") == 0, "the accept queue is empty")


@as_process
def test_the_longest_times_that_can_be_set_hold_from_the_start_to_the_stop(lab: Lab) -> None:
    longest: dict[str, Any] = {"idle_seconds": MOST_IDLE_SECONDS, "drain_seconds": MOST_SECONDS}
    longest |= {key: MOST_SECONDS for key in ("broker_seconds",) if key in lab.model.own_keys}
    server = lab.start(**longest)
    client = server.connect()
    assert peers.ask(client, b"hello") == b"HELLO"
    server.stop()
    assert server.wait() == 0
    assert "Traceback" not in server.errors()
