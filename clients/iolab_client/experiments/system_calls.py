"""System calls: what an answer takes of the kernel, by way of waiting.

Claim    A thread that blocks makes two system calls for an answer, a loop three, and io_uring fewer than one with many
         clients.
Source   J. Axboe, "Efficient IO with io_uring", 2019; recv(2), send(2), epoll_wait(2)
Method   strace counts the calls while 1 and 64 clients ask, in a run apart from any timing; plain processes
Decides  HOLDS if the counts are 2 and 3 for one client, to a tenth, and below 1 for 64 with io_uring; FAILS if not
Costs    quick 36 s, full 120 s
"""

from __future__ import annotations

from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows
from iolab_client.trial.system_calls import note_calls

CLIENTS = (1, 64)
THREADS, LOOP, RING = "thread_per_connection", "epoll_loop", "io_uring_ring"
OTHERS = ("select_loop", "epoll_pool", "asyncio_streams")
TOLERANCE = 0.1
SHOWS = Shows(across="clients", values={"calls": "system calls per answer"}, draws="calls")


def measure(bench: Bench) -> None:
    """Calls over answers; ptrace slows each, so that nothing else is read from it."""
    sides = [Side(name=name, model=name) for name in (THREADS, LOOP, RING, *OTHERS)]
    for turn in bench.turns(*sides, twin=False, place=bench.means.here, rounds=bench.pick(1, 3)):
        for clients in CLIENTS:
            note_calls(turn, at=clients, connections=clients)


def judge(seen: Seen) -> Finding:
    """By the counts."""
    one, many = CLIENTS
    blocks, loops = (seen.median((name, one), "calls") for name in (THREADS, LOOP))
    ring = seen.median((RING, many), "calls")
    holds = abs(blocks - 2) <= 2 * TOLERANCE and abs(loops - 3) <= 3 * TOLERANCE and ring < 1
    told = seen.told("calls", seen.sides(), CLIENTS)
    why = (
        f"System calls for an answer, with {one} client and with {many}: {told}. recv(2) and send(2) are two; a loop "
        "asks first who is ready, and shares that question among all who are; what io_uring is to do stands in "
        "memory that the kernel reads, so that one io_uring_enter(2) brings in and takes out a whole batch."
    )
    return found(holds, why)
