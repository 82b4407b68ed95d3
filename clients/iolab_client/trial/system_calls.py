"""System calls of a server by name, counted by strace(1) while it is loaded: a run of its own, which is not timed."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iolab_client.trace import refusal
from iolab_client.trial.bench import Turn
from iolab_client.trial.finding import Missing

ANSWERS = 4000
LOAD_SECONDS = 60.0
ATTACH_SECONDS = 20.0
END_SECONDS = 30.0
TICK_SECONDS = 0.02
# `% time     seconds  usecs/call     calls    errors syscall`, the errors left out where there are none.
ROW = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)")


@contextlib.contextmanager
def counted(pid: int) -> Iterator[Counter[str]]:
    """What is called in the block by all threads of the process; it is filled in when the block is over.

    Raises Missing where there is no strace, or it may not attach.
    """
    program = shutil.which("strace")
    if program is None:
        raise Missing(refusal.NO_STRACE)
    calls: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="iolab-strace-") as folder:
        said, summary = Path(folder, "said"), Path(folder, "summary")
        with said.open("wb") as stderr:
            command = [program, "-f", "-c", "-o", str(summary), "-p", str(pid)]
            tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, process_group=0)
        try:
            _wait_until_attached(tracer, said)
            yield calls
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
        calls.update(parse(summary.read_text()))


def note_calls(turn: Turn, *, at: float, **asked: Any) -> None:
    """Note the calls per answer of a fresh server under so many requests. ptrace slows each: nothing else is noted.

    Raises Missing.
    """
    with turn.server() as server:
        assert server.pid is not None
        with counted(server.pid) as calls:
            plan = turn.bench.plan(requests=ANSWERS, duration_seconds=LOAD_SECONDS, warmup_seconds=0.0, **asked)
            one = turn.place.load(server, plan)
        turn.note(at=at, calls=calls.total() / max(1, one.answers + one.late))


def parse(summary: str) -> dict[str, int]:
    """The table of `strace -c`: calls by name."""
    found = {match[2]: int(match[1]) for line in summary.splitlines() if (match := ROW.fullmatch(line))}
    found.pop("total", None)
    return found


def _wait_until_attached(tracer: subprocess.Popen[bytes], said: Path) -> None:
    end = time.monotonic() + ATTACH_SECONDS
    while "attached" not in said.read_text():
        if tracer.poll() is not None or time.monotonic() > end:
            printed = said.read_text()
            last = (printed.strip().splitlines() or ["it says nothing"])[-1]
            raise Missing(refusal.reason(printed, attached=True) or f"strace does not attach to the server: {last}")
        time.sleep(TICK_SECONDS)
