"""Pools: as many clients at once as there are workers, the others wait in order."""

from __future__ import annotations

from collections.abc import Callable

from iolab_client.contract import peers
from tests.support.models import only, pools
from tests.support.server import RunningServer
from tests.support.waiting import eventually

Start = Callable[..., RunningServer]


@pools
def test_the_client_beyond_the_pool_waits_and_those_who_wait_are_served_in_order(start: Start) -> None:
    server = start(workers=2)
    served = server.connect_many(2)
    for client in served:
        assert peers.ask(client, b"in") == b"IN"
    waiting = []
    for number in range(3):
        client = server.connect()
        client.sendall(b"%d waits" % number)
        waiting.append(client)
        server.becomes("connections_waiting", number + 1)
    assert server.metric("connections_open") == 5

    for number, client in enumerate(waiting):
        # One worker gets free: whoever has waited longest is answered, the rest waits on.
        served.pop(0).close()
        assert peers.read_exactly(client, 7) == b"%d WAITS" % number
        server.becomes("connections_waiting", 2 - number)
        for other in waiting[number + 1 :]:
            other.setblocking(False)
            try:
                got = other.recv(1)
            except BlockingIOError:
                got = None
            other.setblocking(True)
            assert got is None, "a client was answered before its turn"
        served.append(client)


@pools
def test_a_pool_begins_with_its_workers_threads_and_takes_no_more(start: Start) -> None:
    server = start(workers=3)
    server.connect_many(8)
    server.becomes("connections_open", 8)
    workers = [thread["name"] for thread in server.threads() if thread["name"].startswith("worker-")]
    assert sorted(workers) == ["worker-0", "worker-1", "worker-2"]


@only("busy_poll")
def test_a_busy_poll_burns_the_processor_with_nobody_there(start: Start) -> None:
    server = start()
    before = server.cpu_seconds()
    # It has half a core in a container. However slow the machine: it gets there without a client.
    eventually(lambda: server.cpu_seconds() - before > 1.0, "a second of processor time is spent", seconds=60)
    assert server.metric("connections_accepted_total") == 0


@only("busy_poll")
def test_a_busy_poll_never_waits_for_its_client(start: Start) -> None:
    server = start(workers=2)
    client = server.connect()
    assert peers.ask(client, b"a") == b"A"

    # Between two calls a thread may wait for the interpreter's lock, but never in the kernel for a client.
    for _ in range(20):
        calls = {thread["syscall"] for thread in server.threads()}
        assert not calls & {"recvfrom", "accept4", "accept", "poll", "epoll_wait"}, calls
