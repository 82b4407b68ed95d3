"""One process of the generator: `python -m iolab_client.load.worker`, started only by `conductor`.

On standard input it gets its share, then `connect`, `start` with the moment, and `close`; it answers `ready`,
`connected`, `over` and its report. It has one thread and one loop.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
from pathlib import Path

import msgspec

from iolab_client.load.commands import Commands
from iolab_client.load.loop import Loop
from iolab_client.load.share import Share


def main() -> None:
    """Do one share of a load."""
    commands = Commands()
    share = msgspec.json.decode(commands.wait(), type=Share)
    if share.plan.cpus:
        os.sched_setaffinity(0, share.plan.cpus)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # By default the kernel may wake a thread 50 µs late to save power, which would delay every planned request.
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    loop = Loop(share, commands)
    # Nothing here makes reference cycles, and a collection would visit every connection.
    gc.disable()
    commands.say("ready")
    commands.wait()
    loop.connect()
    commands.say("connected")
    word, _, moment = commands.wait().partition(" ")
    if word == "start":
        commands.say(msgspec.json.encode(loop.run(int(moment))).decode())


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit("the parent is gone")
