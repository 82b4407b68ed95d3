"""Several cores: processes use every processor; threads of one interpreter use one.

Claim    Processes that compute answer as many times more as there are processors; threads answer no more.
Source   D. Beazley, "Understanding the Python GIL", PyCon 2010; PEP 703, "Motivation"
Method   answers that compute for 1 ms, on all processors: prefork_epoll with 1 process and with one for each processor,
         epoll_pool with as many threads; plain processes
Decides  HOLDS if the processes gain three quarters of the processors and the threads less than a quarter; FAILS if the
         processes gain less; DEPENDS if the threads gain, too
Costs    quick 30 s, full 150 s
"""

from __future__ import annotations

from iolab_client.results.measurement import STARVED, UNSTABLE
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, Missing, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

COMPUTES_US = 1000
CLIENTS_EACH = 8
PROCESSES, THREADS = "prefork_epoll", "epoll_pool"
GAINS, STAYS = 0.75, 1.25
SHOWS = Shows(
    across="processes, or threads",
    values={"rate": "answers/s", "busy": "processors busy"},
    draws="rate",
    logarithmic=False,
)


def measure(bench: Bench) -> None:
    """One, and as many as there are processors. The generator takes little of them."""
    cpus = bench.means.allowed
    if len(cpus) < 2:
        raise Missing("a second processor")
    settings = {"work": {"cpu_us": COMPUTES_US}}
    sides = (
        Side(name=PROCESSES, model=PROCESSES, settings=settings),
        Side(name=THREADS, model=THREADS, settings=settings),
    )
    for turn in bench.turns(*sides, place=bench.means.everywhere):
        for count in (1, len(cpus)):
            with turn.server(**{"processes" if turn.side.model == PROCESSES else "workers": count}) as server:
                expected = (STARVED, UNSTABLE)
                turn.load(server, at=count, connections=CLIENTS_EACH * len(cpus), expected=expected)


def judge(seen: Seen) -> Finding:
    """By the gain of each."""
    one, all_of_them = seen.dial(PROCESSES)
    processes = seen.factor("rate", (PROCESSES, one), (PROCESSES, all_of_them), 2)
    threads = seen.factor("rate", (THREADS, one), (THREADS, all_of_them), 2)
    gains = processes.above(GAINS * all_of_them)
    more = threads.above(STAYS)
    why = (
        f"From 1 to {all_of_them:g}, processes gained {processes} and threads {threads}: "
        f"{shown(seen.median((PROCESSES, all_of_them), 'rate'))} and "
        f"{shown(seen.median((THREADS, all_of_them), 'rate'))} answers a second. Each process has an interpreter with "
        "a lock of its own; threads of one interpreter take turns with one lock, whatever number of processors they "
        "may run on."
    )
    holds = gains if gains is False else True if gains and threads.at_most(STAYS) else None
    return found(holds, why, flip="threads gain here as well" if gains and more else "")
