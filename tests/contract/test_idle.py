"""A connection on which no byte moved either way for `idle_seconds` is closed; waiting is not silence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from iolab.registry import Model
from iolab_client.contract import payload, peers
from tests.support.clients import flood_all
from tests.support.models import as_process, but, pools
from tests.support.server import RunningServer
from tests.support.waiting import for_a_while

pytestmark = as_process

Share = Callable[..., RunningServer]
IDLE_SECONDS = 0.5
# Where a slow machine must not be taken for a silent client.
LONG_IDLE_SECONDS = 1.0


def test_a_silent_client_is_closed_and_one_that_trickles_stays(share: Share) -> None:
    server = share(idle_seconds=IDLE_SECONDS)
    silent, quiet_after_a_word, trickling = server.connect_many(3)
    assert peers.ask(quiet_after_a_word, b"one word") == b"ONE WORD"
    for _ in for_a_while(3 * IDLE_SECONDS, step=IDLE_SECONDS / 6):
        assert peers.ask(trickling, b"a") == b"A"

    assert peers.read_to_end(silent, deadline_seconds=5) == b""
    assert peers.read_to_end(quiet_after_a_word, deadline_seconds=5) == b""
    server.becomes("connections_open", 1)
    assert server.metric("connections_lost_total") == 0


def test_by_default_a_silent_client_stays(server: RunningServer) -> None:
    silent = server.connect()
    for _ in for_a_while(0.3):
        pass

    assert peers.ask(silent, b"still here") == b"STILL HERE"


# Where another thread, process or worker is busy, nobody takes that for a client's silence; and one target shows it.
@but("blocking_pool", "busy_poll", "epoll_pool", "task_queue", "thread_per_connection")
@pytest.mark.targets("process")
def test_a_client_whose_bytes_came_while_the_server_was_busy_with_another_is_not_idle(
    start: Share, model: Model
) -> None:
    own = {"processes": 1} if model.forks else {}
    server = start(idle_seconds=LONG_IDLE_SECONDS, work={"cpu_us": int(LONG_IDLE_SECONDS * 1_500_000)}, **own)
    while True:
        begin = time.monotonic()
        first, second = server.connect_many(2)
        # It has a look at them before it is busy with the first one, and then is. Nothing is asked of its admin port,
        # which would wait for the processor as the second client does.
        for _ in for_a_while(LONG_IDLE_SECONDS / 8):
            pass
        first.sendall(b"first")
        for _ in for_a_while(LONG_IDLE_SECONDS / 8):
            pass
        second.sendall(b"second")
        if time.monotonic() - begin < LONG_IDLE_SECONDS / 2:
            break
        # This machine was so slow that the second one has really been silent for long.
        server.close_clients()

    assert peers.read_exactly(first, 5) == b"FIRST"
    assert peers.read_exactly(second, 6) == b"SECOND"


def test_a_stop_is_as_clean_where_silent_clients_would_be_closed(start: Share) -> None:
    # Longer than what makes a connection quiet at the stop; looked at ten times meanwhile.
    server = start(idle_seconds=3 * IDLE_SECONDS, drain_seconds=30)
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    server.stop()

    assert peers.read_to_end(client) == b""
    assert server.wait() == 0


def test_a_client_that_waits_for_slow_answers_is_not_idle(share: Share) -> None:
    server = share(idle_seconds=IDLE_SECONDS, work={"wait_ms": int(IDLE_SECONDS * 1800)})
    client = server.connect()

    assert peers.ask(client, b"slow") == b"SLOW"
    # The time that the answer took was the server's: the client's begins now.
    assert peers.exchange(client, b"again") == b"AGAIN"


@pools
def test_a_client_that_waits_for_a_worker_is_not_idle(share: Share) -> None:
    server = share(idle_seconds=IDLE_SECONDS, workers=1)
    served, waiting = server.connect_many(2)
    waiting.sendall(b"patience")
    for _ in for_a_while(3 * IDLE_SECONDS, step=IDLE_SECONDS / 6):
        assert peers.ask(served, b"a") == b"A"
    peers.half_close(served)

    assert peers.read_exactly(waiting, 8) == b"PATIENCE"


def test_a_slow_reader_that_still_takes_bytes_is_not_idle(share: Share) -> None:
    server = share(idle_seconds=IDLE_SECONDS)
    stream = payload.make(300_000)
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    client.sendall(stream)
    got = bytearray()
    for _ in for_a_while(3 * IDLE_SECONDS, step=IDLE_SECONDS / 10):
        got += peers.read_exactly(client, 8192)
    assert len(got) < len(stream)
    got += peers.read_exactly(client, len(stream) - len(got))

    assert payload.difference(bytes(got), payload.answer(stream)) is None
    assert peers.exchange(client, b"still here") == b"STILL HERE"


def test_a_reader_that_takes_nothing_any_more_is_closed(share: Share) -> None:
    server = share(idle_seconds=IDLE_SECONDS)
    lost = server.metric("connections_lost_total")
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    # The server may have closed it by the time that the last send gives up.
    with contextlib.suppress(ConnectionError):
        flood_all([client], payload.make(16 * 1024 * 1024))

    server.becomes("connections_open", 0)
    # It was this side that ended it.
    assert server.metric("connections_lost_total") == lost
