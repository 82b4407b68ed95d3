"""Coroutines against threads: what a client costs in memory, and what a thousand of them are answered.

Claim    A coroutine for each client takes less memory than a thread for each, and answers more.
Source   D. Kegel, "The C10K problem"; PEP 492; R. von Behren et al., "Capriccio", SOSP 2003
Method   asyncio_streams beside thread_per_connection with many clients that ask: memory for each, answers a second
Decides  HOLDS if coroutines are told to be better in both; DEPENDS if in one; FAILS if in neither
Costs    quick 25 s, full 400 s
"""

from __future__ import annotations

from iolab_client.results.measurement import INCONSISTENT, STARVED
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, Missing, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

QUICK, FULL = (1000,), (1000, 10_000)
THREADS, COROUTINES = "thread_per_connection", "asyncio_streams"
SHOWS = Shows(
    across="clients",
    values={"memory_each": "bytes of memory for a client", "rate": "answers/s", "p99": "p99 (µs)"},
    draws="memory_each",
)


def measure(bench: Bench) -> None:
    """A fresh server for each number of clients, or its memory would be that of the most there ever were."""
    for turn in bench.turns(*(Side(name=name, model=name) for name in (THREADS, COROUTINES))):
        for clients in bench.pick(QUICK, FULL):
            with turn.server() as server:
                limit = server.listening["limits"]["max_connections"]
                if limit < clients:
                    continue
                # All are to be served within the time, on a slow machine too, and none is to be given up.
                turn.load(
                    server, at=clients, connections=clients, warmup_seconds=bench.pick(0.5, 3.0),
                    duration_seconds=bench.pick(1.0, 5.0), timeout_seconds=60.0, expected=(STARVED, INCONSISTENT),
                )  # fmt: skip
    # In a container the limit of threads is 512.
    if not {THREADS, COROUTINES} <= {point.side for point in bench.points}:
        least = bench.pick(QUICK, FULL)[0]
        raise Missing(f"room for {least:,} clients: raise the limit of descriptors (ulimit -n) or threads (PIDS_LIMIT)")


def judge(seen: Seen) -> Finding:
    """Where both could hold the most clients."""
    clients = max(set(seen.dial(THREADS)) & set(seen.dial(COROUTINES)))
    memory = seen.factor("memory_each", (THREADS, clients), (COROUTINES, clients), 2)
    rate = seen.factor("rate", (THREADS, clients), (COROUTINES, clients), 2)
    less, more = memory.above(), rate.above()
    better = [word for word, is_so in (("memory", less is False), ("rate", more is True)) if is_so]
    worse = [word for word, is_so in (("memory", less is True), ("rate", more is False)) if is_so]
    holds = True if len(better) == 2 else False if worse and not better and len(worse) == 2 else None
    flip = f"coroutines are better by {better[0]}, threads by {worse[0]}" if better and worse else ""
    told = "; ".join(
        f"{name} {shown(seen.median((name, clients), 'memory_each') / 1024)} KiB for each and "
        f"{shown(seen.median((name, clients), 'rate'))} answers a second"
        for name in (THREADS, COROUTINES)
    )
    why = (
        f"With {clients:,.0f} clients: {told} (memory {memory}, rate {rate}). A thread has 8 MiB of stack by its "
        "address, but only the pages that it has touched are memory; a coroutine has a frame, a stream and its "
        "buffers. A thread makes its calls at once, and a coroutine is found and resumed by a loop that is written "
        "in Python."
    )
    return found(holds, why, flip=flip)
