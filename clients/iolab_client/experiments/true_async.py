"""True async: io_uring does the I/O itself instead of telling who is ready; it pays where it can do many at once.

Claim    An answer by completion (io_uring) costs less processor time than one by readiness (epoll).
Source   J. Axboe, "Efficient IO with io_uring", 2019; W. R. Stevens, UNIX Network Programming 1, 6.2: asynchronous I/O
Method   io_uring_ring beside epoll_loop, 1, 16 and 128 clients, messages of 64 bytes and of 16 KiB; CPU per answer,
         and, in a run of its own, system calls
Decides  HOLDS if it is cheaper wherever a difference is told; DEPENDS if that turns; FAILS if it is nowhere cheaper
Costs    quick 50 s, full 350 s
"""

from __future__ import annotations

from contextlib import suppress

from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, Missing, found
from iolab_client.trial.seen import Course, Seen, shown
from iolab_client.trial.shows import Shows
from iolab_client.trial.system_calls import note_calls

QUICK, FULL = (1, 128), (1, 16, 128)
SIZES = {"": 64, ", 16 KiB": 16 << 10}
READY, DONE = "epoll_loop", "io_uring_ring"
SHOWS = Shows(
    across="clients",
    values={"cost": "CPU-µs per answer", "rate": "answers/s", "calls": "system calls per answer"},
    draws="cost",
)


def measure(bench: Bench) -> None:
    """Both, with small and with large messages."""
    sides = [Side(name=name + size, model=name) for size in SIZES for name in (READY, DONE)]
    for turn in bench.turns(*sides):
        with turn.server() as server:
            size = SIZES[turn.side.name.removeprefix(turn.side.model).removesuffix(" again")]
            for clients in bench.pick(QUICK, FULL):
                turn.load(server, at=clients, connections=clients, size=size)
    # Apart from the timing, and as plain processes. Where there is no strace the costs stand without it.
    with suppress(Missing):
        for turn in bench.turns(*sides[:2], twin=False, place=bench.means.here, rounds=1):
            for clients in bench.pick(QUICK, FULL):
                note_calls(turn, at=clients, connections=clients)


def judge(seen: Seen) -> Finding:
    """Where completion is the cheaper one, for each size."""
    courses = {size: seen.course("cost", READY + size, DONE + size, len(seen.dial())) for size in SIZES}
    cheaper = [above is False for course in courses.values() for _, above in course.told if above is not None]
    holds = None if not cheaper else all(cheaper)
    flip = "; ".join(filter(None, (_turn(course, size) for size, course in courses.items())))
    if not flip and cheaper and any(cheaper) and not all(cheaper):
        flip = "cheaper with messages of one of the sizes"
    told = "; ".join(
        f"{clients:g} clients{size}: {shown(seen.median((READY + size, clients), 'cost'))} and "
        f"{shown(seen.median((DONE + size, clients), 'cost'))} µs"
        for size in SIZES
        for clients in seen.dial()
    )
    calls = seen.told("calls", (READY, DONE), seen.dial()) if seen.has((DONE, seen.dial()[0]), "calls") else ""
    why = (
        f"Processor time of an answer by {READY} and by {DONE}: {told}. With one client nothing can be batched; with "
        "many, one call submits and reaps for all of them. What is saved is the kernel's part; to keep the rings in "
        "order is Python's, and what is left of the one after the other is what is measured here."
        + (f" System calls per answer: {calls}." if calls else "")
    )
    return found(holds, why, flip=flip)


def _turn(course: Course, size: str) -> str:
    turn = course.turn()
    return f"between {turn[0]:g} and {turn[1]:g} clients{size}" if turn else ""
