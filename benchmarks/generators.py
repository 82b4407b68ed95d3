"""Compare the client's generator with one in C: what rate each gets out of the same C server, on a processor each.

    python benchmarks/generators.py --connections 128 --size 64 --rounds 7

The server is the yardstick (services/yardstick/epoll.c), on the first processor; the generator, `generator.c` or a
process of `iolab-client load`, is on the last one. They take turns, in shuffled order, each against a fresh server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from iolab_client.load import run
from iolab_client.measurement import Plan, Size
from iolab_client.targets import Target

HERE = Path(__file__).parent
YARDSTICK = HERE.parent / "services" / "yardstick" / "epoll.c"


@contextlib.contextmanager
def serving(program: Path, cpu: int) -> Iterator[int]:
    """The yardstick on a processor; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = listener.fileno()
        server = subprocess.Popen(
            [program, str(descriptor)], pass_fds=[descriptor], preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
        )
        try:
            yield listener.getsockname()[1]
        finally:
            server.kill()
            server.wait()


def in_c(program: Path, port: int, options: argparse.Namespace, cpu: int) -> tuple[float, str]:
    """Answers a second of the generator in C."""
    command = [str(program), str(port), str(options.connections), str(options.size), str(options.duration)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
    )
    answers, seconds, _ = done.stdout.split()
    return int(answers) / float(seconds), ""


def of_the_client(port: int, options: argparse.Namespace, cpu: int) -> tuple[float, str]:
    """Answers a second of the client's, and its verdict."""
    plan = Plan(
        connections=options.connections,
        sizes=(Size(size=options.size),),
        duration_seconds=options.duration,
        warmup_seconds=0.3,
        cpus=(cpu,),
    )
    one = run(Target(model=None, address=("127.0.0.1", port)), plan)
    return one.rate, f"{one.verdict.word}, busy {one.generator.busy:.2f}"


def main() -> None:
    """Run the rounds and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--connections", type=int, default=128)
    parser.add_argument("-s", "--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("-d", "--duration", type=float, default=2.0, help="seconds of one measurement")
    parser.add_argument("-r", "--rounds", type=int, default=7)
    options = parser.parse_args()
    processors = os.sched_getaffinity(0)
    rates: dict[str, list[float]] = {"C": [], "iolab-client": []}
    with tempfile.TemporaryDirectory() as temporary:
        generator, yardstick = Path(temporary, "generator"), Path(temporary, "yardstick")
        for program, source in ((generator, HERE / "generator.c"), (yardstick, YARDSTICK)):
            subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
        for number in range(options.rounds):
            for name in random.sample(list(rates), len(rates)):
                with serving(yardstick, min(processors)) as port:
                    if name == "C":
                        rate, remark = in_c(generator, port, options, max(processors))
                    else:
                        rate, remark = of_the_client(port, options, max(processors))
                rates[name].append(rate)
                print(f"round {number + 1} of {options.rounds}: {name:12} {rate:10,.0f}/s {remark}", file=sys.stderr)
    print(f"{options.connections} connections, {options.size} bytes, {options.rounds} rounds; answers a second")
    for name, seen in rates.items():
        print(f"{name:12} median {statistics.median(seen):10,.0f}   from {min(seen):,.0f} to {max(seen):,.0f}")
    shares = [ours / theirs for ours, theirs in zip(rates["iolab-client"], rates["C"], strict=True)]
    ratio = statistics.median(rates["iolab-client"]) / statistics.median(rates["C"])
    print(f"share        {ratio:.3f} of the medians, {statistics.median(shares):.3f} the median of the rounds")


if __name__ == "__main__":
    main()
