"""The server that misbehaves on command, in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from iolab.kernel.threads import start_thread
from iolab.misbehave.server import Misbehaving, Order, Scripts
from iolab.server.stop import Stop
from iolab_client.servers.address import Address
from tests.support.waiting import DEADLINE_SECONDS


@dataclass(frozen=True)
class Misbehaviour:
    """Where it listens, and what it has been told."""

    address: Address
    scripts: Scripts


@contextlib.contextmanager
def misbehaving(script: str, *, message_bytes: int | None = None, seed: int | None = None) -> Iterator[Misbehaviour]:
    """A server that misbehaves so while the block runs."""
    scripts = Scripts(Order(script=script, message_bytes=message_bytes, seed=seed))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stop = Stop()
        thread = start_thread(Misbehaving(listener, scripts, stop).serve, "misbehave")
        try:
            yield Misbehaviour(listener.getsockname()[:2], scripts)
        finally:
            stop.request()
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive()
