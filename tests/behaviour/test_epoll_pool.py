"""Epoll with threads: answers overlap, and keep their order all the same."""

from __future__ import annotations

from collections.abc import Callable

from iolab_client.contract import payload, peers
from tests.support.models import only
from tests.support.server import RunningServer
from tests.support.waiting import eventually

Start = Callable[..., RunningServer]


@only("epoll_pool")
def test_slow_answers_of_several_clients_are_made_at_the_same_time(start: Start) -> None:
    server = start(workers=4, work={"wait_ms": 1000})
    clients = server.connect_many(4)
    for client in clients:
        client.sendall(b"a")

    def asleep() -> int:
        return sum(thread["syscall"] == "clock_nanosleep" for thread in server.threads())

    eventually(lambda: asleep() == 4, "four answers wait at once")
    for client in clients:
        assert peers.read_exactly(client, 1) == b"A"


@only("epoll_pool")
def test_answers_beyond_the_workers_wait_and_the_metric_shows_how_many(start: Start) -> None:
    server = start(workers=2, work={"wait_ms": 1500})
    clients = server.connect_many(5)
    for client in clients:
        client.sendall(b"a")
    server.becomes("connections_waiting", 3)
    for client in clients:
        assert peers.read_exactly(client, 1) == b"A"
    server.becomes("connections_waiting", 0)


@only("epoll_pool")
def test_the_order_of_a_connections_answers_is_kept_though_many_workers_make_them(start: Start) -> None:
    # Small reads make many answers of one stream: two workers on one connection would swap them.
    server = start(workers=8, buffer_size=512)
    streams = [payload.make(1024 * 1024) for _ in range(4)]
    answers = peers.exchange_all(server.connect_many(4), streams)
    for stream, answer in zip(streams, answers, strict=True):
        assert payload.difference(answer, payload.answer(stream)) is None
    assert server.metric("answers_total") >= 4 * 1024 * 1024 / 512


@only("epoll_pool")
def test_a_connection_goes_from_worker_to_worker(start: Start) -> None:
    server = start(workers=3)
    clients = server.connect_many(12)
    server.becomes("connections_open", 12)
    # More clients than workers, all open, all answered: nobody has a thread of its own.
    for _ in range(3):
        for client in clients:
            assert peers.ask(client, b"a") == b"A"
    assert server.metric("connections_waiting") == 0
