"""Asyncio streams on the loop of libuv: what differs there from the standard library's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from iolab_client.contract import payload, peers
from tests.support.clients import flood_all
from tests.support.models import only
from tests.support.server import RunningServer

Start = Callable[..., RunningServer]


@only("asyncio_streams")
def test_on_uvloop_a_reader_that_is_cut_with_input_left_does_not_end_the_server(start: Start) -> None:
    server = start(loop="uvloop", idle_seconds=0.5)
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    # The server may have closed it by the time that the last send gives up.
    with contextlib.suppress(ConnectionError):
        flood_all([client], payload.make(16 * 1024 * 1024))
    server.becomes("connections_open", 0)

    with server.connect() as another:
        assert peers.ask(another, b"still here") == b"STILL HERE"
