"""Free threads: without the interpreter's lock, threads that compute use every processor.

Claim    Without the lock, threads of one interpreter answer as many times more as there are processors.
Source   PEP 703, "Making the Global Interpreter Lock Optional in CPython"; PEP 779
Method   one free-threaded interpreter with PYTHON_GIL=1 and =0: epoll_pool on all processors, a thread for each,
         answers that compute for 1 ms; sys._is_gil_enabled() is asked with all that a server loads; plain processes
Decides  HOLDS if it answers three quarters of the processors' number more without the lock; FAILS if it gains less
Costs    quick 16 s, full 70 s
"""

from __future__ import annotations

import os

from iolab_client.results.measurement import STARVED, UNSTABLE
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, Missing, found
from iolab_client.trial.interpreter import Interpreters
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

MODEL = "epoll_pool"
COMPUTES_US = 1000
CLIENTS_EACH = 8
LOCKED, FREE = "with the lock", "without it"
GAINS = 0.75
SHOWS = Shows(across="threads", values={"rate": "answers/s", "busy": "processors busy"}, draws="rate")


def measure(bench: Bench) -> None:
    """The same interpreter, twice."""
    cpus = bench.means.allowed
    if len(cpus) < 2:
        raise Missing("a second processor")
    interpreters = Interpreters(bench.means.python, os.environ.get("FREE_THREADED_IMAGE"))
    places = {name: interpreters.place(bench.means, lock=lock) for name, lock in ((LOCKED, True), (FREE, False))}
    settings = {"work": {"cpu_us": COMPUTES_US}, "workers": len(cpus)}
    sides = [Side(name=name, model=MODEL, settings=settings) for name in places]
    for turn in bench.turns(*sides, place=places):
        with turn.server() as server:
            expected = (STARVED, UNSTABLE)
            turn.load(server, at=len(cpus), connections=CLIENTS_EACH * len(cpus), expected=expected)


def judge(seen: Seen) -> Finding:
    """By the gain."""
    (threads,) = seen.dial()
    gain = seen.factor("rate", (LOCKED, threads), (FREE, threads))
    why = (
        f"{threads:g} threads answered {shown(seen.median((LOCKED, threads), 'rate'))} a second with the lock and "
        f"{shown(seen.median((FREE, threads), 'rate'))} without, {gain}, and kept "
        f"{shown(seen.median((LOCKED, threads), 'busy'))} and {shown(seen.median((FREE, threads), 'busy'))} "
        "processors busy. The lock lets one thread at a time run Python; without it each object guards itself, which "
        "costs a single thread some per cent."
    )
    return found(gain.above(GAINS * threads), why)
