"""Head of line: in a loop that waits for one answer, everybody waits.

Claim    Where one thread serves all, an answer that waits delays every other; with a thread or coroutine each it delays
         nobody.
Source   Node.js documentation, "Don't Block the Event Loop"; head-of-line blocking as in RFC 9113, 5
Method   answers that wait 10 ms, for 1 and for 16 clients that ask at once; the median time to an answer
Decides  HOLDS if it grows eightfold or more in epoll_loop and less than twice in the others; FAILS if it does not grow
         in epoll_loop; DEPENDS if it grows in another one as well
Costs    quick 32 s, full 180 s
"""

from __future__ import annotations

from iolab_client.results.measurement import STARVED, UNSTABLE
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

WAIT_MS = 10
CLIENTS = (1, 16)
LOOP, OTHERS = "epoll_loop", ("thread_per_connection", "asyncio_streams")
GROWS, STAYS = 8.0, 2.0
SHOWS = Shows(across="clients", values={"p50": "p50 (µs)", "rate": "answers/s"}, draws="p50")


def measure(bench: Bench) -> None:
    """The same waits, for one client and for sixteen."""
    sides = [Side(name=name, model=name, settings={"work": {"wait_ms": WAIT_MS}}) for name in (LOOP, *OTHERS)]
    for turn in bench.turns(*sides):
        with turn.server() as server:
            for clients in CLIENTS:
                turn.load(server, at=clients, connections=clients, expected=(STARVED, UNSTABLE))


def judge(seen: Seen) -> Finding:
    """What the median grows by."""
    one, many = CLIENTS
    growth = {name: seen.factor("p50", (name, one), (name, many), 3) for name in (LOOP, *OTHERS)}
    delayed = growth[LOOP].above(GROWS)
    free = [growth[name].at_most(STAYS) for name in OTHERS]
    also = [name for name in OTHERS if growth[name].above(STAYS)]
    medians = seen.told("p50", list(growth), CLIENTS, unit=1000)
    why = (
        f"Half of the answers had come after, with {one} client and with {many}, in ms: {medians}. The loop waits in "
        f"the middle of an answer, and whoever is ready meanwhile is seen {WAIT_MS} ms later for each who is before "
        "him; a thread, or a coroutine that awaits, waits for itself."
    )
    holds = delayed if delayed is False else True if delayed and all(free) else None
    return found(holds, why, flip=f"{also[0]} delays its clients, too" if delayed and also else "")
