"""Several processes: each has its own listener, a killed one is replaced, and together they are one server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support.clients import flood_all
from tests.support.fleet import Lab
from tests.support.models import forks, only
from tests.support.process import ProcessTarget
from tests.support.server import NotStarted, RunningServer
from tests.support.waiting import eventually, pause

Start = Callable[..., RunningServer]

LISTEN = "0A"


def children(server: RunningServer) -> list[int]:
    """The processes that serve, once all of them have begun to."""

    def begun() -> list[int]:
        pids = [pid for pid in server.pids() if pid != server.pid]
        return pids if len(pids) == server.settings["processes"] and all(map(alone, pids)) else []

    def alone(pid: int) -> bool:
        # Forked with all listeners, each closes those of its siblings.
        return len(listeners_of(server, pid)) == 1

    return eventually(begun, "as many processes serve as there are to be")


def kill(server: RunningServer, pid: int, number: signal.Signals) -> None:
    server.beside("sh", "-c", f"kill -{number.value} {pid}")


def listeners(server: RunningServer) -> dict[int, int]:
    """The listening sockets of the server's port by inode, each with how many clients wait in its queue: proc(5)."""
    rows = [line.split() for line in server.beside("sh", "-c", "cat /proc/net/tcp*").splitlines()]
    port = f":{server.address[1]:04X}"
    return {
        int(row[9]): int(row[4].split(":")[1], 16)
        for row in rows
        if len(row) > 9 and row[1].endswith(port) and row[3] == LISTEN
    }


def listeners_of(server: RunningServer, pid: int) -> set[int]:
    """Those that a process has open; none if it has ended."""
    links = server.beside("sh", "-c", f"ls -l /proc/{pid}/fd 2>/dev/null; true")
    return {inode for inode in listeners(server) if f"socket:[{inode}]" in links}


@forks
def test_as_many_processes_serve_as_it_is_told_each_on_a_listener_of_its_own(start: Start) -> None:
    server = start(processes=3)

    assert len(set().union(*(listeners_of(server, pid) for pid in children(server)))) == 3
    assert len(listeners_of(server, server.pid)) == 3
    assert server.metric("processes") == 4


@only("prefork_epoll")
@pytest.mark.parametrize("accept", ["shared", "exclusive"])
def test_all_processes_accept_on_one_listener_where_they_are_told_to(start: Start, accept: str) -> None:
    server = start(processes=3, accept=accept)
    serving = children(server)

    assert len(set().union(*(listeners_of(server, pid) for pid in serving))) == 1
    clients = [server.connect() for _ in range(12)]
    assert [peers.ask(client, b"a") for client in clients] == [b"A"] * 12
    assert sum(server.metric("process_connections_open", number=str(number)) for number in range(3)) == 12
    assert server.metric("accept_queue_length") == 0
    # Whoever is left alone with the listener serves those in its queue, and those who were there before.
    kill(server, serving[0], signal.SIGKILL)
    eventually(lambda: len(children(server)) == 3, "it is replaced")
    assert peers.exchange(server.connect(), b"b") == b"B"
    server.stop()
    assert server.wait() == 0


@forks
def test_by_default_there_is_a_process_for_each_processor(lab: Lab) -> None:
    server = lab.adopt(lab.target.start(lab.model, {}))
    assert server.listening
    processors = int(server.beside("nproc"))

    eventually(lambda: len(server.pids()) == 1 + processors, "a process for each processor")


@forks
def test_the_threads_page_shows_the_supervisor_and_where_each_process_waits(start: Start) -> None:
    server = start(processes=2)

    def seen() -> bool:
        first, *others = json.loads(server.page("/threads")[1])["processes"]
        calls = [thread["syscall"] for process in others for thread in process["threads"][:1]]
        return (first["pid"], first["name"], len(calls)) == (server.pid, "supervisor", 2) and set(calls) <= {
            "epoll_wait",
            "epoll_pwait",
        }

    eventually(seen, "each process waits in epoll_wait")


@forks
def test_a_killed_process_is_replaced_and_the_clients_in_its_queue_are_answered(start: Start) -> None:
    server = start()
    victim, other = children(server)
    (inode,) = listeners_of(server, victim)
    kill(server, victim, signal.SIGSTOP)
    clients: list[socket.socket] = []
    while listeners(server)[inode] < 3:
        clients.append(server.connect())
        clients[-1].sendall(b"queued")
        # The first 64 go to the same of two listeners once in 2 ** 63.
        assert len(clients) < 64
    kill(server, victim, signal.SIGKILL)

    assert [peers.exchange(client, b"", deadline_seconds=20) for client in clients] == [b"QUEUED"] * len(clients)
    ended, started = server.event("child_ended"), server.event("child_started")
    assert (ended["pid"], ended["ended"]) == (victim, "SIGKILL")
    assert started["replaces"] == victim
    assert set(children(server)) == {other, started["pid"]}
    server.stop()
    assert server.wait() == 0


@forks
def test_the_death_of_one_process_leaves_the_clients_of_the_other(start: Start) -> None:
    server = start()
    clients = server.connect_many(24)
    for client in clients:
        assert peers.ask(client, b"before") == b"BEFORE"
    answers = server.metric("answers_total")
    kill(server, children(server)[0], signal.SIGKILL)
    lost = server.event("child_ended")["connections"]
    server.becomes("connections_open", 24 - lost)

    assert 0 < lost < 24
    assert sum(still_speaks(client) for client in clients) == 24 - lost
    # What it had told of its books before it died is not forgotten.
    assert server.metric("answers_total") == answers + 24 - lost
    assert server.metric("connections_accepted_total") == 24


def still_speaks(client: socket.socket) -> bool:
    try:
        return peers.ask(client, b"after") == b"AFTER"
    except ConnectionError:
        return False


@forks
def test_a_suspended_process_holds_up_the_first_scrape_only(start: Start) -> None:
    server = start()
    suspended, _ = children(server)
    kill(server, suspended, signal.SIGSTOP)
    look = f"grep -h ^State: /proc/{suspended}/task/*/status"
    eventually(
        lambda: set(server.beside("sh", "-c", look).splitlines()) == {"State:\tT (stopped)"},
        "all its threads are suspended",
    )

    def scrape_seconds() -> float:
        began = time.monotonic()
        assert server.metric("processes") == 3
        return time.monotonic() - began

    first = scrape_seconds()
    assert min(scrape_seconds() for _ in range(3)) < first / 2
    kill(server, suspended, signal.SIGCONT)
    for client in (clients := server.connect_many(24)):
        assert peers.ask(client, b"word") == b"WORD"
    server.becomes("answers_total", len(clients))


@forks
def test_the_supervisor_alone_says_when_a_process_stops(start: Start) -> None:
    server = start(processes=1)
    (child,) = children(server)
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        kill(server, child, number)
    # Whoever takes one of them for a stop has begun by now to see off a client that is quiet.
    pause(0.5)
    assert peers.ask(client, b"still here") == b"STILL HERE"
    server.stop()

    assert peers.read_to_end(client) == b""
    assert server.wait() == 0
    assert server.events_called("child_ended") == []


@forks
def test_max_connections_holds_for_all_processes_together(start: Start) -> None:
    server = start(processes=4, max_connections=6)
    clients = server.connect_many(20)
    eventually(
        lambda: server.metric("connections_open") + server.metric("connections_refused_total") == 20, "all were seen"
    )

    assert server.metric("connections_open") <= 6
    ended = [client for client in clients if not still_speaks(client)]
    assert len(ended) == server.metric("connections_refused_total")


@forks
@pytest.mark.targets("process")
def test_processes_that_end_as_soon_as_they_start_end_the_server_with_1(lab: Lab) -> None:
    target = lab.target
    assert isinstance(target, ProcessTarget)
    server = target.start(lab.model, {"processes": 1})
    try:
        assert server.listening

        def kill_whoever_serves() -> bool:
            if server.exit_code() is not None:
                return True
            # The supervisor may go between two looks.
            with contextlib.suppress(StopIteration, ProcessLookupError):
                for pid in server.pids():
                    if pid != server.pid:
                        os.kill(pid, signal.SIGKILL)
            return False

        eventually(kill_whoever_serves, "the supervisor gives up")
        assert server.wait() == 1
        assert "ended 5 times as soon as it was started" in server.errors()
        assert len(server.events_called("child_ended")) >= 5
    finally:
        server.remove()


@forks
@pytest.mark.targets("process")
def test_a_second_server_on_the_port_is_refused(lab: Lab) -> None:
    """SO_REUSEPORT would let it in, and give it half of the clients."""
    server = lab.start()
    target = lab.target
    assert isinstance(target, ProcessTarget)
    second = target.start(lab.model, {}, port=server.address[1])
    try:
        assert second.wait() == 1
        with pytest.raises(NotStarted, match="Address already in use"):
            _ = second.listening
    finally:
        second.remove()
    assert peers.ask(server.connect(), b"here") == b"HERE"


@forks
@pytest.mark.targets("process")
def test_the_end_of_the_supervisor_is_the_end_of_all(lab: Lab) -> None:
    server = lab.start()
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    orphans = children(server)
    kill(server, server.pid, signal.SIGKILL)

    # The kernel closes for them, with a FIN: nothing was unread.
    assert peers.read_to_end(client) == b""
    eventually(lambda: not [pid for pid in orphans if _lives(pid)], "the children have ended")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@forks
@pytest.mark.targets("process")
def test_a_terminals_interrupt_reaches_every_process_and_is_one_stop(lab: Lab) -> None:
    server = lab.start()
    stream = payload.make(2 * 1024 * 1024)
    clients = server.connect_many(6, receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    sent = [flood_all([client], stream) for client in clients]
    pids = server.pids()
    os.killpg(server.pid, signal.SIGINT)
    server.event("draining")

    for client, size in zip(clients, sent, strict=True):
        assert payload.difference(peers.read_to_end(client), payload.answer(stream[:size])) is None
    assert server.wait() == 0
    assert not [pid for pid in pids[1:] if _lives(pid)]


@forks
def test_clients_of_the_admin_port_that_say_nothing_keep_nobody_waiting(start: Start) -> None:
    server = start()
    for word in (b"", b"GET /metr", b"GET /threads HTTP/1.0\r\n"):
        for _ in range(8):
            server.adopt_client(connect(server.admin_address)).sendall(word)

    assert server.page("/healthz")[0] == 200
    bit_by_bit = server.adopt_client(connect(server.admin_address))
    for piece in (b"GET /healthz HT", b"TP/1.0\r\n", b"\r\n"):
        bit_by_bit.sendall(piece)
        assert server.page("/healthz")[0] == 200
    assert b" 200 " in peers.read_to_end(bit_by_bit)
    server.stop()
    assert server.wait() == 0
