"""Busy poll: asking again and again burns a processor, and nobody is answered faster for it.

Claim    A server that asks its sockets again and again keeps a processor busy with silent clients, and is no faster.
Source   W. R. Stevens et al., UNIX Network Programming, volume 1, 6.2, "Nonblocking I/O Model": polling wastes CPU time
Method   busy_poll beside blocking_pool, the same pool of 8: processors busy while 8 clients are silent; their rate
Decides  HOLDS if it burns ten times as much for silence and gains less than a tenth; DEPENDS if it burns and is faster;
         FAILS if it does not burn
Costs    quick 20 s, full 110 s
"""

from __future__ import annotations

from iolab_client.trial.bench import Bench, Side, busy, silent
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

CLIENTS = 8
BLOCKS, POLLS = "blocking_pool", "busy_poll"
SHOWS = Shows(
    across="",
    values={"silent_busy": "processors busy while all are silent", "rate": "answers/s", "cost": "CPU-µs per answer"},
    draws="silent_busy",
)
BURNS = 10.0
# An interval that ends below it is of no gain that matters.
NOT_FASTER = 1.1


def measure(bench: Bench) -> None:
    """What silence costs, and then what an answer does."""
    sides = [Side(name=name, model=name, settings={"workers": CLIENTS}) for name in (BLOCKS, POLLS)]
    for turn in bench.turns(*sides):
        with turn.server() as server:
            with silent(server, CLIENTS):
                turn.note(at=CLIENTS, silent_busy=busy(server, bench.pace.seconds))
            turn.load(server, at=CLIENTS, connections=CLIENTS)


def judge(seen: Seen) -> Finding:
    """Two factors: of what silence costs, and of the rate."""
    blocks, polls = (BLOCKS, CLIENTS), (POLLS, CLIENTS)
    burns = seen.factor("silent_busy", blocks, polls, 2).above(BURNS)
    rate = seen.factor("rate", blocks, polls, 2)
    faster = rate.above()
    holds = burns if burns is False or rate.at_most(NOT_FASTER) else None
    why = (
        f"With {CLIENTS} silent clients {POLLS} kept {shown(seen.median(polls, 'silent_busy'))} processors busy and "
        f"{BLOCKS} {shown(seen.median(blocks, 'silent_busy'))}; with all of them asking it answered "
        f"{shown(seen.median(polls, 'rate'))} a second beside {shown(seen.median(blocks, 'rate'))}, {rate}. recv(2) on "
        "a socket that does not block returns at once with nothing, and the thread asks again; one that blocks costs "
        "nothing until the kernel wakes it. The asking takes the processor, and Python's lock, from those who answer."
    )
    flip = "it burns, but it is the faster of the two here" if burns and faster else ""
    return found(holds, why, flip=flip)
