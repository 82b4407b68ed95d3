"""Pool cap: a pool of threads serves as many clients as it has threads; the others wait for one of them to leave.

Claim    A pool of 4 threads that block serves 4 clients, and each one more gets no answer at all.
Source   D. Schmidt et al., Pattern-Oriented Software Architecture 2, "Leader/Followers": a pool bounds concurrency
Method   blocking_pool with 4 workers, and thread_per_connection: 2, 4, 8 and 16 clients that stay; who is answered
Decides  HOLDS if min(clients, 4) are answered by the pool, and all by the other; FAILS if the pool answers more
Costs    quick 25 s, full 100 s
"""

from __future__ import annotations

from iolab_client.results.measurement import NOISY, STARVED
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

WORKERS = 4
CLIENTS = (2, 4, 8, 16)
POOL, THREADS = "blocking_pool", "thread_per_connection"
SHOWS = Shows(across="clients", values={"answered": "clients answered", "rate": "answers/s"}, draws="answered")


def measure(bench: Bench) -> None:
    """How many of the clients get an answer."""
    sides = Side(name=POOL, model=POOL, settings={"workers": WORKERS}), Side(name=THREADS, model=THREADS)
    for turn in bench.turns(*sides, twin=False, rounds=bench.pick(1, 5)):
        for clients in CLIENTS:
            with turn.server() as server:
                turn.load(
                    server,
                    at=clients,
                    connections=clients,
                    duration_seconds=bench.seconds_for_all,
                    expected=(STARVED, NOISY),
                )


def judge(seen: Seen) -> Finding:
    """By the counts alone: nothing is timed."""
    capped = all(seen.most((POOL, clients), "answered") == min(clients, WORKERS) for clients in CLIENTS)
    others = all(seen.least((THREADS, clients), "answered") == clients for clients in CLIENTS)
    counts = ", ".join(f"{seen.most((POOL, clients), 'answered'):.0f} of {clients}" for clients in CLIENTS)
    why = (
        f"Of clients that stay, the pool of {WORKERS} answered {counts}. A thread that blocks in recv(2) belongs to "
        "its client until that one leaves: who comes later is connected by the kernel, and waits in its queue. "
        "Clients that leave after each answer would take turns, and a thread each has no such cap."
    )
    return found(capped if others else None, why)
