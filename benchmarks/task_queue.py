"""What a task queue costs: task_queue with one worker and with two, beside a bare Celery round trip.

    python benchmarks/task_queue.py --connections 8 --duration 3 --rounds 3

Bare is what Celery's documentation shows: `answer.delay(data).get()` in as many threads as there are connections, with
its own result store and one solo worker. Needs valkey-server or redis-server; everything runs unpinned on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from iolab.registry import MODELS
from iolab.task_queue.own_broker import own_broker, own_worker
from iolab_client.load import run
from iolab_client.results.measurement import Plan
from iolab_client.servers.targets import Target

BARE = """
import sys
from celery import Celery
app = Celery("bare", broker=sys.argv[1], backend=sys.argv[1])
@app.task(name="upper")
def upper(text):
    return text.upper()
"""


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended with the block."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def queue(workers: int, connections: int, seconds: float) -> tuple[float, float]:
    """Answers a second and the median in milliseconds of task_queue with so many workers."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(own_broker(folder))
        for _ in range(workers):
            stack.enter_context(own_worker(url))
        config = folder / "config.yaml"
        config.write_text(f"broker_url: {url}\n")
        command = [sys.executable, "-m", "iolab", "serve", "task_queue", "--port", "0", "--config", str(config)]
        server = stack.enter_context(ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        target = Target(
            model=MODELS["task_queue"], address=("127.0.0.1", said["port"]), admin=("127.0.0.1", said["admin_port"])
        )
        measured = run(target, Plan(connections=connections, duration_seconds=seconds))
        assert measured.errors.total == 0, measured.errors
        return measured.rate, measured.latency.p50 / 1000


def bare(connections: int, seconds: float) -> tuple[float, float]:
    """The same of Celery's own round trip."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(own_broker(folder))
        (folder / "bare.py").write_text(BARE)
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"}
        start = f"import sys; sys.argv[1:] = [{url!r}]; import bare; bare.app.worker_main("
        start += "['--quiet', 'worker', '--pool=solo', '--loglevel=ERROR'])"
        stack.enter_context(ended(subprocess.Popen([sys.executable, "-c", start], env=environment, text=True)))
        ask = f"""
import sys, threading, time
sys.argv[1:] = [{url!r}]
import bare
taken = []
bare.upper.delay("ready").get(timeout=30)
end = time.monotonic() + {seconds}
def client():
    while (begin := time.monotonic()) < end:
        assert bare.upper.delay("a" * 64).get(timeout=30) == "A" * 64
        taken.append(time.monotonic() - begin)
threads = [threading.Thread(target=client) for _ in range({connections})]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(taken) / {seconds}, sorted(taken)[len(taken) // 2] * 1000)
"""
        output = subprocess.run(
            [sys.executable, "-c", ask], env=environment, check=True, capture_output=True, text=True
        )
        rate, median = map(float, output.stdout.split())
        return rate, median


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--connections", type=int, default=8)
    parser.add_argument("-d", "--duration", type=float, default=3.0, help="seconds of one measurement")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    options = parser.parse_args()
    ways = {
        "bare Celery, 1 worker": lambda: bare(options.connections, options.duration),
        "task_queue, 1 worker": lambda: queue(1, options.connections, options.duration),
        "task_queue, 2 workers": lambda: queue(2, options.connections, options.duration),
    }
    results: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for name, measure in ways.items():
            print(name, file=sys.stderr)
            results[name].append(measure())
    print(f"{options.connections} connections, {options.rounds} fresh processes each; medians")
    for name, measured in results.items():
        rates, medians = zip(*measured, strict=True)
        spread = f"{min(rates):.0f}-{max(rates):.0f}"
        print(
            f"{name:24} {statistics.median(rates):8.0f} answers/s ({spread})  p50 {statistics.median(medians):.2f} ms"
        )


if __name__ == "__main__":
    main()
