"""Ring 1 for frameworks: what a framework is asked about the bytes that it holds."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from iolab.configs import override
from iolab.registry import MODELS
from iolab.server.listener import listen
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings
from iolab.sockets.framework import Stream


@pytest.fixture
def stream() -> Iterator[Stream]:
    settings = override(Settings(), port=0)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        stack.enter_context(socket.create_connection(listener.getsockname()))
        server = Server(MODELS["asyncio_streams"], settings, listener, Stop())
        (sock,) = (stack.enter_context(sock) for sock in [next(server.admission.accept_some())])
        yield Stream(server, sock)


def changing(times: int) -> Callable[[], int]:
    """Counts 5 bytes, once its own thread has not changed them for so many attempts."""
    attempts = iter(range(times))

    def held() -> int:
        for _ in attempts:
            raise RuntimeError("deque mutated during iteration")
        return 5

    return held


def test_a_number_that_its_own_thread_is_changing_is_asked_for_again(stream: Stream) -> None:
    stream.held = changing(3)
    assert stream.buffered() == 5


def test_an_error_that_stays_is_a_bug_and_told(stream: Stream) -> None:
    stream.held = changing(1_000_000)
    with pytest.raises(RuntimeError, match="mutated"):
        stream.buffered()
