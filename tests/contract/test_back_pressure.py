"""docs/contract.md: above `high_water` nothing more is read from a client that does not read; it stalls nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

from iolab_client.contract import payload, peers
from tests.support.clients import flood_all
from tests.support.models import as_process, waiting
from tests.support.server import RunningServer
from tests.support.waiting import eventually, for_a_while

pytestmark = as_process

MEBIBYTE = 1024 * 1024
# More than the kernel's buffers of one connection hold, so that a server without back-pressure would take it.
STREAM = payload.make(32 * MEBIBYTE)

Share = Callable[..., RunningServer]


def stuck_readers(server: RunningServer, count: int) -> int:
    """Have clients send without reading until the server takes no more; return the bytes that they sent."""
    clients = server.connect_many(count, receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    # It has begun: what its first answer takes is no silence.
    assert peers.ask(clients[0], b"a") == b"A"
    return flood_all(clients, STREAM)


def owed(server: RunningServer) -> float:
    """Bytes that were read and that the kernel has not taken back."""
    return server.metric("received_bytes_total") - server.metric("sent_bytes_total")


def test_a_client_that_never_reads_is_owed_high_water_and_one_read_at_most(share: Share) -> None:
    server = share(high_water=65536, buffer_size=32768)
    sent = stuck_readers(server, 1)

    assert sent < len(STREAM)
    # A server that has its answers from elsewhere may be waiting for the next one still.
    assert 0 < eventually(lambda: owed(server), "it is owed an answer") <= 65536 + 32768


def test_a_client_that_never_reads_stalls_nobody(server: RunningServer) -> None:
    stuck_readers(server, 2)

    stream = payload.make(MEBIBYTE)
    assert peers.exchange_all(server.connect_many(3), [stream] * 3) == [payload.answer(stream)] * 3


def test_eight_clients_that_never_read_cost_bounded_memory(server: RunningServer) -> None:
    peers.exchange(server.connect(), STREAM[:MEBIBYTE])
    before = server.metric("process_resident_memory_bytes")
    sent = stuck_readers(server, 8)

    # What the kernel holds is not the process's own memory; a server without a limit would hold most of the rest.
    assert server.metric("process_resident_memory_bytes") - before < 12 * MEBIBYTE
    assert sent < 8 * len(STREAM)


def test_a_client_that_begins_to_read_late_gets_everything(server: RunningServer) -> None:
    stream = STREAM[: 12 * MEBIBYTE]

    answer = peers.slow_reader(server.address, stream, chunk_bytes=65536)

    assert payload.difference(answer, payload.answer(stream)) is None


@waiting
def test_a_client_that_never_reads_costs_no_processor_time(server: RunningServer) -> None:
    """What waits for room to send wakes nobody before there is some."""
    stuck_readers(server, 2)
    begin, before = time.monotonic(), server.cpu_seconds()
    for _ in for_a_while(1):
        pass

    assert (server.cpu_seconds() - before) / (time.monotonic() - begin) < 0.2
