"""Buffer size: a larger buffer makes fewer calls of a large message, until there is nothing more to save.

Claim    The larger the buffer that recv(2) is given, the cheaper a message of 64 KiB.
Source   W. R. Stevens, Advanced Programming in the UNIX Environment, 3.9, "I/O Efficiency": the table of BUFFSIZE
Method   epoll_loop with buffers of 1 KiB to 256 KiB, 4 clients, messages of 64 KiB; processor time for each
Decides  HOLDS if each step is told to be cheaper; DEPENDS if the steps end before the largest; FAILS if none is cheaper
Costs    quick 30 s, full 260 s
"""

from __future__ import annotations

import itertools

from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

MODEL = "epoll_loop"
QUICK = (4 << 10, 64 << 10, 256 << 10)
FULL = (1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10)
MESSAGE_BYTES = 64 << 10
CLIENTS = 4
SHOWS = Shows(
    across="bytes of the buffer", values={"cost": "CPU-µs per message of 64 KiB", "rate": "messages/s"}, draws="cost"
)


def measure(bench: Bench) -> None:
    """The same messages through ever larger buffers."""
    for turn in bench.turns(Side(name=MODEL, model=MODEL)):
        for buffer in bench.pick(QUICK, FULL):
            with turn.server(buffer_size=buffer) as server:
                turn.load(server, at=buffer, connections=CLIENTS, size=MESSAGE_BYTES)


def judge(seen: Seen) -> Finding:
    """Step by step."""
    buffers = [int(size) for size in seen.dial()]
    steps = [
        (smaller, seen.factor("cost", (MODEL, smaller), (MODEL, larger), len(buffers) - 1).above() is False)
        for smaller, larger in itertools.pairwise(buffers)
    ]
    cheaper = [smaller for smaller, is_cheaper in steps if is_cheaper]
    whole = seen.factor("cost", (MODEL, buffers[0]), (MODEL, buffers[-1]))
    told = ", ".join(f"{shown(seen.median((MODEL, size), 'cost'))} µs with {size >> 10:,} KiB" for size in buffers)
    why = (
        f"A message of 64 KiB cost {told}. Each call costs the same however little it moves, and so 64 calls cost much "
        "more than 4; once a message is taken in one or two, the copying is what is left, and a larger buffer only has "
        "more memory that must be found and given back."
    )
    if cheaper and len(cheaper) < len(steps):
        last = next(smaller for smaller, is_cheaper in steps if not is_cheaper)
        return found(
            None, why, flip=f"up to {last >> 10:,} KiB; not told beyond" if cheaper[0] < last else "in some steps"
        )
    return found(True if len(cheaper) == len(steps) else False if whole.above() else None, why)
