"""Idle crowd: clients that say nothing cost select(2) and poll(2) time in every call, and epoll(7) none.

Claim    Silent clients make each answer dearer where the kernel is asked about all of them, and not where it keeps the
         list.
Source   D. Kegel, "The C10K problem", 2006; G. Banga, J. Mogul, P. Druschel, "A Scalable and Explicit Event Delivery
         Mechanism for UNIX", USENIX 1999
Method   16 clients that ask beside 0 and more that are silent; processor time per answer, rate and p99
Decides  HOLDS if poll_loop's cost grows by half or more and epoll_loop's by a quarter at most; FAILS if poll_loop's
         does not grow, or epoll_loop's grows by more
Costs    quick 50 s, full 420 s
"""

from __future__ import annotations

from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

ACTIVE = 16
# The dial is logarithmic, and 1 stands for nobody.
QUICK, FULL = (0, 800), (0, 100, 800, 4000, 8000)
SELECT, POLL, EPOLL = "select_loop", "poll_loop", "epoll_loop"
OTHERS = ("io_uring_ring", "asyncio_streams")
# What select(2) can hold beside the active ones.
SELECTABLE = 900
GROWS, STAYS = 1.5, 1.25
SHOWS = Shows(
    across="silent clients beside 16 that ask",
    values={"cost": "CPU-µs per answer", "rate": "answers/s", "p99": "p99 (µs)"},
    draws="cost",
)


def measure(bench: Bench) -> None:
    """The same 16 clients, beside ever more silent ones."""
    sides = [Side(name=name, model=name) for name in (EPOLL, POLL, SELECT, *OTHERS)]
    for turn in bench.turns(*sides):
        with turn.server() as server:
            for idle in bench.pick(QUICK, FULL):
                if turn.side.model != SELECT or idle <= SELECTABLE:
                    turn.load(server, at=idle, connections=ACTIVE, idle=idle)


def judge(seen: Seen) -> Finding:
    """What the cost grows by from nobody to the whole crowd."""
    crowd = seen.dial(EPOLL)[-1]
    growth = {name: seen.factor("cost", (name, 0), (name, crowd), 2) for name in (EPOLL, POLL)}
    polls, epolls = growth[POLL].above(GROWS), growth[EPOLL].above(STAYS)
    stays = growth[EPOLL].at_most(STAYS)
    holds = False if polls is False or epolls else True if polls and stays else None
    costs = "; ".join(seen.told("cost", [name], (0, seen.dial(name)[-1])) for name in seen.sides())
    why = (
        f"Alone, and beside {crowd:,.0f} silent clients, an answer took so many µs of processor time: {costs} ({POLL} "
        f"{growth[POLL]}, {EPOLL} {growth[EPOLL]}). poll(2) and select(2) are handed the whole list in each call, and "
        "look at each socket of it; epoll_wait(2) returns those that are ready from a list that the kernel keeps, "
        "and never meets the others."
    )
    return found(holds, why)
