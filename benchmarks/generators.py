"""Compare the client's generator with one in C: what rate each gets out of the same C server, on a processor each.

The processor time per answer is told beside: on a machine that others use, too, it is steadier than the rate.

    python benchmarks/generators.py --connections 128 --size 64 --rounds 7

The server is the yardstick (services/iolab/yardstick.c), on the first processor; the generator, `generator.c` or a
process of `iolab-client load`, is on the last one. They take turns, in shuffled order, each against a fresh server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from iolab_client.load import run
from iolab_client.results.measurement import Plan, Size
from iolab_client.servers.targets import Target

HERE = Path(__file__).parent
YARDSTICK = HERE.parent / "services" / "iolab" / "yardstick.c"


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


# Answers a second, microseconds of the generator's processor time per answer, and a remark.
Seen = tuple[float, float, str]


def in_c(program: Path, port: int, options: argparse.Namespace, cpu: int) -> Seen:
    """What the generator in C makes of it."""
    command = [str(program), str(port), str(options.connections), str(options.size), str(options.duration)]
    before = children_seconds()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
    )
    answers, seconds, _ = done.stdout.split()
    return int(answers) / float(seconds), (children_seconds() - before) / int(answers) * 1e6, ""


def children_seconds() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_the_client(port: int, options: argparse.Namespace, cpu: int) -> Seen:
    """What the client's makes of it."""
    plan = Plan(
        connections=options.connections,
        sizes=(Size(size=options.size),),
        duration_seconds=options.duration,
        warmup_seconds=0.3,
        cpus=(cpu,),
    )
    one = run(Target(model=None, address=("127.0.0.1", port)), plan)
    cost = one.generator.cpu_seconds / one.answers * 1e6
    return one.rate, cost, f"{one.verdict.word}, busy {one.generator.busy:.2f}"


def main() -> None:
    """Run the rounds and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--connections", type=int, default=128)
    parser.add_argument("-s", "--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("-d", "--duration", type=float, default=2.0, help="seconds of one measurement")
    parser.add_argument("-r", "--rounds", type=int, default=7)
    options = parser.parse_args()
    processors = os.sched_getaffinity(0)
    seen: dict[str, list[Seen]] = {"C": [], "iolab-client": []}
    with tempfile.TemporaryDirectory() as temporary:
        generator, yardstick = Path(temporary, "generator"), Path(temporary, "yardstick")
        for program, source in ((generator, HERE / "generator.c"), (yardstick, YARDSTICK)):
            subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
        for number in range(options.rounds):
            for name in random.sample(list(seen), len(seen)):
                with serving(yardstick, min(processors)) as port:
                    if name == "C":
                        found = in_c(generator, port, options, max(processors))
                    else:
                        found = of_the_client(port, options, max(processors))
                seen[name].append(found)
                print(
                    f"round {number + 1} of {options.rounds}: {name:12} "
                    f"{found[0]:10,.0f}/s {found[1]:6.2f} us {found[2]}",
                    file=sys.stderr,
                )
    print(f"{options.connections} connections, {options.size} bytes, {options.rounds} rounds")
    print(f"{'generator':12} {'answers/s':>10} {'spread':>19} {'CPU-us/answer':>14} {'spread':>13}")
    medians = {}
    for name, rounds in seen.items():
        rates, costs = [one[0] for one in rounds], [one[1] for one in rounds]
        medians[name] = statistics.median(rates), statistics.median(costs)
        rate_spread, cost_spread = f"{min(rates):,.0f}-{max(rates):,.0f}", f"{min(costs):.2f}-{max(costs):.2f}"
        print(f"{name:12} {medians[name][0]:10,.0f} {rate_spread:>19} {medians[name][1]:14.2f} {cost_spread:>13}")
    (c_rate, c_cost), (rate, cost) = medians["C"], medians["iolab-client"]
    print(f"{'share':12} {rate / c_rate:10.3f} {'':19} {c_cost / cost:14.3f}")


if __name__ == "__main__":
    main()
