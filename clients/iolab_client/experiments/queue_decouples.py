"""Queue decouples: workers behind a broker can be added while it runs, and can die without losing an answer.

Claim    Behind a queue, four workers answer three times as much as one, and a worker that is killed loses no answer.
Source   G. Hohpe, B. Woolf, Enterprise Integration Patterns: Competing Consumers, Guaranteed Delivery
Method   task_queue with a broker of its own and 1, 2, 4 workers, 8 clients, answers that wait 20 ms; then one of the
         four is killed under load; plain processes
Decides  HOLDS if four answer three times as much and nobody lacks an answer; FAILS if either is not so
Costs    quick 50 s, full 140 s
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from iolab.registry import MODELS
from iolab.server.errors import CannotServe
from iolab.settings import Settings
from iolab.task_queue.own_broker import own_broker, own_worker
from iolab_client.results.measurement import ERRORS, NOISY, STARVED, UNSTABLE
from iolab_client.servers import metrics
from iolab_client.servers.targets import Target
from iolab_client.trial.bench import Bench, Side
from iolab_client.trial.finding import Finding, Missing, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

MODEL = "task_queue"
WORKERS = (1, 2, 4)
CLIENTS = 8
WAIT_MS = 20
# A task of a worker that was killed is another's after this.
VISIBILITY_SECONDS = 1.0
TIMES = 3.0
KILLED = "task_queue, a worker killed"
SHOWS = Shows(
    across="workers", values={"rate": "answers/s", "errors": "answers lost", "max": "longest wait (µs)"}, draws="rate"
)


def measure(bench: Bench) -> None:
    """Ever more workers on one queue; at the end one less."""
    if reason := MODELS[MODEL].unavailable(Settings()):
        raise Missing(reason)
    for turn in bench.turns(Side(name=MODEL, model=MODEL), twin=False, place=bench.means.here):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iolab-queue-")))
            log = stack.enter_context((folder / "workers").open("wb"))
            try:
                url = stack.enter_context(own_broker(folder))
                workers = [stack.enter_context(own_worker(url, log))]
                server = stack.enter_context(
                    turn.server(broker_url=url, visibility_timeout=VISIBILITY_SECONDS, work={"wait_ms": WAIT_MS})
                )
                for count in WORKERS:
                    while len(workers) < count:
                        workers.append(stack.enter_context(own_worker(url, log)))
                    expected = (STARVED, UNSTABLE, NOISY)
                    # A worker's first task takes it longer.
                    turn.load(server, at=count, connections=CLIENTS, warmup_seconds=1.0, expected=expected)
            except CannotServe as error:
                raise Missing(str(error)) from None
            seconds = 2 * VISIBILITY_SECONDS + bench.pace.seconds
            killer = threading.Thread(target=_kill_under_load, args=(server.target, workers[0]))
            killer.start()
            # All of it counts: whoever waits for the dead worker's answer began in the first moments.
            turn.load(
                server, at=WORKERS[-1] - 1, connections=CLIENTS, warmup_seconds=0.0, duration_seconds=seconds,
                timeout_seconds=30.0, expected=(*expected, ERRORS),
            )  # fmt: skip
            killer.join()


def _kill_under_load(target: Target, worker: subprocess.Popen[bytes]) -> None:
    """Kill the worker once answers are made, and so it has a task in its hands."""
    first = _answers(target)
    while worker.poll() is None:
        if _answers(target) >= first + CLIENTS:
            worker.kill()
            return
        time.sleep(WAIT_MS / 1000)


def _answers(target: Target) -> int:
    counters = metrics.read(target).counters
    assert counters is not None
    return counters.answers


def judge(seen: Seen) -> Finding:
    """By the gain, and by what was lost."""
    one, four = WORKERS[0], WORKERS[-1]
    gain = seen.factor("rate", (MODEL, one), (MODEL, four))
    lost = sum(seen.most((MODEL, at), "errors") for at in seen.dial(MODEL))
    rates = ", ".join(f"{shown(seen.median((MODEL, count), 'rate'))} with {count}" for count in WORKERS)
    # Or the worker had no task when it was killed.
    struck = seen.most((MODEL, four - 1), "max") > VISIBILITY_SECONDS * 1e6 / 2
    why = (
        f"Answers a second: {rates} workers, {gain}; when one of four was killed under load, {lost:,.0f} answers were "
        f"lost, and the longest wait was {shown(seen.most((MODEL, four - 1), 'max') / 1e6)} s. Workers take tasks "
        "from one list and know of nobody else, so that one more is one more; a task is acknowledged when it is "
        "answered, and what a dead worker had taken is given to another after `visibility_timeout`."
    )
    return found(False if lost else gain.above(TIMES) if struck else None, why)
