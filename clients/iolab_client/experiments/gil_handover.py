"""GIL hand-over: a single thread that computes takes the interpreter from all that wait and answer.

Claim    One thread that computes beside the answers, in the same interpreter, takes three quarters of them or more.
Source   D. Beazley, "Understanding the Python GIL", PyCon 2010: the convoy effect; CPython issue 7946
Method   thread_per_connection and epoll_loop, 16 clients, beside 0 and 1 threads that compute, on all processors;
         answers a second; plain processes
Decides  HOLDS if both lose three quarters; DEPENDS if one of them does; FAILS if neither does
Costs    quick 30 s, full 150 s
"""

from __future__ import annotations

from iolab_client.results.measurement import INCONSISTENT, STARVED, UNSTABLE
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

CLIENTS = 16
SIDES = ("thread_per_connection", "epoll_loop")
LEFT = 0.25
SHOWS = Shows(
    across="threads that compute beside",
    values={"rate": "answers/s", "p99": "p99 (µs)"},
    draws="rate",
    logarithmic=False,
)


def measure(bench: Bench) -> None:
    """With and without it, where there are processors for both."""
    sides = [Side(name=name, model=name) for name in SIDES]
    for turn in bench.turns(*sides, place=bench.means.everywhere):
        for threads in (0, 1):
            with turn.server(work={"threads": threads}) as server:
                # That others have to wait is what is looked at: its admin port, too, which tells what it received.
                expected = (STARVED, UNSTABLE, INCONSISTENT)
                turn.load(server, at=threads, connections=CLIENTS, expected=expected, timeout_seconds=60.0)


def judge(seen: Seen) -> Finding:
    """What is left of the rate."""
    left = {name: seen.factor("rate", (name, 0), (name, 1), len(SIDES)) for name in SIDES}
    lost = {name: {True: False, False: True, None: None}[factor.above(LEFT)] for name, factor in left.items()}
    rates = seen.told("rate", SIDES, (0, 1))
    why = (
        f"Answers a second, without and with it: {rates}. Whoever waits in recv(2) or epoll_wait(2) gives the lock "
        "up, and when he wakes the thread that computes has it, and gives way only when it is asked to, after "
        "sys.getswitchinterval(), 5 ms: a thousand times what an answer takes. Other processors are of no help, "
        "since the lock is one; in a process of its own the computing would take none of it."
    )
    some = [name for name in SIDES if lost[name]]
    known = None not in lost.values()
    flip = f"{some[0]} loses them, the other does not" if known and len(some) == 1 else ""
    return found(len(some) == len(SIDES) if known else None, why, flip=flip)
