"""Select ceiling: select(2) watches descriptors below 1,024 only; poll(2) and epoll(7) have no such bound.

Claim    A server on select(2) cannot serve 2,048 connections at once; on poll(2) and epoll(7) it can.
Source   select(2), "select() can monitor only file descriptors numbers that are less than FD_SETSIZE (1024)"
Method   select_loop, poll_loop and epoll_loop with 512 and 2,048 clients that stay: how many are answered
Decides  HOLDS if fewer than 1,024 are answered by select and all by the others; FAILS if select answers 2,048
Costs    quick 22 s, full 75 s
"""

from __future__ import annotations

from iolab_client.results.measurement import ERRORS, NOISY, STARVED
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen
from iolab_client.trial.shows import Shows

CLIENTS = (512, 2048)
FD_SETSIZE = 1024
SELECT, OTHERS = "select_loop", ("poll_loop", "epoll_loop")
SHOWS = Shows(across="clients", values={"answered": "clients answered", "rate": "answers/s"}, draws="answered")


def measure(bench: Bench) -> None:
    """How many of the clients get an answer; the server refuses whom it cannot watch."""
    sides = [Side(name=name, model=name) for name in (SELECT, *OTHERS)]
    for turn in bench.turns(*sides, twin=False, rounds=bench.pick(1, 3)):
        for clients in CLIENTS:
            with turn.server() as server:
                # Long enough for each of them to have its turn on a slow machine.
                expected = (ERRORS, STARVED, NOISY)
                turn.load(server, at=clients, connections=clients, expected=expected, duration_seconds=2.0)


def judge(seen: Seen) -> Finding:
    """By the counts alone."""
    most = CLIENTS[-1]
    selected = seen.most((SELECT, most), "answered")
    others = {name: seen.least((name, most), "answered") for name in OTHERS}
    holds = None if min(others.values()) < most else selected < FD_SETSIZE
    counts = ", ".join(f"{name} {count:,.0f}" for name, count in {SELECT: selected, **others}.items())
    why = (
        f"Of {most:,} clients were answered: {counts}. An fd_set is an array of {FD_SETSIZE:,} bits that glibc fixes "
        "when it is compiled, and a descriptor beyond it is written past its end: so the server refuses. What "
        "poll(2) is given has the length that the caller chooses, and epoll(7) keeps its list in the kernel."
    )
    return found(holds, why)
