"""Models that call recv(2) themselves: how much they ask for, seen by how many answers a message has."""

from __future__ import annotations

from collections.abc import Callable

from iolab_client import peers
from tests.support.models import only
from tests.support.server import RunningServer

Start = Callable[..., RunningServer]

receives_itself = only(
    "blocking_pool",
    "busy_poll",
    "select_loop",
    "epoll_loop",
    "epoll_pool",
    "thread_per_connection",
    "gevent_greenlets",
    "prefork_epoll",
)


def answers(server: RunningServer, *messages: bytes) -> int:
    """How many answers the server makes of these messages, one after the other on one connection."""
    before = server.metric("answers_total")
    client = server.connect()
    for message in messages:
        assert peers.ask(client, message) == message.upper()
    return int(server.metric("answers_total") - before)


@receives_itself
def test_only_the_first_large_message_of_one_who_began_small_is_read_in_two(start: Start) -> None:
    large = b"a" * 1000
    server = start()
    assert answers(server, large, large) == 2
    assert answers(server, b"small", b"small") == 2
    assert answers(server, b"small", large, large) == 4


@receives_itself
def test_an_answer_that_takes_its_time_takes_it_once_for_a_message(start: Start) -> None:
    server = start(work={"wait_ms": 1})
    assert answers(server, b"small", b"a" * 1000) == 2
