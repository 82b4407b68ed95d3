"""A stop that comes right before a call that blocks is not kept waiting by that call."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The handler's flag is set while the main thread is in the kernel and is not interrupted: what a signal does that comes
# between the interpreter's last look at that flag and the call.
PROGRAM = """
import contextlib, os, signal, threading, time
from iolab.server import surroundings

def hit():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

surroundings.exit_at_signals()
ours, theirs = os.pipe()
threading.Thread(target=hit, daemon=True).start()
with {block}:
    os.read(ours, 1)
"""


def test_a_handler_runs_although_the_main_thread_waits_in_the_kernel() -> None:
    command = [sys.executable, "-c", PROGRAM.format(block="surroundings.handlers_run_in_time()")]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_without_it_the_handler_waits_as_long_as_the_main_thread() -> None:
    command = [sys.executable, "-c", PROGRAM.format(block="contextlib.nullcontext()")]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=2, check=False)
