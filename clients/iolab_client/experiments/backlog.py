"""Backlog: who finds the accept queue full is not refused, but waits for a second and more.

Claim    Where more clients come at once than the backlog holds, some of them wait for a second until they are served.
Source   listen(2); RFC 6298, 2.1: the first retransmission timeout is one second; W. R. Stevens, UNP 1, 4.5
Method   epoll_loop with a backlog of 1, 16 and 1,024; 64 clients that come anew for each answer; the longest wait to
         be connected and answered
Decides  HOLDS if it is 0.9 s or more with the shortest backlog and less than half a second with the longest; FAILS if
         it is less with the shortest
Costs    quick 30 s, full 120 s
"""

from __future__ import annotations

from iolab_client.results.measurement import ERRORS, NOISY, STARVED, UNSTABLE
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

MODEL = "epoll_loop"
BACKLOGS = (1, 16, 1024)
CLIENTS = 64
SECOND_US, HALF_US = 0.9e6, 0.5e6
SHOWS = Shows(
    across="backlog",
    values={"waited": "longest wait for a connection and its answer (µs)", "rate": "answers/s"},
    draws="waited",
)


def measure(bench: Bench) -> None:
    """Bursts of new connections, on ever longer queues."""
    for turn in bench.turns(Side(name=MODEL, model=MODEL), twin=False, rounds=bench.pick(2, 7)):
        for backlog in BACKLOGS:
            with turn.server(backlog=backlog, work={"cpu_us": 200}) as server:
                expected = (STARVED, UNSTABLE, ERRORS, NOISY)
                one = turn.load(
                    server, at=backlog, connections=CLIENTS, churn=1, duration_seconds=1.0, expected=expected
                )
                waits = [latency.max for latency in (one.connect, one.first_answer) if latency]
                turn.note(at=backlog, waited=max(waits, default=0.0))


def judge(seen: Seen) -> Finding:
    """By the longest wait, the median of the rounds."""
    shortest, longest = (seen.median((MODEL, BACKLOGS[end]), "waited") for end in (0, -1))
    told = ", ".join(f"{shown(seen.median((MODEL, one), 'waited') / 1000)} ms with {one:,}" for one in BACKLOGS)
    why = (
        f"The longest wait of {CLIENTS} clients that came anew for each answer was {told}. The kernel keeps one more "
        "than the backlog; who comes beyond that has his SYN, or the last part of the handshake, thrown away. Nobody "
        "tells him: his own kernel tries again after a second, then after two more."
    )
    holds = None if longest > HALF_US else shortest >= SECOND_US
    return found(holds, why)
