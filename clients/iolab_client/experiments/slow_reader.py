"""Slow reader: a client that sends and never reads is held back, and costs the others nothing.

Claim    One client that never reads its answers stalls the others, or fills the server's memory.
Source   RFC 9293, 3.8.6 (flow control); N. Provos, C. Lever, "Scalable Network I/O in Linux": slow clients
Method   16 clients that ask, alone and beside 2 that send up to 8 MiB each and read nothing; rate, p99, memory
Decides  HOLDS if the others are left less than half of their rate, or memory grows by a mebibyte for each slow one;
         FAILS if neither
Costs    quick 42 s, full 210 s
"""

from __future__ import annotations

import contextlib

from iolab_client.contract.payload import make
from iolab_client.contract.peers import flood
from iolab_client.servers.address import connect
from iolab_client.trial.bench import PEER_SECONDS, Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

CLIENTS = 16
SLOW = 2
SENT_BYTES = 8 << 20
SMALL_BUFFER_BYTES = 4096
NAMES = ("epoll_loop", "thread_per_connection", "asyncio_streams")
LEFT = 0.5
FILLS_BYTES = 1 << 20
SHOWS = Shows(
    across="clients that never read",
    values={"p99": "p99 of the others (µs)", "rate": "answers/s", "memory": "resident bytes"},
    draws="p99",
    logarithmic=False,
)


def measure(bench: Bench) -> None:
    """The same load on one server: alone, and once the slow ones are held back."""
    for turn in bench.turns(*(Side(name=name, model=name) for name in NAMES)):
        with turn.server() as server, contextlib.ExitStack() as stack:
            turn.load(server, at=0, connections=CLIENTS)
            for _ in range(SLOW):
                peer = stack.enter_context(
                    connect(
                        server.target.address,
                        receive_buffer_bytes=SMALL_BUFFER_BYTES,
                        deadline_seconds=PEER_SECONDS,
                    )
                )
                flood(peer, make(SENT_BYTES), quiet_seconds=0.2, deadline_seconds=PEER_SECONDS)
            turn.load(server, at=SLOW, connections=CLIENTS)


def judge(seen: Seen) -> Finding:
    """By the rate of the others, and by what the memory grows."""
    left = {name: seen.factor("rate", (name, 0), (name, SLOW), len(NAMES)).above(LEFT) for name in NAMES}
    fills = {name: (seen.median((name, SLOW), "memory") - seen.median((name, 0), "memory")) / SLOW for name in NAMES}
    stalled = False in left.values() or max(fills.values()) > FILLS_BYTES
    holds = True if stalled else False if all(left.values()) else None
    told = "; ".join(
        f"{name} {shown(seen.median((name, 0), 'rate'))} and {shown(seen.median((name, SLOW), 'rate'))} answers a "
        f"second, {fills[name] / 1024:,.0f} KiB for each slow one"
        for name in NAMES
    )
    why = (
        f"Alone, and beside {SLOW} that never read: {told}. A server that stops to read from whom it owes "
        "`high_water` bytes lets the kernel's window close, and then the client's own send blocks: the bytes stay with "
        "him who made them. Without that bound each such client would cost what he sends."
    )
    return found(holds, why)
