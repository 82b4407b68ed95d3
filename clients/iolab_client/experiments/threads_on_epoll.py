"""Threads on epoll: a pool behind the loop pays once answers wait, and never where they compute.

Claim    To make the answers in threads behind an epoll loop is faster than to make them in the loop.
Source   A. Pariag et al., "Comparing the Performance of Web Server Architectures", EuroSys 2007 (SYMPED, WatPipe)
Method   epoll_loop beside epoll_pool with 16 workers, 16 clients; each answer waits for 0 to 20 ms, or computes as long
Decides  HOLDS if the pool is faster at every place of the dial; DEPENDS if it turns; FAILS if it is nowhere faster
Costs    quick 40 s, full 420 s
"""

from __future__ import annotations

from iolab_client.results.measurement import STARVED, UNSTABLE
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

CLIENTS = 16
QUICK, FULL = (0, 1), (0, 1, 2, 5, 20)
LOOP, POOL = "epoll_loop", "epoll_pool"
COMPUTING = ", computing"
COMPUTED = (1, 5)
SHOWS = Shows(
    across="milliseconds that an answer waits, or computes",
    values={"rate": "answers/s", "p99": "p99 (µs)"},
    draws="rate",
    logarithmic=False,
)


def measure(bench: Bench) -> None:
    """The dial of waiting, and beside it that of computing."""
    sides = [Side(name=LOOP, model=LOOP), Side(name=POOL, model=POOL, settings={"workers": CLIENTS})]
    sides += [Side(name=side.name + COMPUTING, model=side.model, settings=side.settings) for side in sides]
    for turn in bench.turns(*sides):
        computes = turn.side.name.endswith(COMPUTING)
        for milliseconds in bench.pick(QUICK, FULL):
            if computes and milliseconds not in COMPUTED:
                continue
            work = {"cpu_us": milliseconds * 1000} if computes else {"wait_ms": milliseconds}
            with turn.server(work=work) as server:
                turn.load(server, at=milliseconds, connections=CLIENTS, expected=(STARVED, UNSTABLE))


def judge(seen: Seen) -> Finding:
    """Where the pool's rate rises above the loop's."""
    computing = seen.course("rate", LOOP + COMPUTING, POOL + COMPUTING, len(seen.dial(LOOP)))
    waiting = seen.course("rate", LOOP, POOL, len(computing.told))
    turn = waiting.turn()
    longest = waiting.told[-1][0]
    pays = any(above for _, above in computing.told)
    why = (
        f"Of {CLIENTS} clients {LOOP} and {POOL} answered {shown(seen.median((LOOP, 0), 'rate'))} and "
        f"{shown(seen.median((POOL, 0), 'rate'))} a second where an answer takes no time, and "
        f"{shown(seen.median((LOOP, longest), 'rate'))} and {shown(seen.median((POOL, longest), 'rate'))} where it "
        f"waits for {longest:g} ms. The hand-over to a thread and back costs two switches and an epoll_ctl(2); waits "
        "overlap in threads and follow each other in a loop. Where answers compute, the pool was "
        f"{'' if pays else 'nowhere '}told to be faster: one interpreter lock lets one thread compute at a time."
    )
    flip = f"between {turn[0]:g} and {turn[1]:g} ms of waiting" if turn else ""
    if not turn and waiting.always() and not pays:
        flip = "faster where answers wait, not where they compute"
    return found(waiting.always(), why, flip=flip)
