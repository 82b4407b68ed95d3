"""Models that receive by themselves: how much they ask for, seen by how many answers a message has."""

from __future__ import annotations

from collections.abc import Callable

from iolab_client.contract import peers
from tests.support.models import as_process, but, only
from tests.support.server import RunningServer

pytestmark = as_process

Start = Callable[..., RunningServer]

# Who reads for their models.
FRAMEWORKS = ("asyncio_streams", "tornado_iostream", "twisted_reactor")


def answers(server: RunningServer, *messages: bytes) -> int:
    """How many answers the server makes of these messages, one after the other on one connection."""
    before = server.metric("answers_total")
    client = server.connect()
    for message in messages:
        assert peers.ask(client, message) == message.upper()
    return int(server.metric("answers_total") - before)


@but(*FRAMEWORKS, "task_queue")
def test_only_the_first_large_message_of_one_who_began_small_is_read_in_two(server: RunningServer) -> None:
    large = b"a" * 1000
    assert answers(server, large, large) == 2
    assert answers(server, b"small", b"small") == 2
    assert answers(server, b"small", large, large) == 4


@but(*FRAMEWORKS)
def test_an_answer_that_takes_its_time_takes_it_once_for_a_message(start: Start) -> None:
    server = start(work={"cpu_us": 1})
    assert answers(server, b"small", b"small", b"a" * 1000) == 3


@only("task_queue")
def test_an_answer_that_is_made_elsewhere_is_one_task_for_a_message(server: RunningServer) -> None:
    assert answers(server, b"small", b"small", b"a" * 1000) == 3
