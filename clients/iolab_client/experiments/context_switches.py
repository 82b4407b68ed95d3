"""Context switches: a thread for each client is switched to for each answer; a loop is not.

Claim    With 64 clients a thread each pays ten times the context switches of a loop for an answer.
Source   J. Ousterhout, "Why Threads Are A Bad Idea", USENIX 1996; R. von Behren et al., HotOS 2003, who deny it
Method   voluntary and involuntary switches per answer, 1 and 64 clients; thread_per_connection, epoll_pool, epoll_loop
Decides  HOLDS if the threads' are ten times the loop's at 64 clients; FAILS if they are less than ten times
Costs    quick 32 s, full 180 s
"""

from __future__ import annotations

from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

CLIENTS = (1, 64)
LOOP, THREADS, POOL = "epoll_loop", "thread_per_connection", "epoll_pool"
TIMES = 10.0
SHOWS = Shows(
    across="clients",
    values={
        "switched": "switches per answer",
        "switches": "voluntary",
        "preempted": "involuntary",
        "rate": "answers/s",
    },
    draws="switched",
)


def measure(bench: Bench) -> None:
    """The kernel's own counts of all threads, over the answers."""
    for turn in bench.turns(*(Side(name=name, model=name) for name in (LOOP, THREADS, POOL))):
        with turn.server() as server:
            for clients in CLIENTS:
                one = turn.load(server, at=clients, connections=clients)
                if one.server and one.server.answers:
                    count = one.server.voluntary_switches + one.server.involuntary_switches
                    turn.note(at=clients, switched=count / one.server.answers)


def judge(seen: Seen) -> Finding:
    """By the factor at many clients."""
    one, many = CLIENTS
    factor = seen.factor("switched", (LOOP, many), (THREADS, many))
    told = seen.told("switched", (LOOP, THREADS, POOL), CLIENTS)
    why = (
        f"Switches for an answer, with {one} client and with {many}: {told}; {factor} between {THREADS} and {LOOP}. A "
        "loop sleeps only when nobody is ready, which with many clients is hardly ever; each thread sleeps in recv(2) "
        "after each answer, and has to be given the interpreter's lock when it wakes."
    )
    return found(factor.above(TIMES), why)
