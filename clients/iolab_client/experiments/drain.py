"""Drain: a stop that waits for answers under way loses none, as long as it waits long enough.

Claim    A server that is stopped by SIGTERM answers whoever had asked before.
Source   The Twelve-Factor App, IX, "Disposability"; Kubernetes documentation, "Termination of Pods"
Method   8 clients ask for answers that wait 0.6 s, then SIGTERM comes, with drain_seconds of 0.2 and of 10; and
         SIGKILL; plain processes
Decides  HOLDS if all are answered with each drain_seconds; DEPENDS if only with the longer one; FAILS if not with it
Costs    quick 16 s, full 75 s
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time

from iolab_client.contract.peers import read_to_end
from iolab_client.servers.address import connect
from iolab_client.trial.bench import PEER_SECONDS, Bench, Side, send_signal
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

CLIENTS = 8
WAIT_MS = 600
DRAINS = (0.2, 10.0)
NAMES = ("thread_per_connection", "asyncio_streams")
KILLED = ", killed"
SHOWS = Shows(
    across="drain_seconds", values={"answered": "of 8 clients, answered"}, draws="answered", logarithmic=False
)


def measure(bench: Bench) -> None:
    """How many of those who have asked are answered after the stop."""
    sides = [Side(name=name + how, model=name) for name in NAMES for how in ("", KILLED)]
    for turn in bench.turns(*sides, twin=False, place=bench.means.here, rounds=bench.pick(1, 5)):
        for seconds in DRAINS:
            settings = {"drain_seconds": seconds, "drain_quiet_seconds": 0.1, "work": {"wait_ms": WAIT_MS}}
            with turn.server(**settings) as server, contextlib.ExitStack() as stack:
                address = server.target.address
                peers = [stack.enter_context(connect(address, deadline_seconds=PEER_SECONDS)) for _ in range(CLIENTS)]
                for peer in peers:
                    peer.sendall(b"a")
                time.sleep(WAIT_MS / 4000)
                send_signal(server, signal.SIGKILL if turn.side.name.endswith(KILLED) else signal.SIGTERM)
                turn.note(at=seconds, answered=sum(map(_answered, peers)))


def _answered(peer: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        return read_to_end(peer, deadline_seconds=PEER_SECONDS) == b"A"
    return False


def judge(seen: Seen) -> Finding:
    """By the counts: everyone or not."""
    short, long = DRAINS
    all_with = {
        seconds: all(seen.least((name, seconds), "answered") == CLIENTS for name in NAMES) for seconds in DRAINS
    }
    told = seen.told("answered", seen.sides(), DRAINS)
    why = (
        f"Of {CLIENTS} clients that had asked for an answer of {WAIT_MS} ms were answered, with drain_seconds of "
        f"{short:g} and of {long:g}: {told}. After SIGTERM the server accepts nobody new, answers what is under way, "
        "and ends when everyone is quiet or the time is over; what takes longer than that time is cut, as all is by "
        "SIGKILL, which no process is told of."
    )
    if all_with[long] and not all_with[short]:
        return found(None, why, flip=f"between {short:g} and {long:g} s of drain_seconds, for answers of {WAIT_MS} ms")
    return found(all_with[long], why)
