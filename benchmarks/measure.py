"""Compare servers by what an answer costs them: processor time per answer, and the rate, alternating in one run.

    python benchmarks/measure.py bare_epoll epoll_loop select_loop --connections 128 --size 64

A name is a model, a model with settings (`epoll_loop:buffer_size=4096`), a script of this folder, or `yardstick.c`,
the server in C. The first one is what the others are shares of. Each round starts a fresh process per name, in random
order: the server on the first processor, the generator (compiled here with cc) on the last one. Needs no Docker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import psutil

HERE = Path(__file__).parent
YARDSTICK = HERE.parent / "services" / "iolab" / "yardstick.c"


def start_yardstick(server_cpus: set[int], folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Compile the server in C and start it; return it with its port."""
    program = folder / YARDSTICK.stem
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", str(program), str(YARDSTICK)], check=True)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        process = subprocess.Popen(
            [str(program), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, server_cpus),
        )
        return process, listener.getsockname()[1]


def start(name: str, server_cpus: set[int], folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a server on its processors; return it with its port."""
    if name == YARDSTICK.name:
        return start_yardstick(server_cpus, folder)
    script = HERE / f"{name}.py"
    if script.exists():
        command = [sys.executable, str(script)]
    else:
        slug, _, extra = name.partition(":")
        config = folder / "config.yaml"
        settings = [setting.replace("=", ": ") for setting in extra.split(",") if setting]
        config.write_text("\n".join(["backlog: 1024", *settings]))
        command = [sys.executable, "-m", "iolab", "serve", slug, "--port", "0", "--config", str(config)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, server_cpus)
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, json.loads(line)["port"] if line.startswith("{") else int(line)


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads, its children's too, from the scheduler's own nanoseconds: proc(5), schedstat."""
    total = 0
    for process in (pid, *(child.pid for child in psutil.Process(pid).children())):
        for task in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("-c", "--connections", type=int, default=128)
    parser.add_argument("-s", "--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("-d", "--duration", type=float, default=2.0, help="seconds of one measurement")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--server-cpus", default="0")
    options = parser.parse_args()
    server_cpus = {int(cpu) for cpu in options.server_cpus.split(",")}
    results: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generator = folder / "generator"
        subprocess.run(["cc", "-O2", "-o", str(generator), str(HERE / "generator.c")], check=True)
        for number in range(options.rounds):
            names = random.sample(options.names, len(options.names))
            for name in names:
                print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
                server, port = start(name, server_cpus, folder)
                try:
                    load = [str(generator), str(port), str(options.connections), str(options.size)]
                    subprocess.run([*load, "0.5"], check=True, capture_output=True)
                    before = cpu_seconds(server.pid)
                    run = subprocess.run(
                        [*load, str(options.duration)],
                        check=True,
                        capture_output=True,
                        text=True,
                        preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
                    )
                    answers, seconds, _ = run.stdout.split()
                    cost = (cpu_seconds(server.pid) - before) / int(answers) * 1e6
                    results[name].append((cost, int(answers) / float(seconds)))
                finally:
                    server.kill()
                    server.wait()
    print(f"{options.connections} connections, {options.size} bytes, {options.rounds} fresh processes each; medians")
    print(f"{'server':40} {'CPU-us/answer':>14} {'spread':>13} {'share':>6} {'answers/s':>10} {'share':>6}")
    first_cost = statistics.median(cost for cost, _ in results[options.names[0]])
    first_rate = statistics.median(rate for _, rate in results[options.names[0]])
    for name in options.names:
        costs = [cost for cost, _ in results[name]]
        cost = statistics.median(costs)
        rate = statistics.median(rate for _, rate in results[name])
        spread = f"{min(costs):.2f}-{max(costs):.2f}"
        print(f"{name:40} {cost:14.2f} {spread:>13} {first_cost / cost:6.2f} {rate:10.0f} {rate / first_rate:6.2f}")


if __name__ == "__main__":
    main()
